"""https://hl7.org/fhir/R4/http.html#capabilities: the statement says what the tables say, and that is true."""

import pytest

from fhir_server.audit.options import AuditOptions
from fhir_server.http.table import ROUTES
from fhir_server.interactions.patch import UNPATCHABLE
from fhir_server.operations import OPERATIONS
from resources.definitions import load
from tests.http.application import running
from tests.http.conftest import BASE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def statement(client):
    answer = await client.get("metadata")
    assert answer.status_code == 200
    return answer.json()


async def test_the_statement_names_server_and_version(statement):
    assert statement["fhirVersion"] == "4.0.1"
    assert statement["kind"] == "instance"
    assert statement["implementation"]["url"] == BASE
    assert statement["software"]["version"]


async def test_the_statement_is_a_valid_resource(client, statement):
    answer = await client.put(
        "CapabilityStatement/own", json={**statement, "id": "own"}, headers={"Content-Type": "application/fhir+json"}
    )
    assert answer.status_code in (200, 201), answer.text


async def test_operations_are_those_of_the_table(statement):
    (rest,) = statement["rest"]
    listed = {(row["type"], f"${one['name']}") for row in rest["resource"] for one in row.get("operation", ())}
    assert listed == {(kind, row.name) for row in OPERATIONS for kind in row.types or ()}
    assert [f"${one['name']}" for one in rest.get("operation", ())] == [
        row.name for row in OPERATIONS if row.types is None and row.setting is None
    ]


async def test_every_resource_type_is_listed_with_the_interactions_of_the_table(statement):
    (rest,) = statement["rest"]
    assert [row["type"] for row in rest["resource"]] == sorted(load().resource_types)
    codes = {code for route in ROUTES for code in route.codes}
    system = {row["code"] for row in rest["interaction"]}
    assert system == {"transaction", "batch", "history-system", "search-system"}
    for row in rest["resource"]:
        left_out = {"patch"} if row["type"] in UNPATCHABLE else set()
        assert {item["code"] for item in row["interaction"]} == codes - system - left_out


async def test_every_listed_parameter_is_answered(client, statement):
    values = {
        "number": "1",
        "date": "2020",
        "string": "a",
        "token": "a",
        "reference": "Patient/1",
        "quantity": "1",
        "uri": "a:b",
    }
    (rest,) = statement["rest"]
    (row,) = (row for row in rest["resource"] if row["type"] == "Observation")
    for parameter in row["searchParam"]:
        if parameter["type"] in values and not parameter["name"].startswith("_"):
            answer = await client.get("Observation", params={parameter["name"]: values[parameter["type"]]})
            assert answer.status_code == 200, (parameter, answer.text)


async def test_the_statement_is_revalidated_by_its_tag(client):
    first = await client.get("metadata?mode=full")
    again = await client.get("metadata", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.head("metadata")).headers["content-length"] == str(len(first.content))


async def test_every_listed_include_is_answered(client, statement):
    (rest,) = statement["rest"]
    for row in rest["resource"]:
        if row["type"] not in ("Observation", "Patient", "Questionnaire"):
            continue
        for name, values in (("_include", row["searchInclude"]), ("_revinclude", row["searchRevInclude"])):
            for value in values:
                answer = await client.get(row["type"], params={name: value, "_count": 1})
                assert answer.status_code == 200, (name, value, answer.text)


async def test_every_listed_parameter_of_all_types_is_answered(client, statement):
    (rest,) = statement["rest"]
    values = {"_id": "x", "_lastUpdated": "2020", "_filter": "_id eq x", "_has": None, "_list": "x"}
    for parameter in rest["searchParam"]:
        value = values.get(parameter["name"], "http://a.org")
        if value is not None:
            answer = await client.get("", params={"_type": "Patient,Group", parameter["name"]: value})
            assert answer.status_code == 200, (parameter, answer.text)


async def test_the_audit_events_of_a_server_that_records_are_its_own(tmp_path):
    async with running(tmp_path, audit=AuditOptions(enabled=True)) as client:
        (rest,) = (await client.get("metadata")).json()["rest"]
    (row,) = [row for row in rest["resource"] if row["type"] == "AuditEvent"]
    assert [item["code"] for item in row["interaction"]] == ["search-type", "read"]
    assert row["conditionalCreate"] is False
