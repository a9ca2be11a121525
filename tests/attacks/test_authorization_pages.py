"""Attacks on people at the pages: forged forms, frames, fixed sessions, guessed passwords, script in names (20, 21, 23)."""

import statistics
import time
from urllib.parse import urlencode

import pyotp
import pytest

from smart_auth.pages.visit import csrf_of
from smart_auth.sessions import cookie_name
from tests.ehr.apps import basic, opened, query_of
from tests.ehr.house import PASSWORD
from tests.ehr.people import FORM, back

INTERACTIVE = ("login", "otp", "password", "patient", "consent", "apps", "sessions", "factor")


def place(ehr, browser, name, scope="launch/patient openid patient/*.rs"):
    """The browser at a page of a request under way."""
    app = ehr.apps["public"]
    if name in ("apps", "sessions", "password", "factor"):
        browser.sign_in()
        return browser.open(f"{ehr.public}/auth/{name}")
    page = browser.asked(app, scope=scope)
    if name == "otp":
        return browser.send(page, username=browser.user, password=browser.password, action="login")
    if name != "login":
        page = browser.sign_in(page)
    if name == "consent":
        page = browser.to_consent(page)
    assert page.name == name
    return page


@pytest.fixture(scope="module")
def careful(ehr):
    """A user with a second factor; the secret of it."""
    told = ehr.cli("user", "add", "careful", "--role", "doctor", "--fhir-user", "Practitioner/doctor", "--password-stdin", "--totp",
                   stdin=f"{PASSWORD}\n")  # fmt: skip
    return told["totpSecret"]


@pytest.fixture(scope="module")
def granted(ehr):
    """An access token that the doctor gave."""
    return ehr.apps["public"].launched(ehr.browser())["access_token"]


def browser_for(ehr, name, careful):
    browser = ehr.browser("careful" if name == "otp" else "doctor")
    browser.totp = careful if name == "otp" else ""
    return browser


ACTIONS = {
    "login": {"username": "doctor", "password": PASSWORD, "action": "login"},
    "otp": {"otp": "000000", "action": "verify"},
    "password": {
        "current": PASSWORD,
        "password": "twelve purple lamps",
        "again": "twelve purple lamps",
        "action": "change",
    },
    "patient": {"patient": "a", "action": "select"},
    "consent": {"action": "approve"},
    "apps": {"client": "public", "action": "revoke"},
    "sessions": {"action": "end-others"},
    "factor": {"action": "enable", "secret": "A" * 32, "otp": "000000", "current": PASSWORD},
}


def csrf_in(page) -> str:
    return dict(page.form["fields"])["csrf"]


@pytest.mark.parametrize("name", INTERACTIVE)
@pytest.mark.parametrize("forged", ["none", "empty", "invented", "of another browser", "of another page", "of nobody"])
def test_attack_20_a_form_that_the_page_did_not_give_does_nothing(ehr, careful, granted, name, forged):
    browser = browser_for(ehr, name, careful)
    page = place(ehr, browser, name)
    csrf = {
        "none": list,
        "empty": lambda: [""],
        "invented": lambda: ["0123456789abcdef." + "0" * 64],
        "of another browser": lambda: [csrf_in(place(ehr, browser_for(ehr, name, careful), name))],
        "of another page": lambda: [csrf_in(ehr.browser().asked(ehr.apps["public"]))],
        "of nobody": lambda: [csrf_of("")],
    }[forged]()
    fields = [("tx", dict(page.form["fields"])["tx"]), *(("csrf", one) for one in csrf), *ACTIONS[name].items()]
    cookies = dict(browser.http.cookies)
    answer = browser.http.post(f"{ehr.public}/auth/{name}", content=urlencode(fields), headers=FORM)
    assert answer.status_code == 403
    assert 'data-error="csrf"' in answer.text
    assert dict(browser.http.cookies) == cookies
    if name == "password":
        assert ehr.browser().sign_in().name == "apps", "the password is still the same"
    if name == "apps":
        assert ehr.fhir("Patient/a", granted).status_code == 200


