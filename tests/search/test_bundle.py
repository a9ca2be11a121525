"""The searchset as bytes, its links, and cursors that only their search opens."""

import json
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import FhirError, Issue
from search.bundle import Cursor, Cursors, Entry, links, neighbours, scope, searchset

BASE = "https://fhir.example.org/fhir"
CURSORS = Cursors(b"s" * 32)
SCOPE = scope("me", "Observation", [("code", "a")])
HERE = Cursor((None, 5, "text", b"\x00\xff", Decimal("1.50"), 7), False, 1_790_000_000_000_000)


def test_a_searchset_holds_the_stored_bytes():
    body = b'{"resourceType":"Patient","id":"1","multipleBirthInteger":1.00}'
    found = searchset(BASE, [Entry("Patient/1", body, "match")], [("self", f"{BASE}/Patient?a=%22")], total=1)
    assert body in found
    assert json.loads(found) == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 1,
        "link": [{"relation": "self", "url": f"{BASE}/Patient?a=%22"}],
        "entry": [
            {"fullUrl": f"{BASE}/Patient/1", "resource": json.loads(body), "search": {"mode": "match"}},
        ],
    }


def test_entries_come_in_order_and_what_was_ignored_last():
    entries = [Entry("Observation/1", b"{}", "match"), Entry("Patient/2", b"{}", "include")]
    found = json.loads(searchset(BASE, entries, [], issues=[Issue("warning", "not-supported", 'no "x"')]))
    assert [one["search"]["mode"] for one in found["entry"]] == ["match", "include", "outcome"]
    told = found["entry"][2]
    assert told["resource"]["issue"] == [{"severity": "warning", "code": "not-supported", "diagnostics": 'no "x"'}]
    assert "fullUrl" not in told
    assert "total" not in found


def test_an_empty_searchset_has_no_entry_and_may_have_a_total():
    assert json.loads(searchset(BASE, [], [("self", BASE)], total=0)) == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 0,
        "link": [{"relation": "self", "url": BASE}],
    }


# ---- links


def test_links_repeat_the_parameters_and_name_the_pages():
    pairs = [("name", "a&b=c,d é"), ("code", "http://a.org|1+2"), ("_count", "2")]
    found = dict(links(f"{BASE}/Patient", pairs, "HERE", "BACK", "ON"))
    assert list(found) == ["self", "first", "previous", "next"]
    for relation, cursor in (("self", "HERE"), ("first", None), ("previous", "BACK"), ("next", "ON")):
        url = urlsplit(found[relation])
        assert found[relation].startswith(f"{BASE}/Patient?")
        assert parse_qsl(url.query) == pairs + ([("_cursor", cursor)] if cursor else [])
        assert url.query.isascii()
        assert " " not in url.query


def test_links_of_a_search_without_parameters():
    assert links(f"{BASE}/Patient", []) == [("self", f"{BASE}/Patient"), ("first", f"{BASE}/Patient")]
    assert dict(links(f"{BASE}/Patient", [], following="ON"))["next"] == f"{BASE}/Patient?_cursor=ON"


# ---- cursors

POSITIONS = st.tuples(
    st.lists(
        st.none() | st.integers() | st.text() | st.binary() | st.decimals(allow_nan=False, allow_infinity=False),
        max_size=4,
    ).map(tuple),
    st.booleans(),
    st.integers(min_value=0, max_value=1 << 62),
)


@given(POSITIONS)
def test_a_cursor_comes_back_exactly(given_cursor):
    cursor = Cursor(*given_cursor)
    text = CURSORS.seal(cursor, SCOPE)
    opened = CURSORS.open(text, SCOPE)
    assert opened == cursor
    assert [type(value) for value in opened.position] == [type(value) for value in cursor.position]
    assert list(map(str, opened.position)) == list(map(str, cursor.position))
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.data())
def test_a_changed_cursor_is_refused(data):
    text = CURSORS.seal(HERE, SCOPE)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda one: one != text[at]))
    with pytest.raises(FhirError) as caught:
        CURSORS.open(text[:at] + other + text[at + 1 :], SCOPE)
    assert caught.value.status == 400


@given(st.text())
def test_any_other_text_is_refused(text):
    with pytest.raises(FhirError):
        CURSORS.open(text, SCOPE)


@pytest.mark.parametrize(
    "other",
    [
        scope("you", "Observation", [("code", "a")]),
        scope("me", "Condition", [("code", "a")]),
        scope("me", "Observation", [("code", "b")]),
        scope("me", "Observation", [("code", "a"), ("_count", "5")]),
        scope("meO", "bservation", [("code", "a")]),
    ],
    ids=["another caller", "another type", "another value", "one more parameter", "the same letters elsewhere"],
)
def test_a_cursor_is_good_for_its_search_alone(other):
    with pytest.raises(FhirError, match="_cursor"):
        CURSORS.open(CURSORS.seal(HERE, SCOPE), other)


def test_a_cursor_outlives_a_restart_and_no_other_secret_opens_it():
    text = CURSORS.seal(HERE, SCOPE)
    assert Cursors(b"s" * 32).open(text, SCOPE) == HERE
    with pytest.raises(FhirError):
        Cursors(b"t" * 32).open(text, SCOPE)


def test_cursor_and_empty_parameters_are_no_part_of_the_scope():
    assert scope("me", "Observation", [("code", "a"), ("name", ""), ("_cursor", "x")]) == SCOPE


def test_an_ordinary_cursor_is_short():
    assert len(CURSORS.seal(Cursor((1_790_000_000_000_000, 123_456), False, 1_790_000_000_000_000), SCOPE)) <= 60


# ---- neighbours

ROWS = [(1,), (2,), (3,)]


def test_the_first_page_has_a_next_one_when_more_remains():
    assert neighbours(None, ROWS, more=True, now=9) == (None, Cursor((3,), False, 9))
    assert neighbours(None, ROWS, more=False, now=9) == (None, None)


def test_a_later_page_has_both_and_keeps_the_time_of_the_first():
    here = Cursor((0,), False, 5)
    assert neighbours(here, ROWS, more=True, now=9) == (Cursor((1,), True, 5), Cursor((3,), False, 5))
    assert neighbours(here, ROWS, more=False, now=9) == (Cursor((1,), True, 5), None)


def test_a_page_reached_backward_always_has_a_next_one():
    here = Cursor((4,), True, 5)
    assert neighbours(here, ROWS, more=True, now=9) == (Cursor((1,), True, 5), Cursor((3,), False, 5))
    assert neighbours(here, ROWS, more=False, now=9) == (None, Cursor((3,), False, 5))


def test_an_empty_page_has_no_neighbours():
    assert neighbours(Cursor((4,), False, 5), [], more=False, now=9) == (None, None)
