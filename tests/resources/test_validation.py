import copy
import csv
import gzip
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.definitions import load
from resources.definitions.model import Constraint
from resources.errors import FhirError
from resources.json_format import decode, encode
from resources.validation import Validator, raise_for, status_of
from resources.validation.faults import MOST
from tests.strategies import RESOURCES, resources

TESTS = Path(__file__).resolve().parent.parent
SHARED = TESTS.parent.parent / "shared" / "data"
EVERY_TYPE = settings(max_examples=max(4, settings.default.max_examples // 12))  # 146 types: few rounds each
FAULTS = json.loads((TESTS / "cases" / "validation_faults.json").read_text("utf-8"))
with (TESTS / "cases" / "validation_primitives.tsv").open(encoding="utf-8", newline="") as file:
    PRIMITIVES = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
BUSINESS = {"code-invalid", "invariant"}
VALIDATOR = Validator(load())
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">{}</div>'


def told(resource, kind=None):
    return sorted((issue.code, *issue.expression) for issue in VALIDATOR.validate(resource, kind))


@pytest.mark.parametrize("case", FAULTS, ids=[case["id"] for case in FAULTS])
def test_a_fault_is_told_with_its_place(case):
    resource = decode(json.dumps(case["resource"]).encode())
    before = copy.deepcopy(resource)
    assert told(resource) == sorted(tuple(fault) for fault in case["faults"])
    assert resource == before
    structural = {code for code, _ in case["faults"]} - BUSINESS
    issues = VALIDATOR.validate(resource)
    assert status_of(issues) == (400 if structural else 422)
    with pytest.raises(FhirError) as caught:
        raise_for(issues)
    assert len(caught.value.issues) == len(case["faults"])


@pytest.mark.parametrize("case", PRIMITIVES, ids=[f"{c['type']} {c['value'][:70]} {c['valid']}" for c in PRIMITIVES])
def test_the_lexical_form_of_a_primitive(case):
    name = f"value{case['type'][0].upper()}{case['type'][1:]}"
    resource = {"resourceType": "Basic", "code": {"text": "x"}}
    resource["extension"] = [{"url": "http://example.org/e", name: json.loads(case["value"])}]
    expected = [] if case["valid"] == "yes" else [("value", f"Basic.extension[0].{name}")]
    assert told(resource) == expected


@pytest.mark.parametrize(
    ("token", "valid"),
    [
        ("-0", {"integer", "unsignedInt", "decimal"}),
        ("1.0", {"decimal"}),
        ("1e3", {"decimal"}),
        ("0.00000001", {"decimal"}),
    ],
)
@pytest.mark.parametrize("kind", ["integer", "unsignedInt", "positiveInt", "decimal"])
def test_the_token_of_a_number(kind, token, valid):
    name = f"value{kind[0].upper()}{kind[1:]}"
    body = f'{{"resourceType":"Basic","code":{{"text":"x"}},"extension":[{{"url":"http://e.org","{name}":{token}}}]}}'
    assert (told(decode(body.encode())) == []) == (kind in valid)


@pytest.mark.parametrize("kind", RESOURCES)
@EVERY_TYPE
@given(data=st.data())
def test_what_the_definitions_allow_is_valid(kind, data):
    resource = data.draw(resources(kind))
    assert told(resource, kind) == []
    assert told(decode(encode(resource)), kind) == []
    assert told({**resource, "unheardOf": True}) == [("structure", f"{kind}.unheardOf")]


@pytest.mark.parametrize(
    "inner",
    [
        "x",
        "<p>a <b>b</b><br/>c</p>",
        '<a href="http://e.org/x" title="t">x</a>',
        '<a href="Patient/1">x</a>',
        '<a href="#top">x</a>',
        '<img src="data:image/png;base64,AAAA" alt="x"/>',
        '<img src="#photo"/>',
        '<p style="color: red" xml:lang="de">x</p>',
        "a &amp; b &#160; &lt;",
        "<table><tbody><tr><td>1</td></tr></tbody></table>",
        "<!-- a comment -->x",
    ],
)
def test_a_narrative_that_is_safe(inner):
    assert told({"resourceType": "Patient", "text": {"status": "generated", "div": DIV.format(inner)}}) == []


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "_birthDate": {"extension": [{"url": "http://e.org", "valueCode": "unknown"}]}},
        {"resourceType": "Patient", "birthDate": "2020", "_birthDate": {"id": "a"}},
        {
            "resourceType": "Patient",
            "name": [{"given": ["a", None], "_given": [None, {"extension": [{"url": "u", "valueCode": "c"}]}]}],
        },
        {
            "resourceType": "Observation",
            "_status": {"extension": [{"url": "u", "valueCode": "c"}]},
            "code": {"text": "x"},
        },
        {
            "resourceType": "Patient",
            "contained": [{"resourceType": "Organization", "id": "o"}],
            "managingOrganization": {"reference": "#o"},
        },
        {
            "resourceType": "Patient",
            "contact": [{"organization": {"reference": "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"}}],
        },
        {"resourceType": "Condition", "subject": {"reference": "Patient/1/_history/2", "type": "Patient"}},
        {"resourceType": "Condition", "subject": {"reference": "Patient?identifier=x"}},
        {"resourceType": "Condition", "subject": {"reference": "http://e.org/any/thing"}},
    ],
)
def test_what_is_allowed(resource):
    assert told(resource) == []


