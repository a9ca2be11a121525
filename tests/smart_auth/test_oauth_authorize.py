"""The authorization endpoint: what is asked for, who is sent where, what is granted."""

from urllib.parse import unquote_to_bytes, urlencode

import pytest

from smart_auth.model import LaunchContext
from smart_auth.oauth.authorization import PENDING_SECONDS, Refused, asked, refuse
from tests.smart_auth.apps import BACK, BASE, DOCTOR, PATIENT, SCOPE, VERIFIER, challenge, query_of

pytestmark = pytest.mark.anyio

REDIRECTED = [
    pytest.param({"response_type": None}, "invalid_request", id="no response type"),
    pytest.param({"response_type": "token"}, "unsupported_response_type", id="implicit"),
    pytest.param({"response_type": "code id_token"}, "unsupported_response_type", id="hybrid"),
    pytest.param({"response_mode": "fragment"}, "invalid_request", id="response mode fragment"),
    pytest.param({"response_mode": "form_post"}, "invalid_request", id="response mode form_post"),
    pytest.param({"request": "eyJ.e30."}, "request_not_supported", id="a request object"),
    pytest.param({"request_uri": "http://127.0.0.1/x"}, "request_uri_not_supported", id="a request object to fetch"),
    pytest.param({"registration": "{}"}, "registration_not_supported", id="self-issued registration"),
    pytest.param({"code_challenge": None, "code_challenge_method": None}, "invalid_request", id="no challenge"),
    pytest.param({"code_challenge_method": "plain"}, "invalid_request", id="challenge method plain"),
    pytest.param({"code_challenge_method": None}, "invalid_request", id="challenge without method"),
    pytest.param({"code_challenge": None}, "invalid_request", id="method without challenge"),
    pytest.param({"code_challenge": "x" * 42}, "invalid_request", id="short challenge"),
    pytest.param({"code_challenge": "x" * 44}, "invalid_request", id="long challenge"),
    pytest.param({"code_challenge": "x" * 42 + "="}, "invalid_request", id="padded challenge"),
    pytest.param({"scope": None}, "invalid_scope", id="no scope"),
    pytest.param({"scope": " "}, "invalid_scope", id="blank scope"),
    pytest.param({"scope": "patient/Patient.sr"}, "invalid_scope", id="letters out of order"),
    pytest.param({"scope": "patient/*.rs system/*.rs"}, "invalid_scope", id="a scope for services"),
    pytest.param({"scope": "patient/*.rs admin"}, "invalid_scope", id="a word that means nothing"),
    pytest.param({"scope": "x" * 20_000}, "invalid_scope", id="scopes without end"),
    pytest.param({"scope": "launch/encounter patient/*.rs"}, "invalid_scope", id="an encounter that nobody can choose"),
    pytest.param({"aud": None}, "invalid_request", id="no audience for FHIR scopes"),
    pytest.param({"aud": None, "scope": "launch openid"}, "invalid_request", id="no audience for a launch"),
    pytest.param({"aud": "https://other.example/fhir"}, "invalid_request", id="foreign audience"),
    pytest.param({"aud": f"{BASE}//"}, "invalid_request", id="audience with two slashes"),
    pytest.param({"aud": f"{BASE}/Patient"}, "invalid_request", id="audience below the base"),
    pytest.param({"aud": "http://localhost:8000"}, "invalid_request", id="audience above the base"),
    pytest.param(
        {"aud": "https://other.example", "scope": "openid"}, "invalid_request", id="foreign audience for openid"
    ),
    pytest.param({"launch": "guessed"}, "invalid_request", id="a launch that was guessed"),
    pytest.param({"prompt": "none login"}, "invalid_request", id="prompt none and login"),
    pytest.param({"prompt": "create"}, "invalid_request", id="unknown prompt"),
    pytest.param({"max_age": "-1"}, "invalid_request", id="negative age"),
]


