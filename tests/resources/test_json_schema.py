"""https://hl7.org/fhir/R4/json.html as JSON Schema: what the validator lets in satisfies the schema of its type."""

import gzip
import json
from functools import cache

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.definitions import load
from resources.json_format import encode
from resources.json_schema import LISTED, schemas
from tests.strategies import RESOURCES, resources

DEFINITIONS = load()
PATIENT = {"resourceType": "Patient"}
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
SATISFYING = {
    "a resource without elements": PATIENT,
    "a required primitive that only its companion has": {
        **{name: value for name, value in OBSERVATION.items() if name != "status"},
        "_status": {"extension": [{"url": "http://a.org", "valueCode": "unknown"}]},
    },
    "gaps in a list beside its companions": {
        **PATIENT,
        "name": [{"given": ["Ana", None], "_given": [None, {"id": "second"}]}],
    },
    "a contained resource of any type": {**PATIENT, "contained": [OBSERVATION]},
    "a number with an exponent": {**OBSERVATION, "valueQuantity": {"value": 1e3}},
}
FAILING = {
    "another type": {"resourceType": "Observation"},
    "no type": {},
    "an unknown element": {**PATIENT, "gendre": "female"},
    "a code of no required value set": {**PATIENT, "gender": "f"},
    "a date of no such form": {**PATIENT, "birthDate": "1990-2-3"},
    "a string that should be a boolean": {**PATIENT, "active": "true"},
    "a single value that should be a list": {**PATIENT, "name": {"family": "Nunez"}},
    "an empty list": {**PATIENT, "name": []},
    "an empty object": {**PATIENT, "contact": [{}]},
    "a backbone element without what it must have": {**PATIENT, "link": [{"type": "seealso"}]},
    "a contained resource without type": {**PATIENT, "contained": [{"id": "a"}]},
}


@cache
def validator(kind):
    known = {"$defs": schemas(DEFINITIONS, DEFINITIONS.resource_types, "#/$defs/")}
    return jsonschema_rs.Draft202012Validator({**known, "$ref": f"#/$defs/{kind}"})


@given(st.sampled_from(RESOURCES).flatmap(resources))
def test_a_valid_resource_satisfies_the_schema_of_its_type(resource):
    validator(resource["resourceType"]).validate(json.loads(encode(resource)))


@pytest.mark.parametrize("resource", SATISFYING.values(), ids=SATISFYING)
def test_the_schema_is_satisfied_by(resource):
    validator(resource["resourceType"]).validate(resource)


@pytest.mark.parametrize("resource", FAILING.values(), ids=FAILING)
def test_the_schema_of_patient_refuses(resource):
    assert not validator("Patient").is_valid(resource)


def test_one_of_a_choice_that_must_be_there_suffices():
    request = {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": {"display": "x"}}
    assert not validator("MedicationRequest").is_valid(request)
    validator("MedicationRequest").validate({**request, "medicationReference": {"display": "y"}})


def test_a_schema_comes_with_all_that_it_refers_to_and_nothing_else():
    found = schemas(DEFINITIONS, ("Basic",))
    referred = {"Basic"} | {name.rpartition("/")[2] for name in _references(found)}
    assert set(found) == referred
    assert {"Basic", "Reference", "Extension", "Resource", "Timing.repeat", "id"} <= set(found)
    assert "Patient" not in found


def _references(value):
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_bindings_of_few_codes_are_listed_and_others_named():
    found = schemas(DEFINITIONS, ("Patient", "CompartmentDefinition"))
    assert found["Patient"]["properties"]["gender"]["enum"] == ["female", "male", "other", "unknown"]
    named = found["CompartmentDefinition.resource"]["properties"]["code"]
    assert named["description"] == "Bound to http://hl7.org/fhir/ValueSet/resource-types."
    assert LISTED < 148


@pytest.mark.shared
def test_resources_of_synthea_satisfy_the_schemas(shared_data, rounds):
    paths = sorted((shared_data / "synthea").iterdir())[: 3 * rounds]
    assert paths
    for path in paths:
        bundle = json.loads(gzip.decompress(path.read_bytes()))
        validator("Bundle").validate(bundle)
        for entry in bundle["entry"]:
            validator(entry["resource"]["resourceType"]).validate(entry["resource"])
