"""Attacks on the authorization endpoint: where the browser is sent, what is asked for, which launch (15-19, 22)."""

import time
from urllib.parse import urlencode

import pytest

from tests.ehr.apps import STANDALONE, VERIFIER, challenge_of, opened, query_of
from tests.ehr.listener import listening
from tests.ehr.people import back

BACK = "https://app.example.org/back?kept=1"
FOREIGN = [
    "https://app.example.org/back", "https://app.example.org/", "https://app.example.org", f"{BACK}&x=1", f"{BACK}2", f"{BACK}#x",
    "https://app.example.org/back/more?kept=1", "https://app.example.org/x/../back?kept=1", "https://app.example.org/%62ack?kept=1",
    "https://app.example.org:443/back?kept=1", "https://APP.example.org/back?kept=1", "HTTPS://app.example.org/back?kept=1",
    "http://app.example.org/back?kept=1", "https://app.example.org@evil.example/back?kept=1",
    "https://app.example.org.evil.example/back?kept=1", "https://evil.example/https://app.example.org/back?kept=1",
    "//app.example.org/back?kept=1", "javascript:alert(1)//https://app.example.org/back?kept=1", "data:text/html,x", "", " ",
    f" {BACK}", f"{BACK}\n", f"{BACK}\r\nSet-Cookie: a=b", f"{BACK}\0", "https://app.example.org\\@evil.example/back?kept=1", "/back?kept=1",
]  # fmt: skip


@pytest.mark.parametrize("uri", FOREIGN)
@pytest.mark.parametrize("scope", [STANDALONE, "nonsense"], ids=["request", "error"])
def test_attack_15_the_browser_goes_only_where_was_registered(ehr, uri, scope):
    parameters = ehr.apps["public"].parameters(redirect_uri=uri, scope=scope)
    answer = ehr.http.get(ehr.discovery["authorization_endpoint"], params=parameters)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert 'data-page="error"' in answer.text
    assert "evil.example" not in answer.text


@pytest.mark.parametrize("name", ["redirect_uri", "client_id"])
def test_attack_15_a_redirect_uri_or_client_given_twice_leads_nowhere(ehr, name):
    app = ehr.apps["public"]
    for other in (app.parameters()[name], "https://evil.example/"):
        query = urlencode([*app.parameters().items(), (name, other)])
        answer = ehr.http.get(f"{ehr.discovery['authorization_endpoint']}?{query}")
        assert answer.status_code == 400
        assert "location" not in answer.headers


@pytest.fixture(scope="module")
def native(ehr):
    """A public app of the device."""
    arguments = ("--redirect", "http://127.0.0.1/callback", "--redirect", "com.example.app:/callback")
    return ehr.app("native", "public", *arguments)


@pytest.mark.parametrize(
    ("uri", "taken"),
    [
        ("http://127.0.0.1/callback", True), ("http://127.0.0.1:49152/callback", True), ("com.example.app:/callback", True),
        ("http://127.0.0.1:49152/other", False), ("http://127.0.0.1:49152/callback/", False), ("http://localhost:49152/callback", False),
        ("https://127.0.0.1:49152/callback", False), ("http://127.0.0.1:1@evil.example/callback", False),
        ("http://127.0.0.1.evil.example/callback", False), ("http://127.0.0.1:1x/callback", False), ("http://[::1]:1/callback", False),
        ("http://127.1:1/callback", False), ("com.example.app:/callback2", False), ("com.example.app://callback", False),
    ],
)  # fmt: skip
def test_attack_15_only_the_port_of_a_loopback_address_is_free(ehr, native, uri, taken):
    answer = ehr.http.get(ehr.discovery["authorization_endpoint"], params=native.parameters(redirect_uri=uri))
    assert answer.status_code == (303 if taken else 400), answer.text
    if "/auth/login" not in answer.headers.get("location", "/auth/login"):
        raise AssertionError(answer.headers["location"])


def test_attack_15_a_confidential_client_has_no_free_port(ehr):
    app = ehr.app("loopback", "symmetric", "--redirect", "http://127.0.0.1:4000/callback")
    parameters = app.parameters(redirect_uri="http://127.0.0.1:4001/callback")
    assert ehr.http.get(ehr.discovery["authorization_endpoint"], params=parameters).status_code == 400


