"""FHIRPath, compiled once: the simple majority to closures over dicts, everything else through fhirpathpy.

Nearly all R4 search expressions are dotted paths with unions, `as`, `ofType`, `where(resolve() is X)`, `where(name='x')`,
`extension(url)` and an index. Such an expression is a set of PLACES, known before any resource is seen: property names from
the root (choices expanded: `Observation.value as Quantity` -> `valueQuantity`) with filters between them, and the FHIR type
found there. `places` gives them; `compile` evaluates them. Truth-valued expressions of exists(), and, =, != are computed
from places. What is none of these raises inside `places` and is evaluated by fhirpathpy, imported when first needed.

Rules: an expression that names another type (`Patient.name | Practitioner.name` on a Patient) is empty there; a reference
resolves to the type it names, a `#local` one to the contained resource's type.
Specification: https://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resources.definitions import Definitions
from resources.definitions.model import Element
from resources.errors import FhirError
from resources.fhirpath_syntax import NotSimple, Syntax, parse
from resources.model import Resource

_REFERENCE_TYPE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_ROOTS = frozenset({"Resource", "DomainResource"})


class Typed(NamedTuple):
    """One result: its FHIR type name (`Quantity`, `code`, `Observation.component`) and its JSON value."""

    type: str
    value: Any


@dataclass(frozen=True, slots=True)
class Filter:
    """A step that lets a value pass: `test(value, resource)`. Filters of equal text are equal."""

    text: str
    test: Callable[[Any, Resource], bool] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    """A step that takes one item of the property before it: `entry[0]`."""

    at: int


Step = str | Filter | Index


@dataclass(frozen=True, slots=True)
class Place:
    """Where values of one type are. `rooted`: the steps begin at the resource though the expression is evaluated inside it."""

    steps: tuple[Step, ...]
    type: str
    element: Element | None = None
    rooted: bool = False


@dataclass(frozen=True, slots=True)
class Computed:
    """A truth value computed from the resource; None when the expression is empty."""

    value: Callable[[Resource], bool | None]


# ---- places


@dataclass(frozen=True, slots=True)
class _Compiler:
    definitions: Definitions
    here: tuple[Place, ...]

    def places(self, tree: Syntax) -> tuple[Place, ...]:
        match tree:
            case ("this",):
                return self.here
            case ("root",):
                return (Place((), self.here[0].type, None, rooted=True),)
            case ("union", *parts):
                return tuple(dict.fromkeys(place for part in parts for place in self.places(part)))
            case ("as", source, name):
                return self.of_type(source, name)
            case ("name", ("this",), name) if name[0].isupper():
                return tuple(place for place in self.here if name == place.type or (name in _ROOTS and not place.steps))
            case ("name", source, name):
                return tuple(child for place in self.places(source) for child in self.children(place, name))
            case ("index", source, at):
                return self.items(source, at)
            case ("call", source, "as" | "ofType", ("name", ("this",), name)):
                return self.of_type(source, name)
            case ("call", source, "where", condition):
                return self.filtered(source, condition)
            case ("call", source, "extension", ("literal", str(url))):
                inner = tuple(child for place in self.places(source) for child in self.children(place, "extension"))
                wanted = Filter(f"url={url}", lambda value, _resource: value.get("url") == url)
                return tuple(Place((*place.steps, wanted), place.type, place.element, place.rooted) for place in inner)
        raise NotSimple(str(tree[0]))

    def items(self, source: Syntax, at: int) -> tuple[Place, ...]:
        """One item of a property of the root; deeper, FHIRPath counts over all parents together, which a place cannot."""
        found = self.places(source)
        if any(len(place.steps) != 1 for place in found):
            raise NotSimple(f"[{at}] below a property of the root")
        return tuple(Place((*place.steps, Index(at)), place.type, place.element, place.rooted) for place in found)

    def filtered(self, source: Syntax, condition: Syntax) -> tuple[Place, ...]:
        """The places that satisfy a condition; a comparison needs a property that does not repeat."""
        found, wanted = self.places(source), _condition(condition)
        if condition[0] == "=":
            for place in found:
                compared = self.definitions.types[place.type].properties.get(condition[1][2])
                if compared is None or compared.element.max != 1:
                    raise NotSimple(wanted.text)
        return tuple(Place((*place.steps, wanted), place.type, place.element, place.rooted) for place in found)

    def of_type(self, source: Syntax, name: str) -> tuple[Place, ...]:
        return tuple(place for place in self.places(source) if self.is_a(place.type, name))

    def is_a(self, name: str, wanted: str) -> bool:
        """Subsumption; the specification itself writes `DateTime` for dateTime once, so case does not count."""
        current: str | None = name
        while current is not None:
            if current.lower() == wanted.lower():
                return True
            found = self.definitions.types.get(current)
            current = found.base if found is not None else None
        return False

    def children(self, place: Place, name: str) -> Iterator[Place]:
        definition = self.definitions.types.get(place.type)
        if definition is None or definition.name in _ROOTS:
            raise NotSimple(f"{place.type}.{name}")
        for found in definition.properties.values():
            # `valueDateTime` is no FHIRPath, yet published search parameters write it (US Core 6.1.0)
            if name in (found.element.name, found.name):
                yield Place((*place.steps, found.name), found.type, found.element, place.rooted)


def _condition(tree: Syntax) -> Filter:
    match tree:
        case ("is", ("call", ("this",), "resolve"), str(name)):
            return Filter(f"resolve() is {name}", lambda value, resource: reference_type(value, resource) == name)
        case ("=", ("name", ("this",), str(name)), ("literal", wanted)):
            return Filter(f"{name}={wanted!r}", lambda value, _resource: value.get(name) == wanted)
        case ("call", ("this",), "hasExtension", ("literal", str(url))):
            return Filter(
                f"hasExtension({url})",
                lambda value, _resource: any(item.get("url") == url for item in value.get("extension", ())),
            )
    raise NotSimple(str(tree))


def reference_type(value: Any, resource: Resource) -> str | None:
    """The resource type that a Reference, canonical or uri points to, as far as it says; None when it does not."""
    text = value.get("reference") if isinstance(value, dict) else value
    if not isinstance(text, str):
        return value.get("type") if isinstance(value, dict) else None
    if text.startswith("#"):
        for inner in resource.get("contained", ()):
            if inner.get("id") == text[1:]:
                return str(inner.get("resourceType"))
        return str(resource.get("resourceType")) if text == "#" else None
    found = _REFERENCE_TYPE.fullmatch(text)
    if found is not None:
        return found[1]
    return value.get("type") if isinstance(value, dict) else None


def places(expression: str, type_name: str, definitions: Definitions) -> tuple[Place, ...] | Computed:
    """The places of the expression's values in a `type_name` (a resource, backbone or complex type).

    Raises NotSimple when closures do not cover the expression.
    """
    tree = parse(expression)
    compiler = _Compiler(definitions, (Place((), type_name),))
    if tree[0] in ("and", "=", "!=") or (tree[0] == "call" and tree[2] == "exists"):
        return Computed(_truth(tree, compiler))
    return compiler.places(tree)


def _truth(tree: Syntax, compiler: _Compiler) -> Callable[[Resource], bool | None]:
    """Three-valued logic of the specification over places."""
    match tree:
        case ("and", left, right):
            first, second = _truth(left, compiler), _truth(right, compiler)

            def both(resource: Resource) -> bool | None:
                values = (first(resource), second(resource))
                return False if False in values else None if None in values else True

            return both
        case ("call", source, "exists"):
            wanted = compiler.places(source)
            return lambda resource: any(True for _ in values(wanted, resource))
        case ("=" | "!=" as operator, source, ("literal", literal)):
            compared = compiler.places(source)

            def equal(resource: Resource) -> bool | None:
                found = [typed.value for typed in values(compared, resource)]
                if not found:
                    return None
                same = len(found) == 1 and type(found[0]) is type(literal) and found[0] == literal
                return same if operator == "=" else not same

            return equal
    raise NotSimple(str(tree[0]))


# ---- evaluation


def values(wanted: tuple[Place, ...], resource: Resource) -> Iterator[Typed]:
    """The values at the places of one resource, in the order of the places."""
    for place in wanted:
        for value in _follow(place.steps, resource, resource):
            yield Typed(place.type, value)


def _follow(steps: tuple[Step, ...], value: Any, resource: Resource) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Filter):
        if step.test(value, resource):
            yield from _follow(rest, value, resource)
        return
    if isinstance(step, Index) or not isinstance(value, dict):
        return
    found = value.get(step)
    items = found if isinstance(found, list) else () if found is None else (found,)
    if rest and isinstance(rest[0], Index):
        items, rest = items[rest[0].at : rest[0].at + 1], rest[1:]
    for item in items:
        if item is not None:
            yield from _follow(rest, item, resource)


def compile(expression: str, type_name: str, definitions: Definitions) -> Callable[[Resource], list[Typed]]:  # noqa: A001
    """The expression as a function of a `type_name` value; fhirpathpy evaluates what closures do not cover.

    Raises FhirError 400 when fhirpathpy cannot parse it either.
    """
    try:
        found = places(expression, type_name, definitions)
    except NotSimple:
        return general(expression)
    if isinstance(found, Computed):
        computed = found.value

        def truth(resource: Resource) -> list[Typed]:
            value = computed(resource)
            return [] if value is None else [Typed("boolean", value)]

        return truth
    return lambda resource: list(values(found, resource))


# ---- everything else


def general(expression: str) -> Callable[[Resource], list[Typed]]:
    """The expression through fhirpathpy, on a whole resource. Raises FhirError 400 when it does not parse.

    The engine marks what it visits, so it gets a copy; complex values come back as parts of that copy. It forgets types at a
    union and knows no abstract resource types, so the branches of a union are evaluated one by one.
    """
    from copy import deepcopy  # noqa: PLC0415  (with the engine: only the few expressions that need it pay)

    import fhirpathpy  # noqa: PLC0415
    from fhirpathpy.models import models  # noqa: PLC0415

    model = models["r4"]
    here: list[Resource] = []
    functions = {
        "resolve": {"fn": lambda nodes: _stubs(nodes, here[-1])},
        "hasExtension": {
            "fn": lambda nodes, url: [any(_has_extension(node, url) for node in nodes)],
            "arity": {1: ["String"]},
        },
    }
    options = {"returnRawData": True, "userInvocationTable": functions}
    branches = _branches(expression)
    for branch in branches:
        if not _is_fhirpath(branch):
            raise FhirError(400, "invalid", f"FHIRPath expression '{expression}' does not parse.")
    runs = [fhirpathpy.compile(branch, model, options) for branch in branches]

    def evaluate(resource: Resource) -> list[Typed]:
        copy = deepcopy(resource)
        here.append(copy)
        try:
            nodes = [node for run in runs for node in run(copy, {"resource": copy})]
            return [_typed(node, model["path2Type"]) for node in nodes if _data(node) is not None]
        finally:
            here.pop()

    return evaluate


def _is_fhirpath(expression: str) -> bool:
    """Whether fhirpathpy's grammar accepts the whole text; its own parser takes what it understands and says nothing."""
    from antlr4 import CommonTokenStream, InputStream, Token  # type: ignore[import-untyped]  # noqa: PLC0415
    from antlr4.error.Errors import LexerNoViableAltException  # type: ignore[import-untyped]  # noqa: PLC0415
    from fhirpathpy.parser import recover  # noqa: PLC0415
    from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer  # noqa: PLC0415
    from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser  # noqa: PLC0415

    lexer = FHIRPathLexer(InputStream(expression))
    lexer.recover = recover
    lexer.removeErrorListeners()
    parser = FHIRPathParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    try:
        parser.expression()
    except LexerNoViableAltException:
        return False
    return bool(parser.getNumberOfSyntaxErrors() == 0 and parser.getCurrentToken().type == Token.EOF)


