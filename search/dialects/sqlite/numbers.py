"""Exact numbers as bytes whose order is the numbers' order, so that an index compares Decimals without rounding.

Layout: one byte of sign (1 negative, 2 zero, 3 positive; 0 and 4 are the infinities); then, for a positive number, the decimal
exponent of its first digit plus 2**31 as four bytes, then its significant digits without trailing zeros, two to a byte, each pair
plus 1. For a negative number all bytes after the sign are complemented and 0xFF ends them. Equal numbers have equal bytes
(`1.0` and `1`), and shorter is smaller, as `1.2` before `1.25`.

Specification: https://hl7.org/fhir/R4/datatypes.html#decimal (precision is the search value's business, see search.values)
"""

from decimal import Decimal
from typing import Final

NEGATIVE_INFINITY: Final = b"\x00"
INFINITY: Final = b"\x04"
_BIAS: Final = 1 << 31
_COMPLEMENT: Final = bytes(255 - value for value in range(256))


def key(value: Decimal) -> bytes:
    """The bytes of a finite number. Exponents beyond +-2**31 count as infinities."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return b"\x02"
    scale = exponent + len(text) - 1 + _BIAS
    if scale < 0:
        return b"\x02"
    if scale >= 1 << 32:
        return NEGATIVE_INFINITY if sign else INFINITY
    text = text.rstrip("0")
    if len(text) % 2:
        text += "0"
    pairs = bytes(int(text[at : at + 2]) + 1 for at in range(0, len(text), 2))
    magnitude = scale.to_bytes(4, "big") + pairs
    if sign:
        return b"\x01" + magnitude.translate(_COMPLEMENT) + b"\xff"
    return b"\x03" + magnitude


def low_key(value: Decimal | None) -> bytes:
    """The lower end of a range: None is unbounded."""
    return NEGATIVE_INFINITY if value is None else key(value)


def high_key(value: Decimal | None) -> bytes:
    """The upper end of a range: None is unbounded."""
    return INFINITY if value is None else key(value)