DOWNGRADES = [
    {"code_challenge": None, "code_challenge_method": None},
    {"code_challenge": VERIFIER, "code_challenge_method": "plain"},
    {"code_challenge_method": None},
    {"code_challenge": None},
    {"code_challenge": "x" * 42},
    {"code_challenge": "x" * 44},
    {"code_challenge": ""},
    {"code_challenge_method": "S512"},
    {"code_challenge_method": "s256"},
]


@pytest.mark.parametrize("changed", DOWNGRADES, ids=str)
@pytest.mark.parametrize("kind", ["public", "symmetric"])
def test_attack_16_pkce_is_not_talked_down(ehr, kind, changed):
    app = ehr.apps[kind]
    found = back(ehr.browser().asked(app, **changed), app.redirect)
    assert found["error"] == "invalid_request"
    assert VERIFIER not in str(found)


@pytest.mark.parametrize("kind", ["public", "symmetric"])
@pytest.mark.parametrize(
    "verifier", [None, "x" * 42, "x" * 129, "x" * 64, challenge_of(VERIFIER), f"{VERIFIER}\n", VERIFIER.upper()]
)
def test_attack_16_only_the_verifier_opens_and_it_has_one_try(ehr, kind, verifier):
    app = ehr.apps[kind]
    code = app.code(ehr.browser())
    answer = app.exchange(code, code_verifier=verifier)
    assert answer.status_code == 400
    assert challenge_of(VERIFIER) not in answer.text
    assert app.exchange(code).status_code == 400


def test_attack_16_a_client_that_may_leave_pkce_out_cannot_have_it_stripped(ehr):
    app = ehr.app("legacy", "symmetric", "--legacy-no-pkce")
    bare = {"code_challenge": None, "code_challenge_method": None}
    assert app.exchange(app.code(ehr.browser(), **bare), code_verifier=None).status_code == 200
    assert app.exchange(app.code(ehr.browser(), **bare)).status_code == 400, "a verifier that nobody announced"
    assert app.exchange(app.code(ehr.browser()), code_verifier=None).status_code == 400, "the challenge was stripped"
    done = ehr.http.get(ehr.discovery["authorization_endpoint"], params=app.parameters(code_challenge_method="plain"))
    assert query_of(done.headers["location"])["error"] == "invalid_request"


@pytest.mark.parametrize(
    "aud",
    [
        None, "https://other.example/fhir", "{public}", "{public}/", "{base}//", "{base}/Patient", "{base}/../fhir", "{public}/fhir2",
        "{public}/tenant/fhir", "{base} {base}", "{base}#", "{base}?", "https:{base}",
    ],
)  # fmt: skip
def test_attack_17_tokens_are_for_this_server_alone(ehr, aud):
    app = ehr.apps["public"]
    given = aud and aud.replace("{base}", f"{ehr.public}/fhir").replace("{public}", ehr.public)
    assert back(ehr.browser().asked(app, aud=given), app.redirect)["error"] == "invalid_request"


def test_attack_17_an_audience_is_given_once(ehr):
    app = ehr.apps["public"]
    query = urlencode([*app.parameters().items(), ("aud", "https://other.example/fhir")])
    answer = ehr.http.get(f"{ehr.discovery['authorization_endpoint']}?{query}")
    assert query_of(answer.headers["location"])["error"] == "invalid_request"


def test_attack_17_a_token_for_another_base_is_worth_nothing_here(ehr, monkeypatch):
    good = ehr.token("patient/*.rs", "--patient", "a")
    assert ehr.fhir("Patient/a", good).status_code == 200
    foreign = ehr.cli("token", "--scope", "patient/*.rs", "--patient", "a", public_url="https://test.example.org")
    assert opened(foreign["access_token"])["aud"] == "https://test.example.org/fhir"
    assert ehr.fhir("Patient/a", foreign["access_token"]).status_code == 401


