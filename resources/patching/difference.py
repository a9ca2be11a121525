"""The difference of two resources as a FHIRPath Patch: what, applied to the one, gives the other.

Rules. Values are equal when their tokens are; the order of members does not count. Lists are compared from both ends: what stands between
is changed item by item, then deleted from the end or inserted. In every object additions come before deletions, so that nothing that stays is
ever emptied, for a patch takes away what is empty.

Specification: https://hl7.org/fhir/R4/fhirpatch.html
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resources.definitions.model import Element, Property, TypeDefinition
from resources.json_format import canonical
from resources.model import Resource
from resources.patching.places import Definitions, Pair
from resources.patching.values import members_of, part_of

Step = dict[str, Any]
"""One operation: a parameter of the patch."""


def difference(old: Resource, new: Resource, definitions: Definitions, ignored: Collection[str] = ()) -> Resource:
    """The Parameters that make `new` of `old`, valid resources of one type; elements whose path is in `ignored` are left as they are.

    `ignored` holds paths such as `Patient.meta`. What both have in common is not told.
    """
    kind = str(old["resourceType"])
    walk = _Walk(definitions, frozenset(ignored))
    steps = list(walk.objects(kind, definitions.types[kind], old, new))
    return {"resourceType": "Parameters", **({"parameter": steps} if steps else {})}


@dataclass(frozen=True, slots=True)
class _Walk:
    definitions: Definitions
    ignored: frozenset[str]

    def objects(
        self, path: str, definition: TypeDefinition, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> Iterator[Step]:
        """The steps between two objects of one type at `path`."""
        before, after = _by_element(old, definition), _by_element(new, definition)
        deletions: list[Step] = []
        for element in definition.elements.values():
            here = f"{path}.{element.name}"
            one, other = before.get(element.name), after.get(element.name)
            if here in self.ignored or (one is None and other is None):
                continue
            if other is None:
                deletions.extend(_deletions(here, element, one))
            elif one is None:
                yield from (self._added(path, other[0], pair) for pair in other[1])
            elif element.max != 1:
                yield from self._lists(here, one[0], one[1], other[1])
            else:
                yield from self._values(here, one[0], one[1][0], other[0], other[1][0])
        yield from deletions

    def _added(self, path: str, one: Property, pair: Pair) -> Step:
        return _step("add", path, {"name": "name", "valueString": one.element.name}, self._value(one, pair))

    def _value(self, one: Property, pair: Pair) -> Step:
        return part_of("value", one.type, pair, self.definitions)

    def _lists(self, path: str, one: Property, old: Sequence[Pair], new: Sequence[Pair]) -> Iterator[Step]:
        """The steps between two lists."""
        before, after = [canonical(pair) for pair in old], [canonical(pair) for pair in new]
        shorter = min(len(before), len(after))
        head = next((at for at in range(shorter) if before[at] != after[at]), shorter)
        rest = shorter - head
        tail = next((at for at in range(rest) if before[-1 - at] != after[-1 - at]), rest)
        shared = shorter - tail
        for at in range(head, shared):
            yield from self._values(f"{path}[{at}]", one, old[at], one, new[at])
        for at in reversed(range(shared, len(old) - tail)):
            yield _step("delete", f"{path}[{at}]")
        for at in range(shared, len(new) - tail):
            yield _step("insert", path, self._value(one, new[at]), {"name": "index", "valueInteger": at})

    def _values(self, path: str, one: Property, old: Pair, other: Property, new: Pair) -> Iterator[Step]:
        """The steps between two values."""
        if one.name == other.name and canonical(old) == canonical(new):
            return
        definition = self._common(one, old, new) if one.name == other.name else None
        if definition is None:
            yield _step("replace", path, self._value(other, new))
        else:
            yield from self.objects(path, definition, old[0], new[0])

    def _common(self, one: Property, old: Pair, new: Pair) -> TypeDefinition | None:
        """The type of both values when they are objects of one type."""
        definition = self.definitions.types[one.type]
        if definition.kind == "primitive-type":
            return None
        if definition.kind != "resource":
            return definition
        kinds = {old[0]["resourceType"], new[0]["resourceType"]}
        return self.definitions.types[kinds.pop()] if len(kinds) == 1 else None


def _by_element(value: Mapping[str, Any], definition: TypeDefinition) -> dict[str, tuple[Property, list[Pair]]]:
    return {one.element.name: (one, found) for one, found in members_of(value, definition)}


def _deletions(path: str, element: Element, found: tuple[Property, list[Pair]] | None) -> Iterator[Step]:
    if element.max == 1:
        yield _step("delete", path)
    elif found is not None:
        yield from (_step("delete", f"{path}[{at}]") for at in reversed(range(len(found[1]))))


def _step(kind: str, path: str, *parts: Step) -> Step:
    first = ({"name": "type", "valueCode": kind}, {"name": "path", "valueString": path})
    return {"name": "operation", "part": [*first, *parts]}
