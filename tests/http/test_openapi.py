"""The OpenAPI documents: well-formed, and true to the tables that the server dispatches by."""

import json
import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from fhir_server.http.endpoint import _RAW_IN, _RAW_OUT
from fhir_server.http.negotiation import _NAMES
from fhir_server.http.table import ROUTES
from fhir_server.interactions.history import _KNOWN
from fhir_server.openapi.interactions import FAULTS, RAW, ROWS
from fhir_server.openapi.parameters import COMMON, FORMATS, VALUES
from fhir_server.operations import OPERATIONS
from resources.definitions import load
from search.results import RESULT_PARAMETERS
from tests.http.conftest import BASE, FHIR, issue_of

pytestmark = pytest.mark.anyio

ORIGIN = BASE.removesuffix("/fhir")
DEFINITIONS = load()
MEASURED = ("Patient", "Observation", "Binary", "Bundle", "Parameters", "SearchParameter", "StructureDefinition")
SHAPES = {
    "{id}": "x",
    "{version}": "1",
    "{member}": "Observation",
    "{type}": "Patient",
}


async def fetched(client, kind=None):
    answer = await client.get(f"{ORIGIN}/openapi/{kind}.json" if kind else f"{ORIGIN}/openapi.json")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method.upper(), operation


def templates():
    """What the table has: (shape, method), HEAD and operations aside."""
    return {
        (route.shape, method)
        for route in ROUTES
        for method in route.methods
        if method != "HEAD" and "$" not in route.shape
    }


@pytest.mark.parametrize("kind", [None, *MEASURED])
async def test_the_document_is_valid_openapi_3_1(client, kind):
    document = await fetched(client, kind)
    OpenAPIV31SpecValidator(document).validate()
    named = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(named)) == len(named)
    assert document["servers"] == [{"url": BASE}]


@pytest.mark.full
@pytest.mark.parametrize("kind", DEFINITIONS.resource_types)
async def test_the_document_of_every_type_is_valid_openapi_3_1(client, kind):
    OpenAPIV31SpecValidator(await fetched(client, kind)).validate()


async def test_the_document_of_the_system_has_every_row_of_the_route_table_and_no_other(client):
    document = await fetched(client)
    assert {(path, method) for path, method, _ in operations(document) if "$" not in path} == templates()


async def test_the_document_of_a_type_has_the_rows_that_are_about_types(client):
    wanted = {(shape, method) for shape, method in templates() if "{type}" in shape}
    patient, observation = await fetched(client, "Patient"), await fetched(client, "Observation")
    for kind, document, left in (("Patient", patient, "none"), ("Observation", observation, "{member}")):
        found = {(path, method) for path, method, _ in operations(document) if "$" not in path}
        assert found == {(shape.replace("{type}", kind), method) for shape, method in wanted if left not in shape}


async def test_head_is_answered_wherever_get_is_so_the_documents_leave_it_out():
    for route in ROUTES:
        assert ("GET" in route.methods) == ("HEAD" in route.methods), route.shape


async def test_each_row_of_the_route_table_is_described_and_no_other():
    assert set(ROWS) == {(method, shape) for shape, method in templates()}
    for row in ROWS.values():
        assert set(row.faults) <= set(FAULTS)


async def test_raw_content_is_told_of_where_it_is_sent_and_answered():
    sent = {row for row, about in ROWS.items() if RAW in about.sends}
    answered = {row for row, about in ROWS.items() if any(RAW in one.body for one in about.answers.values())}
    assert (sent, answered | {("HEAD", shape) for _, shape in answered}) == (_RAW_IN, _RAW_OUT)


async def test_the_formats_are_those_that_are_negotiated():
    assert set(FORMATS) == set(_NAMES)


async def test_the_parameters_of_history_are_those_that_it_knows():
    known = {COMMON[name]["name"] for name in ROWS["GET", "/_history"].parameters}
    assert known - {"Prefer"} == _KNOWN


@pytest.mark.parametrize("kind", [None, *MEASURED])
async def test_one_component_has_one_meaning(client, kind):
    document = await fetched(client, kind)
    for name, one in COMMON.items():
        assert document["components"]["parameters"][name] == one


async def test_the_operations_are_those_of_the_operation_table(client):
    found = set()
    for kind in (None, *DEFINITIONS.resource_types):
        for path, method, _ in operations(await fetched(client, kind)):
            if "$" in path:
                shape = path.replace(f"/{kind}", "/{type}", 1) if kind else path
                found.add((shape.rpartition("$")[2], shape.rpartition("/")[0], kind, method))
    levels = {
        "system": "",
        "type": "/{type}",
        "instance": "/{type}/{id}",
        "version": "/{type}/{id}/_history/{version}",
    }
    for row in (row for row in OPERATIONS if row.setting is None):
        for level in row.levels:
            kinds = (None,) if level == "system" else row.types or (None, *DEFINITIONS.resource_types)
            for kind in kinds:
                assert (row.name[1:], levels[level], kind, "POST") in found
                assert not (row.affects_state and (row.name[1:], levels[level], kind, "GET") in found)
                found -= {(row.name[1:], levels[level], kind, method) for method in ("GET", "POST")}
    assert found == set()