def test_attack_20_a_victim_is_not_signed_in_as_the_attacker(ehr):
    attacker = ehr.browser("ana")
    form = [
        *attacker.open(f"{ehr.public}/auth/login").form["fields"],
        ("username", "ana"),
        ("password", PASSWORD),
        ("action", "login"),
    ]
    victim = ehr.browser()
    answer = victim.http.post(f"{ehr.public}/auth/login", content=urlencode(form), headers=FORM)
    assert answer.status_code == 403
    assert cookie_name(ehr.public, "session") not in victim.http.cookies


def test_attack_20_a_session_that_was_known_before_is_worth_nothing_after(ehr, careful):
    name = cookie_name(ehr.public, "session")
    browser = ehr.browser("careful")
    browser.totp = careful
    browser.http.cookies.set(name, "x" * 43, domain="localhost.local", path="/")
    page = place(ehr, browser, "otp")
    halfway = [one.value for one in browser.http.cookies.jar if one.name == name]
    assert page.name == "otp"
    assert halfway[-1] != "x" * 43
    page = browser.sign_in(page)
    assert page.name == "patient", page.answer.text
    after = [one.value for one in browser.http.cookies.jar if one.name == name]
    for known in ("x" * 43, halfway[-1]):
        assert known != after[-1]
        answer = ehr.http.get(f"{ehr.public}/auth/apps", headers={"Cookie": f"{name}={known}"})
        assert answer.status_code == 303
        assert "/auth/login" in answer.headers["location"]


def test_attack_20_half_a_sign_in_opens_nothing(ehr, careful):
    browser = ehr.browser("careful")
    page = place(ehr, browser, "otp")
    tx = dict(page.form["fields"])["tx"]
    for name in ("apps", "sessions", "password", "patient", "consent"):
        assert browser.open(f"{ehr.public}/auth/{name}?tx={tx}").name == "otp"


@pytest.mark.parametrize("name", ["patient", "consent"])
def test_attack_20_a_request_under_way_is_its_first_session_s_alone(ehr, name):
    attacker = ehr.browser("ana" if name == "consent" else "doctor")
    page = place(ehr, attacker, name)
    victim = ehr.browser("other")
    victim.sign_in()
    for path in ("login", "patient", "consent"):
        seen = victim.open(f"{ehr.public}/auth/{path}?tx={dict(page.form['fields'])['tx']}")
        assert (seen.status, seen.errors) == (400, ["expired_tx"])


def test_attack_20_nothing_is_allowed_by_a_link(ehr):
    browser = ehr.browser()
    page = place(ehr, browser, "consent")
    fields = [*page.filled(action="approve")]
    seen = browser.open(f"{ehr.public}/auth/consent?{urlencode(fields)}")
    assert seen.name == "consent"
    for name in ("apps", "sessions"):
        browser.open(f"{ehr.public}/auth/{name}?{urlencode({**ACTIONS[name], 'client': 'public'})}")
    assert browser.open(f"{ehr.public}/auth/apps").name == "apps", "still signed in"
    answer = browser.http.get(f"{ehr.public}/auth/logout", params={"id_token_hint": "x.y.z"})
    assert "/auth/sessions" in answer.headers["location"]
    assert browser.open(f"{ehr.public}/auth/apps").name == "apps", "still signed in"


@pytest.mark.parametrize("name", INTERACTIVE)
def test_attack_21_no_page_is_framed_or_runs_script(ehr, careful, name):
    page = place(ehr, browser_for(ehr, name, careful), name)
    headers = page.answer.headers
    policy = {part.split()[0]: part.split()[1:] for part in headers["content-security-policy"].split(";")}
    assert policy["frame-ancestors"] == ["'none'"]
    assert policy["default-src"] == ["'none'"]
    assert "script-src" not in policy
    assert set(policy["form-action"]) <= {"'self'", "https://app.example.org"}
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] in ("no-referrer", "same-origin")
    assert "access-control-allow-origin" not in headers
    assert "<script" not in page.answer.text