@pytest.mark.parametrize(("changed", "error"), REDIRECTED)
async def test_a_fault_goes_back_to_the_app_with_state_and_issuer(world, changed, error):
    answer = await world.authorize(**changed)
    assert answer.status_code == 303
    url = answer.headers["location"]
    assert url.startswith(f"{BACK}?")
    found = query_of(url)
    assert (found["error"], found["state"], found["iss"]) == (error, "s 1", BASE)
    assert "code" not in found
    assert found["error_description"].isascii()


ONCE = ["response_type", "scope", "state", "aud", "code_challenge", "code_challenge_method", "launch", "nonce"]


@pytest.mark.parametrize("name", ONCE)
async def test_a_parameter_given_twice_is_refused(world, name):
    parameters = [*world.wanted(**{name: world.wanted().get(name, "x")}).items(), (name, "y")]
    found = query_of((await world.http.get("/auth/authorize", params=parameters)).headers["location"])
    assert found["error"] == "invalid_request"
    assert found.get("state") == (None if name == "state" else "s 1")


PAGES = [
    pytest.param({"client_id": None}, "invalid_client", id="no client"),
    pytest.param({"client_id": "nobody"}, "invalid_client", id="unknown client"),
    pytest.param({"client_id": "service"}, "invalid_client", id="a service"),
    pytest.param({"redirect_uri": None}, "invalid_redirect_uri", id="no redirect URI"),
    pytest.param({"redirect_uri": "https://evil.example/"}, "invalid_redirect_uri", id="foreign"),
    pytest.param({"redirect_uri": "https://app.example.org"}, "invalid_redirect_uri", id="prefix"),
    pytest.param({"redirect_uri": f"{BACK}/"}, "invalid_redirect_uri", id="with a slash"),
    pytest.param({"redirect_uri": f"{BACK}/more"}, "invalid_redirect_uri", id="deeper"),
    pytest.param({"redirect_uri": f"{BACK}?x=1"}, "invalid_redirect_uri", id="with a query"),
    pytest.param({"redirect_uri": f"{BACK}#x"}, "invalid_redirect_uri", id="with a fragment"),
    pytest.param({"redirect_uri": f"{BACK}\n"}, "invalid_redirect_uri", id="with a line feed"),
    pytest.param({"redirect_uri": "http://app.example.org/back"}, "invalid_redirect_uri", id="plain http"),
    pytest.param({"redirect_uri": "https://app.example.org:443/back"}, "invalid_redirect_uri", id="port"),
    pytest.param({"redirect_uri": "https://APP.example.org/back"}, "invalid_redirect_uri", id="case"),
    pytest.param({"redirect_uri": "https://app.example.org@evil.example/back"}, "invalid_redirect_uri", id="user name"),
    pytest.param({"redirect_uri": "https://app.example.org.evil.example/back"}, "invalid_redirect_uri", id="suffix"),
    pytest.param({"redirect_uri": "https://app.example.org/x/../back"}, "invalid_redirect_uri", id="dots"),
    pytest.param({"redirect_uri": "javascript:alert(1)"}, "invalid_redirect_uri", id="javascript"),
]


@pytest.mark.parametrize(("changed", "reason"), PAGES)
async def test_who_cannot_be_trusted_with_a_redirect_gets_a_page(world, changed, reason):
    answer = await world.authorize(**changed)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert 'data-page="error"' in answer.text
    assert f'data-error="{reason}"' in answer.text


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
async def test_client_and_redirect_uri_given_twice_get_a_page(world, name):
    parameters = [*world.wanted().items(), (name, world.wanted()[name])]
    answer = await world.http.get("/auth/authorize", params=parameters)
    assert answer.status_code == 400


async def test_a_disabled_client_gets_a_page_also_after_the_request_began(world):
    tx = await world.begun()
    world.change_client("app", disabled=True)
    assert (await world.authorize()).status_code == 400
    with pytest.raises(Refused) as refused:
        await world.decide(tx)
    assert refused.value.reason == "invalid_client"


async def test_what_cannot_be_read_gets_a_page(world):
    answer = await world.http.get("/auth/authorize?client_id=%FF")
    assert answer.status_code == 400
    assert 'data-page="error"' in answer.text


