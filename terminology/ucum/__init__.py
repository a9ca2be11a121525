"""UCUM quantities in canonical units, exactly: 5.4 g and 5400 mg become the same number of the same unit.

Rules.
1. A factor is an exact fraction. The canonical value is the exact product rounded ONCE to 34 significant digits, so equal
   quantities always get equal values, and a larger quantity never a smaller value.
2. Of the special units the temperatures (Cel, [degF], [degRe]) become kelvins, where they stand alone. The others ([pH], B ...), and
   special units inside an expression (Cel/min), have no canonical form and are compared as written. Neither has a code of annotations
   alone (`{score}`): nobody defined what it counts.
3. Arbitrary units ([iU], [arb'U] ...) convert among their own prefixes only; so does the mole (see build.py).
4. Annotations beside a unit do not count (`mg{creat}` = `mg`).

The table of atoms and common codes (units.json.gz, by build.py) is read at first use; the grammar (ucumvert) only for a code
that the table lacks.
Specification: https://ucum.org/ucum
"""

import gzip
import json
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

SYSTEM = "http://unitsofmeasure.org"
"""The system URI of UCUM codes."""

# Without traps: what overflows becomes infinite and has no canonical form.
_ROUNDED = Context(prec=34, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_EXACT = Context(prec=2000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


TEMPERATURES = {
    "Cel": (Decimal("273.15"), Decimal(1), Decimal(1)),
    "[degF]": (Decimal("459.67"), Decimal(5), Decimal(9)),
    "[degRe]": (Decimal("218.52"), Decimal(5), Decimal(4)),
}
"""Unit -> what is added to the value, and numerator and denominator of the factor that then makes it kelvins."""


class _Factor(NamedTuple):
    numerator: Decimal
    denominator: Decimal | None
    unit: str


def canonical(value: Decimal, code: str) -> tuple[Decimal, str] | None:
    """The value in canonical units and their name (`g.m-3`, `1`); None when the code does not convert."""
    if code in TEMPERATURES:
        zero, numerator, denominator = TEMPERATURES[code]
        kelvins = _ROUNDED.divide(_EXACT.multiply(_EXACT.add(value, zero), numerator), denominator)
        return (kelvins, "K") if kelvins.is_finite() else None
    factor = _factor(code)
    if factor is None:
        return None
    if factor.denominator is None:
        result = _ROUNDED.multiply(value, factor.numerator)
    else:
        result = _ROUNDED.divide(_EXACT.multiply(value, factor.numerator), factor.denominator)
    return (result, factor.unit) if result.is_finite() else None


@cache
def _data() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(gzip.decompress((files(__name__) / "units.json.gz").read_bytes()))
    return loaded


@lru_cache(maxsize=8192)
def _factor(code: str) -> _Factor | None:
    codes = _data()["codes"]
    row = codes[code] if code in codes else _evaluated(code)
    if row is None:
        return None
    factor = Fraction(row[0])
    unit = ".".join(name if power == 1 else f"{name}{power}" for name, power in row[1].items()) or "1"
    return _decimals(factor, unit)


def _decimals(factor: Fraction, unit: str) -> _Factor:
    """The fraction as a decimal number, or as numerator and denominator when it does not end."""
    rest = factor.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    numerator = _EXACT.divide(Decimal(factor.numerator), Decimal(factor.denominator // rest))
    return _Factor(numerator, None if rest == 1 else Decimal(rest), unit)


def _evaluated(code: str) -> list[Any] | None:
    """The row of a code that the table lacks."""
    from terminology.ucum.expressions import Atoms, Canonical, evaluate  # noqa: PLC0415  (0.2 s, hardly ever needed)

    data = _data()
    atoms = Atoms(
        {name: Fraction(value) for name, value in data["prefixes"].items()},
        {
            name: None if row is None else Canonical(Fraction(row[0]), tuple(row[1].items()))
            for name, row in data["units"].items()
        },
    )
    found = evaluate(code, atoms)
    return None if found is None else [str(found.factor), dict(found.dimensions)]
