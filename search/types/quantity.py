"""Quantities: a number with a unit, compared in UCUM's canonical units where both sides convert, as written elsewhere.

Rules. A stored number is a point, a stored Range a range, `Quantity.comparator` opens one side. `5.4||mg` means code or unit
as written, of any system. SampledData is the range from its smallest to its largest value in the unit of its origin. A
quantity of a UCUM code is stored as written and in canonical units; a search that converts looks at the canonical form.

Specification: https://hl7.org/fhir/R4/search.html#quantity
"""

import re
from decimal import Context, Decimal
from typing import Any

from resources.definitions.model import Element
from resources.errors import FhirError
from search import values
from search.entries import QuantityEntry
from search.parameters import Parameter
from search.query import NumberTest, QuantityTest
from search.types import number
from search.types.making import Maker, Making, Scope
from search.values import ValueContext
from terminology import ucum

_CURRENCY = "urn:iso:std:iso:4217"
# Beside numbers the data hold E, U and L: no value, above and below what could be measured.
_SAMPLE = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_SAMPLES = Context(prec=100, traps=[])
Bound = Decimal | None


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[QuantityTest, ...]:
    """The test of `number`, `number|system|code` or `number||code`; no modifiers."""
    del context
    if modifier is not None:
        raise FhirError(
            400, "invalid", f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type quantity."
        )
    test, system, code = values.quantity_parts(parameter.code, value)
    canonical = None
    if system == ucum.SYSTEM and code is not None:
        low, high = ucum.canonical(test.low, code), ucum.canonical(test.high, code)
        if low is not None and high is not None:
            canonical = (NumberTest(test.prefix, low[0], high[0]), low[1])
    return (QuantityTest(test, system, code, canonical),)


def match(entry: QuantityEntry, test: QuantityTest) -> bool:
    """Whether the entry satisfies the test."""
    if test.canonical is not None:
        bounds, unit = test.canonical
        return entry.canonical_unit == unit and number.within(entry.canonical_low, entry.canonical_high, bounds)
    return (
        (test.system is None or entry.system == test.system)
        and (test.code is None or test.code in (entry.code, entry.unit))
        and number.within(entry.low, entry.high, test.number)
    )


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a value of datatype `kind`; None: a quantity parameter cannot meet it."""
    del element, making
    make = {"Money": _money, "Range": _range, "SampledData": _samples}.get(kind)
    if make is None and kind in ("Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity"):
        make = _quantity
    if make is None:
        return None
    chosen = make

    def run(value: Any, scope: Scope, group: int) -> None:
        entry = chosen(code, value, group)
        if entry is not None:
            scope.entries.quantities.append(entry)

    return run


def _quantity(row: str, value: Any, group: int) -> QuantityEntry | None:
    written = value.get("value")
    if written is None:
        return None
    exact = Decimal(written)
    comparator = value.get("comparator")
    low = None if comparator in ("<", "<=") else exact
    high = None if comparator in (">", ">=") else exact
    return _entry(row, low, high, value, group)


def _range(row: str, value: Any, group: int) -> QuantityEntry | None:
    low, high = value.get("low", {}), value.get("high", {})
    first, last = low.get("value"), high.get("value")
    if first is None and last is None:
        return None
    unit = low if first is not None else high
    return _entry(row, None if first is None else Decimal(first), None if last is None else Decimal(last), unit, group)


def _samples(row: str, value: Any, group: int) -> QuantityEntry | None:
    origin, factor = value.get("origin", {}), Decimal(value.get("factor", 1))
    numbers = [Decimal(word) for word in value.get("data", "").split() if _SAMPLE.fullmatch(word)]
    if not numbers or origin.get("value") is None:
        return None
    zero = Decimal(origin["value"])
    low, high = sorted(_SAMPLES.fma(end, factor, zero) for end in (min(numbers), max(numbers)))
    return _entry(row, low, high, origin, group) if low.is_finite() and high.is_finite() else None


def _entry(row: str, low: Bound, high: Bound, unit: Any, group: int) -> QuantityEntry:
    system, code = unit.get("system", ""), unit.get("code", "")
    canonical_unit, first, last = None, None, None
    if system == ucum.SYSTEM and code:
        if low is not None and (found := ucum.canonical(low, code)) is not None:
            first, canonical_unit = found
        if high is low:
            last = first
        elif high is not None and (found := ucum.canonical(high, code)) is not None:
            last, canonical_unit = found
    return QuantityEntry(row, low, high, system, code, unit.get("unit", ""), canonical_unit, first, last, group)


def _money(row: str, value: Any, group: int) -> QuantityEntry | None:
    written = value.get("value")
    if written is None:
        return None
    exact, currency = Decimal(written), value.get("currency", "")
    return QuantityEntry(row, exact, exact, _CURRENCY if currency else "", currency, "", None, None, None, group)
