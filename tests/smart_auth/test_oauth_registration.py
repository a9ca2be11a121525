"""Dynamic client registration: what an invited developer may register, and what nobody may raise by asking."""

import anyio
import pytest
from joserfc.jwk import ECKey

from smart_auth.invitations import invite
from tests.smart_auth.apps import BACK, SECRET, basic, ec_key, jwks

pytestmark = pytest.mark.anyio

APP = {"client_name": "Walk Diary", "redirect_uris": [BACK], "token_endpoint_auth_method": "none"}
KEYED = {
    "client_name": "Walk Diary",
    "redirect_uris": [BACK],
    "token_endpoint_auth_method": "private_key_jwt",
    "jwks": jwks(ec_key()),
}
SERVICE = {
    "client_name": "Nightly", "token_endpoint_auth_method": "private_key_jwt", "grant_types": ["client_credentials"],
    "jwks_uri": "https://keys.example.org/jwks", "scope": "system/Patient.rs",
}  # fmt: skip


async def register(world, metadata, token=None, **options):
    token = token or invite(world.store, options.pop("bound", ""), world.clock() + 600)
    return await world.http.post(
        "/auth/register", headers={"Authorization": f"Bearer {token}"}, **(options or {"json": metadata})
    )


async def test_a_public_app_is_registered_and_can_launch(world):
    answer = await register(world, APP)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert found["redirect_uris"] == [BACK]
    assert "client_secret" not in found
    code = await world.code(client_id=found["client_id"])
    assert (await world.exchange(code, client_id=found["client_id"])).status_code == 200


async def test_a_confidential_app_is_the_usual_kind_and_gets_its_secret_once(world):
    found = (await register(world, {"client_name": "Walk Diary", "redirect_uris": [BACK]})).json()
    assert found["token_endpoint_auth_method"] == "client_secret_basic"
    assert found["client_secret_expires_at"] == 0
    assert found["client_id_issued_at"] == world.clock()
    stored = world.store.client(found["client_id"])
    assert found["client_secret"] not in str(stored)
    code = await world.code(client_id=stored.id)
    answer = await world.exchange(code, basic(stored.id, found["client_secret"]), client_id=None)
    assert answer.status_code == 200


async def test_an_app_with_keys_and_a_service_are_registered(world):
    found = (await register(world, KEYED)).json()
    assert (found["token_endpoint_auth_method"], found["jwks"]) == ("private_key_jwt", KEYED["jwks"])
    code = await world.code(client_id=found["client_id"])
    proof = world.proof(world.assertion(found["client_id"]))
    assert (await world.exchange(code, client_id=None, **proof)).status_code == 200
    service = (await register(world, SERVICE, bound="system/*.rs")).json()
    assert service["grant_types"] == ["client_credentials"]
    assert world.store.client(service["client_id"]).kind == "backend"


async def test_nothing_is_raised_by_asking(world):
    raised = {
        "client_id": "app", "client_secret": "mine", "trusted": True, "introspect": True, "legacy_no_pkce": True, "role": "super-admin",
        "organization": "Organization/1", "access_seconds": 10**9, "software_statement": "x.y.z", "disabled": False,
    }  # fmt: skip
    found = (await register(world, APP | raised)).json()
    stored = world.store.client(found["client_id"])
    assert stored.id != "app"
    assert (stored.trusted, stored.introspect, stored.legacy_no_pkce) == (False, False, False)
    assert (stored.role, stored.organization, stored.access_seconds) == ("", "", 0)
    assert not raised.keys() - {"client_id"} & found.keys()


@pytest.mark.parametrize(
    ("bound", "asked", "registered"),
    [
        ("", None, ""),
        ("", "patient/*.rs openid", "patient/*.rs openid"),
        ("patient/*.rs openid", None, "patient/*.rs openid"),
        ("patient/*.rs openid", "patient/Observation.rs", "patient/Observation.rs"),
        ("patient/*.rs openid", "patient/*.cruds", None),
        ("patient/*.rs openid", "offline_access", None),
        ("", "system/*.rs", None),
        ("", "patient/*.sr", None),
    ],
)
async def test_the_invitation_bounds_the_scope(world, bound, asked, registered):
    answer = await register(world, APP | ({"scope": asked} if asked else {}), bound=bound)
    if registered is None:
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    else:
        assert world.store.client(answer.json()["client_id"]).scope == registered