UPGRADES = [
    "patient/*.cruds", "patient/Patient.cruds", "patient/Condition.rs", "user/Patient.rs", "user/*.rs", "system/*.cruds", "patient/*.rs",
    "offline_access", "fhirUser", "launch", "patient/Observation.rs?category=vital-signs&category=laboratory", "admin", "patient/Patient.dus",
    "patient/Patient.rs patient/*.rs", "x" * 5000, "é", "",
]  # fmt: skip


def test_attack_18_a_person_cannot_be_made_to_grant_more_than_was_asked(ehr):
    app = ehr.apps["public"]
    asked = "launch/patient openid patient/Patient.rs patient/Observation.rs?category=laboratory"
    found = app.launched(ehr.browser(), {"scope": [*asked.split(), *UPGRADES]}, scope=asked)
    assert set(found["scope"].split()) <= {
        *asked.split(),
        "patient/Observation.rs?category=vital-signs&category=laboratory",
    }
    assert "refresh_token" not in found
    assert opened(found["access_token"])["scope"] == found["scope"]


def test_attack_18_no_scope_is_added_at_the_token_endpoint(ehr):
    app = ehr.apps["public"]
    code = app.code(ehr.browser(), scope="launch/patient patient/Patient.rs offline_access")
    body = app.exchange(code, scope="patient/*.cruds user/*.cruds").json()
    assert "patient/*.cruds" not in body.get("scope", "")
    body = app.launched(ehr.browser(), scope="launch/patient patient/Patient.rs offline_access")
    for scope in (
        "patient/*.rs",
        "patient/Patient.rs user/*.rs",
        "patient/Patient.r",
        "patient/Patient.cruds",
        "openid",
    ):
        answer = app.refresh(body["refresh_token"], scope=scope)
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_scope"
    assert app.refresh(body["refresh_token"]).status_code == 200


@pytest.mark.parametrize(
    "scope",
    [
        "patient/Patient.dus", "patient/Patient.rr", "patient/Patient.", "patient/patient.rs", "patient/*.rs system/*.rs", "Patient/*.rs",
        "patient/*.rs?category=x", "patient/Observation.rs?", "patient/Observation.rs?category:not=x", "patient/Observation.rs?_has:x:y=z",
        "patient/Observation.rs?subject.name=x", "patient/../*.rs", "admin", "x" * 20_000, "patient/Patient.rs\tuser/*.rs", "é",
        " ".join(f"patient/Observation.rs?code=x{number}" for number in range(600)), "",
    ],
)  # fmt: skip
def test_attack_18_scopes_that_mean_nothing_or_too_much_are_refused(ehr, scope):
    app = ehr.apps["public"]
    found = back(ehr.browser().asked(app, "POST", scope=scope), app.redirect)
    assert found["error"] == "invalid_scope"
    assert len(found.get("error_description", "")) <= 200


def test_attack_18_a_scope_of_100_kilobytes_is_no_fault_of_the_server(ehr):
    page = ehr.browser().asked(ehr.apps["public"], "POST", scope="patient/Patient.rs " * 5500)
    assert page.status == 400
    assert page.name == "error"


def test_attack_18_a_client_does_not_ask_beyond_its_registration(ehr):
    app = ehr.app(
        "bounded", "public", "--scope", "launch/patient patient/Patient.rs patient/Observation.rs?category=laboratory"
    )
    for scope in (
        "patient/*.rs",
        "patient/Patient.cruds",
        "patient/Observation.rs",
        "user/Patient.rs",
        "patient/Patient.rs offline_access",
    ):
        assert (
            back(ehr.browser().asked(app, scope=f"launch/patient {scope}"), app.redirect)["error"] == "invalid_scope"
        ), scope
    assert app.launched(ehr.browser(), scope="launch/patient patient/Patient.r")["scope"].endswith("patient/Patient.r")


def launched(ehr, user, app, handle, **changed):
    return ehr.browser(user).authorize(app, launch=handle, scope="launch openid patient/*.rs", **changed)


