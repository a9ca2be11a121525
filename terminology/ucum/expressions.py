"""The meaning of a UCUM expression: ucumvert's grammar, our exact arithmetic. Imported only for codes that no table holds.

Specification: https://ucum.org/ucum
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

from lark import Token
from lark.exceptions import LarkError
from ucumvert.parser import get_ucum_parser

_MAX_LENGTH = 128
_MAX_EXPONENT = 99


class Canonical(NamedTuple):
    """A unit as an exact factor and its powers of base dimensions, sorted by name."""

    factor: Fraction
    dimensions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Atoms:
    """The vocabulary: prefix -> factor, atom -> canonical form (None: a special unit, not a multiple of anything)."""

    prefixes: Mapping[str, Fraction]
    units: Mapping[str, Canonical | None]
    metric: tuple[str, ...] = ()


_ONE = Canonical(Fraction(1), ())


class _Special(Exception):  # noqa: N818
    """The expression holds a special unit."""


@cache
def _parser() -> Any:
    return get_ucum_parser()


def evaluate(code: str, atoms: Atoms) -> Canonical | None:
    """The canonical form; None when the code is no UCUM, holds a special unit, or consists of annotations alone.

    Raises KeyError for an atom that `atoms` lacks.
    """
    if len(code) > _MAX_LENGTH or not code.isascii():
        return None
    try:
        tree = _parser().parse(code)
        if not any(_counts(token) for token in tree.scan_values(lambda value: isinstance(value, Token))):
            return None
        return _value(tree, atoms)
    except (LarkError, _Special):
        return None


def _counts(token: Token) -> bool:
    return token.type not in ("ANNOTATION", "OPERATOR", "DIVIDE")


def _value(node: Any, atoms: Atoms) -> Canonical:
    if isinstance(node, Token):
        if node.type == "ANNOTATION":
            return _ONE
        raise _Special(str(node))
    parts = node.children
    if node.data == "simple_unit":
        return _unit(parts, atoms)
    if node.data == "annotatable":
        return _power(_value(parts[0], atoms), int(parts[1])) if len(parts) > 1 else _value(parts[0], atoms)
    if node.data == "component":
        return _value(parts[0], atoms)
    if node.data == "term" and len(parts) == 3:  # noqa: PLR2004  (left, operator, right)
        left, right = _value(parts[0], atoms), _value(parts[2], atoms)
        return _product(left, right if str(parts[1]) == "." else _power(right, -1))
    if node.data == "main_term" and len(parts) == 2:  # noqa: PLR2004  (a leading slash)
        return _power(_value(parts[1], atoms), -1)
    return _value(parts[0], atoms)


def _unit(parts: list[Token], atoms: Atoms) -> Canonical:
    last = parts[-1]
    if last.type == "FACTOR":
        return Canonical(Fraction(str(last)), ())
    unit = atoms.units[str(last)]
    if unit is None:
        raise _Special(str(last))
    if len(parts) == 1:
        return unit
    return Canonical(atoms.prefixes[str(parts[0])] * unit.factor, unit.dimensions)


def _power(unit: Canonical, exponent: int) -> Canonical:
    if abs(exponent) > _MAX_EXPONENT:
        raise _Special("an exponent beyond any use")
    return Canonical(unit.factor**exponent, tuple((name, power * exponent) for name, power in unit.dimensions))


def _product(left: Canonical, right: Canonical) -> Canonical:
    powers = dict(left.dimensions)
    for name, power in right.dimensions:
        powers[name] = powers.get(name, 0) + power
    return Canonical(
        left.factor * right.factor, tuple(sorted((name, power) for name, power in powers.items() if power))
    )
