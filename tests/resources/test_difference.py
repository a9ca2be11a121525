"""The difference of two resources is a FHIRPath Patch that makes one of the other: https://hl7.org/fhir/R4/fhirpatch.html"""

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.definitions import load
from resources.json_format import canonical, decode, encode
from resources.patching.difference import difference
from resources.patching.fhirpath_patch import apply_patch, read_patch
from resources.patching.limits import PatchLimits
from resources.validation import Validator
from tests.strategies import RESOURCES, resources

DEFINITIONS = load()
VALIDATOR = Validator(DEFINITIONS)  # invariants are not aimed at by the strategies
LIMITS = PatchLimits(operations=100_000)
CASES = json.loads((Path(__file__).resolve().parent.parent / "cases" / "fhirpath_patch.json").read_text("utf-8"))
PAIRS = [case for case in CASES if "after" in case]
EVERY_TYPE = settings(max_examples=max(4, settings.default.max_examples // 12))  # 146 types: few rounds each


def patched(resource, patch):
    return apply_patch(resource, read_patch(patch, DEFINITIONS, LIMITS), DEFINITIONS)


def steps(old, new):
    """The steps of the difference in short form: type, path, and the other parts' values."""
    found = difference(old, new, DEFINITIONS).get("parameter", [])
    return [tuple(value for part in one["part"] for name, value in part.items() if name != "name") for one in found]


def agree(old, new):
    before = canonical([old, new])
    patch = difference(old, new, DEFINITIONS)
    assert canonical(patched(old, decode(encode(patch)))) == canonical(new)
    assert canonical([old, new]) == before
    return patch


@pytest.mark.parametrize("case", PAIRS, ids=[case["id"] for case in PAIRS])
def test_the_difference_undoes_and_repeats_every_case_of_patching(case):
    agree(case["before"], case["after"])
    agree(case["after"], case["before"])


@pytest.mark.parametrize("kind", RESOURCES)
@EVERY_TYPE
@given(data=st.data())
def test_the_difference_of_any_two_resources_makes_one_of_the_other(kind, data):
    old, new = data.draw(resources(kind)), data.draw(resources(kind))
    patch = agree(old, new)
    assert VALIDATOR.validate(patch) == []
    assert difference(old, copy.deepcopy(old), DEFINITIONS) == {"resourceType": "Parameters"}


OBSERVATION = {"resourceType": "Observation", "status": "final"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param({"birthDate": "1920"}, {"birthDate": "1920"}, [], id="nothing"),
        pytest.param(
            {"birthDate": "1920"}, {"birthDate": "1930"}, [("replace", "Patient.birthDate", "1930")], id="a primitive replaced"
        ),
        pytest.param({"birthDate": "1920"}, {}, [("delete", "Patient.birthDate")], id="a primitive deleted"),
        pytest.param({}, {"birthDate": "1930"}, [("add", "Patient", "birthDate", "1930")], id="a primitive added"),
        pytest.param(
            {"contact": [{"name": {"text": "a"}}]}, {"contact": [{"name": {"text": "b"}}]},
            [("replace", "Patient.contact[0].name.text", "b")], id="a change deep inside is told there",
        ),
        pytest.param(
            {"name": [{"text": "a"}]}, {"name": [{"family": "b"}]},
            [("add", "Patient.name[0]", "family", "b"), ("delete", "Patient.name[0].text")], id="additions come before deletions",
        ),
        pytest.param(
            {"name": [{"given": ["a", "b"]}]}, {"name": [{"given": ["a", "x", "b"]}]},
            [("insert", "Patient.name[0].given", "x", 1)], id="an item inserted between equal ones",
        ),
        pytest.param(
            {"name": [{"given": ["a", "b", "c"]}]}, {"name": [{"given": ["a", "c"]}]},
            [("delete", "Patient.name[0].given[1]")], id="an item deleted between equal ones",
        ),
        pytest.param(
            {"deceasedBoolean": True}, {"deceasedDateTime": "2020"},
            [("replace", "Patient.deceased", "2020")], id="a choice of another type",
        ),
        pytest.param(
            {"birthDate": "1920"}, {"birthDate": "1920", "_birthDate": {"id": "b"}},
            [("replace", "Patient.birthDate", "1920", {"id": "b"})], id="a companion",
        ),
    ],
)  # fmt: skip
def test_a_difference_is_told_in_few_steps(old, new, told):
    assert steps({"resourceType": "Patient", **old}, {"resourceType": "Patient", **new}) == told


def test_tokens_of_numbers_differ():
    old = decode(b'{"resourceType":"Observation","valueQuantity":{"value":1.0}}')
    new = decode(b'{"resourceType":"Observation","valueQuantity":{"value":1.00}}')
    assert encode(patched(old, difference(old, new, DEFINITIONS))) == encode(new)


@pytest.mark.parametrize(
    "new",
    [
        pytest.param({"resourceType": "Organization", "id": "o", "name": "B"}, id="the same type"),
        pytest.param({"resourceType": "Practitioner", "id": "o", "active": True}, id="another type"),
    ],
)
def test_contained_resources_and_those_of_a_bundle(new):
    old = {"resourceType": "Organization", "id": "o", "name": "A", "alias": ["x"]}
    agree({"resourceType": "Patient", "contained": [old]}, {"resourceType": "Patient", "contained": [new, old]})
    agree(
        {"resourceType": "Bundle", "entry": [{"fullUrl": "a:b", "resource": old}]},
        {"resourceType": "Bundle", "entry": [{"fullUrl": "a:b", "resource": new}]},
    )


def test_ignored_paths_are_left_as_they_are():
    old = {"resourceType": "Patient", "meta": {"versionId": "1", "tag": [{"code": "a"}]}}
    new = {"resourceType": "Patient", "meta": {"versionId": "2", "tag": [{"code": "b"}]}}
    assert difference(old, new, DEFINITIONS, ("Patient.meta",)) == {"resourceType": "Parameters"}
    made = patched(old, difference(old, new, DEFINITIONS, ("Patient.meta.versionId",)))
    assert made == {"resourceType": "Patient", "meta": {"versionId": "1", "tag": [{"code": "b"}]}}


def test_items_that_nest_as_deep_as_a_body_may_are_patched_where_they_differ():
    def nested(text):
        item = {"linkId": text, "type": "display"}
        for at in range(45):
            item = {"linkId": str(at), "type": "group", "item": [item]}
        return {"resourceType": "Questionnaire", "status": "draft", "item": [item]}

    assert len(agree(nested("a"), nested("b"))["parameter"]) == 1
