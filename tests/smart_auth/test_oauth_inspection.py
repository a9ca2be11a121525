"""Introspection, revocation, userinfo and signing out."""

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from smart_auth import sessions
from smart_auth.model import Principal, hashed
from tests.smart_auth.apps import BACK, BASE, DOCTOR, PATIENT, PUBLIC, SECRET, basic, opened

pytestmark = pytest.mark.anyio

INSPECTOR = ("inspector", SECRET)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def inspected(world):
    """A world with a client that may introspect every token."""
    world.client("inspector", "symmetric", secret=hashed(SECRET), introspect=True)
    return world


async def introspect(world, token, headers=None, **form):
    return await world.http.post(
        "/auth/introspect", data={"token": token} | form, headers=headers if headers is not None else basic(*INSPECTOR)
    )


async def revoke(world, token, headers=None, **form):
    usual = {} if headers else {"client_id": "app"}
    return await world.http.post("/auth/revoke", data={"token": token} | usual | form, headers=headers or {})


# ---- introspection


async def test_a_good_token_is_told_with_its_context(inspected):
    world = inspected
    launch = world.launched(patient="p1", encounter="e1")
    found = await world.tokens(launch=launch, scope="launch openid fhirUser patient/*.rs")
    answer = await introspect(world, found["access_token"], token_type_hint="access_token", more="ignored")
    assert answer.status_code == 200
    told = answer.json()
    assert told["active"] is True
    assert told["client_id"] == "app"
    assert told["scope"] == found["scope"]
    assert told["exp"] == world.clock() + 3600
    assert (told["patient"], told["encounter"]) == ("p1", "e1")
    claims = opened(found["id_token"])
    assert (told["iss"], told["sub"], told["fhirUser"]) == (claims["iss"], claims["sub"], claims["fhirUser"])
    assert answer.headers["cache-control"] == "no-store"


async def test_a_token_of_a_service_is_told(inspected):
    told = (await introspect(inspected, (await inspected.service()).json()["access_token"])).json()
    assert told["active"] is True
    assert told["sub"] == "service"
    assert "patient" not in told


async def test_a_refresh_token_is_told_until_it_was_used(inspected):
    world = inspected
    token = (await world.tokens())["refresh_token"]
    told = (await introspect(world, token)).json()
    assert told["active"] is True
    assert told["exp"] == world.clock() + 90 * 86400
    await world.refresh(token)
    assert (await introspect(world, token)).json() == {"active": False}


async def test_what_is_no_good_token_is_inactive_and_nothing_else(inspected):
    world = inspected
    found = await world.tokens()
    other = await world.tokens()
    world.store.revoke([world.parts.tokens.verify(other["access_token"]).grant])
    world.clock.now += 1
    bad = [
        "junk", "a.b.c", "é", found["id_token"], await world.code(), world.launched(), other["access_token"], other["refresh_token"],
        found["access_token"][:-4] + "AAAA",
    ]  # fmt: skip
    for token in bad:
        answer = await introspect(world, token)
        assert (answer.status_code, answer.json()) == (200, {"active": False}), token
    world.clock.now += 3600
    assert (await introspect(world, found["access_token"])).json() == {"active": False}


async def test_introspection_needs_client_authentication(inspected):
    token = (await inspected.tokens())["access_token"]
    for headers, form in (
        ({}, {}),
        ({}, {"client_id": "app"}),
        (basic("inspector", "wrong"), {}),
        (bearer("junk"), {}),
        (bearer(""), {}),
    ):
        answer = await introspect(inspected, token, headers, **form)
        assert answer.status_code in (400, 401)
        assert answer.json()["error"] in ("invalid_client", "invalid_token")
        assert "active" not in answer.json()


