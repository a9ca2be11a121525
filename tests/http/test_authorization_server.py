"""The authorization server within the application: what is found, for whom, and what remains the FHIR API's."""

import pytest

from smart_auth import keys
from tests.http.application import running

pytestmark = pytest.mark.anyio

ORIGIN = {"Origin": "https://app.example.org"}
PREFLIGHT = ORIGIN | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
OPEN = [
    "/auth/token",
    "/auth/revoke",
    "/auth/userinfo",
    "/auth/jwks",
    "/auth/smart-style.json",
    "/.well-known/smart-configuration",
]
CLOSED = [
    "/auth/authorize",
    "/auth/introspect",
    "/auth/register",
    "/auth/logout",
    "/auth/login",
    "/auth/consent",
    "/auth/apps",
]


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def client(tmp_path_factory):
    async with running(tmp_path_factory.mktemp("data"), auth="required") as made:
        keys.ensure(made.app.state.auth.store, 1_800_000_000)
        yield made


@pytest.mark.parametrize("path", OPEN)
async def test_scripts_of_any_origin_may_call_what_is_theirs_without_credentials(client, path):
    answer = await client.options(f"https://fhir.example.org{path}", headers=PREFLIGHT)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    answer = await client.post(f"https://fhir.example.org{path}", headers=ORIGIN | {"Cookie": "session=x"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("origin", ["https://app.example.org", "null"])
async def test_scripts_of_another_origin_may_not_call_the_rest(client, path, origin):
    for method in ("OPTIONS", "GET", "POST"):
        answer = await client.request(method, f"https://fhir.example.org{path}", headers=PREFLIGHT | {"Origin": origin})
        assert not [name for name in answer.headers if name.startswith("access-control-allow")]


async def test_what_is_not_there_is_not_found(client):
    assert (await client.get("https://fhir.example.org/auth/nothing")).status_code == 404
    assert (await client.get("https://fhir.example.org/auth/token")).status_code == 405


async def test_discovery_needs_no_token_and_the_issuer_is_the_base(client):
    found = (await client.get(".well-known/smart-configuration")).json()
    assert found["issuer"] == "https://fhir.example.org/fhir"
    assert (await client.get(".well-known/openid-configuration")).json()["issuer"] == found["issuer"]
    assert (await client.get(found["jwks_uri"])).json()["keys"]


async def test_without_access_control_there_is_no_authorization_server(tmp_path):
    async with running(tmp_path) as client:
        assert (await client.get("https://fhir.example.org/auth/token")).status_code == 404
        answer = await client.get(".well-known/smart-configuration")
        assert answer.status_code == 404
        assert answer.json()["resourceType"] == "OperationOutcome"