@pytest.mark.parametrize("kind", [None, *MEASURED])
async def test_every_method_of_every_path_is_dispatched(client, kind):
    for path, method, _ in operations(await fetched(client, kind)):
        url = BASE + re.sub(r"\{\w+\}", lambda found: SHAPES[found[0]], path)
        answer = await client.request(method, url, headers=FHIR, content=b"")
        assert answer.status_code != 405, (method, url)
        if answer.status_code == 404:
            assert "path" not in issue_of(answer)["diagnostics"], (method, url)
            assert "level" not in issue_of(answer)["diagnostics"], (method, url)


async def test_the_search_parameters_of_a_type_are_those_of_the_capability_statement(client):
    statement = (await client.get("metadata")).json()
    shaping = RESULT_PARAMETERS | {"_filter", "_list", "_format", "_pretty"}
    for row in statement["rest"][0]["resource"]:
        if row["type"] in MEASURED:
            document = await fetched(client, row["type"])
            listed = document["paths"][f"/{row['type']}"]["get"]["parameters"]
            names = {_resolved(document, one)["name"] for one in listed}
            assert names == {one["name"] for one in row["searchParam"]} | shaping


def _resolved(document, one):
    if "$ref" not in one:
        return one
    part = document
    for step in one["$ref"].removeprefix("#/").split("/"):
        part = part[step]
    return part


async def test_the_document_of_the_system_links_that_of_every_type(client):
    document = await fetched(client)
    links = {tag["name"]: tag["externalDocs"]["url"] for tag in document["tags"]}
    assert list(links) == list(DEFINITIONS.resource_types)
    answer = await client.get(links["Patient"])
    assert answer.json()["info"]["title"] == "FHIR R4: Patient"


async def test_every_modifier_that_a_document_names_is_answered(client):
    samples = {
        "number": ("RiskAssessment", "probability", "1"),
        "date": ("Patient", "birthdate", "2020"),
        "quantity": ("Observation", "value-quantity", "1"),
        "string": ("Patient", "name", "a"),
        "token": ("Observation", "code", "http://a.org|b"),
        "reference": ("Patient", "organization", "Organization/1"),
        "uri": ("ValueSet", "url", "http://a.org/b"),
        "composite": ("Observation", "code-value-quantity", "a$1"),
        "special": ("Location", "near", "1|1"),
    }
    values = {"missing": "true", "of-type": "http://a.org|MR|1", "in": "http://a.org/v", "not-in": "http://a.org/v"}
    assert samples.keys() == VALUES.keys()
    for kind, (resource, code, value) in samples.items():
        _, _, listed = VALUES[kind]["description"].partition("Modifier")
        for modifier in re.findall(r"`([a-z-]+)`", listed):
            answer = await client.get(resource, params={f"{code}:{modifier}": values.get(modifier, value)})
            said = answer.json().get("issue", [{}])[0].get("diagnostics", "")
            if modifier != "of-type":  # of identifiers alone
                assert answer.status_code in (200, 404) or "does not fit" not in said, (kind, modifier, said)


async def test_the_values_that_search_takes_match_the_patterns_of_the_document(shared_cases):
    for row in shared_cases:
        pattern = VALUES[row["type"]].get("pattern")
        if pattern is not None and row["search"]:
            assert re.fullmatch(pattern.strip("^$"), row["search"]), row


@pytest.fixture
def shared_cases(pytestconfig):
    found = json.loads((pytestconfig.rootpath / "tests/cases/search_values.json").read_text(encoding="utf-8"))
    return [row for row in found if row["type"] in VALUES and ":" not in row.get("modifier", "")]


async def test_a_document_is_revalidated_by_its_tag(client):
    first = await client.get(f"{ORIGIN}/openapi/Patient.json")
    again = await client.get(f"{ORIGIN}/openapi/Patient.json", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await client.head(f"{ORIGIN}/openapi/Patient.json", headers={"Accept-Encoding": "identity"})
    assert head.headers["content-length"] == str(len(first.content))


async def test_a_page_of_another_origin_may_read_a_document(client):
    answer = await client.get(f"{ORIGIN}/openapi.json", headers={"Origin": "https://tools.example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("name", ["Pat", "patient", "DomainResource", "HumanName"])
async def test_there_is_no_document_of_what_is_no_resource_type(client, name):
    answer = await client.get(f"{ORIGIN}/openapi/{name}.json")
    assert answer.status_code == 404
    assert issue_of(answer)["code"] == "not-found"


async def test_the_documents_stand_beside_the_fhir_base(client):
    assert (await client.get("openapi.json")).status_code == 404


async def test_without_access_control_nothing_is_said_of_it(client):
    document = await fetched(client, "Patient")
    assert "security" not in document
    assert "securitySchemes" not in document["components"]