async def test_an_app_sees_its_own_tokens_alone(inspected):
    world = inspected
    code = await world.code(client_id="secret-app")
    own = (await world.exchange(code, basic("secret-app", SECRET), client_id=None)).json()
    other = await world.tokens()
    for headers in (basic("secret-app", SECRET), bearer(own["access_token"])):
        assert (await introspect(world, own["access_token"], headers)).json()["active"] is True
        for token in (other["access_token"], other["refresh_token"]):
            assert (await introspect(world, token, headers)).json() == {"active": False}


async def test_an_access_token_of_a_client_that_may_introspect_is_enough(inspected):
    world = inspected
    world.change_client("service", introspect=True)
    head = bearer((await world.service()).json()["access_token"])
    assert (await introspect(world, (await world.tokens())["access_token"], head)).json()["client_id"] == "app"


async def test_a_token_is_needed(inspected):
    answer = await inspected.http.post("/auth/introspect", data={"x": "1"}, headers=basic(*INSPECTOR))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


# ---- revocation


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", [{}, {"token_type_hint": "refresh_token"}, {"token_type_hint": "unknown"}])
async def test_revoking_a_token_ends_all_of_its_grant(world, which, hint):
    found = await world.tokens()
    second = (await world.refresh(found["refresh_token"])).json()
    answer = await revoke(world, second[which], **hint)
    assert answer.status_code == 200
    assert not world.is_good(found["access_token"])
    assert not world.is_good(second["access_token"])
    assert (await world.refresh(second["refresh_token"])).status_code == 400


async def test_other_grants_of_the_person_are_left_alone(world):
    kept, gone = await world.tokens(), await world.tokens()
    await revoke(world, gone["refresh_token"])
    assert world.is_good(kept["access_token"])


async def test_a_token_that_is_no_good_is_no_error(world):
    assert (await revoke(world, "junk")).status_code == 200
    found = await world.tokens()
    assert [(await revoke(world, found["refresh_token"])).status_code for _ in range(2)] == [200, 200]


async def test_an_app_revokes_its_own_tokens_alone(world):
    found = await world.tokens()
    for token in (found["access_token"], found["refresh_token"]):
        answer = await revoke(world, token, basic("secret-app", SECRET))
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert world.is_good(found["access_token"])