def test_attack_21_no_page_is_given_to_scripts_of_other_origins(ehr):
    for name in INTERACTIVE:
        answer = ehr.http.get(f"{ehr.public}/auth/{name}", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answer = ehr.http.options(f"{ehr.public}/auth/{name}", headers=preflight)
        assert "access-control-allow-origin" not in answer.headers


def test_attack_21_one_consent_gives_one_code(ehr):
    app, browser = ehr.apps["public"], ehr.browser()
    page = place(ehr, browser, "consent")
    again = browser.open(browser.at)
    found = back(browser.send(page, action="approve"), app.redirect)
    for stale in (page, again):
        seen = browser.send(stale, action="approve")
        assert (seen.status, seen.errors) == (400, ["expired_tx"])
    assert app.exchange(found["code"]).status_code == 200


def test_attack_21_two_tabs_are_two_requests(ehr):
    app, browser = ehr.apps["public"], ehr.browser("ana")
    browser.sign_in()
    first = browser.asked(app, state="first", scope="openid")
    second = browser.asked(app, state="second", scope="openid patient/*.rs launch/patient")
    mixed = [(name, value) for name, value in second.filled(action="approve") if name != "tx"]
    page = browser.open(f"{ehr.public}/auth/consent", [*mixed, ("tx", dict(first.form["fields"])["tx"])])
    found = back(page, app.redirect)
    assert found["state"] == "first"
    assert app.exchange(found["code"]).json()["scope"] == "openid"


def test_attack_23_a_user_that_is_not_there_looks_like_a_wrong_password(ehr):
    ehr.user("enumerated", "--role", "doctor")
    ehr.user("barred", "--role", "doctor")
    ehr.cli("user", "disable", "barred")
    shapes = []
    for name in ("enumerated", "nobody-at-all", "barred"):
        browser = ehr.browser(name, "wrong" if name != "barred" else PASSWORD)
        page = browser.sign_in()
        shapes.append((page.status, page.errors, shape(page.answer.text, name), sorted(page.answer.headers)))
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0][:2] == (401, ["bad_credentials"])


def shape(text: str, name: str) -> str:
    """A page without what differs each time."""
    lines = [line for line in text.replace(name, "NAME").splitlines() if 'name="csrf"' not in line]
    return "\n".join(lines)


@pytest.mark.serial
def test_attack_23_a_user_that_is_not_there_takes_as_long(ehr):
    ehr.user("timed", "--role", "doctor")
    took: dict[str, list[float]] = {"timed": [], "nobody-at-all": []}
    for number in range(4):
        for name, times in took.items():
            browser = ehr.browser(name if name == "timed" else f"{name}-{number}", "wrong")
            page = browser.open(f"{ehr.public}/auth/login")
            began = time.perf_counter()
            browser.send(page, username=browser.user, password="wrong", action="login")
            times.append(time.perf_counter() - began)
    one, other = (statistics.median(times) for times in took.values())
    assert 0.4 < one / other < 2.5


def test_attack_23_guessing_a_password_is_stopped_and_hides_the_right_one(ehr):
    ehr.user("guessed", "--role", "doctor")
    errors = [ehr.browser("guessed", f"wrong {number}").sign_in().errors for number in range(7)]
    assert errors[0] == ["bad_credentials"]
    assert errors[-1] == ["locked"]
    page = ehr.browser("guessed").sign_in()
    assert (page.status, page.errors) == (401, ["locked"])
    assert ehr.browser("other").sign_in().name == "apps", "others sign in"
    unknown = [ehr.browser("never-was", "wrong").sign_in().errors for _ in range(7)]
    assert unknown == errors, "one that is not there is locked alike"


