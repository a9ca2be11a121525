"""Every search type: one row per behaviour, a searched value held against the entries of one element value."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from resources.errors import FhirError
from resources.model import ResourceKey
from search import types
from search.entries import Entries
from search.matching import matches
from search.parameters import Parameter
from search.types.making import Making, Scope
from search.values import ValueContext

CASES = Path(__file__).parent.parent / "cases"
BASES = ("http://localhost/fhir", "https://alias.org/r4")
NOW = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000_000
KEY = ResourceKey("Observation", "o")


def rows(name):
    return [pytest.param(row, id=f"{row['type']}: {row['says']}") for row in json.loads((CASES / name).read_text())]


def parameter(kind):
    components = ()
    if kind == "composite":
        components = (parameter_of("token", "p/1"), parameter_of("number", "p/2"))
    return Parameter("Observation", "p", kind, "http://a.org/p", "p", ("Patient", "Group"), components)


def parameter_of(kind, code):
    return Parameter("Observation", code, kind, "http://a.org/p", "p")


def context(kinds=()):
    return ValueContext(NOW, UTC, BASES, lambda _parameter: frozenset(kinds))


def entries_of(kind, datatype, value):
    entries = Entries()
    maker = types.maker(parameter(kind), "p", datatype, None, Making(lambda _url: None, BASES, UTC))
    maker(value, Scope({}, entries, "o", "Observation", {}, {}), 0)
    return entries


@pytest.mark.parametrize("row", rows("search_values.json"))
def test_a_value_finds_what_it_should(row):
    ((datatype, value),) = row["element"].items()
    node = types.node(parameter(row["type"]), row.get("modifier"), row["search"], context())
    assert matches(node, entries_of(row["type"], datatype, value), KEY, 0) is row["matches"]


@pytest.mark.parametrize("row", rows("search_values_faults.json"))
def test_a_fault_is_refused_and_named(row):
    with pytest.raises(FhirError) as caught:
        types.node(parameter(row["type"]), row.get("modifier"), row["search"], context(row.get("kinds", ())))
    fault = caught.value
    assert fault.status == 400
    text = fault.issues[0].diagnostics
    assert "search parameter 'p" in text.lower()
    assert any(
        named in text for named in (row["search"], row["search"].split("$")[-1], f":{row.get('modifier')}", "special")
    )
    assert fault.issues[0].code == "invalid"


def test_tuples_hold_together():
    composite = parameter("composite")
    entries = Entries()
    scope = Scope({}, entries, "o", "Observation", {}, {})
    making = Making(lambda _url: None, (), UTC)
    for group, (code, number) in enumerate((("a", 1), ("b", 2)), 1):
        types.maker(composite.components[0], "p/1", "Coding", None, making)({"code": code}, scope, group)
        types.maker(composite.components[1], "p/2", "integer", None, making)(number, scope, group)
    found = {
        text: matches(types.node(composite, None, text, context()), entries, KEY, 0)
        for text in ("a$1", "b$2", "a$2", "b$1", "b$gt1", "c$1")
    }
    assert found == {"a$1": True, "b$2": True, "a$2": False, "b$1": False, "b$gt1": True, "c$1": False}


def test_an_escaped_dollar_separates_nothing():
    node = types.node(parameter("composite"), None, "a\\$b$1", context())
    assert node.test.parts[0].codes == ("a$b",)


def test_a_number_keeps_every_digit():
    entries = entries_of("number", "decimal", Decimal("0.00000000000000000000000000000000000000000001"))
    assert entries.numbers[0].low == Decimal("1e-44")
