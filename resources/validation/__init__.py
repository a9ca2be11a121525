"""Validation: structure, required bindings and invariants of a resource, all faults at once (of more than `MOST` the first ones).

Faults of structure are answered 400, required bindings and invariants 422 (`status_of`, `raise_for`). Invariants are asked when the
structure has no fault.

Specification: https://hl7.org/fhir/R4/validation.html
"""

from typing import Any, NamedTuple

from resources.errors import Issue
from resources.model import Resource
from resources.references import Link
from resources.validation.faults import BUSINESS, MOST, Fault, issues_of, raise_for, status_of
from resources.validation.links import Links
from resources.validation.scope import Invariant, Scope, locate
from resources.validation.walker import Definitions, Invariants, Walker


class Checked(NamedTuple):
    """What a check found: the faults, and the places that hold links."""

    issues: list[Issue]
    links: list[Link]


class Validator:
    """Checks resources of every type. Compiles each type when it first meets it; give it to all requests of a process."""

    def __init__(self, definitions: Definitions, invariants: Invariants | None = None) -> None:
        self._walker = Walker(definitions, invariants)
        self._links = Links(definitions)

    def validate(self, resource: Resource, kind: str | None = None) -> list[Issue]:
        """All faults of `resource`, which must be of type `kind` when one is given; each has its FHIRPath expression."""
        named = resource.get("resourceType")
        if kind is not None and named is not None and named != kind:
            return issues_of(kind, [Fault(".resourceType", "value", f"must be {kind}")])
        tasks: list[tuple[Invariant, Any, Scope]] = []
        try:
            faults = self._faults(resource, tasks)
            return issues_of(_root(named), faults) if faults else []
        finally:
            tasks.clear()  # each knows its scope, which knows the tasks: a cycle would wait for the garbage collector

    def _faults(self, resource: Resource, tasks: "list[tuple[Invariant, Any, Scope]]") -> list[Fault]:
        faults = self._walker.whole(resource, Scope(resource, resource, tasks))
        if faults is not None and (len(faults) > MOST or any(fault.code not in BUSINESS for fault in faults)):
            return faults
        return [*(faults or ()), *_broken(tasks, resource, faults or ())]

    def links(self, resource: Resource) -> list[Link]:
        """The places of `resource` that hold links, for `resources.references.rewrite`."""
        return self._links.of(resource)

    def check(self, resource: Resource, kind: str | None = None) -> Checked:
        """Both at once."""
        return Checked(self.validate(resource, kind), self.links(resource))


def _root(named: Any) -> str:
    """The expression's first step: the type when it is a name, else the base of all."""
    return named if isinstance(named, str) and named.isalnum() and len(named) < 64 else "Resource"  # noqa: PLR2004


def _broken(
    tasks: list[tuple[Invariant, Any, Scope]], resource: Resource, known: list[Fault] | tuple[()]
) -> list[Fault]:
    """The invariants that do not hold, less those that the walker has reported already."""
    broken = [
        (value, constraint)
        for invariant, value, scope in tasks
        for constraint in invariant(value, scope.resource, scope.root)
    ]
    if not broken:
        return []
    said = {(fault.path, fault.text.partition(":")[0]) for fault in known}
    paths = locate(resource, [value for value, _ in broken])
    faults = []
    for value, constraint in broken:
        path = paths.get(id(value), "")
        if (path, constraint.key) not in said:
            said.add((path, constraint.key))
            faults.append(Fault(path, "invariant", f"{constraint.key}: {constraint.human}"))
    return faults


__all__ = ["Checked", "Invariants", "Validator", "raise_for", "status_of"]
