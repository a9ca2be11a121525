"""The token endpoint: codes, refresh tokens, client authentication, and what is answered."""

import base64
import re
from urllib.parse import quote

import anyio
import pytest

from resources.errors import FhirError
from smart_auth.model import hashed
from tests.smart_auth.apps import (
    BACK,
    BASE,
    SECRET,
    VERIFIER,
    basic,
    challenge,
    opened,
)

pytestmark = pytest.mark.anyio

DAY = 86400


# ---- what is answered


async def test_a_launch_ends_with_everything_the_app_needs(world):
    answer = await world.exchange(await world.code(nonce="n-1"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    found = answer.json()
    assert found["token_type"] == "Bearer"
    assert found["expires_in"] == 3600
    assert isinstance(found["expires_in"], int)
    assert found["scope"] == "launch/patient openid fhirUser offline_access patient/*.rs"
    assert found["patient"] == "p1"
    assert found["need_patient_banner"] is True
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", found["refresh_token"])
    principal = world.parts.tokens.verify(found["access_token"])
    assert (principal.user, principal.patient, principal.scope) == ("jane", "p1", found["scope"])
    claims = opened(found["id_token"])
    assert claims["iss"] == BASE
    assert claims["aud"] == "app"
    assert claims["sub"] == "jane"
    assert claims["nonce"] == "n-1"
    assert claims["fhirUser"] == f"{BASE}/Practitioner/d1"
    assert claims["auth_time"] == world.clock() - 10


async def test_without_openid_there_is_no_id_token_and_without_lasting_access_no_refresh_token(world):
    found = await world.tokens(scope="patient/*.rs launch/patient")
    assert "id_token" not in found
    assert "refresh_token" not in found


async def test_openid_without_fhir_user_does_not_tell_it(world):
    assert "fhirUser" not in opened((await world.tokens(scope="openid patient/*.rs"))["id_token"])


async def test_a_client_may_have_a_life_of_its_own_for_access_tokens(world):
    world.change_client("app", access_seconds=90)
    found = await world.tokens()
    assert found["expires_in"] == 90
    assert opened(found["access_token"])["exp"] == world.clock() + 90


# ---- codes


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"code": "BAD_CODE"}, id="an unknown code"),
        pytest.param({"redirect_uri": "https://app.example.org/other"}, id="another redirect URI"),
        pytest.param({"redirect_uri": None}, id="no redirect URI"),
        pytest.param({"code_verifier": None}, id="no verifier"),
        pytest.param({"code_verifier": ""}, id="an empty verifier"),
        pytest.param({"code_verifier": "w" * 43}, id="another verifier"),
        pytest.param({"code_verifier": challenge()}, id="the challenge as verifier"),
        pytest.param({"code_verifier": VERIFIER[:42]}, id="a short verifier"),
        pytest.param({"code_verifier": "v" * 129}, id="a long verifier"),
        pytest.param({"code": None}, id="no code"),
    ],
)
async def test_a_code_is_exchanged_as_it_was_asked_for_alone(world, changed):
    answer = await world.exchange(await world.code(), **changed)
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_grant", "invalid_request")
    assert answer.headers["cache-control"] == "no-store"


async def test_a_code_spent_in_vain_leaves_no_grant(world):
    code = await world.code()
    assert (await world.exchange(code, code_verifier="w" * 43)).status_code == 400
    assert world.store.grants("jane") == []
    assert (await world.exchange(code)).status_code == 400


async def test_a_code_of_another_app_is_refused(world):
    code = await world.code()
    answer = await world.exchange(code, basic("secret-app", SECRET), client_id=None)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_code_is_good_for_a_minute(world):
    code = await world.code()
    world.clock.now += 59
    assert (await world.exchange(code)).status_code == 200
    late = await world.code()
    world.clock.now += 60
    assert (await world.exchange(late)).json()["error"] == "invalid_grant"


async def test_a_code_used_again_revokes_what_was_given_for_it(world):
    code = await world.code()
    found = (await world.exchange(code)).json()
    assert world.is_good(found["access_token"])
    assert (await world.exchange(code)).json()["error"] == "invalid_grant"
    assert not world.is_good(found["access_token"])
    assert (await world.refresh(found["refresh_token"])).json()["error"] == "invalid_grant"


