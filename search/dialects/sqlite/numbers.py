"""Exact numbers as bytes whose order is the numbers' order, so that an index compares Decimals without rounding.

Layout: one byte of sign (1 negative, 2 zero, 3 positive; 0 and 4 are the infinities); then, for a positive number, the decimal
exponent of its first digit plus 2**31 as four bytes, then its significant digits without trailing zeros, two to a byte (1.25 ends
12 50). For a negative number these bytes are complemented (digits d to 254 - d) and 0xFF ends them. Equal numbers have equal
bytes (`1.0` and `1`), and shorter is smaller, as `1.2` before `1.25`.

Specification: https://hl7.org/fhir/R4/datatypes.html#decimal (precision is the search value's business, see search.values)
"""

from decimal import Decimal
from typing import Final

NEGATIVE_INFINITY: Final = b"\x00"
INFINITY: Final = b"\x04"
_BIAS: Final = 1 << 31
_COMPLEMENT: Final = bytes((254 - value) % 256 for value in range(256))


def key(value: Decimal) -> bytes:
    """The bytes of a finite number. An exponent beyond 2**31 counts as zero or as unbounded."""
    if not value:
        return b"\x02"
    scale = value.adjusted() + _BIAS
    if scale < 0:
        return b"\x02"
    negative = value.is_signed()
    if scale >= 1 << 32:
        return NEGATIVE_INFINITY if negative else INFINITY
    digits = str(value.copy_abs()).partition("E")[0].replace(".", "").strip("0")
    pairs = bytes.fromhex(digits if len(digits) % 2 == 0 else digits + "0")
    if negative:
        return b"\x01" + ((1 << 32) - 1 - scale).to_bytes(4, "big") + pairs.translate(_COMPLEMENT) + b"\xff"
    return b"\x03" + scale.to_bytes(4, "big") + pairs


def low_key(value: Decimal | None) -> bytes:
    """The lower end of a range: None is unbounded."""
    return NEGATIVE_INFINITY if value is None else key(value)


def high_key(value: Decimal | None) -> bytes:
    """The upper end of a range: None is unbounded."""
    return INFINITY if value is None else key(value)
