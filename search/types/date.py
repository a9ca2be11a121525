"""Dates: both sides are closed ranges of microseconds, every prefix compares ranges.

With the searched range [low, high] and the entry's [l, h]:
eq: low <= l and h <= high; ne: not eq; gt: h > high; lt: l < low; ge: gt or eq; le: lt or eq; sa: l > high; eb: h < low;
ap: the ranges overlap (the searched one comes widened).
A Timing is the range from its first to its last event or bound.

Specification: https://hl7.org/fhir/R4/search.html#date, https://hl7.org/fhir/R4/search.html#prefix
"""

from datetime import tzinfo
from typing import Any

from resources.definitions.model import Element
from resources.errors import FhirError
from search import values
from search.entries import DateEntry
from search.parameters import Parameter
from search.query import DateTest
from search.types.making import Maker, Making, Scope
from search.values import MAX_TIME, MIN_TIME, ValueContext, time_range


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[DateTest, ...]:
    """The test of one date; no modifiers."""
    if modifier is not None:
        raise FhirError(
            400, "invalid", f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type date."
        )
    return (values.date_test(parameter.code, values.unescape(parameter.code, value), context),)


def match(entry: DateEntry, test: DateTest) -> bool:
    """Whether the entry satisfies the test."""
    return within(entry.low, entry.high, test)


def within(low: int, high: int, test: DateTest) -> bool:
    """The table of the module's docstring."""
    inside = test.low <= low and high <= test.high
    match test.prefix:
        case "eq":
            return inside
        case "ne":
            return not inside
        case "gt":
            return high > test.high
        case "lt":
            return low < test.low
        case "ge":
            return high > test.high or inside
        case "le":
            return low < test.low or inside
        case "sa":
            return low > test.high
        case "eb":
            return high < test.low
        case "co":
            return low <= test.low and high >= test.high
        case "ap":
            return low <= test.high and high >= test.low


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a value of datatype `kind`; None: a date parameter cannot meet it."""
    del element
    zone = making.zone
    if kind in ("date", "dateTime"):

        def make_date(value: Any, scope: Scope, group: int) -> None:
            found = time_range(value, zone)
            if found is not None:
                scope.entries.dates.append(DateEntry(code, found[0], found[1], group))

        return make_date
    ranges = {"instant": _instant, "Period": _period, "Timing": _timing}.get(kind)
    if ranges is None:
        return None

    def make(value: Any, scope: Scope, group: int) -> None:
        found = ranges(value, zone)
        if found is not None:
            scope.entries.dates.append(DateEntry(code, found[0], found[1], group))

    return make


def _instant(value: Any, zone: tzinfo) -> tuple[int, int] | None:
    found = time_range(value, zone)
    return None if found is None else (found[0], found[0])


def _period(value: Any, zone: tzinfo) -> tuple[int, int] | None:
    start, end = value.get("start"), value.get("end")
    first = time_range(start, zone) if start is not None else None
    last = time_range(end, zone) if end is not None else None
    if first is None and last is None:
        return None
    return (MIN_TIME if first is None else first[0]), (MAX_TIME if last is None else last[1])


def _timing(value: Any, zone: tzinfo) -> tuple[int, int] | None:
    found = [time_range(event, zone) for event in value.get("event", ()) if event is not None]
    bounds = value.get("repeat", {}).get("boundsPeriod")
    if bounds is not None:
        found.append(_period(bounds, zone))
    known = [one for one in found if one is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None
