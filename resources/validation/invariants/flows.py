"""A collection while it is compiled: the `for` and `if` clauses that make it, the expression of one item, its types.

`Flow(("for v1 in n.get('name', ())", "if v1.get('use') == 'home'"), "v1", ("HumanName",))` are the home names of `n`.
A flow with `properties` has one more step that is not yet written: the values of those properties of `item`, so that
existence can be asked of the dict itself.

Specification: https://hl7.org/fhirpath/N1/#path-selection
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from resources.definitions.model import Property, TypeDefinition
from resources.validation.invariants.grammar import UnsupportedExpressionError

_VARIABLE = re.compile(r"\bv\d+\b")
WIDE = 6
"""From this many property names on, existence of a choice is asked of the whole set at once."""


@dataclass(frozen=True, slots=True)
class Flow:
    """See the module. `types` is empty when not known; `kind` is the variable that holds an item's type name at run time."""

    clauses: tuple[str, ...]
    item: str
    types: tuple[str, ...]
    single: bool = True
    properties: tuple[Property, ...] = ()
    guard: str = ""
    kind: str = ""


class Names:
    """Fresh variable names within one compiled function, the sets its text speaks of as `S[0]`, and its memories by number."""

    def __init__(self) -> None:
        self._count = 0
        self.memories = 0
        self.sets: list[frozenset[str]] = []

    def __call__(self) -> str:
        """`v1`, `v2`..."""
        self._count += 1
        return f"v{self._count}"

    def memory(self) -> int:
        """The number of a collection that is made at most once per call."""
        self.memories += 1
        return self.memories - 1

    def constant(self, names: Iterable[str]) -> str:
        """The text that stands for a set."""
        value = frozenset(names)
        if value not in self.sets:
            self.sets.append(value)
        return f"S[{self.sets.index(value)}]"


def is_primitive(name: str) -> bool:
    """Whether a type name is a primitive's: they alone begin in lower case."""
    return name[:1].islower()


def present(base: str, properties: tuple[Property, ...], names: Names) -> str:
    """Whether the dict `base` has a value (or companion) of any of the properties, as Python text."""
    keys = [p.name for p in properties] + ["_" + p.name for p in properties if is_primitive(p.type)]
    if len(keys) > WIDE:
        return f"(not {names.constant(keys)}.isdisjoint({base}))"
    text = " or ".join(f"{key!r} in {base}" for key in keys)
    return f"({text})" if len(keys) > 1 else text


def bound(flow: Flow, names: Names) -> Flow:
    """The flow with its pending step written out."""
    if not flow.properties:
        return flow
    variable = names()
    first, *others = flow.properties
    if others:
        source = f"choice({flow.item}, {tuple(p.name for p in flow.properties)!r})"
    elif first.element.max == 1:
        source = f"one({flow.item}, {first.name!r})"
    elif is_primitive(first.type):
        source = f"many({flow.item}, {first.name!r})"
    else:
        source = f"{flow.item}.get({first.name!r}, ())"
    guard = flow.guard if flow.clauses else present(flow.item, flow.properties, names)
    return Flow((*flow.clauses, f"for {variable} in {source}"), variable, flow.types, flow.single, guard=guard)


def step(flow: Flow, name: str, types: Callable[[str], TypeDefinition | None], names: Names) -> Flow:
    """`flow.name`; raises UnsupportedExpressionError when the type is known and has no such element."""
    definitions = [types(type_name) for type_name in flow.types]
    if not definitions or flow.kind or any(d is None or d.abstract for d in definitions):
        source = bound(flow, names)
        variable = names()
        clause = f"for {variable} in untyped({source.item}, {name!r})"
        return Flow((*source.clauses, clause), variable, (), single=False, guard=source.guard)
    found = {p.name: p for d in definitions if d is not None for p in d.properties.values() if p.element.name == name}
    if not found:
        raise UnsupportedExpressionError(f"{flow.types} has no element {name}")
    if any(is_primitive(type_name) for type_name in flow.types):
        raise UnsupportedExpressionError(f"{name} of a primitive")
    properties = tuple(found.values())
    single = flow.single and all(p.element.max == 1 for p in properties)
    result_types = tuple(dict.fromkeys(p.type for p in properties))
    if flow.properties and len(flow.properties) == 1 and flow.properties[0].element.max == 1:
        base = f"{flow.item}.get({flow.properties[0].name!r}, EMPTY)"
        guard = flow.guard if flow.clauses else present(flow.item, flow.properties, names)
        return Flow(flow.clauses, base, result_types, single, properties, guard=guard if flow.clauses else "")
    source = bound(flow, names)
    return replace(source, types=result_types, single=single, properties=properties)


def items(flow: Flow, names: Names, value: str | None = None) -> str:
    """A generator of the items (or of `value` per item), as Python text."""
    source = bound(flow, names)
    wanted = source.item if value is None else value
    if not source.clauses:
        return f"({wanted},)"
    return f"({wanted} {loop(source.clauses)})"


def loop(clauses: Sequence[str]) -> str:
    """The clauses as a comprehension's: one that begins with a filter runs once."""
    return " ".join(clauses) if clauses[0].startswith("for ") else " ".join(("for _ in (0,)", *clauses))


def each(flows: tuple[Flow, ...], names: Names) -> str:
    """All items of several flows, as one Python iterable."""
    parts = [items(flow, names) for flow in flows]
    return parts[0] if len(parts) == 1 else f"chain({', '.join(parts)})"


def member(value: str, flow: Flow, names: Names) -> str:
    """Whether `value` is among the items; items that depend on no loop around are remembered, so that loops stay linear."""
    source = bound(flow, names)
    text = items(source, names)
    free = set(_VARIABLE.findall(text)) - {v for clause in source.clauses for v in _VARIABLE.findall(_bound_by(clause))}
    if free:
        return (
            f"any({source.item} == {value} {loop(source.clauses)})" if source.clauses else f"({source.item} == {value})"
        )
    return f"has(m, {names.memory()}, {value}, lambda: {text})"


def _bound_by(clause: str) -> str:
    return clause.partition(" in ")[0] if clause.startswith("for ") else ""


def exists(flow: Flow, names: Names) -> str:
    """Whether the flow has an item, as Python text."""
    if flow.properties:
        here = present(flow.item, flow.properties, names)
        return here if not flow.clauses else _any(flow, here)
    if not flow.clauses:
        return "True"
    return _any(flow, "True")


def holds(flow: Flow, condition: str) -> str:
    """Whether `condition` is so for any item of a bound flow."""
    return condition if not flow.clauses else _any(flow, condition)


def _any(flow: Flow, condition: str) -> str:
    *clauses, last = flow.clauses
    if condition == "True" and last.startswith("if "):
        condition = last[3:]
    else:
        clauses.append(last)
    text = f"any({condition} {loop(clauses)})" if clauses else f"({condition})"
    return f"({flow.guard} and {text})" if flow.guard else text


def walk(flows: tuple[Flow, ...], names: Names) -> Iterator[Flow]:
    """The flows, bound."""
    for flow in flows:
        yield bound(flow, names)
