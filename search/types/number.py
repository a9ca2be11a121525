"""Numbers, compared exactly: eq, ne and ap by the range of the implicit precision, the other prefixes by the number itself.

With the searched [low, high) and the entry's closed range [l, h] (a number is a point; None is unbounded):
eq: low <= l and h < high; ne: not eq; ap: h >= low and l < high; gt: h > low; ge: h >= low; lt: l < low; le: l <= low;
sa: l > low; eb: h < low.

Specification: https://hl7.org/fhir/R4/search.html#number
"""

from decimal import Decimal
from typing import Any

from resources.definitions.model import Element
from resources.errors import FhirError
from search import values
from search.entries import NumberEntry
from search.parameters import Parameter
from search.query import NumberTest
from search.types.making import Maker, Making, Scope
from search.values import ValueContext

_INFINITY = Decimal("Infinity")


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[NumberTest, ...]:
    """The test of one number; no modifiers."""
    del context
    if modifier is not None:
        raise FhirError(
            400, "invalid", f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type number."
        )
    return (values.number_test(parameter.code, values.unescape(parameter.code, value)),)


def match(entry: NumberEntry, test: NumberTest) -> bool:
    """Whether the entry satisfies the test."""
    return within(entry.low, entry.high, test)


def within(low: Decimal | None, high: Decimal | None, test: NumberTest) -> bool:
    """The table of the module's docstring."""
    first, last = -_INFINITY if low is None else low, _INFINITY if high is None else high
    match test.prefix:
        case "eq":
            return test.low <= first and last < test.high
        case "ne":
            return not (test.low <= first and last < test.high)
        case "ap":
            return last >= test.low and first < test.high
        case "gt":
            return last > test.low
        case "ge":
            return last >= test.low
        case "lt":
            return first < test.low
        case "le":
            return first <= test.low
        case "sa":
            return first > test.low
        case "eb":
            return last < test.low


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a value of datatype `kind`; None: a number parameter cannot meet it."""
    del element, making
    if kind in ("integer", "positiveInt", "unsignedInt", "decimal"):

        def make_number(value: Any, scope: Scope, group: int) -> None:
            number = Decimal(value)
            scope.entries.numbers.append(NumberEntry(code, number, number, group))

        return make_number
    if kind == "Range":

        def make_range(value: Any, scope: Scope, group: int) -> None:
            low, high = (value.get(end, {}).get("value") for end in ("low", "high"))
            if low is not None or high is not None:
                bounds = [None if end is None else Decimal(end) for end in (low, high)]
                scope.entries.numbers.append(NumberEntry(code, bounds[0], bounds[1], group))

        return make_range
    return None
