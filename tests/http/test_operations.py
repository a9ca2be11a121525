"""The table of operations, their definitions, and how a call's parameters are read: https://hl7.org/fhir/R4/operations.html"""

import json

import pytest

from fhir_server.operations import OPERATIONS
from fhir_server.operations.arguments import _RELATED
from fhir_server.operations.model import definition, inputs, own_resource
from resources.definitions import load
from resources.validation import Validator
from resources.validation.invariants import Invariants
from tests.http.conftest import BASE, FHIR, issue_of, made

pytestmark = pytest.mark.anyio

ROWS = [pytest.param(row, id=row.definition) for row in OPERATIONS]
OWN = [pytest.param(row, id=row.definition) for row in OPERATIONS if row.own]
LEVELS = {"system": "system", "type": "type", "instance": "instance", "version": "instance"}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_stays_within_its_definition(row):
    defined = definition(row.definition, own=row.own)
    assert f"${defined.code}" == row.name
    assert all(getattr(defined, LEVELS[level]) for level in row.levels)
    assert set(row.types or ("Resource",)) <= set(defined.resources) or defined.resources == ("Resource",)
    if row.own:
        assert defined.affects_state == row.affects_state


@pytest.mark.parametrize("row", ROWS)
def test_parameters_have_types_that_can_be_read(row):
    known = load().types
    for parameter in inputs(row).values():
        assert parameter.type in _RELATED or known[parameter.type].kind in ("resource", "complex-type")


@pytest.mark.parametrize("row", OWN)
def test_an_own_definition_is_a_valid_resource(row):
    definitions = load()
    resource = own_resource(row.definition)
    assert resource["id"] == row.definition
    assert Validator(definitions, Invariants(definitions.types)).validate(resource, "OperationDefinition") == []


@pytest.mark.parametrize("row", OWN)
async def test_an_own_definition_is_read_where_the_statement_says(client, row):
    (rest,) = (await client.get("metadata")).json()["rest"]
    listed = [*rest.get("operation", ()), *(one for r in rest["resource"] for one in r.get("operation", ()))]
    url = row.url(BASE)
    assert [one["definition"] for one in listed if one["name"] == row.name[1:]][:1] == ([] if row.setting else [url])
    answer = await client.get(url.removeprefix(f"{BASE}/"))
    assert answer.status_code == 200
    assert (answer.json()["url"], answer.json()["code"]) == (url, row.name[1:])
    held = {"If-None-Match": answer.headers["etag"]}
    assert (await client.get(url.removeprefix(f"{BASE}/"), headers=held)).status_code == 304


async def test_a_stored_definition_comes_before_the_server_s_own(client):
    name = "SearchParameter-reindex"
    mine = {**own_resource(name), "url": "http://example.org/mine"}
    await client.put(f"OperationDefinition/{name}", content=json.dumps(mine), headers=FHIR)
    assert (await client.get(f"OperationDefinition/{name}")).json()["url"] == "http://example.org/mine"
    await client.delete(f"OperationDefinition/{name}")
    assert (await client.get(f"OperationDefinition/{name}")).status_code == 410


@pytest.mark.parametrize(
    ("method", "url", "status", "told"),
    [
        pytest.param("GET", "$nothing", 404, "the operation $nothing is not supported", id="unknown on the server"),
        pytest.param("POST", "Patient/$nothing", 404, "$nothing", id="unknown on a type"),
        pytest.param("GET", "Patient/1/_history/1/$nothing", 404, "$nothing", id="unknown on a version"),
        pytest.param("GET", "$everything", 404, "on the level system", id="known on other levels"),
        pytest.param("GET", "Group/1/$everything", 404, "instance of Group", id="known on other types"),
        pytest.param("DELETE", "Patient/1/$meta", 405, "DELETE is not supported", id="another method"),
        pytest.param("GET", "Patient/$meta?colour=red", 400, "the parameter colour", id="an unknown parameter"),
        pytest.param("POST", "$meta?colour=red", 400, "the parameter colour", id="an unknown parameter of a POST"),
    ],
)
async def test_a_call_that_cannot_be_served_is_named(client, method, url, status, told):
    answer = await client.request(method, url, headers=FHIR)
    assert answer.status_code == status
    assert told in issue_of(answer)["diagnostics"]


async def test_lenient_handling_ignores_nothing_where_the_answer_could_not_tell(client):
    answer = await client.get("Patient/$meta?colour=red", headers={"Prefer": "handling=lenient"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("_count=1.5", "_count=1.5", id="a fraction for an integer"),
        pytest.param("_count=9999999999", "_count=9999999999", id="an integer out of range"),
        pytest.param("_since=2020-02-30", "_since=2020-02-30", id="a day that is none"),
        pytest.param("_since=2020-01-01T00:00:00+01:00", "%2B", id="a plus that was not encoded"),
        pytest.param("_since=2020&_since=2021", "_since is given twice", id="more often than defined"),
        pytest.param("_type=Patient%20%20x", "_type=", id="no code"),
    ],
)
async def test_a_value_of_another_type_is_named(client, patient, query, told):
    name = (await made(client, patient))["id"]
    answer = await client.get(f"Patient/{name}/$everything?{query}")
    assert answer.status_code == 400
    assert told in issue_of(answer)["diagnostics"]


@pytest.mark.parametrize(
    "parameter",
    [
        pytest.param({"name": "_count", "valueInteger": 1}, id="the defined type"),
        pytest.param({"name": "_count", "valuePositiveInt": 1}, id="a related type"),
        pytest.param({"name": "_count", "valueString": "1"}, id="as text"),
    ],
)
async def test_a_value_may_be_of_a_related_type(client, patient, parameter):
    name = (await made(client, patient))["id"]
    body = json.dumps({"resourceType": "Parameters", "parameter": [parameter]})
    answer = await client.post(f"Patient/{name}/$everything", content=body, headers=FHIR)
    assert answer.status_code == 200, answer.text
    assert "_count=1" in answer.json()["link"][0]["url"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param({"resourceType": "Parameters", "parameter": {}}, "Parameters.parameter", id="no list"),
        pytest.param({"resourceType": "Parameters", "parameter": [5]}, "Parameters.parameter[0]", id="no parameter"),
        pytest.param({"resourceType": "Parameters", "x": 1}, "x", id="an unknown element"),
        pytest.param(
            {"resourceType": "Parameters", "parameter": [{"name": "_count", "valueInteger": 1, "valueString": "x"}]},
            "Parameters.parameter[0]", id="two values",
        ),
        pytest.param(
            {"resourceType": "Parameters", "parameter": [{"name": "_count", "resource": {"resourceType": "Patient"}}]},
            "needs a valueInteger", id="a resource for a value",
        ),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_parameters_is_400(client, patient, body, told):
    name = (await made(client, patient))["id"]
    answer = await client.post(f"Patient/{name}/$everything", content=json.dumps(body), headers=FHIR)
    assert answer.status_code == 400, answer.text
    assert told in answer.text