def test_attack_19_a_launch_is_used_once_by_its_client_and_user_in_its_time(ehr):
    app, other = ehr.apps["public"], ehr.apps["symmetric"]
    handle = ehr.launch("public", "--patient", "a")
    assert back(ehr.browser().asked(other, launch=handle), other.redirect)["error"] == "invalid_request", (
        "another client"
    )
    assert "code" in launched(ehr, "doctor", app, handle)
    assert launched(ehr, "doctor", app, handle)["error"] == "invalid_request", "replayed"
    for guess in ("1", "a" * 43, handle[:-1], handle.swapcase(), "../a"):
        assert launched(ehr, "doctor", app, guess)["error"] == "invalid_request", "guessed"
    named = ehr.launch("public", "--patient", "a", "--user", "other")
    assert launched(ehr, "doctor", app, named)["error"] == "access_denied", "another user"
    late = ehr.launch("public", "--patient", "a", "--ttl", "1")
    time.sleep(2)
    assert launched(ehr, "doctor", app, late)["error"] == "invalid_request", "expired"


def test_attack_19_a_launch_does_not_open_what_its_follower_may_not_see(ehr):
    app = ehr.apps["public"]
    assert launched(ehr, "ana", app, ehr.launch("public", "--patient", "b"))["error"] == "access_denied"
    assert "code" in launched(ehr, "ana", app, ehr.launch("public", "--patient", "a"))


@pytest.mark.parametrize("chosen", ["b", "nobody", "", "a b", "../a", "Patient/a", "a\0", "*"])
def test_attack_19_a_patient_is_chosen_among_those_one_may_see(ehr, chosen):
    app, browser = ehr.apps["public"], ehr.browser("doctor")
    page = browser.sign_in(browser.asked(app))
    assert page.name == "patient"
    assert "Beta" not in browser.open(f"{browser.at}&q=b").answer.text
    page = browser.send(page, patient=chosen, action="select")
    assert page.name == "patient", page.answer.text
    assert page.status == 400


def test_attack_19_a_patient_has_no_choice(ehr):
    app, browser = ehr.apps["public"], ehr.browser("ana")
    page = browser.sign_in(browser.asked(app))
    assert page.name == "consent"
    page = browser.open(
        "patient?tx=" + dict(page.form["fields"])["tx"], [*page.form["fields"], ("patient", "b"), ("action", "select")]
    )
    assert page.status in (303, 400, 403) or page.name == "consent"
    page = browser.open(f"{ehr.public}/auth/login?tx=" + query_of(browser.at).get("tx", ""))
    if page.name == "consent":
        found = back(browser.send(page, action="approve"), app.redirect)
        assert app.exchange(found["code"]).json()["patient"] == "a"


TRICKS = [
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": "code token"}, "unsupported_response_type"),
    ({"response_type": "id_token"}, "unsupported_response_type"),
    ({"response_type": "none"}, "unsupported_response_type"),
    ({"response_type": None}, "invalid_request"),
    ({"response_mode": "fragment"}, "invalid_request"),
    ({"response_mode": "form_post"}, "invalid_request"),
    ({"response_mode": "web_message"}, "invalid_request"),
    ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    ({"registration": "{}"}, "registration_not_supported"),
    ({"prompt": "none login"}, "invalid_request"),
    ({"max_age": "-1"}, "invalid_request"),
]


@pytest.mark.parametrize(("changed", "error"), TRICKS, ids=str)
def test_attack_22_other_ways_to_answer_are_refused(ehr, changed, error):
    app = ehr.apps["public"]
    found = back(ehr.browser().asked(app, **changed), app.redirect)
    assert found["error"] == error
    assert found["iss"] == f"{ehr.public}/fhir"


def test_attack_22_nothing_is_fetched_for_a_request(ehr):
    app = ehr.apps["public"]
    with listening() as listener:
        for changed in (
            {"request_uri": f"{listener.url}/request"},
            {"registration": f'{{"jwks_uri": "{listener.url}"}}'},
        ):
            back(ehr.browser().asked(app, **changed), app.redirect)
        ehr.browser().asked(app, client_id=f"{listener.url}/client")
        assert listener.paths == []