def test_another_type_than_the_one_asked_for():
    assert told({"resourceType": "Patient"}, "Observation") == [("value", "Observation.resourceType")]


def test_raising_nothing_for_no_fault():
    raise_for([])


class Hooks:
    """Invariants as a later module gives them: one on HumanName, one on the element Patient.birthDate."""

    def of_type(self, name):
        broken = Constraint("hn-1", "a name has a family", "family.exists()")
        return (lambda node, resource, root: () if "family" in node else (broken,)) if name == "HumanName" else None

    def of_element(self, owner, element):
        broken = Constraint("bd-1", "nobody was born in 1800", "$this != '1800'")
        return (lambda node, resource, root: (broken,) if node == "1800" else ()) if element == "birthDate" else None


def test_invariants_are_asked_when_the_structure_is_sound():
    validator = Validator(load(), Hooks())
    resource = {"resourceType": "Patient", "birthDate": "1800", "name": [{"family": "x"}, {"text": "y"}]}
    found = {issue.expression[0]: issue.diagnostics for issue in validator.validate(resource)}
    assert found == {
        "Patient.birthDate": "bd-1: nobody was born in 1800",
        "Patient.name[1]": "hn-1: a name has a family",
    }
    assert [issue.code for issue in validator.validate({**resource, "foo": 1})] == ["structure"]


def test_links_are_found_where_they_may_be_rewritten():
    resource = {
        "resourceType": "ValueSet",
        "status": "draft",
        "url": "http://e.org/vs",
        "text": {"status": "generated", "div": DIV.format('<a href="x">x</a>')},
        "extension": [
            {"url": "http://e.org/e", "valueReference": {"reference": "Patient/1"}},
            {"url": "c", "valueCanonical": "http://c"},
        ],
        "compose": {"include": [{"system": "http://s", "valueSet": ["http://canonical"]}]},
    }
    links = [(link.kind, link.container[link.key]) for link in VALIDATOR.check(resource).links]
    assert links == [
        ("uri", "http://e.org/vs"),
        ("xhtml", DIV.format('<a href="x">x</a>')),
        ("uri", "http://e.org/e"),
        ("Reference", "Patient/1"),
        ("uri", "c"),
        ("uri", "http://s"),
    ]


@pytest.mark.shared
@pytest.mark.parametrize("path", sorted(SHARED.glob("synthea/*.json.gz")), ids=lambda path: path.name[:20])
def test_synthea_is_valid(path):
    bundle = decode(gzip.decompress(path.read_bytes()))
    assert told(bundle) == []


@pytest.mark.shared
@pytest.mark.parametrize("path", sorted(SHARED.glob("us-core/*.tgz")), ids=lambda path: path.name)
def test_us_core_examples_are_valid(path):
    seen = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if "/example/" in member.name and member.name.endswith(".json"):
                resource = decode(archive.extractfile(member).read())
                if "resourceType" in resource:
                    assert told(resource) == [], member.name
                    seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "name": [{"given": [1] * 30_000}]},
        {"resourceType": "Patient", "name": [{}] * 30_000},
        {"resourceType": "Patient", **{f"unheardOf{n}": n for n in range(30_000)}},
        {"resourceType": "Patient", "generalPractitioner": [{"reference": f"#{n}"} for n in range(30_000)]},
    ],
    ids=["bad strings", "empty objects", "unknown elements", "dangling references"],
)
def test_very_many_faults_cost_no_more_than_their_number(resource):
    assert MOST < len(VALIDATOR.validate(resource)) <= 30_000


def test_very_many_faults_that_are_deep_cost_no_more_than_the_first_of_them():
    """Each fault moves up through all that holds it: 2 ** 19 of them, 19 levels deep, took minutes."""
    nested = {"url": "x", "extension": []}
    for _ in range(19):
        nested = {"url": "x", "extension": [nested, nested]}
    issues = VALIDATOR.validate({"resourceType": "Patient", "extension": [nested]})
    assert MOST < len(issues) < 3 * MOST
    assert issues[0].expression[0].startswith("Patient.extension[0].extension[0].extension[0].")


def test_many_nulls_that_a_companion_settles_hide_no_fault_behind_them():
    names = {
        "given": [*[None] * 1500, 1],
        "_given": [*[{"extension": [{"url": "x", "valueString": "y"}]}] * 1500, None],
    }
    assert told({"resourceType": "Patient", "name": [names]})


def test_what_was_not_looked_at_to_its_end_is_not_asked_for_invariants():
    gender = [{"system": "phone", "use": "nowhere"}] * 1500
    resource = {"resourceType": "Patient", "telecom": gender, "contact": [1], "name": {"given": 1}}
    issues = VALIDATOR.validate(resource)
    assert {issue.code for issue in issues} == {"code-invalid"}
    assert len(issues) == MOST + 1


def test_one_answer_shows_a_thousand_faults_and_says_that_there_are_more():
    issues = Validator(load()).validate({"resourceType": "Patient", **{f"x{number}": 1 for number in range(1500)}})
    with pytest.raises(FhirError) as raised:
        raise_for(issues)
    assert len(raised.value.issues) == 1001
    assert raised.value.issues[-1].diagnostics == "and more faults"
