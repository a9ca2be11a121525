"""A FHIRPath invariant to a Python expression that is true when the invariant is violated.

Every boolean expression becomes two texts, `yes` (it is true) and `no` (it is false); when neither holds it is empty. So
three-valued logic costs nothing at run time, and `not()` is an exchange.

Before: `start.hasValue().not() or end.hasValue().not() or (start <= end)`
After (no): `'start' in n and 'end' in n and at_most(n.get('start'), n.get('end')) is False`

In the text `n` is the node, `r` the resource it is in (%resource) and `q` the one that is in no other (%rootResource).

Specification: https://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from collections.abc import Callable
from dataclasses import replace

from resources.definitions.model import TypeDefinition
from resources.validation.invariants.flows import (
    Flow,
    Names,
    bound,
    each,
    exists,
    holds,
    is_primitive,
    items,
    loop,
    member,
    present,
    step,
    walk,
)
from resources.validation.invariants.grammar import (
    Binary,
    Call,
    Literal,
    Member,
    Node,
    This,
    UnsupportedExpressionError,
    Variable,
    parse,
)
from resources.validation.invariants.terms import (
    BOOLEAN_CALLS,
    BOOLEAN_OPERATORS,
    Scalar,
    Scope,
    Truth,
    comparison,
    different,
    equality,
    is_boolean,
    literals,
    maybe,
    plain,
)

_UCUM = "http://unitsofmeasure.org"
_TEXT_CALLS = {"startsWith": "starts", "contains": "includes", "matches": "matches"}


def violation(
    expression: str,
    type_name: str,
    types: Callable[[str], TypeDefinition | None],
    names: Names,
    *,
    empty_fails: bool = False,
) -> str:
    """Python text that is true when `n`, a value of `type_name`, breaks the invariant; raises UnsupportedExpressionError.

    An empty result satisfies unless `empty_fails`. `names` collects what all invariants of one function share.
    """
    root = type_name.partition(".")[0]
    definition = types(root)
    resource = root if definition is not None and definition.kind == "resource" else "Resource"
    node = Flow((), "n", (type_name,))
    truth = _truth(parse(expression), Scope((node,), node, resource, types, names))
    return f"not ({truth.yes})" if empty_fails else truth.no


def _truth(tree: Node, scope: Scope) -> Truth:
    match tree:
        case Literal(bool(value)):
            return Truth(str(value), str(not value))
        case Binary(operator, left, right) if operator in BOOLEAN_OPERATORS:
            return _operator(operator, left, right, scope)
        case Call(focus, name, arguments) if name in BOOLEAN_CALLS:
            return _boolean_call(focus, name, arguments, scope)
        case Call(focus, "iif", (condition, *branches)):
            inner = replace(scope, focus=_flows(focus, scope)) if not isinstance(focus, This) else scope
            test = _truth(condition, inner)
            then = _truth(branches[0], inner)
            other = _truth(branches[1], inner) if len(branches) > 1 else Truth("False", "False")
            return Truth(
                f"(({test.yes} and {then.yes}) or (not {test.yes} and {other.yes}))",
                f"(({test.yes} and {then.no}) or (not {test.yes} and {other.no}))",
            )
        case _:
            code = _scalar(tree, scope).code
            return Truth(f"({code} is True)", f"({code} is False)")


def _operator(operator: str, left: Node, right: Node, scope: Scope) -> Truth:
    if operator in {"and", "or", "implies", "xor"}:
        a, b = _truth(left, scope), _truth(right, scope)
        if operator == "and":
            return Truth(f"({a.yes} and {b.yes})", f"({a.no} or {b.no})")
        if operator == "or":
            return Truth(f"({a.yes} or {b.yes})", f"({a.no} and {b.no})")
        if operator == "implies":
            return Truth(f"({a.no} or {b.yes})", f"({a.yes} and {b.no})")
        return different(a, b)
    if operator == "is":
        return _is(left, right, scope)
    if operator in {"in", "contains"}:
        return _membership(left, right, scope) if operator == "in" else _membership(right, left, scope)
    if operator in {"=", "!="}:
        if is_boolean(left) and is_boolean(right):
            unlike = different(_truth(left, scope), _truth(right, scope))
            return unlike if operator == "!=" else Truth(unlike.no, unlike.yes)
        same = equality(_scalar(left, scope), _scalar(right, scope))
        return same if operator == "=" else Truth(same.no, same.yes)
    return comparison(operator, _scalar(left, scope), _scalar(right, scope))


def _membership(item: Node, collection: Node, scope: Scope) -> Truth:
    value = _scalar(item, scope)
    listed = literals(collection)
    if listed is not None:
        first = repr(listed[0])
        return Truth(f"({value.code} in {listed!r})", f"({value.otherwise(first)} not in {listed!r})")
    wanted = scope.names()
    found = " or ".join(member(wanted, flow, scope.names) for flow in _flows(collection, scope))
    each_value = f"for {wanted} in some({value.code})"
    return Truth(f"any({found} {each_value})", f"any(not ({found}) {each_value})")


def _boolean_call(focus: Node, name: str, arguments: tuple[Node, ...], scope: Scope) -> Truth:
    if name == "not":
        truth = _truth(focus, scope)
        return Truth(truth.no, truth.yes)
    if name == "is":
        return _is(focus, arguments[0], scope)
    if name in _TEXT_CALLS:
        value, argument = _scalar(focus, scope), _scalar(arguments[0], scope)
        if name == "startsWith" and value.property and isinstance(arguments[0], Literal):
            yes = f"{value.otherwise(repr(''))}.startswith({argument.code})"
            return Truth(yes, f"(not {value.otherwise(argument.code)}.startswith({argument.code}))")
        test = f"{_TEXT_CALLS[name]}({value.code}, {argument.code})"
        return Truth(f"({test} is True)", f"({test} is False)")
    flows = _flows(focus, scope)
    if name == "isDistinct":
        test = f"distinct({each(flows, scope.names)})"
        if all(flow.guard for flow in flows):
            test = f"(not ({' or '.join(flow.guard for flow in flows)}) or {test})"
        return Truth(test, f"(not {test})")
    if name == "all":
        unlike = " or ".join(
            holds(flow, f"(not {_truth(arguments[0], scope.at(flow)).yes})") for flow in walk(flows, scope.names)
        )
        return Truth(f"(not ({unlike}))", f"({unlike})")
    if name == "hasValue":
        there = " or ".join(_has_value(flow, scope) for flow in flows)
        return Truth(f"({there})", f"(not ({there}))")
    if name == "exists" and arguments:
        flows = tuple(_where(flow, arguments[0], scope) for flow in flows)
    there = " or ".join(exists(flow, scope.names) for flow in flows)
    truth = Truth(f"({there})", f"(not ({there}))")
    return truth if name == "exists" else Truth(truth.no, truth.yes)


def _has_value(flow: Flow, scope: Scope) -> str:
    if not all(is_primitive(name) for name in flow.types):
        raise UnsupportedExpressionError(f"hasValue() of {flow.types}")
    if len(flow.properties) == 1 and not flow.clauses and flow.single:
        return f"{flow.properties[0].name!r} in {flow.item}"
    source = bound(flow, scope.names)
    return holds(source, f"{source.item}.__class__ is not dict")


def _is(focus: Node, wanted: Node, scope: Scope) -> Truth:
    if not isinstance(wanted, Member):
        raise UnsupportedExpressionError("is without a type name")
    flows = _flows(focus, scope)
    there = " or ".join(exists(_as(flow, wanted.name, scope), scope.names) for flow in flows)
    empty = " or ".join(exists(flow, scope.names) for flow in flows)
    return Truth(f"({there})", f"(({empty}) and not ({there}))")


def _as(flow: Flow, wanted: str, scope: Scope) -> Flow:
    """The items of that type: by the choice's property, by the item's type at run time, or by resourceType."""
    if flow.kind:
        return replace(flow, clauses=(*flow.clauses, f"if {flow.kind} == {wanted!r}"), types=(wanted,), kind="")
    if len(flow.properties) > 1:
        # `is Boolean` means FHIR's boolean: the System type has no property of its own
        of_type = tuple(p for p in flow.properties if p.type == wanted or p.type.capitalize() == wanted)
        if not of_type:
            raise UnsupportedExpressionError(f"no {wanted} among {flow.types}")
        return replace(flow, properties=of_type, types=(of_type[0].type,))
    if flow.types and flow.types != ("Resource",):
        raise UnsupportedExpressionError(f"{wanted} of {flow.types}")
    source = bound(flow, scope.names)
    clause = f"if {source.item}.get('resourceType') == {wanted!r}"
    return replace(source, clauses=(*source.clauses, clause), types=(wanted,))


def _where(flow: Flow, criterion: Node, scope: Scope) -> Flow:
    source = bound(flow, scope.names)
    return replace(source, clauses=(*source.clauses, f"if {_truth(criterion, scope.at(source)).yes}"))


def _flows(tree: Node, scope: Scope) -> tuple[Flow, ...]:
    match tree:
        case This():
            return scope.focus
        case Variable("resource"):
            return (Flow((), "r", (scope.resource,)),)
        case Variable("rootResource"):
            return (Flow((), "q", ("Resource",)),)
        case Variable("context"):
            return (scope.node,)
        case Member(This(), name, implicit=True) if name in scope.node.types and name == scope.resource:
            return (scope.node,)
        case Member(focus, name):
            return tuple(step(flow, name, scope.types, scope.names) for flow in _flows(focus, scope))
        case Binary("|", left, right):
            return _flows(left, scope) + _flows(right, scope)
        case Call(focus, name, arguments):
            return tuple(result for flow in _flows(focus, scope) for result in _call(flow, name, arguments, scope))
        case _:
            raise UnsupportedExpressionError(f"a collection was meant: {tree}")


def _call(flow: Flow, name: str, arguments: tuple[Node, ...], scope: Scope) -> tuple[Flow, ...]:
    names = scope.names
    if name == "trace":
        return (flow,)
    if name in {"as", "ofType"}:
        assert isinstance(arguments[0], Member)
        return (_as(flow, arguments[0].name, scope),)
    if name == "combine":
        return (flow, *_flows(arguments[0], scope))
    source = bound(flow, names)
    variable = names()
    if name == "where":
        return (_where(source, arguments[0], scope),)
    if name == "select":
        return _select(source, arguments[0], scope)
    if name == "intersect":
        kept = " or ".join(member(source.item, other, names) for other in _flows(arguments[0], scope))
        return (replace(source, clauses=(*source.clauses, f"if {kept}")),)
    if name in {"first", "tail"}:
        clause = f"for {variable} in {'head' if name == 'first' else 'tail'}({items(source, names)})"
        return (Flow((clause,), variable, source.types, name == "first", guard=source.guard, kind=source.kind),)
    if name == "children":
        clause = f"for {variable} in children({source.item})"
        return (Flow((*source.clauses, clause), variable, (), single=False, guard=source.guard),)
    if name == "descendants":
        kind = names()
        type_name = source.types[0] if source.types else "Resource"
        clause = f"for {variable}, {kind} in descend({source.item}, {type_name!r})"
        return (Flow((*source.clauses, clause), variable, (), single=False, guard=source.guard, kind=kind),)
    if name == "resolve":
        clause = f"for {variable} in resolve({source.item}, q)"
        return (Flow((*source.clauses, clause), variable, ("Resource",), single=False, guard=source.guard),)
    raise UnsupportedExpressionError(f"{name}()")


def _select(source: Flow, projection: Node, scope: Scope) -> tuple[Flow, ...]:
    inner = scope.at(source)
    if is_boolean(projection):
        truth = _truth(projection, inner)
        clause = f"if {truth.yes} or {truth.no}"
        return (Flow((*source.clauses, clause), truth.yes, ("boolean",), single=source.single, guard=source.guard),)
    if isinstance(projection, Binary) and projection.operator == "&":
        variable = scope.names()
        clause = f"for {variable} in some({_scalar(projection, inner).code})"
        return (Flow((*source.clauses, clause), variable, ("string",), single=source.single, guard=source.guard),)
    return tuple(
        replace(
            result,
            clauses=source.clauses + result.clauses,
            guard=source.guard,
            single=source.single and result.single,
        )
        for result in (bound(flow, scope.names) for flow in _flows(projection, inner))
    )


def _scalar(tree: Node, scope: Scope) -> Scalar:
    match tree:
        case Literal(value):
            return Scalar(repr(value), lambda _: repr(value), definite=True)
        case Variable("ucum"):
            return Scalar(repr(_UCUM), lambda _: repr(_UCUM), definite=True)
        case Binary("+", left, right):
            a, b = _scalar(left, scope), _scalar(right, scope)
            if a.definite and b.definite:
                return plain(f"({a.code} + {b.code})")
            return maybe(f"plus({a.code}, {b.code})")
        case Binary("&", left, right):
            return plain(f"join({_scalar(left, scope).code}, {_scalar(right, scope).code})")
        case Binary("as", left, Member() as wanted):
            return _value(tuple(_as(flow, wanted.name, scope) for flow in _flows(left, scope)), scope)
        case Call(focus, "trace", _):
            return _scalar(focus, scope)
        case Call(focus, "count", ()):
            return plain(_count(_flows(focus, scope), scope))
        case Call(focus, "toInteger", ()):
            return maybe(f"to_integer({_scalar(focus, scope).code})")
        case Call(focus, "toString", ()):
            return maybe(f"to_string({_scalar(focus, scope).code})")
        case Call(focus, "substring", (start,)):
            return maybe(f"substring({_scalar(focus, scope).code}, {_scalar(start, scope).code})")
        case Call(focus, "replaceMatches", (pattern, replacement)):
            texts = ", ".join(_scalar(part, scope).code for part in (focus, pattern, replacement))
            return maybe(f"replace_matches({texts})")
        case _:
            return _value(_flows(tree, scope), scope)


def _count(flows: tuple[Flow, ...], scope: Scope) -> str:
    parts = []
    for flow in flows:
        if flow.properties and flow.single and not flow.clauses:
            parts.append(f"({present(flow.item, flow.properties, scope.names)})")
        else:
            source = bound(flow, scope.names)
            text = f"sum(1 {loop(source.clauses)})" if source.clauses else "1"
            parts.append(f"({source.guard} and {text})" if source.guard else text)
    return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"


def _value(flows: tuple[Flow, ...], scope: Scope) -> Scalar:
    """The one item of a collection; a primitive without a value counts as empty."""
    flow = flows[0]
    if len(flows) == 1 and len(flow.properties) == 1 and flow.single and not flow.clauses:
        name = flow.properties[0].name
        return Scalar(
            f"{flow.item}.get({name!r})", lambda default: f"{flow.item}.get({name!r}, {default})", property=True
        )
    if len(flows) == 1 and not flow.properties and not flow.clauses:
        return Scalar(flow.item, lambda _: flow.item)
    source = each(flows, scope.names)
    if all(is_primitive(name) for flow in flows for name in flow.types):
        source = f"values({source})"
        return Scalar(f"next({source}, None)", lambda default: f"next({source}, {default})")
    return Scalar(f"next(iter({source}), None)", lambda default: f"next(iter({source}), {default})")
