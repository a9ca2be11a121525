"""Attacks on registration: uninvited, with private keys, with wide redirects, with the names and rights of others (32)."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.ehr.apps import App
from tests.ehr.house import BACK

ENTITLED = {
    "trusted", "introspect", "legacy_no_pkce", "legacyNoPkce", "role", "roles", "organization", "access_seconds", "access_ttl", "disabled",
}  # fmt: skip


def invited(ehr, scope="") -> str:
    """An initial access token."""
    return ehr.cli("client", "invite", *(("--scope", scope) if scope else ()))["initialAccessToken"]


def register(ehr, token, **metadata):
    """The answer to a registration; None leaves a member out."""
    usual = {"client_name": f"Registered {id(metadata)}", "redirect_uris": [BACK], "token_endpoint_auth_method": "none"}
    sent = {name: value for name, value in (usual | metadata).items() if value is not None}
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return ehr.http.post(ehr.discovery["registration_endpoint"], json=sent, headers=headers)


@pytest.fixture(scope="module")
def token(ehr):
    """An initial access token that is not used up, for registrations that must fail."""
    return invited(ehr, "launch/patient openid patient/Patient.rs")


def test_attack_32_only_who_was_invited_registers_and_once(ehr):
    for guess in (
        None,
        "x" * 43,
        "a.b.c",
        ehr.token("system/*.cruds"),
        ehr.apps["backend"].service().json()["access_token"],
    ):
        assert register(ehr, guess).status_code == 401
    token = invited(ehr)
    first = register(ehr, token)
    assert first.status_code == 201, first.text
    assert register(ehr, token).status_code == 401
    assert first.headers["cache-control"] == "no-store"


@pytest.mark.serial
def test_attack_32_of_many_parallel_registrations_one_succeeds(ehr):
    token = invited(ehr)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: register(ehr, token, client_name=f"Racing {number}"), range(20)))
    assert sorted(answer.status_code for answer in answers) == [201, *[401] * 19]
    names = [row["name"] for row in ehr.cli("client", "list")["clients"]]
    assert sum(name.startswith("Racing") for name in names) == 1


@pytest.mark.parametrize(
    "uri",
    [
        "https://*.example.org/back", "https://app.example.org/*", "*", "https://app.example.org/back#x", "http://app.example.org/back",
        "https://user@app.example.org/back", "https://app.example.org@evil.example/", "javascript:alert(1)", "data:text/html,x", "file:///x",
        "https:///back", "//app.example.org/back", "/back", "", "https://app.example.org/a/../back", "https://app.example.org/%2e%2e/back",
        "https://app.example.org/ back", "myapp:/back", "HTTPS://app.example.org/back", "https://app.example.org/\r\nx: y",
    ],
)  # fmt: skip
def test_attack_32_redirect_uris_are_narrow(ehr, token, uri):
    answer = register(ehr, token, redirect_uris=[uri])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_redirect_uri")


@pytest.mark.parametrize(
    "uris",
    [[], None, "https://app.example.org/back", [1], [[BACK]], {"0": BACK}, [BACK] + [f"{BACK}{n}" for n in range(50)]],
)
def test_attack_32_redirect_uris_are_a_short_list(ehr, token, uris):
    assert register(ehr, token, redirect_uris=uris).status_code == 400


def test_attack_32_private_keys_are_not_taken(ehr, token):
    method = {"token_endpoint_auth_method": "private_key_jwt"}
    for key in (ehr.keys["backend"], ehr.apps["backend"].key):
        answer = register(ehr, token, jwks={"keys": [key.as_dict(private=True)]}, **method)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    for keys in (
        {"keys": [{"kty": "oct", "kid": "x", "k": "AQAB"}]},
        {"keys": []},
        {"keys": "x"},
        [],
        "x",
        None,
        {"keys": [{"kid": "x"}]},
    ):
        assert register(ehr, token, jwks=keys, **method).status_code == 400, keys


@pytest.mark.parametrize(
    "url",
    ["http://keys.example.org/", "https://localhost/", "https://127.0.0.1/", "https://[::1]/", "file:///etc/passwd", "https://u@x.example/", 1, ""],
)  # fmt: skip
def test_attack_32_a_key_url_inside_is_not_taken(ehr, token, url):
    answer = register(ehr, token, jwks_uri=url, token_endpoint_auth_method="private_key_jwt")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")


@pytest.mark.parametrize(
    "metadata",
    [
        {"grant_types": ["client_credentials"]}, {"grant_types": ["implicit"]}, {"grant_types": ["password"]}, {"response_types": ["token"]},
        {"grant_types": ["authorization_code", "client_credentials"], "token_endpoint_auth_method": "client_secret_basic"},
        {"grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"]}, {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_method": "tls_client_auth"}, {"token_endpoint_auth_method": ["none"]},
        {"scope": "patient/*.rs"}, {"scope": "launch/patient patient/Patient.cruds"}, {"scope": "user/Patient.rs"}, {"scope": "system/*.cruds"},
        {"scope": "offline_access"}, {"scope": "nonsense"}, {"scope": ["patient/Patient.rs"]},
    ],
    ids=str,
)  # fmt: skip
def test_attack_32_nobody_registers_more_than_was_invited(ehr, token, metadata):
    answer = register(ehr, token, **metadata)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")


SERVICE = {
    "grant_types": ["client_credentials"],
    "token_endpoint_auth_method": "private_key_jwt",
    "redirect_uris": None,
}


def test_attack_32_a_service_has_the_scope_that_it_was_invited_for(ehr):
    keys = {"jwks": {"keys": [ehr.apps["backend"].key.as_dict(private=False)]}}
    for scope in (None, "system/*.cruds", "system/Patient.rs"):
        answer = register(ehr, invited(ehr), scope=scope, **SERVICE, **keys)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    bounded = invited(ehr, "system/Patient.rs")
    assert register(ehr, bounded, scope="system/*.rs", **SERVICE, **keys).status_code == 400
    told = register(ehr, bounded, client_name="Invited service", **SERVICE, **keys).json()
    assert told["scope"] == "system/Patient.rs"
    app = App(ehr, told["client_id"], "backend", "", key=ehr.apps["backend"].key)
    assert app.service("system/*.cruds").json()["error"] == "invalid_scope"
    assert app.service("system/Patient.rs").status_code == 200


def test_attack_32_nobody_gives_an_app_rights_of_its_own(ehr):
    metadata = dict.fromkeys(ENTITLED, True) | {
        "role": "super-admin",
        "client_id": "public",
        "client_secret": "chosen",
        "software_statement": "x.y.z",
    }
    answer = register(ehr, invited(ehr, "openid patient/Patient.rs launch/patient"), **metadata)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["client_id"] != "public"
    assert set(told["scope"].split()) == {"openid", "patient/Patient.rs", "launch/patient"}
    row = next(row for row in ehr.cli("client", "list")["clients"] if row["clientId"] == told["client_id"])
    assert not any(
        row.get(name) for name in ("trusted", "introspect", "legacyNoPkce", "role", "organization", "disabled")
    ), row


@pytest.mark.parametrize(
    "name",
    [
        "App public", "app PUBLIC", " App public", "App  public", "\uff21pp public", "App\u00a0public", "App\u200bpublic", "App \u202epublic",
        "\u0410pp public", "App publi\u0441", "\u0391pp public", "\x1b[31mApp", "", " ", "x" * 101, None, 1, ["App"],
    ],
)  # fmt: skip
def test_attack_32_an_app_does_not_take_the_name_of_another(ehr, token, name):
    answer = register(ehr, token, client_name=name)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")


@pytest.mark.parametrize("name", ["Κλινική", "Больница", "病院アプリ", "Größe 2", "한국 App", "Mein Gerät №5"])
def test_attack_32_names_of_all_languages_are_taken(ehr, name):
    assert register(ehr, invited(ehr), client_name=name).status_code == 201


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"null", b"1", b"[" * 60_000, b'{"client_name": "\xff"}', b'{"a": NaN}', b" " * 100_000]
)
def test_attack_32_a_body_that_is_no_metadata_is_refused(ehr, token, body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = ehr.http.post(ehr.discovery["registration_endpoint"], content=body, headers=headers)
    assert answer.status_code in (400, 413)
    assert "error" in answer.json()


def test_attack_32_a_registered_app_is_held_to_its_registration(ehr):
    told = register(ehr, invited(ehr, "launch/patient patient/Patient.rs"), client_name="Held").json()
    parameters = ehr.apps["public"].parameters(client_id=told["client_id"], scope="launch/patient patient/*.rs")
    answer = ehr.http.get(ehr.discovery["authorization_endpoint"], params=parameters)
    assert "error=invalid_scope" in answer.headers["location"]
    with_secret = register(
        ehr, invited(ehr), client_name="Secretive", token_endpoint_auth_method="client_secret_basic"
    ).json()
    assert len(with_secret["client_secret"]) >= 43
    assert with_secret["client_secret"] not in json.dumps(ehr.cli("client", "list"))