async def test_the_request_can_be_posted_by_a_form_of_another_site(world):
    answer = await world.http.post(
        "/auth/authorize", data=world.wanted(), headers={"Origin": "https://app.example.org"}
    )
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("http://localhost:8000/auth/login?tx=")
    assert answer.headers["cache-control"] == "no-store"


async def test_approval_sends_a_code_back(world):
    url = await world.approved()
    found = query_of(url)
    assert url.startswith(f"{BACK}?code=")
    assert (found["state"], found["iss"]) == ("s 1", BASE)
    assert "error" not in found


STATES = [
    pytest.param(b"a%20b%2Bc%26d", id="blank, plus, ampersand"),
    pytest.param(b"%F0%9F%98%80%C3%A9", id="beyond ASCII"),
    pytest.param(b"%FF%FE%80", id="no UTF-8"),
    pytest.param(b"%0D%0AX-Injected%3A%201", id="line breaks"),
    pytest.param(b"x" * 2000, id="long"),
    pytest.param(b"%22%3E%3Cscript%3E", id="markup"),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("approved", [True, False])
async def test_state_comes_back_byte_for_byte(world, state, approved):
    query = urlencode(world.wanted(state=None)).encode() + b"&state=" + state
    answer = await world.http.get(f"/auth/authorize?{query.decode()}")
    url = await world.decide(query_of(answer.headers["location"])["tx"], approved=approved)
    back = url.partition("&state=")[2]
    assert unquote_to_bytes(back) == unquote_to_bytes(state.replace(b"+", b" "))
    assert "\n" not in url


async def test_a_redirect_uri_keeps_its_own_query(world):
    world.change_client("app", redirect_uris=(f"{BACK}?own=1",))
    url = await world.approved(redirect_uri=f"{BACK}?own=1")
    assert url.startswith(f"{BACK}?own=1&code=")


@pytest.mark.parametrize("aud", [BASE, f"{BASE}/"])
async def test_the_audience_is_the_base_with_or_without_a_slash(world, aud):
    assert await world.begun(aud=aud)


async def test_openid_alone_needs_no_audience(world):
    assert await world.begun(scope="openid fhirUser", aud=None)


async def test_who_does_not_approve_sends_access_denied(world):
    found = query_of(await world.decide(await world.begun(), approved=False))
    assert (found["error"], found["state"]) == ("access_denied", "s 1")


async def test_a_request_is_finished_once(world):
    tx = await world.begun()
    await world.decide(tx)
    with pytest.raises(Refused) as refused:
        await world.decide(tx)
    assert refused.value.reason == "expired_tx"


async def test_a_request_expires(world):
    tx = await world.begun()
    world.clock.now += PENDING_SECONDS
    with pytest.raises(Refused):
        asked(world.parts, tx)
    with pytest.raises(Refused):
        await world.decide(tx)


async def test_the_pages_can_answer_for_a_person_who_is_not_signed_in(world):
    found = query_of(refuse(world.parts, await world.begun(prompt="none"), "login_required", "nobody is signed in"))
    assert found["error"] == "login_required"


async def test_a_disabled_redirect_uri_ends_a_request_under_way(world):
    tx = await world.begun()
    world.change_client("app", redirect_uris=("https://app.example.org/other",))
    with pytest.raises(Refused) as refused:
        await world.decide(tx)
    assert refused.value.reason == "invalid_redirect_uri"


# ---- PKCE


async def test_a_confidential_client_needs_pkce_too(world):
    found = query_of(
        (await world.authorize(client_id="secret-app", code_challenge=None, code_challenge_method=None)).headers[
            "location"
        ]
    )
    assert found["error"] == "invalid_request"


async def test_only_a_confidential_legacy_client_may_leave_it_out(world):
    none = {"code_challenge": None, "code_challenge_method": None}
    world.change_client("secret-app", legacy_no_pkce=True)
    world.change_client("app", legacy_no_pkce=True)
    assert await world.begun(client_id="secret-app", **none)
    assert query_of((await world.authorize(**none)).headers["location"])["error"] == "invalid_request"
    half = await world.authorize(client_id="secret-app", code_challenge=challenge(), code_challenge_method=None)
    assert query_of(half.headers["location"])["error"] == "invalid_request"


# ---- loopback


NATIVE = "http://127.0.0.1/back"


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        pytest.param("http://127.0.0.1:49152/back", True, id="any port"),
        pytest.param("http://127.0.0.1/back", True, id="no port"),
        pytest.param("http://localhost:49152/back", False, id="another name of loopback"),
        pytest.param("http://127.0.0.1:49152/other", False, id="another path"),
        pytest.param("http://127.0.0.1:49152@evil.example/back", False, id="user name"),
        pytest.param("http://127.0.0.1.evil.example/back", False, id="suffix"),
        pytest.param("http://127.0.0.1:1:2/back", False, id="two ports"),
        pytest.param("https://127.0.0.1:49152/back", False, id="https"),
        pytest.param("http://127.0.0.1:49152\\@evil.example/back", False, id="backslash"),
    ],
)
async def test_a_public_native_client_may_use_any_port_of_its_loopback_address(world, uri, good):
    world.client("native", "public", redirect_uris=(NATIVE,))
    world.client("server", "symmetric", redirect_uris=(NATIVE,))
    assert (await world.authorize(client_id="native", redirect_uri=uri)).status_code == (303 if good else 400)
    assert (await world.authorize(client_id="server", redirect_uri=uri)).status_code == (303 if uri == NATIVE else 400)


