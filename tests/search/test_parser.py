"""Query strings and the trees they mean, faults and their words: https://hl7.org/fhir/R4/search.html."""

import json
from pathlib import Path

import pytest

from resources.errors import FhirError
from search.query import And
from tests.search.shown import show

CASES = Path(__file__).parent.parent / "cases"


def rows(name):
    return [pytest.param(row, id=f"{row['says']}") for row in json.loads((CASES / name).read_text())]


@pytest.mark.parametrize("row", rows("search_parser.json"))
def test_a_query_string_means_its_tree(parsed, row):
    assert show(parsed(row["type"], row["query"]).query) == row["tree"]


@pytest.mark.parametrize("row", rows("search_parser_faults.json"))
def test_a_fault_is_refused_by_name(parsed, row):
    with pytest.raises(FhirError) as caught:
        parsed(row["type"], row["query"])
    assert caught.value.status == 400
    assert (caught.value.issues[0].code, caught.value.issues[0].diagnostics) == (row["code"], row["error"])


LENIENT = [
    ("nonsense=1", "nonsense"),
    ("_text=x", "_text"),
    ("_has:Observation:patient:nonsense=1", "nonsense"),
    ("general-practitioner.nonsense=1", "nonsense"),
]


@pytest.mark.parametrize(("ignored", "named"), LENIENT)
def test_lenient_handling_leaves_out_what_is_not_known_and_says_so(parsed, ignored, named):
    search = parsed("Patient", f"gender=male&{ignored}&_count=3", "lenient")
    assert search.used == (("gender", "male"), ("_count", "3"))
    assert show(search.query) == "gender=male count 3"
    (issue,) = search.ignored
    assert (issue.severity, issue.code) == ("warning", "not-supported")
    assert named in issue.diagnostics


@pytest.mark.parametrize("wrong", ["gender:exact=x", "birthdate=x", "_sort=nonsense", "_include=x", "_count=x"])
def test_lenient_handling_excuses_no_modifier_value_or_result_parameter(parsed, wrong):
    with pytest.raises(FhirError):
        parsed("Patient", wrong, "lenient")


def test_an_empty_unknown_parameter_is_nothing_to_lenient_handling(parsed):
    assert parsed("Patient", "nonsense=", "lenient").ignored == ()


def test_what_counts_is_told_in_the_order_sent(parsed):
    search = parsed("Patient", "name=&_count=2&gender=male&_cursor=abc&family=,&_sort=name")
    assert search.used == (("_count", "2"), ("gender", "male"), ("_sort", "name"))
    assert search.cursor == "abc"


def test_how_to_reduce_resources_is_kept(parsed):
    search = parsed("Patient", "_summary=data&_elements=name,id,name")
    assert (search.summary, search.elements) == ("data", ("name", "id"))
    assert parsed("Patient", "").summary is None


@pytest.mark.parametrize(
    ("text", "limits", "said"),
    [
        ("gender=a,b,c", {"alternatives": 2}, "more than 2 values"),
        ("gender=a&gender=b", {"conditions": 1}, "more than 1 conditions"),
        ("_sort=name,gender", {"sort_keys": 1}, "more than 1 keys"),
        ("_revinclude=Provenance:target&_revinclude=Observation:patient", {"includes": 1}, "more than 1 includes"),
    ],
)
def test_a_search_beyond_a_limit_is_too_costly(parsed, text, limits, said):
    with pytest.raises(FhirError, match=said) as caught:
        parsed("Patient", text, **limits)
    assert caught.value.issues[0].code == "too-costly"


def test_page_sizes_come_from_the_limits(parsed):
    assert parsed("Patient", "", page=7).query.count == 7
    assert parsed("Patient", "_count=9", page_limit=8).query.count == 8


def test_a_thousand_conditions_are_no_deep_tree(parsed):
    node = parsed("Patient", "&".join(["gender=male"] * 1000), conditions=1000).query.where
    assert isinstance(node, And)
    assert len(node.parts) == 1000


def test_every_searchable_parameter_of_every_type_parses(parsed, registry):
    samples = {
        "token": "a",
        "string": "a",
        "date": "2020",
        "number": "5",
        "quantity": "5",
        "uri": "http://a.org",
        "reference": "http://a.org/Patient/1",
    }
    refused = []
    for name in ("Patient", "Observation", "Claim", "MolecularSequence", "PlanDefinition", "Bundle", "Binary"):
        for parameter in registry.searchable(name):
            value = "$".join(samples[one.type] for one in parameter.components) or samples[parameter.type]
            for text in (f"{parameter.code}={value}", f"{parameter.code}:missing=true"):
                try:
                    parsed(name, text)
                except FhirError as error:
                    refused.append((name, text, str(error)))
    assert refused == []


def test_parsing_is_a_function_of_its_arguments(parsed):
    assert parsed("Patient", "name=a&_sort=name") == parsed("Patient", "name=a&_sort=name")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("&".join(["general-practitioner.name=a"] * 33), "64 kinds of references"),
        ("gender=" + ",".join(["a"] * 501), "more than 500 values"),
        ("&".join(["_include=Patient:organization"] * 21), "more than 20 includes"),
        ("&".join(["name=a"] * 101), "more than 100 conditions"),
        (
            "_sort=name,gender,birthdate,family,given,email,phone,active,_id",
            "8 keys",
        ),
        ("_filter=" + "(" * 51 + "name eq a" + ")" * 51, "more than 50 deep"),
        ("_filter=" + " or ".join(["name eq a"] * 201), "more than 200 tests"),
    ],
    ids=["references", "alternatives", "includes", "conditions", "sort keys", "nesting of filters", "tests of filters"],
)
def test_what_is_beyond_a_limit_is_refused_by_its_number(parsed, query, named):
    with pytest.raises(FhirError) as caught:
        parsed("Patient", query)
    assert (caught.value.status, caught.value.issues[0].code) == (400, "too-costly")
    assert named in caught.value.issues[0].diagnostics
