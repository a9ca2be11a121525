"""The server answers as its OpenAPI documents say: requests made from them, valid and invalid ones, by schemathesis.

Checked of each answer: no fault of the server, a status that is documented, its content type, its headers, its body by the schema. Bodies are resources
of tests/strategies.py, mostly (schemathesis takes seconds for a type as recursive as FHIR's); invalid ones are the business of tests/fuzz. Half of the paths
name a resource that is there, half of the requests have no optional parameters.
"""

import json

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from resources.json_format import encode
from tests.servers import FHIR, Server
from tests.strategies import RESOURCES, resources

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OF_BODIES = [content_type_conformance, response_schema_conformance]
QUICK = ["", "Patient", "Observation", "SearchParameter", "Binary"]
EXAMPLES = {GenerationMode.POSITIVE: 4, GenerationMode.NEGATIVE: 3}
KNOWN = "known"
ORDER = ("get", "put", "post", "patch", "delete")
"""What is there is read before it is changed."""
JSON = "application/fhir+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("openapi") / "data") as server:
        yield server


@pytest.mark.parametrize("mode", list(EXAMPLES), ids=lambda mode: f"{mode.value}-requests")
@pytest.mark.parametrize("kind", QUICK, ids=lambda kind: kind or "system")
def test_the_server_answers_as_documented(server, kind, mode, rounds):
    ask_all(server, kind, mode, EXAMPLES[mode] * rounds)


@pytest.mark.full
@pytest.mark.parametrize("kind", [kind for kind in RESOURCES if kind not in QUICK])
def test_the_server_answers_about_every_type_as_documented(server, kind, rounds):
    for mode, examples in EXAMPLES.items():
        ask_all(server, kind, mode, examples * rounds)


def ask_all(server, kind, mode, examples):
    origin = server.url.removesuffix("/fhir")
    document = httpx2.get(f"{origin}/openapi/{kind}.json" if kind else f"{origin}/openapi.json").json()
    bodies = narrowed(document)
    make_known(server, kind or "Patient")
    operations = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    for operation in sorted(operations, key=lambda operation: ORDER.index(operation.method)):
        if mode is GenerationMode.POSITIVE or not operation.body:
            ask(server, operation, bodies.get((operation.path, operation.method), ()), mode, examples)


def make_known(server, kind):
    """See that the resource KNOWN is there: the first one drawn that keeps the invariants of its type."""
    answers = []

    @settings(max_examples=20, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(resources(kind))
    def drawn(resource):
        if 201 not in answers and 200 not in answers:
            body = encode({**resource, "id": KNOWN})
            answer = httpx2.put(f"{server.url}/{kind}/{KNOWN}", content=body, headers=FHIR)
            answers.append(answer.status_code)

    drawn()
    assert answers


def narrowed(document):
    """Leave of each body that is a resource an empty one, in JSON; the types that each may be of, by path and method."""
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}) if method != "parameters" else {}
            if JSON in content:
                schema = content[JSON]["schema"]
                types = [one["$ref"].rpartition("/")[2] for one in schema.get("anyOf", [schema])]
                found[path, method] = ["Patient" if one == "Resource" else one for one in types]
                content[JSON] = {"schema": {"const": {"resourceType": found[path, method][0]}}}
                for other in ("application/fhir+xml", "*/*"):
                    content.pop(other, None)
    return found


def ask(server, operation, types, mode, examples):
    """Send requests of one operation and check the answers."""

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def requested(case, data):
        if "id" in case.path_parameters and data.draw(st.booleans()):
            case.path_parameters |= {"id": KNOWN} | ({"version": "1"} if "version" in case.path_parameters else {})
        if data.draw(st.booleans()):
            case.query, case.headers = {}, {}
        if case.media_type == JSON and types and data.draw(st.integers(0, 3)):
            case.body = json.loads(encode(data.draw(st.sampled_from(types).flatmap(resources))))
            if "id" in case.path_parameters:
                case.body["id"] = case.path_parameters["id"]
        answer = case.call(base_url=server.url)
        may_be_empty = "minimal" in str((case.headers or {}).get("Prefer", "")) or "/Binary/" in answer.request.url
        skipped = OF_BODIES if may_be_empty and not answer.content else []
        case.validate_response(answer, checks=CHECKS, excluded_checks=skipped)

    requested()
