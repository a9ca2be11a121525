"""Places in a resource: values together with the objects that hold them, so that they can be changed.

Rules. A primitive value and its companion (`birthDate` and `_birthDate`) are one place. What is emptied disappears: an object without
members, a list without items. Members keep their order, also when a choice element gets another type.

Specification: https://hl7.org/fhir/R4/json.html#primitive
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from resources.definitions.model import Element, TypeDefinition
from resources.model import Resource

Pair = tuple[Any, Any]
"""A value and its companion, either of them None."""


class Definitions(Protocol):
    """What patching asks of the definitions."""

    @property
    def types(self) -> Mapping[str, TypeDefinition]:
        """Every type by name."""
        ...

    def is_resource(self, name: str) -> bool:
        """Whether `name` is a concrete resource type."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A value of type `type` at `holder[name]`, or item `at` of the list there. The resource itself has no element and no parent."""

    type: str
    holder: dict[str, Any]
    name: str
    at: int | None = None
    element: Element | None = None
    parent: "Place | None" = None

    @property
    def pair(self) -> Pair:
        """The value and its companion."""
        value, companion = self.holder.get(self.name), self.holder.get(f"_{self.name}")
        return (value, companion) if self.at is None else (_item(value, self.at), _item(companion, self.at))

    @property
    def members(self) -> dict[str, Any]:
        """The object here: the value, or a primitive's companion; empty when there is none."""
        value, companion = self.pair
        found = value if isinstance(value, dict) else companion
        return found if isinstance(found, dict) else {}


def root(resource: Resource, kind: str) -> Place:
    """The place of a whole resource of type `kind`."""
    return Place(kind, {"": resource}, "")


def _item(items: Any, at: int) -> Any:
    return items[at] if isinstance(items, list) and at < len(items) else None


def pairs(holder: Mapping[str, Any], name: str) -> list[Pair]:
    """The items of a list with their companions."""
    values, companions = holder.get(name), holder.get(f"_{name}")
    return [(_item(values, at), _item(companions, at)) for at in range(length(holder, name))]


def length(holder: Mapping[str, Any], name: str) -> int:
    """How many items the list at `name` has."""
    columns = (holder.get(name), holder.get(f"_{name}"))
    return max(len(one) if isinstance(one, list) else 0 for one in columns)


def insert_item(holder: dict[str, Any], name: str, at: int, pair: Pair) -> None:
    """Put an item into the list at `name`, which may not be there yet."""
    count = length(holder, name)
    for key, one in zip((name, f"_{name}"), pair, strict=True):
        column = _column(holder, key, count, one)
        if column is not None:
            column.insert(at, one)


def take_item(holder: dict[str, Any], name: str, at: int) -> Pair:
    """Take an item out of the list at `name` and give it."""
    pair = (_item(holder.get(name), at), _item(holder.get(f"_{name}"), at))
    for key in (name, f"_{name}"):
        column = holder.get(key)
        if isinstance(column, list):
            del column[at : at + 1]
            _drop_empty(holder, key)
    return pair


def _put_item(holder: dict[str, Any], name: str, at: int, pair: Pair) -> None:
    count = length(holder, name)
    for key, one in zip((name, f"_{name}"), pair, strict=True):
        column = _column(holder, key, count, one)
        if column is not None:
            column[at] = one
            _drop_empty(holder, key)


def _column(holder: dict[str, Any], key: str, count: int, one: Any) -> list[Any] | None:
    """The list at `key` with room for `count` items; None when there is none and `one`, None, needs none."""
    column = holder.get(key)
    if not isinstance(column, list):
        if one is None:
            return None
        column = holder[key] = []
    column.extend([None] * (count - len(column)))
    return column


def _drop_empty(holder: dict[str, Any], key: str) -> None:
    if all(one is None for one in holder[key]):
        del holder[key]


def put_pairs(holder: dict[str, Any], name: str, items: Sequence[Pair]) -> None:
    """Make `items` the list at `name`."""
    for key, found in ((name, [value for value, _ in items]), (f"_{name}", [companion for _, companion in items])):
        _put(holder, key, None if all(one is None for one in found) else found)


def put_pair(holder: dict[str, Any], name: str, pair: Pair) -> None:
    """Make `pair` the value at `name`."""
    _put(holder, name, pair[0])
    _put(holder, f"_{name}", pair[1])


def _put(holder: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        holder.pop(name, None)
    else:
        holder[name] = value


def replace(place: Place, name: str, pair: Pair) -> None:
    """Put another value at the place; `name` is its property there: another one when a choice gets another type."""
    if place.at is not None:
        _put_item(place.holder, name, place.at, pair)
        return
    if name != place.name:
        members = list(place.holder.items())
        renamed = {place.name: name, f"_{place.name}": f"_{name}"}
        place.holder.clear()
        place.holder.update((renamed.get(key, key), value) for key, value in members)
    put_pair(place.holder, name, pair)


def delete(place: Place) -> None:
    """Take the value away, and whatever then is empty around it."""
    if place.at is None:
        put_pair(place.holder, place.name, (None, None))
    else:
        take_item(place.holder, place.name, place.at)
    parent = place.parent
    if parent is None or parent.parent is None or place.holder:
        return
    value, _ = parent.pair
    if isinstance(value, dict) or value is None:
        delete(parent)
    else:
        replace(parent, parent.name, (value, None))


def opened(place: Place, *, primitive: bool) -> dict[str, Any]:
    """The object at the place, into which a member can be put; a primitive without companion gets one."""
    value, companion = place.pair
    if not primitive:
        assert isinstance(value, dict)
        return value
    if isinstance(companion, dict):
        return companion
    made: dict[str, Any] = {}
    replace(place, place.name, (value, made))
    return made
