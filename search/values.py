"""The grammars of search values, each once: escapes, prefixes, dates, numbers, quantities, tokens, strings, references.

Rules.
1. A date is a closed range of microseconds; what is written without an offset is read in the configured zone. A moment written
   to a fraction of a second is as wide as its last digit; from six digits on its width is zero.
2. A number written without prefix (or with eq, ne, ap) means the range of its implicit precision, half a unit of the last
   significant digit to either side; the specification's own row `1e2` means [95, 105) and stands alone.
3. `ap` is 10 % of the number, or 10 % of the time between now and the date; it is never narrower than `eq`.
4. Strings are folded: case, accents and punctuation do not count, runs of spaces are one space.

Every fault is a FhirError 400 that names the parameter and the value.
Specification: https://hl7.org/fhir/R4/search.html
"""

import re
import unicodedata
from calendar import isleap, monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Context, Decimal
from functools import lru_cache
from typing import NamedTuple, cast

from resources.errors import FhirError
from resources.model import ResourceKey, is_id
from search.parameters import Parameter
from search.query import DateTest, NumberTest, Prefix

MIN_TIME = -62_135_596_800_000_000
"""0001-01-01T00:00:00Z in microseconds: where an open beginning starts."""
MAX_TIME = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z in microseconds: where an open end ends."""

_PREFIXED = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=[-+.0-9])")
_DATE = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]+))?(?:[eE](?P<exponent>[+-]?[0-9]{1,4}))?"
)
_LITERAL = re.compile(
    r"(?:(?P<base>[A-Za-z][A-Za-z0-9+.\-]*://\S+)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?"
)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+")
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_FRACTION_DIGITS = 6
_EXACT = Context(prec=400)
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "\u0131": "i", "ħ": "h", "ŧ": "t"}
)


def _unknown(_parameter: Parameter) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True, slots=True)
class ValueContext:
    """What values depend on beside their text.

    The time of the search, the zone of times without offset, our own base URLs (without a final slash), and what datatypes a
    parameter meets (`Extractor.datatypes`; empty: unknown).
    """

    now_us: int
    zone: tzinfo
    own_bases: tuple[str, ...]
    datatypes: Callable[[Parameter], frozenset[str]] = _unknown


class Literal(NamedTuple):
    """A literal reference to a resource of this server; `version` "" when none is named."""

    key: ResourceKey
    version: str


def invalid(parameter: str, value: str, why: str) -> FhirError:
    """The 400 for a value that does not fit its parameter."""
    return FhirError(400, "invalid", f"Search parameter '{parameter}': '{value}' {why}.")


def unfit(parameter: Parameter, modifier: str) -> FhirError:
    """The 400 for a modifier that a parameter does not have."""
    said = f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type {parameter.type}."
    return FhirError(400, "invalid", said)


# ---- escapes: https://hl7.org/fhir/R4/search.html#escaping


def split(text: str, separator: str) -> list[str]:
    r"""Split at every `separator` (`,` `|` or `$`) that no backslash escapes; the parts keep their escapes."""
    if "\\" not in text:
        return text.split(separator)
    parts, start, at = [], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def unescape(parameter: str, text: str) -> str:
    r"""Resolve `\,` `\|` `\$` `\\`; another escape is a fault."""
    if "\\" not in text:
        return text
    if re.search(r"\\(?![,|$\\])", re.sub(r"\\\\", "", text)):
        raise invalid(parameter, text, "has a backslash that escapes none of , | $ \\")
    return re.sub(r"\\([,|$\\])", r"\1", text)


def prefixed(text: str) -> tuple[Prefix, str]:
    """The prefix (`eq` when none is written) and the rest."""
    found = _PREFIXED.match(text)
    return (cast("Prefix", found[1]), text[2:]) if found else ("eq", text)


# ---- dates: https://hl7.org/fhir/R4/search.html#date


@lru_cache(maxsize=16384)
def time_range(text: str, zone: tzinfo = UTC) -> tuple[int, int] | None:
    """The closed range of microseconds that a FHIR date, dateTime or instant covers; None when it is none.

    Seconds may be missing, second 60 is the first of the next minute, the year is 0001-9999.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        if hour is None:
            first, end = _days(int(year), int(month) if month else None, int(day) if day else None)
            return _local(first, zone), _local(end, zone) - 1
        leap = second == "60"
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), 59 if leap else int(second or 0))  # noqa: DTZ001
    except ValueError:
        return None
    if fraction is not None and leap:
        fraction = "0"
    low = (moment.toordinal() - _EPOCH_DAY) * _DAY + (moment.hour * 3600 + moment.minute * 60 + moment.second) * _SECOND
    if offset is None:
        low -= _offset(moment, zone)
    elif offset != "Z":
        hours, minutes = int(offset[1:3]), int(offset[4:])
        if hours > 14 or minutes > 59:  # noqa: PLR2004
            return None
        low -= (hours * 60 + minutes) * 60 * _SECOND * (-1 if offset[0] == "-" else 1)
    if leap:
        low += _SECOND
    if second is None:
        return low, low + 60 * _SECOND - 1
    if fraction is None:
        return low, low + _SECOND - 1
    low += int(fraction[:_FRACTION_DIGITS].ljust(_FRACTION_DIGITS, "0"))
    width = 10 ** max(_FRACTION_DIGITS - len(fraction), 0)
    return low, low + width - 1


def _days(year: int, month: int | None, day: int | None) -> tuple[int, int]:
    """The first day of a year, month or day and the day after its last, as ordinals."""
    first = date(year, month or 1, day or 1).toordinal()
    if day is not None:
        return first, first + 1
    return first, first + (monthrange(year, month)[1] if month is not None else 365 + isleap(year))