# ---- what is granted


GRANTED = [
    pytest.param("patient/*.rs", "patient/*.rs", id="as asked"),
    pytest.param(
        "patient/Observation.rs patient/Condition.rs", "patient/Observation.rs patient/Condition.rs", id="types of all"
    ),
    pytest.param("patient/Observation.rs?category=a|b", "patient/Observation.rs?category=a|b", id="a category"),
    pytest.param(
        "patient/Observation.rs patient/Observation.rs?category=a|b", "patient/Observation.rs", id="the wider one wins"
    ),
    pytest.param(
        "patient/*.rs openid launch/patient", "launch/patient openid patient/*.rs", id="in the order asked for"
    ),
    pytest.param("patient/Observation.cruds openid", "openid", id="more letters are not derivable"),
    pytest.param("user/Observation.rs openid", "openid", id="another context is not derivable"),
    pytest.param("system/*.rs openid", "openid", id="a scope for services is not derivable"),
    pytest.param("online_access openid", "openid", id="a word that was not asked for"),
]


@pytest.mark.parametrize(("posted", "granted"), GRANTED)
async def test_granted_is_what_was_ticked_as_far_as_it_was_asked_for(world, posted, granted):
    found = await world.tokens(granted=posted)
    assert found["scope"] == granted


async def test_the_granted_scope_is_the_one_asked_for_byte_for_byte(world):
    scope = "patient/Patient.read launch/patient  openid patient/Observation.rs?category=http://a%7Cb|c offline_access"
    found = await world.tokens(scope=scope)
    assert found["scope"] == " ".join(scope.split())


async def test_nothing_ticked_is_denied(world):
    found = query_of(await world.approved(granted="user/*.cruds"))
    assert found["error"] == "access_denied"


async def test_a_user_without_a_resource_is_not_told_as_fhir_user(world):
    world.change_user("jane", fhir_user="")
    found = await world.tokens(world.store.user("jane"))
    assert "fhirUser" not in found["scope"].split()


async def test_an_app_may_ask_for_what_it_is_registered_for(world):
    world.change_client("app", scope="launch/patient openid patient/*.rs")
    assert await world.begun(scope="launch/patient patient/Observation.read openid")
    for beyond in ("patient/*.cruds", "user/*.rs", "offline_access patient/*.rs"):
        found = query_of((await world.authorize(scope=beyond)).headers["location"])
        assert found["error"] == "invalid_scope"


# ---- who may give it for which patient


async def test_a_patient_gives_access_to_their_own_record_alone(world):
    world.directory.own["ana"] = ["p1"]
    assert "code" in query_of(await world.approved(PATIENT, patient="p1"))
    assert query_of(await world.approved(PATIENT, patient="p2"))["error"] == "access_denied"


