"""What one resource's check remembers until the resource has been walked: its local references and the invariants to ask.

Specification: https://hl7.org/fhir/R4/references.html#contained
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct, field

from resources.definitions.model import Constraint
from resources.validation.faults import Fault

Invariant = Callable[[Any, Any, Any], tuple[Constraint, ...]]


class Scope(Struct):
    """One resource being walked.

    `resource` is it, `root` the resource that contains it (itself when none does). `tasks` are shared by all resources of one body;
    `local` and `typed` by a resource and those it contains: references `#x`, and the types their targets may have.
    """

    resource: Any
    root: Any
    tasks: "list[tuple[Invariant, Any, Scope]]"
    local: list[tuple[Any, str]] = field(default_factory=list)
    typed: list[tuple[Any, str, frozenset[str]]] = field(default_factory=list)
    contained: dict[str, str] = field(default_factory=dict)

    def unresolved(self) -> list[Fault]:
        """The faults of the local references, once all contained resources are known."""
        wrong: list[tuple[Any, str, str]] = []
        for node, text in self.local:
            if len(text) > 1 and text[1:] not in self.contained:
                wrong.append((node, "invariant", "ref-1: no contained resource has this id"))
        for node, text, allowed in self.typed:
            kind = self.contained.get(text[1:]) if len(text) > 1 else self.root.get("resourceType")
            if kind and kind not in allowed:
                wrong.append((node, "value", f"must refer to one of: {', '.join(sorted(allowed))}"))
        paths = locate(self.root, [node for node, _, _ in wrong]) if wrong else {}
        return [Fault(f"{paths.get(id(node), '')}.reference", code, text) for node, code, text in wrong]


def locate(root: Any, nodes: Iterable[Any]) -> dict[int, str]:
    """The first path of each of the values `nodes` (by identity) inside `root`, under its id(): `.name[0].given[1]`."""
    wanted = {id(node) for node in nodes}
    found: dict[int, str] = {}
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting and len(found) < len(wanted):
        path, value = waiting.pop()
        if id(value) in wanted:
            found.setdefault(id(value), path)
        if value.__class__ is dict:
            waiting.extend((f"{path}.{name.removeprefix('_')}", inner) for name, inner in reversed(value.items()))
        elif value.__class__ is list:
            waiting.extend((f"{path}[{index}]", inner) for index, inner in reversed(tuple(enumerate(value))))
    return found
