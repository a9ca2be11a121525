"""The lexical forms of the primitive types: each check says what is wrong with a JSON value, or None.

Rules. A check never quotes the value. Dates exist in the calendar. What the specification's text says beyond its regular expressions
holds: no control characters, strings are not only white space and at most 1,048,576 characters long.

Specification: https://hl7.org/fhir/R4/datatypes.html#primitive, https://hl7.org/fhir/R4/json.html#primitive
"""

import binascii
import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from resources.json_format import Number
from resources.validation import narrative

Check = Callable[[Any], str | None]

LONGEST: Final = 1_048_576
"""Characters of a string."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_DAY: Final = 10  # len("YYYY-MM-DD")
_SAFE_DAY: Final = "28"
_YEAR = r"(?!0000)[0-9]{4}"
_MONTH = r"(?:0[1-9]|1[0-2])"
_DATE = rf"{_YEAR}-{_MONTH}-(?:0[1-9]|[12][0-9]|3[01])"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"


def _boolean(value: Any) -> str | None:
    return None if value is True or value is False else "must be true or false"


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        if value.__class__ is int:
            return None if low <= value <= high else f"must be from {low} to {high}"
        if value.__class__ is Number and value.text == "-0" and low <= 0:
            return None
        return "must be an integer"

    return check


def _decimal(value: Any) -> str | None:
    known = value.__class__ is Number or value.__class__ is int or value.__class__ is Decimal
    return None if known else "must be a number"


def _string(value: Any) -> str | None:
    if value.__class__ is str:
        if not value:
            return "must not be empty"
        if len(value) > LONGEST:
            return f"must not be longer than {LONGEST} characters"
        if value.isprintable() or _CONTROL.search(value) is None:
            return "must not be only white space" if value.isspace() else None
        return "must not have control characters"
    return "must be a string"


def _matching(pattern: str, description: str) -> Check:
    match = re.compile(pattern, re.ASCII).fullmatch

    def check(value: Any) -> str | None:
        if value.__class__ is str:
            if match(value) is not None:
                return None
            return f"must be {description}" if value else "must not be empty"
        return "must be a string"

    return check


def _code(value: Any) -> str | None:
    if value.__class__ is str:
        if value.isprintable() and value and " " not in value:
            return None
        if not value:
            return "must not be empty"
        if re.fullmatch(r"\S+(?:\s\S+)*", value) is None or _CONTROL.search(value) is not None:
            return "must be a code: no white space at its ends, single spaces within"
        return None
    return "must be a string"


def _uri(value: Any) -> str | None:
    if value.__class__ is str:
        if value.isprintable() and value and " " not in value:
            return None
        if not value:
            return "must not be empty"
        return "must not have white space" if re.search(r"\s", value) or _CONTROL.search(value) else None
    return "must be a string"


def _base64(value: Any) -> str | None:
    if value.__class__ is not str:
        return "must be a string"
    if not value:
        return "must not be empty"
    try:
        binascii.a2b_base64("".join(value.split()).encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return "must be base64"
    return None if not value.isspace() else "must be base64"


def _calendar(pattern: str, description: str) -> Check:
    match = re.compile(pattern, re.ASCII).fullmatch

    def check(value: Any) -> str | None:
        if value.__class__ is not str:
            return "must be a string"
        if match(value) is None:
            return f"must be {description}" if value else "must not be empty"
        if len(value) >= _DAY and value[8:10] > _SAFE_DAY:
            last = monthrange(int(value[:4]), int(value[5:7]))[1]
            return None if int(value[8:10]) <= last else "must be a day of the calendar"
        return None

    return check


def _xhtml(value: Any) -> str | None:
    if value.__class__ is not str:
        return "must be a string"
    return None if value else "must not be empty"


CHECKS: Final[Mapping[str, Check]] = {
    "boolean": _boolean,
    "integer": _integer(-(2**31), 2**31 - 1),
    "unsignedInt": _integer(0, 2**31 - 1),
    "positiveInt": _integer(1, 2**31 - 1),
    "decimal": _decimal,
    "string": _string,
    "markdown": _string,
    "code": _code,
    "uri": _uri,
    "url": _uri,
    "canonical": _uri,
    "id": _matching(r"[A-Za-z0-9\-.]{1,64}", "an id: 1 to 64 of A-Z a-z 0-9 - ."),
    "oid": _matching(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+", "an OID like urn:oid:1.2.3"),
    "uuid": _matching(
        r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "a UUID like urn:uuid:... in small letters"
    ),
    "base64Binary": _base64,
    "date": _calendar(rf"{_YEAR}(?:-{_MONTH})?|{_DATE}", "a date: YYYY, YYYY-MM or YYYY-MM-DD"),
    "dateTime": _calendar(
        rf"{_YEAR}(?:-{_MONTH})?|{_DATE}(?:T{_TIME}{_ZONE})?",
        "a dateTime: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone",
    ),
    "instant": _calendar(rf"{_DATE}T{_TIME}{_ZONE}", "an instant: YYYY-MM-DDThh:mm:ss with a zone"),
    "time": _matching(_TIME, "a time: hh:mm:ss"),
    "xhtml": _xhtml,
}
"""Primitive type -> its check."""


def narrative_fault(value: Any) -> str | None:
    """What is unsafe about the XHTML of a narrative; None for what is no string."""
    return narrative.fault(value) if value.__class__ is str and value else None