async def test_of_fifty_that_exchange_a_code_one_succeeds(world):
    code = await world.code()
    answers = []

    async def exchange():
        answers.append(await world.exchange(code))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(exchange)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49


async def test_a_person_disabled_meanwhile_gives_nothing(world):
    code = await world.code()
    world.change_user("jane", disabled=True)
    assert (await world.exchange(code)).json()["error"] == "invalid_grant"


async def test_a_legacy_client_exchanges_without_a_verifier_and_not_with_one(world):
    world.change_client("secret-app", legacy_no_pkce=True)
    none = {"client_id": "secret-app", "code_challenge": None, "code_challenge_method": None}
    head, form = basic("secret-app", SECRET), {"client_id": None}
    assert (await world.exchange(await world.code(**none), head, **form, code_verifier=None)).status_code == 200
    assert (await world.exchange(await world.code(**none), head, **form)).status_code == 400
    kept = await world.code(client_id="secret-app")
    assert (await world.exchange(kept, head, **form, code_verifier=None)).status_code == 400


# ---- refresh


async def test_refresh_gives_all_of_it_again(world):
    first = await world.tokens(nonce="n-1")
    answer = await world.refresh(first["refresh_token"], client_id="app")
    found = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert found["scope"] == first["scope"]
    assert found["patient"] == "p1"
    assert found["refresh_token"] != first["refresh_token"]
    assert world.parts.tokens.verify(found["access_token"]).patient == "p1"
    claims = opened(found["id_token"])
    assert claims["sub"] == "jane"
    assert "nonce" not in claims


async def test_a_public_client_may_leave_out_its_id(world):
    assert (await world.refresh((await world.tokens())["refresh_token"])).status_code == 200