async def test_a_patient_cannot_take_up_a_launch_for_somebody_else(world):
    world.directory.own["ana"] = ["p1"]
    launch = world.launched(patient="p2")
    assert (
        query_of(await world.approved(PATIENT, launch=launch, scope="launch patient/*.rs"))["error"] == "access_denied"
    )


async def test_staff_take_up_the_patient_of_a_launch(world):
    world.directory.own["jane"] = []
    found = await world.tokens(launch=world.launched(patient="p9"), scope="launch patient/*.rs")
    assert found["patient"] == "p9"


async def test_staff_choose_among_the_patients_they_may_open(world):
    world.directory.own["jane"] = ["p2"]
    assert query_of(await world.approved(patient="p1"))["error"] == "access_denied"
    assert "code" in query_of(await world.approved(patient="p2"))


async def test_a_scope_for_a_patient_needs_a_patient(world):
    assert query_of(await world.approved(patient=""))["error"] == "access_denied"


async def test_access_as_a_user_needs_none(world):
    found = await world.tokens(scope="openid user/*.rs", patient="")
    assert "patient" not in found


# ---- launches


async def test_the_launch_brings_its_patient_whatever_the_page_says(world):
    launch = world.launched(patient="p1", encounter="e1")
    found = await world.tokens(launch=launch, scope="launch openid patient/*.rs", patient="p2")
    assert (found["patient"], found["encounter"]) == ("p1", "e1")


async def test_the_launch_tells_everything_it_knows(world):
    context = [{"reference": "ImagingStudy/7", "type": "ImagingStudy"}, {"canonical": "http://example.org/q|1"}]
    launch = world.launched(patient="p1", encounter="e1", intent="reconcile", fhir_context=tuple(context), banner=False)
    found = await world.tokens(launch=launch, scope="launch launch/encounter patient/*.rs")
    assert found["fhirContext"] == context
    assert found["need_patient_banner"] is False
    assert found["intent"] == "reconcile"
    assert found["smart_style_url"] == "http://localhost:8000/auth/smart-style.json"


@pytest.mark.parametrize(
    "abuse",
    [
        pytest.param({"client": "secret-app"}, id="of another app"),
        pytest.param({"seconds": 0}, id="expired"),
    ],
)
async def test_a_launch_that_is_not_good_is_refused(world, abuse):
    launch = world.launched(**abuse, patient="p1")
    found = query_of((await world.authorize(launch=launch)).headers["location"])
    assert found["error"] == "invalid_request"


async def test_a_launch_is_taken_once(world):
    launch = world.launched(patient="p1")
    assert await world.begun(launch=launch)
    assert query_of((await world.authorize(launch=launch)).headers["location"])["error"] == "invalid_request"


async def test_a_launch_for_somebody_is_approved_by_them_alone(world):
    launch = {"scope": "launch patient/*.rs"}
    other = world.launched(user="ana", patient="p1")
    assert query_of(await world.approved(DOCTOR, launch=other, **launch))["error"] == "access_denied"
    own = world.launched(user="JANE", patient="p1")
    assert "code" in query_of(await world.approved(DOCTOR, launch=own, **launch))


async def test_a_disabled_user_gives_nothing(world):
    world.change_user("jane", disabled=True)
    assert query_of(await world.approved(world.store.user("jane")))["error"] == "access_denied"


async def test_the_pages_are_told_what_is_asked(world):
    launch = world.launched(user="jane", encounter="e1")
    tx = await world.begun(
        launch=launch, prompt="login consent", max_age="60", login_hint="jane", scope=f"launch {SCOPE}"
    )
    found = asked(world.parts, tx)
    assert found.client.id == "app"
    assert found.scopes == tuple(f"launch {SCOPE}".split())
    assert (found.user, found.needs_patient, found.max_age, found.login_hint) == ("jane", True, 60, "jane")
    assert found.prompt == {"login", "consent"}
    assert found.context == LaunchContext(encounter="e1")


async def test_the_verifier_is_what_ties_code_and_app(world):
    assert (await world.exchange(await world.code(), code_verifier=VERIFIER)).status_code == 200