def test_attack_23_guessing_the_second_factor_is_stopped(ehr):
    told = ehr.cli("user", "add", "factors", "--role", "doctor", "--password-stdin", "--totp", stdin=f"{PASSWORD}\n")
    browser = ehr.browser("factors")
    page = place(ehr, browser, "otp")
    errors = []
    for number in range(7):
        page = browser.send(page, otp=f"{number:06}", action="verify")
        errors += page.errors[:1]
    assert errors[-1] == "locked"
    browser.totp = told["totpSecret"]
    assert browser.sign_in(page).errors[:1] == ["locked"]


def test_attack_23_a_code_of_the_second_factor_is_good_once(ehr):
    told = ehr.cli("user", "add", "once", "--role", "doctor", "--password-stdin", "--totp", stdin=f"{PASSWORD}\n")
    code = pyotp.TOTP(told["totpSecret"]).now()
    pages = []
    for _ in range(2):
        browser = ehr.browser("once")
        pages.append(browser.send(place(ehr, browser, "otp"), otp=code, action="verify"))
    assert pages[0].name != "otp"
    assert (pages[1].status, pages[1].errors) == (401, ["bad_credentials"])


NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_attack_23_names_and_texts_are_shown_as_text(ehr):
    ehr.cli(
        "client",
        "add",
        "--id",
        "nasty",
        "--name",
        NASTY,
        "--type",
        "public",
        "--redirect",
        "https://app.example.org/back?kept=1",
    )
    app = ehr.apps["public"]
    browser = ehr.browser()
    scope = "openid launch/patient patient/Observation.rs?code=%3Cscript%3Ealert(1)%3C/script%3E"
    pages = [browser.asked(app, client_id="nasty", scope=scope, login_hint=NASTY)]
    pages.append(browser.sign_in(pages[-1]))
    pages.append(browser.open(f"{browser.at}&{urlencode({'q': NASTY})}"))
    pages.append(browser.to_consent(pages[1]))
    pages.append(ehr.browser(NASTY, "wrong").sign_in())
    pages.append(browser.open(f"{ehr.public}/auth/login?{urlencode({'tx': NASTY})}"))
    assert [page.name for page in pages[:4]] == ["login", "patient", "patient", "consent"]
    for page in pages:
        assert "<script" not in page.answer.text
        assert "<img" not in page.answer.text
    back(browser.send(pages[3], action="approve"), app.redirect)
    assert "<script" not in browser.open(f"{ehr.public}/auth/apps").answer.text
    answer = ehr.http.get(ehr.discovery["authorization_endpoint"], params={"client_id": NASTY, "redirect_uri": NASTY})
    assert "<script" not in answer.text


def test_attack_23_secrets_are_not_told_apart_by_what_is_answered(ehr):
    app = ehr.apps["symmetric"]
    answers = {
        (answer.status_code, answer.text, answer.headers["www-authenticate"])
        for secret in ("", "x", app.secret[:-1], app.secret + "x", app.secret.upper())
        for client in ("symmetric", "nobody", "public", "asymmetric")
        if (answer := app.refresh("x", basic(client, secret))) is not None
    }
    assert len(answers) == 1
    assert next(iter(answers))[0] == 401


def test_attack_23_codes_and_tokens_are_long_and_at_random(ehr):
    app, browser = ehr.apps["public"], ehr.browser("ana")
    bodies, codes = [], []
    for _ in range(3):
        found = browser.authorize(app)
        codes.append(found["code"])
        bodies.append(app.exchange(found["code"]).json())
    for handles in (
        codes,
        [body["refresh_token"] for body in bodies],
        [opened(body["access_token"])["jti"] for body in bodies],
    ):
        assert len(set(handles)) == 3
        assert min(map(len, handles)) >= 22
    assert query_of(ehr.cli("launch", "--client", "public", "--patient", "a")["url"])["launch"].isascii()