def test_attack_22_nobody_is_signed_in_or_asked_without_being_seen(ehr):
    app, browser = ehr.apps["public"], ehr.browser()
    hint = app.launched(ehr.browser())["id_token"]
    quiet = {"prompt": "none", "id_token_hint": hint}
    assert back(browser.asked(app, **quiet), app.redirect)["error"] == "login_required"
    browser.sign_in()
    found = back(browser.asked(app, **quiet), app.redirect)
    assert found["error"] == "interaction_required", "the patient is to be chosen"
    found = back(browser.asked(app, **quiet, scope="openid user/Patient.rs"), app.redirect)
    assert found["error"] == "consent_required"


def test_attack_22_a_hint_at_a_person_is_for_that_person(ehr):
    app, other = ehr.apps["public"], ehr.apps["symmetric"]
    hint = app.launched(ehr.browser("ana"), scope="openid")["id_token"]
    browser = ehr.browser("bo")
    browser.sign_in()
    for prompt in ("none", None):
        found = back(browser.asked(app, scope="openid", id_token_hint=hint, prompt=prompt), app.redirect)
        assert found["error"] == "access_denied"
    assert "code" in ehr.browser("ana").authorize(app, scope="openid", id_token_hint=hint)
    assert "code" in browser.authorize(other, scope="openid", id_token_hint=hint), "the hint of another app is none"
    for junk in ("x", "a.b.c", f"{hint}x", hint.swapcase()):
        assert "code" in browser.authorize(app, scope="openid", id_token_hint=junk)


def test_attack_22_an_old_sign_in_is_done_again_when_the_app_wants_it(ehr):
    app, browser = ehr.apps["public"], ehr.browser()
    browser.sign_in()
    assert browser.asked(app, scope="openid").name == "consent"
    assert browser.asked(app, scope="openid", prompt="login").name == "login"
    assert browser.asked(app, scope="openid", max_age="0").name == "login"
    found = back(
        browser.send(browser.sign_in(browser.asked(app, scope="openid", max_age="0")), action="approve"), app.redirect
    )
    claims = opened(app.exchange(found["code"]).json()["id_token"])
    assert time.time() - claims["auth_time"] < 60


def test_attack_22_the_nonce_is_that_of_the_request(ehr):
    app = ehr.apps["public"]
    body = app.launched(ehr.browser(), nonce="n-0S6_WzA2Mj")
    assert opened(body["id_token"])["nonce"] == "n-0S6_WzA2Mj"
    assert "nonce" not in opened(app.launched(ehr.browser())["id_token"])
    assert "nonce" not in opened(app.refresh(body["refresh_token"]).json()["id_token"])


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-Forwarded-Proto"])
def test_attack_22_the_server_is_not_told_its_name_by_a_request(ehr, name):
    headers = {
        name: {"Forwarded": "host=evil.example;proto=https", "X-Forwarded-Proto": "https"}.get(name, "evil.example")
    }
    app = ehr.apps["public"]
    for path in (
        "fhir/.well-known/smart-configuration",
        "fhir/.well-known/openid-configuration",
        ".well-known/smart-configuration",
    ):
        answer = ehr.http.get(f"{ehr.public}/{path}", headers=headers)
        assert answer.json()["issuer"] == ehr.discovery["issuer"]
        assert "evil" not in answer.text
    answer = ehr.http.get(ehr.discovery["authorization_endpoint"], params=app.parameters(), headers=headers)
    assert answer.headers["location"].startswith(f"{ehr.public}/auth/login?tx=")


def test_attack_22_answers_lead_nowhere_but_to_the_app_and_the_server(ehr):
    app, browser = ehr.apps["public"], ehr.browser()
    for path in ("login", "otp", "patient", "consent", "apps", "sessions", "password", "logout"):
        for name in ("next", "redirect", "redirect_uri", "return_to", "url", "post_logout_redirect_uri", "tx"):
            answer = browser.http.get(f"{ehr.public}/auth/{path}", params={name: "https://evil.example/"})
            target = answer.headers.get("location", "")
            assert not target.startswith(("http:", "https:", "//")) or target.startswith(f"{ehr.public}/")
    hint = app.launched(ehr.browser())["id_token"]
    query = {"id_token_hint": hint, "post_logout_redirect_uri": "https://evil.example/"}
    answer = browser.http.get(f"{ehr.public}/auth/logout", params=query)
    assert answer.headers["location"].startswith(f"{ehr.public}/")