async def test_revocation_needs_to_know_the_client(world):
    found = await world.tokens()
    for form in ({"client_id": "nobody"}, {"client_id": "secret-app"}, {"client_id": ""}):
        answer = await revoke(world, found["access_token"], **form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


# ---- userinfo


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_userinfo_tells_what_the_id_token_tells(world, method):
    found = await world.tokens()
    answer = await world.http.request(method, "/auth/userinfo", headers=bearer(found["access_token"]))
    assert answer.status_code == 200
    assert answer.json() == {"sub": "jane", "fhirUser": f"{BASE}/Practitioner/d1"}


async def test_userinfo_tells_the_resource_only_when_that_was_granted(world):
    found = await world.tokens(scope="openid patient/*.rs")
    assert (await world.http.get("/auth/userinfo", headers=bearer(found["access_token"]))).json() == {"sub": "jane"}


async def test_userinfo_is_for_people_and_openid(world):
    service = (await world.service()).json()["access_token"]
    without = (await world.tokens(scope="patient/*.rs"))["access_token"]
    for token in (service, without):
        answer = await world.http.get("/auth/userinfo", headers=bearer(token))
        assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")


async def test_userinfo_takes_an_access_token_in_the_header_alone(world):
    found = await world.tokens()
    good = found["access_token"]
    bad = [
        ({}, {}),
        (bearer("junk"), {}),
        (bearer(found["id_token"]), {}),
        (bearer(found["refresh_token"]), {}),
        (basic("app", good), {}),
    ]
    for headers, form in [*bad, ({}, {"access_token": good})]:
        answer = await world.http.post("/auth/userinfo", headers=headers, data=form)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('Bearer realm="fhir", error="invalid_token"')
    assert (await world.http.get(f"/auth/userinfo?access_token={good}")).status_code == 400


async def test_a_token_of_the_operator_sees_all_tokens(world):
    found = await world.tokens()
    grant = world.parts.tokens.verify(found["access_token"]).grant
    token = world.parts.tokens.access(Principal("op", "", "system/*.rs", grant=grant, operator=True), 60)
    assert (await introspect(world, found["access_token"], bearer(token))).json()["active"] is True


# ---- signing out


async def signed_in(world, user=DOCTOR):
    """The cookie of a session."""
    cookie, _ = sessions.begin(world.parts, user, "Firefox on Linux", "")
    return {"Cookie": f"{sessions.cookie_name(world.parts.public, 'session')}={cookie}"}


async def logout(world, headers, **parameters):
    return await world.http.get("/auth/logout", params=parameters, headers=headers)


async def test_an_app_signs_out_the_person_its_id_token_names(world):
    head, found = await signed_in(world), await world.tokens()
    answer = await logout(
        world, head, id_token_hint=found["id_token"], post_logout_redirect_uri=BACK, client_id="app", state="a b"
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BACK}?state=a%20b")
    assert 'session=""' in answer.headers["set-cookie"]
    assert world.store.sessions("jane") == []


async def test_an_expired_id_token_still_tells_who_is_meant(world):
    found = await world.tokens()
    world.clock.now += 7200
    head = await signed_in(world)
    assert (await logout(world, head, id_token_hint=found["id_token"])).headers["location"] == f"{PUBLIC}/auth/login"
    assert world.store.sessions("jane") == []


async def test_access_that_was_given_for_as_long_as_one_is_signed_in_ends(world):
    scope = "openid launch/patient online_access patient/*.rs"
    head = await signed_in(world)
    ((_, session),) = world.store.sessions("jane")
    world.clock.now += 10  # the harness approves as somebody who signed in ten seconds ago
    assert session.auth_time == world.clock() - 10
    online, offline = await world.tokens(scope=scope), await world.tokens()
    world.clock.now += 5
    later = await world.tokens(scope=scope)
    await logout(world, head, id_token_hint=offline["id_token"])
    assert (await world.refresh(online["refresh_token"])).status_code == 400
    assert (await world.refresh(offline["refresh_token"])).status_code == 200
    assert (await world.refresh(later["refresh_token"])).status_code == 200


async def test_a_link_alone_signs_nobody_out(world):
    head = await signed_in(world)
    other = (await world.tokens(PATIENT, patient="p1"))["id_token"]
    found = await world.tokens()
    stranger = RSAKey.generate_key(2048, {"kid": opened_header(found["id_token"])["kid"]}, private=True)
    forged = jwt.encode(
        {"alg": "RS256", "kid": stranger.kid},
        {"iss": BASE, "aud": "app", "sub": "jane"},
        stranger,
        algorithms=["RS256"],
    )
    for hint in (
        {},
        {"id_token_hint": "junk"},
        {"id_token_hint": other},
        {"id_token_hint": forged},
        {"id_token_hint": found["access_token"]},
    ):
        answer = await logout(world, head, **hint)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{PUBLIC}/auth/sessions")
    assert len(world.store.sessions("jane")) == 1
    answer = await logout(world, head, id_token_hint=found["id_token"], client_id="key-app")
    assert answer.headers["location"] == f"{PUBLIC}/auth/sessions"


async def test_nobody_is_sent_where_the_client_may_not_send_them(world):
    found = await world.tokens()
    answer = await logout(world, {}, id_token_hint=found["id_token"], post_logout_redirect_uri="https://evil.example/")
    assert answer.headers["location"] == f"{PUBLIC}/auth/login"
    answer = await logout(world, {}, post_logout_redirect_uri=BACK)
    assert answer.headers["location"] == f"{PUBLIC}/auth/sessions"


def opened_header(token: str) -> dict:
    return opened(f".{token.split('.', maxsplit=1)[0]}.")
