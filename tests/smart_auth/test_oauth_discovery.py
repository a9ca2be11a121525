"""What the authorization server says about itself, and where scripts of other origins may call it."""

import re
from pathlib import Path

import pytest

from smart_auth.oauth.endpoints import routes
from smart_auth.scopes import parse
from tests.smart_auth.apps import BASE, PUBLIC

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.anyio

STANDALONE = {
    "launch-standalone", "client-public", "client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect",
    "context-standalone-patient", "permission-offline", "permission-patient", "authorize-post", "permission-v2", "permission-v1",
}  # fmt: skip
EHR = {
    "launch-ehr", "client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect", "context-banner",
    "context-style", "context-ehr-patient", "context-ehr-encounter", "permission-offline", "permission-user", "authorize-post",
    "permission-v2", "permission-v1",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/fhir/.well-known/smart-configuration", "/.well-known/smart-configuration"])
@pytest.mark.parametrize("accept", ["application/json", "application/fhir+xml", "text/html"])
async def test_the_smart_configuration_is_json_whatever_is_accepted(world, path, accept):
    answer = await world.http.get(path, headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    found = answer.json()
    assert set(found["capabilities"]) >= STANDALONE | EHR
    assert "authorization_code" in found["grant_types_supported"]
    assert "client_credentials" in found["grant_types_supported"]
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert {"private_key_jwt", "client_secret_basic"} <= set(found["token_endpoint_auth_methods_supported"])
    assert found["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    assert found["issuer"] == BASE


async def test_every_url_is_absolute_and_below_the_public_url_whatever_the_host_header_says(world):
    for path in ("/fhir/.well-known/smart-configuration", "/fhir/.well-known/openid-configuration"):
        answer = await world.http.get(path, headers={"Host": "evil.example"})
        urls = [value for name, value in answer.json().items() if name.endswith(("_endpoint", "_uri"))]
        assert len(urls) >= 7
        assert all(url.startswith(f"{PUBLIC}/auth/") for url in urls)


async def test_the_scopes_supported_can_be_asked_for_and_name_a_granular_one(world):
    scopes = (await world.http.get("/.well-known/smart-configuration")).json()["scopes_supported"]
    assert parse(" ".join(scopes)).resource
    assert any(re.fullmatch(r"patient/Observation\.rs\?category=.+\|laboratory", one) for one in scopes)


async def test_the_openid_configuration_has_what_clients_need_and_is_reached_from_the_issuer(world):
    issuer = (await world.http.get("/.well-known/smart-configuration")).json()["issuer"]
    found = (await world.http.get(f"{issuer}/.well-known/openid-configuration")).json()
    assert found["issuer"] == issuer
    assert found["id_token_signing_alg_values_supported"] == ["RS256"]
    assert found["response_types_supported"] == ["code"]
    assert found["subject_types_supported"] == ["public"]
    assert found["request_uri_parameter_supported"] is False
    assert found["authorization_response_iss_parameter_supported"] is True


async def test_the_jwks_has_public_keys_of_both_kinds_and_may_be_kept_for_minutes(world):
    answer = await world.http.get("/auth/jwks")
    rows = answer.json()["keys"]
    assert {row["kty"] for row in rows} == {"RSA", "EC"}
    assert all(row["kid"] and not {"d", "p", "q", "k"} & row.keys() for row in rows)
    assert answer.headers["cache-control"] == "public, max-age=300"


async def test_the_style_is_json(world):
    assert (await world.http.get("/auth/smart-style.json")).json()["color_background"].startswith("#")


async def test_the_page_for_developers_lists_every_endpoint_with_its_methods(world):
    text = (ROOT / "docs" / "apps.md").read_text(encoding="utf-8")
    listed = {
        (method.strip(), path)
        for methods, path in re.findall(r"^\| ([A-Z, ]+) `(/auth/[^`]+)` \|", text, re.MULTILINE)
        for method in methods.split(",")
    }
    served = {(method, route.path) for route in routes(world.parts) for method in route.methods - {"HEAD"}}
    assert listed == {(method, path) for method, path in served if path.startswith("/auth/")}