def _branches(expression: str) -> list[str]:
    """The branches of a union at the top, without the name of an abstract resource type before them."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(r"'(?:[^'\\]|\\.)*'|[()|]", expression):
        if found[0] in "()":
            depth += 1 if found[0] == "(" else -1
        elif found[0] == "|" and depth == 0:
            parts.append(expression[start : found.start()])
            start = found.end()
    return [re.sub(r"^(\(*)(?:Domain)?Resource\.", r"\1", part.strip()) for part in [*parts, expression[start:]]]


def _data(node: Any) -> Any:
    return getattr(node, "data", node)


def _stubs(nodes: list[Any], resource: Resource) -> list[Resource]:
    kinds = (reference_type(_data(node), resource) for node in nodes)
    return [{"resourceType": kind} for kind in kinds if kind is not None]


def _has_extension(node: Any, url: str) -> bool:
    value = _data(node)
    return isinstance(value, dict) and any(item.get("url") == url for item in value.get("extension", ()))


def _typed(node: Any, path_types: Mapping[str, str]) -> Typed:
    value = _data(node)
    path = getattr(node, "path", None)
    if isinstance(path, str):
        kind = path_types.get(path, path)
        if kind.startswith("System."):
            kind = kind[7].lower() + kind[8:]
        return Typed("boolean" if isinstance(value, bool) else kind, value)
    if isinstance(value, bool):
        return Typed("boolean", value)
    if isinstance(value, int):
        return Typed("integer", value)
    if isinstance(value, str):
        return Typed("string", value)
    if type(value).__name__ in ("FP_DateTime", "FP_Date"):
        return Typed("dateTime", str(value))
    return Typed("decimal" if type(value).__name__ in ("Decimal", "Number") else "string", value)