BAD = [
    pytest.param({"client_name": None}, "invalid_client_metadata", id="no name"),
    pytest.param({"client_name": 7}, "invalid_client_metadata", id="a name that is a number"),
    pytest.param({"client_name": "x" * 101}, "invalid_client_metadata", id="a long name"),
    pytest.param({"client_name": "Walk\u202eyraiD"}, "invalid_client_metadata", id="a name that turns the text"),
    pytest.param({"client_name": "Walk\nDiary"}, "invalid_client_metadata", id="a name of two lines"),
    pytest.param({"client_name": "\uff21pp"}, "invalid_client_metadata", id="a name that looks like another app's"),
    pytest.param({"client_name": "SECRET-APP"}, "invalid_client_metadata", id="the id of another app as name"),
    pytest.param({"redirect_uris": None}, "invalid_redirect_uri", id="no redirect URI"),
    pytest.param({"redirect_uris": []}, "invalid_redirect_uri", id="an empty list"),
    pytest.param({"redirect_uris": BACK}, "invalid_client_metadata", id="no list"),
    pytest.param({"redirect_uris": ["https://*.example.org/"]}, "invalid_redirect_uri", id="wildcard"),
    pytest.param({"redirect_uris": ["http://app.example.org/"]}, "invalid_redirect_uri", id="plain http"),
    pytest.param({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri", id="javascript"),
    pytest.param({"redirect_uris": [f"{BACK}#x"]}, "invalid_redirect_uri", id="fragment"),
    pytest.param({"redirect_uris": [f"{BACK}/{n}" for n in range(21)]}, "invalid_redirect_uri", id="many"),
    pytest.param({"token_endpoint_auth_method": "client_secret_post"}, "invalid_client_metadata", id="secret by form"),
    pytest.param({"token_endpoint_auth_method": ["none"]}, "invalid_client_metadata", id="a list of methods"),
    pytest.param({"grant_types": ["client_credentials"]}, "invalid_client_metadata", id="a public service"),
    pytest.param({"grant_types": ["authorization_code", "password"]}, "invalid_client_metadata", id="password grant"),
    pytest.param({"response_types": ["token"]}, "invalid_client_metadata", id="implicit"),
    pytest.param({"jwks": jwks(ec_key())}, "invalid_client_metadata", id="keys of a public app"),
    pytest.param(
        {"initiate_login_uri": "http://app.example.org/launch"}, "invalid_client_metadata", id="launch over plain http"
    ),
]


@pytest.mark.parametrize(("changed", "error"), BAD)
async def test_metadata_is_refused(world, changed, error):
    metadata = {name: value for name, value in (APP | changed).items() if value is not None}
    answer = await register(world, metadata)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert len(world.store.clients()) == 4


KEYS = [
    pytest.param({}, id="no keys"),
    pytest.param({"jwks": {"keys": [ec_key().as_dict(private=True)]}}, id="a private key"),
    pytest.param({"jwks": jwks(ECKey.generate_key("P-256", {"kid": "1"}, private=True))}, id="another curve"),
    pytest.param({"jwks": {"keys": []}}, id="an empty set"),
    pytest.param({"jwks": "x"}, id="no set"),
    pytest.param({"jwks": jwks(ec_key()), "jwks_uri": "https://keys.example.org/"}, id="keys and a URL"),
    pytest.param({"jwks_uri": "http://keys.example.org/"}, id="a URL of plain http"),
    pytest.param({"jwks_uri": "https://localhost:3000/"}, id="a URL of this machine"),
    pytest.param({"jwks_uri": "http://127.0.0.1:3000/"}, id="an address of this machine"),
    pytest.param({"jwks_uri": ["https://keys.example.org/"]}, id="a list of URLs"),
]


@pytest.mark.parametrize("given", KEYS)
async def test_keys_are_refused(world, given):
    metadata = {name: value for name, value in KEYED.items() if name != "jwks"} | given
    answer = await register(world, metadata)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"{", b"[" * 50_000, b"\xff\xfe"])
async def test_what_is_no_object_is_refused(world, content):
    token = invite(world.store, "", world.clock() + 600)
    head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = await world.http.post("/auth/register", content=content, headers=head)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    assert (await register(world, APP, token)).status_code == 201


async def test_an_invitation_is_needed(world):
    expired = invite(world.store, "", world.clock() + 10)
    world.clock.now += 10
    access = (await world.service()).json()["access_token"]
    for head in (
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Bearer {expired}"},
        {"Authorization": f"Bearer {access}"},
        basic("secret-app", SECRET),
    ):
        answer = await world.http.post("/auth/register", json=APP, headers=head)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert len(world.store.clients()) == 4


async def test_an_invitation_registers_one_app(world):
    token, found = invite(world.store, "", world.clock() + 600), []

    async def bring(number):
        found.append((await register(world, APP | {"client_name": f"App {number}"}, token)).status_code)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(bring, number)
    assert sorted(found) == [201] + [401] * 9


async def test_an_app_of_a_patient_cannot_be_registered_as_a_service_with_their_scopes(world):
    answer = await register(world, SERVICE | {"scope": "patient/*.rs"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
