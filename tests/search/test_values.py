"""The grammars of search values: escapes, time ranges, implicit precision, folding, literal references."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import FhirError
from resources.model import ResourceKey, instant
from search import values
from search.values import Literal, fold, literal, number_test, prefixed, split, time_range, unescape

BERLIN = ZoneInfo("Europe/Berlin")


def microseconds(*when):
    return int((datetime(*when, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("text", "separator", "parts"),
    [
        ("a,b", ",", ["a", "b"]),
        ("a\\,b,c", ",", ["a\\,b", "c"]),
        ("a\\\\,b", ",", ["a\\\\", "b"]),
        ("", ",", [""]),
        (",", ",", ["", ""]),
        ("s|c", "|", ["s", "c"]),
        ("a$b\\$c", "$", ["a", "b\\$c"]),
    ],
)
def test_splitting_respects_escapes(text, separator, parts):
    assert split(text, separator) == parts


@given(st.lists(st.text(alphabet="a,|$\\"), min_size=1), st.sampled_from(",|$"))
def test_what_is_escaped_and_joined_is_split_and_unescaped_again(parts, separator):
    escaped = ["".join(f"\\{c}" if c in ",|$\\" else c for c in part) for part in parts]
    assert [unescape("p", part) for part in split(separator.join(escaped), separator)] == parts


@pytest.mark.parametrize(
    ("text", "prefix", "rest"),
    [
        ("ge2013", "ge", "2013"),
        ("2013", "eq", "2013"),
        ("ap-5", "ap", "-5"),
        ("genome", "eq", "genome"),
        ("sa", "eq", "sa"),
    ],
)
def test_a_prefix_stands_before_a_number(text, prefix, rest):
    assert prefixed(text) == (prefix, rest)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2013", (2013, 1, 1), (2014, 1, 1)),
        ("2013-12", (2013, 12, 1), (2014, 1, 1)),
        ("2024-02", (2024, 2, 1), (2024, 3, 1)),
        ("2013-01-31", (2013, 1, 31), (2013, 2, 1)),
        ("2013-01-31T23:59", (2013, 1, 31, 23, 59), (2013, 2, 1)),
        ("2013-01-31T23:59:59Z", (2013, 1, 31, 23, 59, 59), (2013, 2, 1)),
        ("2013-01-31T23:59:59+01:00", (2013, 1, 31, 22, 59, 59), (2013, 1, 31, 23)),
    ],
)
def test_a_time_covers_its_precision(text, low, high):
    assert time_range(text) == (microseconds(*low), microseconds(*high) - 1)


@pytest.mark.parametrize(("digits", "width"), [(1, 100_000), (3, 1_000), (6, 1), (9, 1)])
def test_a_fraction_is_as_wide_as_its_last_digit(digits, width):
    low, high = time_range(f"2013-01-14T10:00:00.{'0' * digits}Z")
    assert high - low == width - 1


def test_ranges_end_with_the_calendar():
    assert time_range("0001")[0] == values.MIN_TIME
    assert time_range("9999-12-31T23:59:59.999999Z")[1] == time_range("9999")[1] == values.MAX_TIME


def test_a_time_without_offset_is_read_in_the_zone_with_its_summer_time():
    assert time_range("2024-01-01T12:00:00", BERLIN)[0] == microseconds(2024, 1, 1, 11)
    assert time_range("2024-07-01T12:00:00", BERLIN)[0] == microseconds(2024, 7, 1, 10)
    low, high = time_range("2024-03-31", BERLIN)
    assert high - low + 1 == 23 * 3_600_000_000
    assert time_range("2024-07-01T12:00:00Z", BERLIN) == time_range("2024-07-01T12:00:00Z")


@given(
    st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9998, 1, 1)),  # noqa: DTZ001
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)
def test_written_times_are_read_back(moment, minutes):
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    at = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert time_range(aware.isoformat(timespec="microseconds")) == (at, at)
    assert time_range(instant(at)) == (at, at)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("100", "99.5", "100.5"),
        ("100.00", "99.995", "100.005"),
        ("1e2", "95", "105"),
        ("1E+2", "95", "105"),
        ("-1e2", "-105", "-95"),
        ("1.0e2", "95.0", "105.0"),
        ("2e2", "150", "250"),
        ("5.40e-3", "0.005395", "0.005405"),
        ("0", "-0.5", "0.5"),
        ("ap100", "90", "110"),
        ("ap1", "0.5", "1.5"),
        ("ne7", "6.5", "7.5"),
        ("gt5.40", "5.40", "5.40"),
    ],
)
def test_a_number_means_the_range_of_its_precision(text, low, high):
    test = number_test("p", text)
    assert (test.low, test.high) == (Decimal(low), Decimal(high))


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_lies_in_its_own_range(number):
    text = f"{number:f}" if -30 < number.adjusted() < 30 else "1"
    test = number_test("p", text)
    assert test.low <= Decimal(text) < test.high


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Carreño-Quiñones", "carreno quinones"),
        ("O'Brien", "obrien"),
        ("  St.  John,  Sr. ", "st john sr"),
        ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
        ("Straße", "strasse"),
        ("Œuvre Ærø", "oeuvre aero"),
        ("ﬁne", "fine"),
        ("\uff15", "5"),
        ("a\u00a0b\tc", "a b c"),
        ("50 % + 3", "50 + 3"),
        ("...", ""),
    ],
)
def test_folding(text, folded):
    assert fold(text) == folded


@given(st.text())
def test_folding_twice_is_folding_once(text):
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_case_does_not_count(text):
    assert fold(text.casefold()) == fold(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Patient/1", Literal(ResourceKey("Patient", "1"), "")),
        ("Patient/1/_history/2", Literal(ResourceKey("Patient", "1"), "2")),
        ("http://localhost/fhir/Patient/1", Literal(ResourceKey("Patient", "1"), "")),
        ("http://localhost/Patient/1", None),
        ("http://localhost/fhir/x/Patient/1", None),
        ("https://localhost/fhir/Patient/1", None),
        ("Patient/1/2", None),
        ("Patient/", None),
        ("/Patient/1", None),
        ("patient/1", None),
        ("urn:uuid:1", None),
        ("#p", None),
    ],
)
def test_only_our_own_literal_references_are_keys(text, found):
    assert literal(text, ("http://localhost/fhir",)) == found


def test_a_fault_names_parameter_and_value():
    with pytest.raises(FhirError, match=r"Search parameter 'birthdate': 'tomorrow' is not a date") as caught:
        values.date_test("birthdate", "tomorrow", values.ValueContext(0, UTC, ()))
    assert caught.value.status == 400
