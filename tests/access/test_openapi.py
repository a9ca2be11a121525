"""The OpenAPI documents of a server with access control: how tokens are had is what discovery says.

Specification: https://spec.openapis.org/oas/v3.1.0#security-scheme-object
"""

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from smart_auth.scopes import WORDS, parse

pytestmark = pytest.mark.anyio
ORIGIN = "https://fhir.example.org"


@pytest.mark.parametrize("kind", [None, "Patient", "AuditEvent"])
async def test_the_schemes_are_those_of_discovery(hospital, kind):
    answer = await hospital.get(f"{ORIGIN}/openapi/{kind}.json" if kind else f"{ORIGIN}/openapi.json", {})
    assert answer.status_code == 200
    document = answer.json()
    OpenAPIV31SpecValidator(document).validate()
    discovered = (await hospital.get(f"{ORIGIN}/fhir/.well-known/smart-configuration", {})).json()
    found = document["components"]["securitySchemes"]
    assert [one["type"] for one in found.values()] == ["oauth2", "http"]
    assert found["bearer"]["scheme"] == "bearer"
    flows = found["oauth2"]["flows"]
    assert flows["authorizationCode"]["authorizationUrl"] == discovered["authorization_endpoint"]
    for flow in flows.values():
        assert flow["tokenUrl"] == discovered["token_endpoint"]
        scopes = parse(" ".join(flow["scopes"]))
        assert {one.type for one in scopes.resource} == {kind or "*"}
        assert set(scopes.words) <= WORDS
    assert document["security"] == [{name: []} for name in found]


async def test_each_operation_asks_for_a_token_but_the_statement(hospital):
    document = (await hospital.get(f"{ORIGIN}/openapi.json", {})).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            if path == "/metadata":
                assert operation["security"] == []
            else:
                assert "security" not in operation
                assert {"401", "403", "429"} <= set(operation["responses"]), (method, path)


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("DELETE", "_history", "DELETE is not supported on /_history; GET, HEAD is"),
        ("PUT", "Patient/anne/_history", "PUT is not supported on /Patient/anne/_history; GET, HEAD is"),
        ("POST", "Patient/anne/_history/1", "POST is not supported on /Patient/anne/_history/1; GET, HEAD is"),
    ],
)
async def test_a_method_that_is_not_allowed_is_told_with_the_path(hospital, method, path, said):
    answer = await hospital.send(method, path, None, hospital.as_("", "user/*.cruds system/*.cruds"))
    assert answer.status_code == 405
    assert answer.json()["issue"][0]["diagnostics"].startswith(said)
    assert answer.headers["allow"]