async def test_a_client_id_that_does_not_match_is_invalid_grant(world):
    world.client("other", "public")
    answer = await world.refresh((await world.tokens())["refresh_token"], client_id="other")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_confidential_client_does_not_refresh_by_its_token_alone(world):
    code = await world.code(client_id="secret-app")
    first = (await world.exchange(code, basic("secret-app", SECRET), client_id=None)).json()
    for form in ({}, {"client_id": "secret-app"}):
        answer = await world.refresh(first["refresh_token"], **form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")
    assert (await world.refresh(first["refresh_token"], basic("secret-app", SECRET))).status_code == 200


async def test_a_random_refresh_token_is_invalid_grant(world):
    for form in ({}, {"client_id": "app"}):
        answer = await world.refresh("x" * 43, **form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


SUBSETS = [
    pytest.param("patient/*.rs", True, id="a part"),
    pytest.param("offline_access openid", True, id="words in another order"),
    pytest.param("patient/Observation.rs", False, id="narrower than a part"),
    pytest.param("patient/*.r patient/*.s", False, id="the same in other letters"),
    pytest.param("patient/*.read", False, id="the same as v1"),
    pytest.param("patient/*.cruds", False, id="wider"),
    pytest.param("user/*.rs", False, id="another context"),
]


@pytest.mark.parametrize(("scope", "good"), SUBSETS)
async def test_a_refreshed_scope_is_a_literal_part(world, scope, good):
    first = await world.tokens()
    answer = await world.refresh(first["refresh_token"], scope=scope)
    if not good:
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
        assert (await world.refresh(first["refresh_token"])).status_code == 200
        return
    found = answer.json()
    assert found["scope"] == scope
    assert world.parts.tokens.verify(found["access_token"]).scope == scope
    assert ("id_token" in found) == ("openid" in scope)
    assert (await world.refresh(found["refresh_token"])).json()["scope"] == first["scope"]


async def test_the_last_token_used_again_within_a_minute_gives_its_successor(world):
    first = (await world.tokens())["refresh_token"]
    second = (await world.refresh(first)).json()["refresh_token"]
    world.clock.now += 59
    assert (await world.refresh(first)).json()["refresh_token"] == second
    assert (await world.refresh(second)).status_code == 200


async def test_a_token_used_again_later_revokes_the_family(world):
    first = await world.tokens()
    second = (await world.refresh(first["refresh_token"])).json()
    world.clock.now += 61
    assert (await world.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await world.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
    assert not world.is_good(second["access_token"])
    assert not world.is_good(first["access_token"])


async def test_a_token_used_again_after_its_successor_was_used_revokes_the_family(world):
    first = (await world.tokens())["refresh_token"]
    second = (await world.refresh(first)).json()["refresh_token"]
    third = (await world.refresh(second)).json()["refresh_token"]
    assert (await world.refresh(first)).json()["error"] == "invalid_grant"
    assert (await world.refresh(third)).json()["error"] == "invalid_grant"


async def test_of_fifty_that_refresh_at_once_all_get_the_same_successor(world):
    first = (await world.tokens())["refresh_token"]
    found = []

    async def refresh():
        found.append((await world.refresh(first)).json()["refresh_token"])

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(refresh)
    assert len(set(found)) == 1
    assert (await world.refresh(found[0])).status_code == 200


async def test_offline_access_lasts_as_long_as_it_is_used(world):
    token = (await world.tokens())["refresh_token"]
    for _ in range(3):
        world.clock.now += 89 * DAY
        token = (await world.refresh(token)).json()["refresh_token"]
    world.clock.now += 90 * DAY
    assert (await world.refresh(token)).json()["error"] == "invalid_grant"


async def test_online_access_ends_with_the_session_however_much_it_is_used(world):
    scope = "launch/patient openid online_access patient/*.rs"
    token = (await world.tokens(scope=scope))["refresh_token"]
    for _ in range(11):
        world.clock.now += 3600
        token = (await world.refresh(token)).json()["refresh_token"]
    world.clock.now += 3600
    assert (await world.refresh(token)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda world: world.change_user("jane", disabled=True), id="the person is disabled"),
        pytest.param(lambda world: world.change_client("app", disabled=True), id="the client is disabled"),
        pytest.param(lambda world: world.store.revoke([world.store.grants("jane")[0].id]), id="the grant is revoked"),
    ],
)
async def test_refresh_ends_when(world, end):
    token = (await world.tokens())["refresh_token"]
    end(world)
    answer = await world.refresh(token, client_id="app")
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_grant", "invalid_client")


async def test_what_the_person_may_now_is_what_a_refreshed_token_may(world):
    first = await world.tokens()
    world.change_user("jane", roles=("nurse",))
    found = (await world.refresh(first["refresh_token"])).json()
    assert world.parts.tokens.verify(found["access_token"]).roles == ("nurse",)


# ---- requests that are no good


MALFORMED = [
    pytest.param({}, 400, "invalid_request", id="nothing"),
    pytest.param({"grant_type": "not_a_grant_type"}, 400, "unsupported_grant_type", id="unknown grant type"),
    pytest.param({"grant_type": 'päss"wörd'}, 400, "unsupported_grant_type", id="grant type beyond ASCII"),
    pytest.param({"grant_type": "password", "username": "jane", "password": "x"}, 400, "unsupported_grant_type", id="password"),
    pytest.param({"grant_type": "implicit"}, 400, "unsupported_grant_type", id="implicit"),
    pytest.param({"grant_type": "client_credentials", "client_id": "app", "scope": "system/*.rs"}, 400, "unauthorized_client", id="an app as a service"),
    pytest.param({"grant_type": "authorization_code", "client_id": "nobody", "code": "x"}, 400, "invalid_client", id="unknown client"),
    pytest.param({"grant_type": "authorization_code", "client_id": "secret-app", "code": "x"}, 400, "invalid_client", id="a confidential client without its secret"),
    pytest.param({"grant_type": "authorization_code", "client_id": "service", "code": "x"}, 400, "invalid_client", id="a service without its key"),
    pytest.param({"grant_type": "authorization_code", "client_id": "secret-app", "client_secret": SECRET, "code": "x"}, 400, "invalid_client", id="secret in the form"),
    pytest.param({"grant_type": "authorization_code", "client_id": "a\0b", "code": "x"}, 400, "invalid_request", id="NUL"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "status", "error"), MALFORMED)
async def test_a_request_that_is_no_good_says_why(world, form, status, error):
    answer = await world.token(**form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.json().get("error_description", "").isascii()


async def test_a_parameter_given_twice_is_refused(world):
    body = f"grant_type=authorization_code&client_id=app&code={await world.code()}&redirect_uri={quote(BACK)}&code_verifier={VERIFIER}"
    head = {"Content-Type": "application/x-www-form-urlencoded"}
    twice = await world.http.post("/auth/token", content=f"{body}&client_id=app", headers=head)
    assert (twice.status_code, twice.json()["error"]) == (400, "invalid_request")
    assert (await world.http.post("/auth/token", content=body, headers=head)).status_code == 200


async def test_nothing_is_read_from_the_url(world):
    answer = await world.http.post(f"/auth/token?client_secret={SECRET}", data={"grant_type": "refresh_token"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert SECRET not in answer.text


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
async def test_the_body_is_a_form(world, content_type):
    answer = await world.http.post("/auth/token", content=b'{"grant_type":"x"}', headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_body_without_end_is_refused(world):
    answer = await world.token(grant_type="refresh_token", refresh_token="x" * 70_000)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_tokens_are_posted_for(world):
    assert (await world.http.get("/auth/token")).status_code == 405


# ---- client authentication by secret


def encoded(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode('latin-1')).decode()}"}


BASIC = [
    pytest.param(encoded(f"secret-app:{SECRET}"), True, id="as it is"),
    pytest.param({"Authorization": encoded(f"secret-app:{SECRET}")["Authorization"].replace("Basic", "bAsIc")}, True, id="scheme in any case"),
    pytest.param(encoded(f"secret%2Dapp:{quote(SECRET, safe='')}"), True, id="percent-encoded"),
    pytest.param(encoded("secret-app:wrong"), False, id="wrong secret"),
    pytest.param(encoded("secret-app:"), False, id="empty secret"),
    pytest.param(encoded(f"secret-app:{SECRET}:"), False, id="a colon more"),
    pytest.param(encoded(f"secret-app:{SECRET}\0"), False, id="NUL"),
    pytest.param(encoded(f"secret-app:{SECRET}%00"), False, id="encoded NUL"),
    pytest.param(encoded(f"secret-app{SECRET}"), False, id="no colon"),
    pytest.param(encoded("secret-app:\xff\xfe"), False, id="no UTF-8"),
    pytest.param(encoded("nobody:x"), False, id="unknown client"),
    pytest.param(encoded("app:"), False, id="a public client"),
    pytest.param(encoded("service:x"), False, id="a service"),
    pytest.param({"Authorization": "Basic %%%"}, False, id="no base64"),
    pytest.param({"Authorization": "Basic"}, False, id="nothing"),
    pytest.param({"Authorization": "Bearer abc"}, False, id="another scheme"),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "good"), BASIC)
async def test_a_symmetric_client_shows_its_secret_by_basic(world, headers, good):
    code = await world.code(client_id="secret-app")
    answer = await world.exchange(code, headers, client_id=None)
    if good:
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith('Basic realm="fhir"')
    assert (await world.exchange(code, basic("secret-app", SECRET), client_id=None)).status_code == 200


async def test_unknown_disabled_and_wrong_look_alike(world):
    world.client("off", "symmetric", secret=hashed(SECRET), disabled=True)
    answers = [
        await world.token(headers, grant_type="refresh_token", refresh_token="x")
        for headers in (basic("nobody", "x"), basic("off", SECRET), basic("secret-app", "wrong"))
    ]
    assert len({(answer.status_code, answer.text, answer.headers["www-authenticate"]) for answer in answers}) == 1


@pytest.mark.parametrize(("client_id", "good"), [("secret-app", True), ("app", False), ("nobody", False)])
async def test_a_client_id_beside_basic_says_the_same(world, client_id, good):
    code = await world.code(client_id="secret-app")
    answer = await world.exchange(code, basic("secret-app", SECRET), client_id=client_id)
    assert answer.status_code == (200 if good else 401)


async def test_two_client_authentications_are_refused(world):
    both = await world.token(
        basic("secret-app", SECRET),
        grant_type="client_credentials",
        scope="system/*.rs",
        **world.proof(world.assertion()),
    )
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")
    twice = await world.http.post(
        "/auth/token",
        data={"grant_type": "refresh_token", "refresh_token": "x"},
        headers=[("Authorization", basic("secret-app", SECRET)["Authorization"])] * 2,
    )
    assert (twice.status_code, twice.json()["error"]) == (400, "invalid_request")


async def test_an_asymmetric_client_exchanges_with_its_assertion(world):
    code = await world.code(client_id="key-app")
    answer = await world.exchange(code, client_id=None, **world.proof(world.assertion("key-app")))
    assert answer.status_code == 200
    assert "id_token" in answer.json()
    again = await world.refresh(answer.json()["refresh_token"], **world.proof(world.assertion("key-app")))
    assert again.status_code == 200


# ---- services


async def test_a_service_gets_a_short_token_and_no_more(world):
    answer = await world.service()
    assert answer.status_code == 200
    found = answer.json()
    assert found.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (found["token_type"], found["expires_in"], found["scope"]) == ("Bearer", 300, "system/*.rs")
    principal = world.parts.tokens.verify(found["access_token"])
    assert (principal.client, principal.user) == ("service", "")


async def test_a_service_works_with_the_role_and_organization_of_its_client(world):
    world.change_client("service", role="integration", organization="Organization/o1")
    principal = world.parts.tokens.verify((await world.service()).json()["access_token"])
    assert (principal.roles, principal.organization) == (("integration",), "Organization/o1")


@pytest.mark.parametrize(
    ("scope", "good"),
    [
        ("system/*.rs", True),
        ("system/Patient.rs system/Group.read", True),
        ("system/Patient.rs?active=true", True),
        ("system/*.cruds", False),
        ("system/Patient.write", False),
        ("patient/*.rs", False),
        ("user/*.rs", False),
        ("system/*.rs openid", False),
        ("system/*.rs offline_access", False),
        ("system/*.rs launch", False),
        ("system/*.sr", False),
        (None, False),
    ],
)
async def test_a_service_gets_what_it_is_registered_for(world, scope, good):
    answer = await world.service(scope=scope)
    assert (answer.status_code, answer.json().get("error")) == ((200, None) if good else (400, "invalid_scope"))


async def test_a_service_has_no_other_grant_type(world):
    for form in (
        {"grant_type": "authorization_code", "code": "x"},
        {"grant_type": "refresh_token", "refresh_token": "x"},
    ):
        answer = await world.token(**form, **world.proof(world.assertion()))
        assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


async def test_apps_with_keys_are_no_services(world):
    answer = await world.service(world.assertion("key-app"))
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


async def test_the_server_says_when_its_store_cannot_be_used(world, monkeypatch):
    def broken(_store, _token):
        raise FhirError(503, "transient", "the disk is full", headers={"Retry-After": "1"})

    monkeypatch.setattr(type(world.store), "refresh", broken)
    answer = await world.refresh("x")
    assert answer.status_code == 503
    assert answer.json() == {"error": "temporarily_unavailable"}


# ---- what the audit is told


async def test_the_audit_is_told_who_asked_for_what_and_how_it_ended(world):
    first = (await world.tokens())["refresh_token"]
    assert world.audited[-1] == {
        "client": "app", "user": "jane", "keys": "Patient/p1", "note": "authorization_code"
    }  # fmt: skip
    await world.refresh(first)
    assert world.audited[-1]["note"] == "refresh_token"
    await world.service()
    assert world.audited[-1] == {"client": "service", "note": "client_credentials"}
    await world.token(basic("secret-app", "wrong"), grant_type="refresh_token", refresh_token="x")
    assert world.audited[-1] == {"note": "invalid_client"}
    await world.exchange("BAD_CODE")
    assert world.audited[-1] == {"client": "app", "note": "invalid_grant"}
    await world.token()
    assert world.audited[-1] == {"note": "invalid_request"}
    assert not any(first in text or SECRET in text for told in world.audited if told for text in told.values())
