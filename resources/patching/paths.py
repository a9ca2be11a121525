"""The paths of FHIRPath Patch: which places of a resource an expression selects.

Rules. A path is FHIRPath as far as one can still say which places are meant: names, indexes, `first()`, `last()`, `where()` with `=`,
`!=`, `and` and `exists()`, `extension(url)`, `as` and `ofType()`, `%resource`. Everything else is refused by name; so is an element that
the type does not have, where FHIRPath would be empty. An index counts what the path before it selects, over all parents.

Specification: https://hl7.org/fhir/R4/fhirpatch.html, https://hl7.org/fhirpath/N1/
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from resources.definitions.model import Property
from resources.errors import FhirError
from resources.fhirpath_syntax import NotSimple, Syntax, parse
from resources.model import Resource
from resources.patching.places import Definitions, Place, length, pairs, root

LONGEST: Final = 2000
"""Characters of a path."""
STEPS: Final = 200
"""Names and indexes of a path, inside each other; beyond what a nested resource needs."""
PARENTHESES: Final = 30
"""Calls and groups of a path."""
VISITS: Final = 200_000
"""Places that the paths of one patch may pass, all together."""

_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'")
_ROOTS: Final = frozenset({"Resource", "DomainResource"})
_CONDITION: Final = "where() in a patch compares elements with texts or truth values, or asks exists()"


class PathFault(Exception):  # noqa: N818  (placed by its catcher, who knows the operation)
    """A path that cannot be followed; the text says why."""


def read_path(text: str) -> Syntax:
    """The tree of a path. Raises PathFault for one that is not FHIRPath or goes beyond what patch paths can be."""
    plain = _TEXT.sub("''", text)
    if len(text) > LONGEST or plain.count(".") + plain.count("[") > STEPS or plain.count("(") > PARENTHESES:
        raise PathFault(f"the path is longer than {LONGEST} characters, {STEPS} steps or {PARENTHESES} calls")
    try:
        return parse(text)
    except NotSimple:
        raise PathFault("the path is no FHIRPath expression of the kind that patches can have") from None


@dataclass(slots=True)
class Paths:
    """Follows paths in one resource while it is changed."""

    resource: Resource
    definitions: Definitions
    visits: int = 0

    @property
    def root(self) -> Place:
        """The resource itself."""
        return root(self.resource, str(self.resource.get("resourceType")))

    def select(self, tree: Syntax) -> list[Place]:
        """The places that a path selects."""
        return self._select(tree, [self.root])

    def property(self, place: Place, name: str) -> tuple[Property, ...]:
        """What `name` means in the type at a place: one property, or all those of a choice. Raises PathFault when it means nothing."""
        definition = self.definitions.types[place.type]
        found = tuple(one for one in definition.properties.values() if name in (one.element.name, one.name))
        if not found:
            raise PathFault(f"{place.type} has no element {name!r}")
        return found

    def is_primitive(self, kind: str) -> bool:
        """Whether values of the type are no objects."""
        return self.definitions.types[kind].kind == "primitive-type"

    def _select(self, tree: Syntax, here: Sequence[Place]) -> list[Place]:
        match tree:
            case ("this",):
                return list(here)
            case ("root",):
                return [self.root]
            case ("name", ("this",), str(name)) if name[0].isupper():
                return [self._named(place, name) for place in here]
            case ("name", source, str(name)):
                return [child for place in self._select(source, here) for child in self._children(place, name)]
            case ("index", ("name", source, str(name)), int(at)) if source != ("this",):
                parents = self._select(source, here)
                if len(parents) == 1:
                    return self._children(parents[0], name, at)
                return [child for place in parents for child in self._children(place, name)][at : at + 1]
            case ("index", source, int(at)):
                return self._select(source, here)[at : at + 1]
            case ("as", source, str(name)) | ("call", source, "as" | "ofType", ("name", ("this",), str(name))):
                return [place for place in self._select(source, here) if self._is_a(place.type, name)]
            case ("call", source, "first"):
                return self._select(source, here)[:1]
            case ("call", source, "last"):
                return self._select(source, here)[-1:]
            case ("call", source, "where", condition):
                return [place for place in self._select(source, here) if self._holds(condition, place)]
            case ("call", source, "extension", ("literal", str(url))):
                found = self._select(("name", source, "extension"), here)
                return [place for place in found if place.members.get("url") == url]
        raise _unsupported(tree)

    def _named(self, place: Place, name: str) -> Place:
        """`Patient` at the beginning of a path."""
        if not self._is_a(place.type, name):
            raise PathFault(f"the path begins at {name!r}, and this is a {place.type}")
        return place

    def _is_a(self, kind: str, wanted: str) -> bool:
        current: str | None = kind
        while current is not None and current != wanted:
            definition = self.definitions.types.get(current)
            current = definition.base if definition is not None else None
        return current is not None

    def _children(self, place: Place, name: str, only: int | None = None) -> list[Place]:
        """The values of an element, or `only` the one that an index names: a long list is not walked for it."""
        found: list[Place] = []
        places: Sequence[int | None]
        members = place.members
        for one in self.property(place, name):
            if one.name not in members and f"_{one.name}" not in members:
                continue
            if one.element.max == 1:
                places = [None] if not only else []
            elif only is not None:
                places = [only] if only < length(members, one.name) else []
            else:
                places = [at for at, pair in enumerate(pairs(members, one.name)) if any_of(pair)]
            found.extend(self._typed(Place(one.type, members, one.name, at, one.element, place)) for at in places)
        self.visits += 1 + len(found)
        if self.visits > VISITS:
            raise FhirError(413, "too-costly", "the paths of the patch pass too many elements")
        return found

    def _typed(self, place: Place) -> Place:
        """A resource inside the resource has the type that it says."""
        named = place.members.get("resourceType")
        if place.type not in _ROOTS or not isinstance(named, str) or not self.definitions.is_resource(named):
            return place
        return Place(named, place.holder, place.name, place.at, place.element, place.parent)

    def _holds(self, condition: Syntax, place: Place) -> bool:
        match condition:
            case ("and", left, right):
                return self._holds(left, place) and self._holds(right, place)
            case ("call", source, "exists"):
                return bool(self._select(source, [place]))
            case ("=" | "!=" as operator, source, ("literal", literal)):
                found = [one.pair[0] for one in self._select(source, [place])]
                same = len(found) == 1 and type(found[0]) is type(literal) and found[0] == literal
                return bool(found) and same == (operator == "=")
        raise PathFault(_CONDITION)

    def require_meaningful(self, tree: Syntax) -> None:
        """Raise PathFault for a path that selects nothing because no resource of the type could have what it names."""
        self._types(tree, frozenset({self.root.type}))

    def _types(self, tree: Syntax, here: frozenset[str]) -> frozenset[str]:
        """The types that a path of supported form leads to from `here`; `Resource` stands for any."""
        match tree:
            case ("this",):
                return here
            case ("root",):
                return frozenset({self.root.type})
            case ("name", ("this",), str(name)) if name[0].isupper():
                return here
            case ("name", source, str(name)):
                return self._member_types(self._types(source, here), name)
            case ("as", source, str(name)) | ("call", source, "as" | "ofType", ("name", ("this",), str(name))):
                found = self._types(source, here)
                if not found & _ROOTS and not any(self._is_a(one, name) for one in found):
                    raise PathFault(f"what the path selects is never of the type {name}")
                return frozenset({name})
            case ("call", source, "extension", _):
                return self._types(("name", source, "extension"), here)
            case ("call", source, "where", condition):
                found = self._types(source, here)
                self._condition_types(condition, found)
                return found
            case ("index", source, _) | ("call", source, "first" | "last"):
                return self._types(source, here)
        raise _unsupported(tree)

    def _member_types(self, owners: frozenset[str], name: str) -> frozenset[str]:
        if owners & _ROOTS:
            return frozenset({"Resource"})
        known = (
            self.definitions.types[owner].properties.values() for owner in owners if owner in self.definitions.types
        )
        found = frozenset(one.type for ones in known for one in ones if name in (one.element.name, one.name))
        if not found:
            raise PathFault(f"{' or '.join(sorted(owners))} has no element {name!r}")
        return found

    def _condition_types(self, condition: Syntax, here: frozenset[str]) -> None:
        match condition:
            case ("and", left, right):
                self._condition_types(left, here)
                self._condition_types(right, here)
            case ("call", source, "exists") | ("=" | "!=", source, ("literal", _)):
                self._types(source, here)
            case _:
                raise PathFault(_CONDITION)


def _unsupported(tree: Syntax) -> PathFault:
    name = f"{tree[2]}()" if tree[0] == "call" else repr(tree[0])
    return PathFault(f"{name} is not supported in the path of a patch")


def any_of(pair: tuple[object, object]) -> bool:
    """Whether there is a value or a companion."""
    return pair[0] is not None or pair[1] is not None
