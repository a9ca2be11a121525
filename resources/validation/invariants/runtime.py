"""What compiled invariants call: navigation where the type is not known beforehand, three-valued comparison.

A collection is any iterable of JSON values; a primitive that has only extensions is represented by its companion object.
None stands for the empty collection where one value is meant.

Specification: https://hl7.org/fhirpath/N1/#comparison
"""

import re
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from resources.definitions.model import TypeDefinition

_MONTHS = 12
_INTEGER = re.compile(r"[+-]?\d+")
_TIME = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d)?)?)?)?")


def one(node: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """The value of a property that does not repeat, or its companion."""
    if name in node:
        return (node[name],)
    companion = "_" + name
    return (node[companion],) if companion in node else ()


def many(node: Mapping[str, Any], name: str) -> Iterable[Any]:
    """The values of a repeating primitive; where there is none, its companion."""
    values: list[Any] = node.get(name, [])
    companions = node.get("_" + name)
    if companions is None:
        return values
    width = max(len(values), len(companions))
    padded = values + [None] * (width - len(values))
    return [
        value if value is not None else companion
        for value, companion in zip(padded, companions + [None] * (width - len(companions)), strict=True)
        if value is not None or companion is not None
    ]


def choice(node: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
    """The value of whichever property of a choice is there."""
    for name in names:
        if name in node:
            return (node[name],)
    for name in names:
        if "_" + name in node:
            return (node["_" + name],)
    return ()


def untyped(node: Any, name: str) -> Iterable[Any]:
    """The children of that name of a value whose type is not known."""
    if node.__class__ is not dict or (name not in node and "_" + name not in node):
        return ()
    value = node.get(name)
    if value.__class__ is list or node.get("_" + name).__class__ is list:
        return many(node, name)
    return one(node, name)


def children(node: Any) -> Iterator[Any]:
    """All children of a value whose type is not known (companions aside)."""
    if node.__class__ is dict:
        for name, value in node.items():
            if name == "resourceType" or name[0] == "_":
                continue
            if value.__class__ is list:
                yield from (item for item in value if item is not None)
            else:
                yield value


def descender(types: Callable[[str], TypeDefinition | None]) -> Callable[[Any, str], Iterator[tuple[Any, str]]]:
    """`descend(node, type)`: all descendants with the name of their type, depth first, extensions of primitives included."""

    def inside(node: Any, type_name: str) -> Iterator[tuple[Any, str, bool]]:
        """The children; False for a companion, which is no child but holds some."""
        definition = types(node.get("resourceType", type_name))
        if definition is None:
            return
        properties = definition.properties
        for name, value in node.items():
            known = properties.get(name)
            known_type = known.type if known is not None else "Element" if name[0] == "_" else None
            if known_type is not None:
                for item in value if value.__class__ is list else (value,):
                    if item is not None:
                        yield item, known_type, name[0] != "_"

    def descend(node: Any, type_name: str) -> Iterator[tuple[Any, str]]:
        waiting = [inside(node, type_name)] if node.__class__ is dict else []
        while waiting:
            for item, kind, child in waiting[-1]:
                if child:
                    yield item, kind
                if item.__class__ is dict:
                    waiting.append(inside(item, kind))
                    break
            else:
                waiting.pop()

    return descend


def head(items: Iterable[Any]) -> Iterable[Any]:
    """The first item, as a collection."""
    for item in items:
        return (item,)
    return ()


def tail(items: Iterable[Any]) -> Iterable[Any]:
    """All but the first."""
    return list(items)[1:]


def frozen(value: Any) -> Any:
    """A value that may be hashed: equal values give equal ones."""
    if value.__class__ is dict:
        return frozenset((name, frozen(inner)) for name, inner in value.items())
    return tuple(map(frozen, value)) if value.__class__ is list else value


def has(
    memory: dict[int, tuple[set[Any], Iterator[Any]]], number: int, value: Any, make: Callable[[], Iterable[Any]]
) -> bool:
    """Whether a collection has the value; its items are made once, as far as they were needed."""
    if number not in memory:
        memory[number] = set(), iter(make())
    seen, rest = memory[number]
    wanted = frozen(value)
    if wanted in seen:
        return True
    for item in rest:
        known = frozen(item)
        seen.add(known)
        if known == wanted:
            return True
    return False


def some(value: Any) -> tuple[Any, ...]:
    """The collection of one value, or none."""
    return () if value is None else (value,)


def distinct(items: Iterable[Any]) -> bool:
    """FHIRPath isDistinct()."""
    values = [frozen(item) for item in items]
    return len(values) == len(set(values))


def values(items: Iterable[Any]) -> Iterator[Any]:
    """The primitive values among items that may be companions."""
    return (item for item in items if item.__class__ is not dict)


def otherwise(value: Any, default: Any) -> Any:
    """The value, or the default for the empty collection."""
    return default if value is None else value


def to_string(value: Any) -> str | None:
    """FHIRPath toString() of a number or text."""
    return None if value is None else str(value)


def equal(left: Any, right: Any) -> bool | None:
    """FHIRPath `=`; None when a side is empty."""
    if left is None or right is None:
        return None
    return bool(left == right)


def plus(left: Any, right: Any) -> Any:
    """FHIRPath `+` on numbers or strings."""
    return None if left is None or right is None else left + right


def join(left: Any, right: Any) -> str:
    """FHIRPath `&`: the empty collection counts as the empty string."""
    return ("" if left is None else str(left)) + ("" if right is None else str(right))


def substring(value: Any, start: int) -> str | None:
    """FHIRPath substring(start)."""
    return value[start:] if isinstance(value, str) and start < len(value) else None


def to_integer(value: Any) -> int | None:
    """FHIRPath toInteger()."""
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else None


def replace_matches(value: Any, pattern: str, replacement: str) -> str | None:
    """FHIRPath replaceMatches()."""
    return re.sub(pattern, replacement, value) if isinstance(value, str) else None


def starts(value: Any, prefix: Any) -> bool | None:
    """FHIRPath startsWith(); None when a side is empty."""
    return value.startswith(prefix) if isinstance(value, str) and isinstance(prefix, str) else None


def includes(value: Any, part: Any) -> bool | None:
    """FHIRPath contains(); None when a side is empty."""
    return part in value if isinstance(value, str) and isinstance(part, str) else None


def matches(value: Any, pattern: str) -> bool | None:
    """FHIRPath matches(), on the whole value as R4's texts mean it; None when empty."""
    return re.fullmatch(pattern, value) is not None if isinstance(value, str) else None


def compare(left: Any, right: Any) -> int | None:
    """-1, 0 or 1; None when a side is empty or the specification leaves the order open (precision, zone, units)."""
    if isinstance(left, str) and isinstance(right, str):
        return _compare_times(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return _compare_quantities(left, right)
    if isinstance(left, int | Decimal) and isinstance(right, int | Decimal):
        return (left > right) - (left < right)
    return None


def _compare_quantities(left: Mapping[str, Any], right: Mapping[str, Any]) -> int | None:
    keys = ("system", "code") if "code" in left and "code" in right else ("unit",)
    if any(left.get(key) != right.get(key) for key in keys):
        return None
    return compare(left.get("value"), right.get("value"))


def _compare_times(left: str, right: str) -> int | None:
    if len(left) == len(right) and (len(left) <= 10 or left[19:] == right[19:]):  # noqa: PLR2004 - YYYY-MM-DD
        return (left > right) - (left < right)
    first, second = _TIME.fullmatch(left), _TIME.fullmatch(right)
    if first is None or second is None:
        return None
    if first[4] and second[4]:
        if (first[7] is None) != (second[7] is None):
            return None
        a, b = _seconds(first), _seconds(second)
        return None if a is None or b is None else (a > b) - (a < b)
    for a_part, b_part in zip(first.groups()[:3], second.groups()[:3], strict=True):
        if a_part is None or b_part is None:
            return None
        if a_part != b_part:
            return (a_part > b_part) - (a_part < b_part)
    return None


def _seconds(time: re.Match[str]) -> Decimal | None:
    """Seconds since the year 1, the offset counted; a leap second is the next minute's first. None for 30 February."""
    year, month, day, hour, minute = map(int, time.groups()[:5])
    zone = time[7]
    offset = 0 if zone in {None, "Z"} else int(f"{zone[0]}1") * (int(zone[1:3]) * 60 + int(zone[4:6]))
    if not (1 <= month <= _MONTHS and year and 1 <= day <= monthrange(year, month)[1]):
        return None
    minutes = (date(year, month, day).toordinal() * 24 + hour) * 60 + minute - offset
    return minutes * 60 + Decimal(time[6])


def below(left: Any, right: Any) -> bool | None:
    """FHIRPath `<`."""
    order = compare(left, right)
    return None if order is None else order < 0


def at_most(left: Any, right: Any) -> bool | None:
    """FHIRPath `<=`."""
    order = compare(left, right)
    return None if order is None else order <= 0


def resolve(reference: Any, root: Mapping[str, Any]) -> Iterator[Any]:
    """FHIRPath resolve() inside the resource: the contained resource a reference names; others stay unresolved."""
    target = reference.get("reference", "") if reference.__class__ is dict else ""
    if target[:1] == "#":
        for contained in root.get("contained", ()):
            if contained.get("id") == target[1:]:
                yield contained


FUNCTIONS: tuple[Callable[..., Any], ...] = (
    one,
    many,
    choice,
    untyped,
    children,
    head,
    has,
    tail,
    some,
    distinct,
    values,
    otherwise,
    to_string,
    equal,
    plus,
    join,
    substring,
    to_integer,
    replace_matches,
    starts,
    includes,
    matches,
    below,
    at_most,
    resolve,
)
"""What compiled text may call, by its own name (`descend` is made per set of types)."""