def _local(ordinal: int, zone: tzinfo) -> int:
    """Midnight at the beginning of a day in the zone."""
    at = (ordinal - _EPOCH_DAY) * _DAY
    if zone is UTC:
        return at
    return at - _offset(datetime.fromordinal(min(ordinal, date.max.toordinal())), zone)


def _offset(moment: datetime, zone: tzinfo) -> int:
    if zone is UTC:
        return 0
    offset = zone.utcoffset(moment)
    return 0 if offset is None else offset // timedelta(microseconds=1)


def date_test(parameter: str, text: str, context: ValueContext) -> DateTest:
    """The test of one date value with its prefix; `ap` comes widened."""
    prefix, rest = prefixed(text)
    found = time_range(rest, context.zone)
    if found is None:
        if " " in rest and "T" in rest:
            raise invalid(parameter, text, "holds a space: a + in an offset must be written %2B")
        raise invalid(
            parameter, text, "is not a date: YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.f]][Z|+hh:mm]"
        )
    low, high = found
    if prefix == "ap":
        gap = abs(context.now_us - low) // 10
        return DateTest("ap", max(low - gap, MIN_TIME), min(high + gap, MAX_TIME))
    return DateTest(prefix, low, high)


# ---- numbers and quantities: https://hl7.org/fhir/R4/search.html#number


def number_test(parameter: str, text: str, whole: str | None = None) -> NumberTest:
    """The test of one number with its prefix and implicit precision; a fault names `whole`, the value it is part of."""
    prefix, rest = prefixed(text)
    found = _NUMBER.fullmatch(rest)
    if found is None:
        raise invalid(parameter, whole or text, "is not a number" if whole is None else f"has no number: '{text}'")
    value = Decimal(rest)
    if prefix not in ("eq", "ne", "ap"):
        return NumberTest(prefix, value, value)
    unit = int(found["exponent"] or 0) - len(found["fraction"] or "")
    if found["exponent"] is not None and found["whole"] == "1" and value.copy_abs() == 100 and not found["fraction"]:  # noqa: PLR2004
        unit -= 1
    half = Decimal((0, (5,), unit - 1))
    if prefix == "ap":
        half = max(half, _EXACT.divide(value.copy_abs(), Decimal(10)))
    return NumberTest(prefix, _EXACT.subtract(value, half), _EXACT.add(value, half))


def quantity_parts(parameter: str, text: str) -> tuple[NumberTest, str | None, str | None]:
    """`[prefix]number`, `number|system|code` or `number||code`: the number's test, system (None: any), code (None: any)."""
    parts = [unescape(parameter, part) for part in split(text, "|")]
    if len(parts) not in (1, 3):
        raise invalid(parameter, text, "is not a quantity: number or number|system|code")
    number = number_test(parameter, parts[0], text if len(parts) > 1 else None)
    if len(parts) == 1:
        return number, None, None
    return number, parts[1] or None, parts[2] or None


# ---- tokens: https://hl7.org/fhir/R4/search.html#token


def token_parts(parameter: str, text: str) -> tuple[str | None, str | None]:
    """`code`, `system|code`, `|code`, `system|`: the system (None: any, "": none) and the code (None: any)."""
    parts = [unescape(parameter, part) for part in split(text, "|")]
    if len(parts) == 1:
        return None, parts[0]
    if len(parts) > 2 or parts == ["", ""]:  # noqa: PLR2004
        raise invalid(parameter, text, "is not a token: code, system|code, |code or system|")
    return parts[0], parts[1] or None


# ---- strings: https://hl7.org/fhir/R4/search.html#string


@lru_cache(maxsize=32768)
def fold(text: str) -> str:
    """Case, accents and punctuation removed, runs of spaces made one: `O'Brien-Núñez` -> `obrien nunez`.

    Apostrophes and full stops vanish, every other punctuation mark separates words.
    """
    if text.isascii() and text.isalnum():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    kept = []
    for character in unicodedata.normalize("NFKD", decomposed):
        kind = unicodedata.category(character)
        if kind[0] in "LN":
            kept.append(character)
        elif character in "'.\u2018\u2019`\u00b4":
            continue
        elif kind[0] == "S":
            kept.append(character)
        elif kind[0] in "PZC":
            kept.append(" ")
    return " ".join("".join(kept).split())


# ---- references: https://hl7.org/fhir/R4/search.html#reference


@lru_cache(maxsize=32768)
def literal(text: str, own_bases: tuple[str, ...]) -> Literal | None:
    """The resource of this server that a relative or own absolute reference names; None for every other text."""
    found = _LITERAL.fullmatch(text)
    if found is None or (found["base"] is not None and found["base"] not in own_bases):
        return None
    return Literal(ResourceKey(found["type"], found["id"]), found["version"] or "")


def is_absolute(text: str) -> bool:
    """Whether the text is an absolute URI, URLs and URNs alike."""
    return _ABSOLUTE.fullmatch(text) is not None


def elsewhere_type(url: str) -> str | None:
    """The resource type that an absolute URL names by its path: `http://a.org/fhir/Patient/1` -> `Patient`."""
    found = _LITERAL.fullmatch(url)
    return found["type"] if found is not None else None


def bare_id(parameter: str, text: str) -> str:
    """A logical id on its own."""
    if not is_id(text):
        raise invalid(parameter, text, "is not a reference: Type/id, an absolute URL or an id")
    return text
