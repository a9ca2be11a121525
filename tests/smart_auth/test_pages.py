"""The pages over HTTP: each rule of the form contract, of signing in and of sessions."""

import asyncio
import html
import re
import time
from urllib.parse import urlencode

import pyotp
import pytest
from argon2 import PasswordHasher
from starlette.applications import Starlette

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth import attempts, passwords, sessions
from smart_auth.model import Grant, LaunchContext, hashed
from smart_auth.pages.routes import AT_ONCE, PAGES, routes
from smart_auth.pages.visit import device_of
from tests.smart_auth.browsing import BACK, PASSWORD, SCOPE, Browser, Clock, app, composed, landed, person, request

pytestmark = pytest.mark.anyio

PATIENT = LaunchContext(patient="p1")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def store(tmp_path):
    opened = SqliteAuthStore.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def parts(store, clock):
    app(store)
    person(store)
    return composed(store, clock)


@pytest.fixture
def browser(parts):
    return Browser(Starlette(routes=routes(parts)))


def another(parts, **options) -> Browser:
    return Browser(Starlette(routes=routes(parts)), parts.public, **options)


# ---- the way through the pages


async def test_staff_sign_in_choose_a_patient_and_allow(browser, store, clock):
    tx = request(store, clock)
    page = await browser.page(f"/auth/login?tx={tx}")
    assert (page.name, page.form["buttons"]) == ("login", [("action", "login")])
    page = await browser.send(page, username="jane", password=PASSWORD, action="login")
    assert (page.name, page.status) == ("patient", 200)
    assert page.form["radios"] == ["p1", "p2", "p3"]
    assert page.form["buttons"] == [("search", "search"), ("action", "select")]
    page = await browser.send(page, patient="p1", action="select")
    assert page.name == "consent"
    assert page.form["buttons"] == [("action", "approve"), ("action", "deny")]
    back = landed(await browser.send(page, action="approve"))
    assert back["state"] == "s1"
    assert back["iss"] == "https://fhir.example.org/fhir"
    grant = store.grant(store.use_code(back["code"]).grant)
    assert set(grant.scope.split()) == set(SCOPE.split())
    assert (grant.user, grant.context.patient, grant.auth_time) == ("jane", "p1", clock())


async def test_every_form_carries_csrf_and_tx(browser, store, clock):
    tx = request(store, clock)
    page = await browser.page(f"/auth/login?tx={tx}")
    seen = [page]
    page = await browser.send(page, username="jane", password=PASSWORD, action="login")
    seen.append(page)
    seen.append(await browser.send(page, patient="p1", action="select"))
    seen += [await browser.page(f"/auth/{name}") for name in ("apps", "sessions", "password", "factor")]
    for one in seen:
        for form in one.forms:
            fields = dict(form["fields"])
            assert {"csrf", "tx"} <= fields.keys(), one.name
            assert fields["csrf"]


async def test_pages_that_are_not_needed_are_skipped(parts, browser, store, clock):
    person(store, "pat", roles=("patient",), fhir_user="Patient/p1")
    parts.directory.own["pat"] = ["p1"]
    page = await browser.sign_in(request(store, clock), "pat")
    assert page.name == "consent"


async def test_a_trusted_app_in_a_launch_goes_straight_back(browser, store, clock):
    app(store, trusted=True)
    page = await browser.sign_in(request(store, clock, context=PATIENT, scope="launch openid fhirUser patient/*.rs"))
    assert "code" in landed(page)


async def test_a_signed_in_person_is_not_asked_again(browser, store, clock):
    await browser.sign_in()
    page = await browser.page(f"/auth/login?tx={request(store, clock)}")
    assert page.name == "patient"


async def test_a_later_page_leads_to_the_missing_one(browser, store, clock):
    tx = request(store, clock)
    assert (await browser.page(f"/auth/consent?tx={tx}")).name == "login"
    await browser.sign_in(tx)
    assert (await browser.page(f"/auth/consent?tx={tx}")).name == "patient"
    assert (await browser.page(f"/auth/otp?tx={tx}")).name == "patient"


async def test_who_is_related_to_several_chooses_among_them_alone(parts, browser, store, clock):
    person(store, "mum", roles=("patient",), fhir_user="RelatedPerson/r1")
    parts.directory.own["mum"] = ["p1", "p3"]
    page = await browser.sign_in(request(store, clock), "mum")
    assert (page.name, page.form["radios"]) == ("patient", ["p1", "p3"])
    refused = await browser.send(page, patient="p2", action="select")
    assert (refused.status, refused.errors) == (400, ["no_patient"])
    assert (await browser.send(refused, patient="p3", action="select")).name == "consent"


@pytest.mark.parametrize("chosen", ["", "p9", "Patient/p1", "p", "*"])
async def test_a_patient_that_cannot_be_chosen_is_refused(browser, store, clock, chosen):
    page = await browser.sign_in(request(store, clock))
    refused = await browser.send(page, patient=chosen, action="select")
    assert (refused.name, refused.status, refused.errors) == ("patient", 400, ["no_patient"])


async def test_patients_are_searched_by_id_or_name(browser, store, clock):
    tx = request(store, clock)
    await browser.sign_in(tx)
    assert (await browser.page(f"/auth/patient?tx={tx}&q=p2")).form["radios"] == ["p2"]
    page = await browser.page(f"/auth/patient?tx={tx}&q=Cy")
    assert page.form["radios"] == ["p3"]
    page = await browser.send(page, q="Bo <", search="search")
    assert page.form["radios"] == ["p2"]
    assert (await browser.send(page, patient="p2", action="select")).name == "consent"


async def test_a_launch_for_somebody_else_is_denied_before_anything_is_shown(browser, store, clock):
    page = await browser.sign_in(request(store, clock, context=PATIENT, user="other"))
    assert landed(page)["error"] == "access_denied"


async def test_a_patient_is_not_launched_into_another_one(parts, browser, store, clock):
    person(store, "pat", roles=("patient",), fhir_user="Patient/p2")
    parts.directory.own["pat"] = ["p2"]
    page = await browser.sign_in(request(store, clock, context=PATIENT), "pat")
    assert landed(page)["error"] == "access_denied"


async def test_the_audit_is_told_who_did_what(parts, store, clock):
    told = []

    async def application(scope, receive, send):
        await Starlette(routes=routes(parts))(scope, receive, send)
        if scope["method"] == "POST":
            told.append(scope["audit"])

    browser = Browser(application)
    tx = request(store, clock)
    await browser.sign_in(tx, "jane", "wrong")
    await browser.sign_in(tx, "a password typed as a name", PASSWORD)
    page = await browser.send(await browser.sign_in(tx), patient="p1", action="select")
    await browser.send(page, action="approve")
    assert [(one.get("user"), one.get("client"), one.get("note")) for one in told] == [
        ("jane", "app", "bad_credentials"),
        ("", "app", "bad_credentials"),
        ("jane", "app", "password"),
        ("jane", "app", None),
        ("jane", "app", "approve"),
    ]


# ---- prompt and max_age


@pytest.mark.parametrize(
    "parameters", [{"prompt": "login"}, {"prompt": "select_account"}, {"max_age": "0"}, {"max_age": "60"}]
)
async def test_who_is_signed_in_signs_in_again_when_the_app_asks(browser, store, clock, parameters):
    await browser.sign_in()
    clock.now += 60
    tx = request(store, clock, **parameters)
    page = await browser.page(f"/auth/consent?tx={tx}")
    assert page.name == "login"
    page = await browser.send(page, username="jane", password=PASSWORD, action="login")
    assert page.name == "patient"
    page = await browser.send(page, patient="p1", action="select")
    code = landed(await browser.send(page, action="approve"))["code"]
    assert store.grant(store.use_code(code).grant).auth_time == clock()


async def test_a_young_sign_in_satisfies_max_age(browser, store, clock):
    await browser.sign_in()
    assert (await browser.page(f"/auth/login?tx={request(store, clock, max_age='60')}")).name == "patient"


@pytest.mark.parametrize(
    ("signed_in", "parameters"), [(False, {}), (True, {"max_age": "60"})], ids=["no session", "too old a session"]
)
async def test_prompt_none_without_a_session_is_login_required(browser, store, clock, signed_in, parameters):
    if signed_in:
        await browser.sign_in()
    clock.now += 60
    page = await browser.page(f"/auth/login?tx={request(store, clock, prompt='none', **parameters)}")
    assert landed(page)["error"] == "login_required"


@pytest.mark.parametrize(
    ("context", "trusted", "outcome"),
    [(None, True, "interaction_required"), (PATIENT, False, "consent_required"), (PATIENT, True, None)],
)
async def test_prompt_none_shows_no_page(browser, store, clock, context, trusted, outcome):
    app(store, trusted=trusted)
    await browser.sign_in()
    back = landed(await browser.page(f"/auth/login?tx={request(store, clock, prompt='none', context=context)}"))
    assert back.get("error") == outcome
    assert ("code" in back) == (outcome is None)


async def test_prompt_consent_shows_the_consent_of_a_trusted_app(browser, store, clock):
    app(store, trusted=True)
    page = await browser.sign_in(request(store, clock, prompt="consent", context=PATIENT))
    assert page.name == "consent"


# ---- login


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("jane", "wrong"),
        ("nobody", PASSWORD),
        ("", ""),
        ("jane", ""),
        ("jane", "x" * 5000),
        ("x" * 5000, PASSWORD),
        ("gone", PASSWORD),
    ],
    ids=[
        "wrong password",
        "no such user",
        "nothing",
        "no password",
        "endless password",
        "endless name",
        "disabled user",
    ],
)
async def test_a_wrong_login_is_answered_alike(browser, store, name, password):
    person(store, "gone", disabled=True)
    page = await browser.sign_in("", name, password)
    assert (page.name, page.status, page.errors) == ("login", 401, ["bad_credentials"])
    assert {cookie.name for cookie in browser.client.cookies.jar} == {"__Host-fhir-login"}


async def test_names_are_compared_without_case(browser):
    assert (await browser.sign_in("", "JANE")).name == "apps"


async def test_user_names_are_not_enumerated_by_work(browser, monkeypatch):
    worked = []
    real = passwords.matches
    monkeypatch.setattr(passwords, "matches", lambda user, given: worked.append(user) or real(user, given))
    await browser.sign_in("", "jane", "wrong")
    await browser.sign_in("", "nobody", "wrong")
    assert [user and user.name for user in worked] == ["jane", None]


@pytest.mark.parametrize("name", ["jane", "nobody"])
async def test_too_many_failures_lock_known_and_unknown_users_alike(browser, clock, name):
    for _ in range(5):
        assert (await browser.sign_in("", name, "wrong")).errors == ["bad_credentials"]
    clock.now += 10
    page = await browser.page("/auth/login")
    answer = await browser.post(page, username=name, password=PASSWORD, action="login")
    assert (answer.status_code, answer.headers["retry-after"]) == (401, "20")
    assert 'data-error="locked"' in answer.text
    assert "Wait 20 seconds" in answer.text


@pytest.mark.parametrize(("path", "action"), [("/auth/password", "change"), ("/auth/factor", "enable")])
async def test_changes_by_who_does_not_know_the_password_wait_too(browser, path, action):
    await browser.sign_in()
    for _ in range(6):
        page = await browser.page(path)
        answer = await browser.post(page, current="wrong", password="x", again="x", action=action)
    assert answer.status_code == 401
    assert 'data-error="locked"' in answer.text
    assert answer.headers["retry-after"] == "30"
    assert "Wait 30 seconds" in answer.text


async def test_the_wait_grows_and_ends(browser, clock):
    for _ in range(5):
        await browser.sign_in("", "jane", "wrong")
    for wait in (30, 60, 120):
        clock.now += wait - 1
        assert (await browser.sign_in("", "jane", "wrong")).errors == ["locked"]
        clock.now += 1
        assert (await browser.sign_in("", "jane", "wrong")).errors == ["bad_credentials"]
    clock.now += 900
    assert (await browser.sign_in()).name == "apps"
    assert (await another_login(browser)).name == "login"


async def another_login(browser):
    browser.client.cookies.clear()
    return await browser.sign_in("", "jane", "wrong")


async def test_successful_logins_never_count(parts):
    for _ in range(12):
        browser = another(parts)
        assert (await browser.sign_in("", "jane", "wrong")).errors == ["bad_credentials"]
        assert (await browser.sign_in()).name == "apps"
    assert parts.store.failures("user:jane")[0] == 0


async def test_an_address_that_fails_for_many_users_waits(parts, store, clock):
    browser = another(parts)
    for _ in range(100):
        attempts.failed(store, attempts.address_subject("127.0.0.1"), clock())
    page = await browser.page("/auth/login")
    answer = await browser.post(page, username="jane", password=PASSWORD, action="login")
    assert answer.status_code == 401
    wait = int(answer.headers["retry-after"])
    assert 0 < wait <= 900
    assert f"Wait {wait} seconds" in answer.text
    assert (await browser.sign_in()).errors == ["rate_limited"]
    elsewhere = another(parts, client=("192.0.2.7", 1))
    assert (await elsewhere.sign_in()).name == "apps"
    clock.now += 900
    assert (await browser.sign_in()).name == "apps"


async def test_many_guesses_at_once_are_not_all_judged(parts, monkeypatch):
    judged = []
    monkeypatch.setattr(passwords, "matches", lambda user, given: bool(judged.append(user)))
    browsers = [another(parts) for _ in range(20)]
    pages = await asyncio.gather(*[browser.page("/auth/login") for browser in browsers])
    await asyncio.gather(
        *[
            one.post(page, username="jane", password="w", action="login")
            for one, page in zip(browsers, pages, strict=True)
        ]
    )
    assert len(judged) <= 6


async def test_a_flood_of_logins_does_not_take_the_memory(parts, monkeypatch):
    busy, most = [], []

    def slow(_user, _given):
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.01)
        busy.pop()
        return False

    monkeypatch.setattr(passwords, "matches", slow)
    browser = another(parts)
    page = await browser.page("/auth/login")
    names = [f"user-{number}" for number in range(20)]
    await asyncio.gather(*[browser.post(page, username=name, password="w", action="login") for name in names])
    assert len(most) == 20
    assert max(most) <= AT_ONCE


async def test_a_weaker_hash_is_renewed_at_login(browser, store):
    person(store, password=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD))
    before = store.user("jane").password
    assert (await browser.sign_in()).name == "apps"
    assert store.user("jane").password != before


# ---- second factor


@pytest.fixture
def factor(store, clock):
    """The second factor of jane, told the time of the test."""
    secret = pyotp.random_base32()
    codes, kept = passwords.recovery_codes()
    person(store, totp=secret, recovery=kept)
    totp = pyotp.TOTP(secret)
    return type("Factor", (), {"code": lambda self: totp.at(clock()), "codes": codes})()


async def test_a_second_factor_is_asked_for_and_taken(browser, store, clock, factor):
    page = await browser.sign_in(request(store, clock))
    assert (page.name, page.form["buttons"][0]) == ("otp", ("action", "verify"))
    page = await browser.send(page, otp=factor.code(), action="verify")
    assert page.name == "patient"


async def test_nothing_opens_before_the_second_factor(browser, store, clock, factor):
    tx = request(store, clock)
    await browser.sign_in(tx)
    for name in ("apps", "sessions", "password", "factor", "consent", "patient"):
        assert (await browser.page(f"/auth/{name}?tx={tx}")).name == "otp"


@pytest.mark.parametrize("missing", [{"totp": "A" * 32}, {"must_change": True}])
async def test_who_has_not_finished_lets_somebody_else_sign_in(browser, store, clock, missing):
    person(store, **missing)
    person(store, "joe")
    tx = request(store, clock)
    page = await browser.sign_in(tx)
    half = browser.client.cookies["__Host-fhir-session"]
    page = await browser.send(page, action="cancel")
    assert (page.name, store.session(half)) == ("login", None)
    page = await browser.send(page, username="joe", password=PASSWORD, action="login")
    assert page.name == "patient"


@pytest.mark.parametrize("code", ["000000", "", "12345", "abcdef", "\u0660" * 6])
async def test_a_wrong_code_is_refused(browser, factor, code):
    page = await browser.send(await browser.sign_in(), otp=code, action="verify")
    assert (page.name, page.status, page.errors) == ("otp", 401, ["bad_credentials"])


async def test_a_code_is_good_once(parts, factor):
    browser, thief = another(parts), another(parts)
    code = factor.code()
    assert (await browser.send(await browser.sign_in(), otp=code, action="verify")).name == "apps"
    assert (await thief.send(await thief.sign_in(), otp=code, action="verify")).status == 401


@pytest.mark.parametrize("field", ["otp", "recovery"])
async def test_a_recovery_code_is_good_once_in_either_field(parts, factor, field):
    browser, thief = another(parts), another(parts)
    code = factor.codes[0].upper()
    assert (await browser.send(await browser.sign_in(), **{field: code}, action="verify")).name == "apps"
    assert (await thief.send(await thief.sign_in(), **{field: code}, action="verify")).status == 401
    assert (await thief.send(await thief.page("/auth/otp"), otp=factor.codes[1], action="verify")).name == "apps"


async def test_codes_cannot_be_guessed_on_and_on(parts, factor, clock):
    browser = another(parts)
    page = await browser.sign_in()
    for _ in range(5):
        page = await browser.send(page, otp="000000", action="verify")
    answer = await browser.post(page, otp=factor.code(), action="verify")
    assert 'data-error="locked"' in answer.text
    assert answer.headers["retry-after"] == "30"
    assert "Wait 30 seconds" in answer.text
    fresh = another(parts)  # signing in again with the password forgives nothing
    assert (await fresh.send(await fresh.sign_in(), otp=factor.code(), action="verify")).errors == ["locked"]
    clock.now += 900
    fresh = another(parts)
    assert (await fresh.send(await fresh.sign_in(), otp=factor.code(), action="verify")).name == "apps"


async def test_a_half_open_session_ends_soon(browser, factor, clock):
    await browser.sign_in()
    clock.now += sessions.STEP_SECONDS
    assert (await browser.page("/auth/otp")).name == "login"


async def enabled(browser, clock, current=PASSWORD, code=None):
    page = await browser.page("/auth/factor")
    secret = dict(page.form["fields"])["secret"]
    code = pyotp.TOTP(secret).at(clock()) if code is None else code
    return secret, await browser.send(page, otp=code, current=current, action="enable")


async def test_a_person_begins_a_second_factor(parts, store, clock):
    browser, other = another(parts), another(parts)
    await browser.sign_in()
    await other.sign_in()
    secret, page = await enabled(browser, clock)
    assert (page.name, page.status, store.user("jane").totp) == ("factor", 200, secret)
    codes = re.findall("<li><code>(.*?)</code>", page.answer.text)
    assert len(codes) == 10
    assert (await other.page("/auth/apps")).name == "login"
    page = await other.sign_in()
    assert (await other.send(page, recovery=codes[0], action="verify")).name == "apps"
    assert codes[0] not in (await browser.page("/auth/factor")).answer.text


@pytest.mark.parametrize(
    ("given", "error"),
    [({"current": "wrong"}, "bad_credentials"), ({"code": "000000"}, "bad_code"), ({"code": ""}, "bad_code")],
)
async def test_a_second_factor_begins_with_password_and_code(browser, store, clock, given, error):
    await browser.sign_in()
    secret, page = await enabled(browser, clock, **given)
    assert (page.status, page.errors, store.user("jane").totp) == (401, [error], "")
    assert dict(page.form["fields"])["secret"] == secret


@pytest.mark.parametrize("secret", ["", "short", "A" * 31 + "!", "a" * 32])
async def test_a_secret_of_another_form_is_refused(browser, store, secret):
    await browser.sign_in()
    page = await browser.page("/auth/factor")
    page = await browser.send(page, secret=secret, otp="000000", current=PASSWORD, action="enable")
    assert (page.errors, store.user("jane").totp) == (["bad_code"], "")


async def test_recovery_codes_are_renewed_and_the_factor_is_ended(browser, store, factor):
    await browser.send(await browser.sign_in(), otp=factor.code(), action="verify")
    page = await browser.page("/auth/factor")
    assert (await browser.send(page, current="wrong", action="disable")).errors == ["bad_credentials"]
    before = store.user("jane").recovery
    page = await browser.send(page, current=PASSWORD, action="codes")
    assert store.user("jane").recovery != before
    assert store.user("jane").totp
    page = await browser.send(page, current=PASSWORD, action="disable")
    assert (store.user("jane").totp, store.user("jane").recovery) == ("", ())
    assert "<li><code>" not in page.answer.text


@pytest.mark.parametrize("action", ["codes", "disable", ""])
async def test_what_is_not_begun_cannot_be_ended(browser, action):
    await browser.sign_in()
    page = await browser.send(await browser.page("/auth/factor"), current=PASSWORD, action=action)
    assert page.status == 403


async def test_a_factor_that_is_on_is_not_replaced_by_a_form(browser, store, factor):
    await browser.send(await browser.sign_in(), otp=factor.code(), action="verify")
    page = await browser.page("/auth/factor")
    page = await browser.send(page, secret="A" * 32, otp="000000", current=PASSWORD, action="enable")
    assert page.status == 403


# ---- passwords


async def test_a_first_password_must_be_changed_before_anything_else(browser, store, clock):
    person(store, must_change=True)
    tx = request(store, clock)
    page = await browser.sign_in(tx)
    assert page.name == "password"
    assert (await browser.page(f"/auth/patient?tx={tx}")).name == "password"
    page = await browser.send(
        page, current=PASSWORD, password="five purple kettles", again="five purple kettles", action="change"
    )
    assert page.name == "patient"
    assert not store.user("jane").must_change
    browser.client.cookies.clear()
    assert (await browser.sign_in("", "jane", PASSWORD)).errors == ["bad_credentials"]
    assert (await browser.sign_in("", "jane", "five purple kettles")).name == "apps"


@pytest.mark.parametrize(
    ("current", "fresh", "again", "error"),
    [
        ("wrong", "five purple kettles", "five purple kettles", "bad_credentials"),
        (PASSWORD, "five purple kettles", "five purple kettle", "different"),
        (PASSWORD, "short", "short", "weak_password"),
        (PASSWORD, "password1234", "password1234", "weak_password"),
        (PASSWORD, PASSWORD, PASSWORD, "weak_password"),
    ],
)
async def test_a_password_is_changed_by_rule(browser, store, current, fresh, again, error):
    await browser.sign_in()
    before = store.user("jane").password
    page = await browser.send(
        await browser.page("/auth/password"), current=current, password=fresh, again=again, action="change"
    )
    assert (page.name, page.status, page.errors) == ("password", 400, [error])
    assert store.user("jane").password == before


async def test_a_changed_password_ends_the_other_sessions(parts):
    browser, other = another(parts), another(parts)
    await browser.sign_in()
    await other.sign_in()
    fresh = "five purple kettles"
    page = await browser.send(
        await browser.page("/auth/password"), current=PASSWORD, password=fresh, again=fresh, action="change"
    )
    assert page.name == "apps"
    assert (await other.page("/auth/apps")).name == "login"


# ---- sessions and their cookies


@pytest.mark.parametrize(
    ("public", "name", "secure"),
    [("https://fhir.example.org", "__Host-fhir-session", True), ("http://localhost:8000", "fhir-session", False)],
)
async def test_the_session_cookie_is_kept_from_scripts_and_other_sites(store, clock, public, name, secure):
    app(store)
    person(store)
    browser = another(composed(store, clock, public))
    page = await browser.page("/auth/login")
    answer = await browser.post(page, username="jane", password=PASSWORD, action="login")
    (cookie,) = [line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{name}=")]
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= parts
    assert ("secure" in parts) == secure
    assert not any(part.startswith("domain") for part in parts)


async def test_signing_in_gives_a_new_session(parts, store):
    browser = another(parts)
    await browser.sign_in()
    fixed = browser.client.cookies["__Host-fhir-session"]
    tx = request(store, parts.now, prompt="login")
    page = await browser.page(f"/auth/login?tx={tx}")
    await browser.send(page, username="jane", password=PASSWORD, action="login")
    assert browser.client.cookies["__Host-fhir-session"] != fixed
    assert store.session(fixed) is None


async def test_a_cookie_that_was_planted_is_worth_nothing(parts, store):
    browser = another(parts)
    browser.client.cookies.set("__Host-fhir-session", "A" * 43, domain="fhir.example.org")
    await browser.sign_in()
    assert browser.client.cookies["__Host-fhir-session"] != "A" * 43
    assert store.session("A" * 43) is None


async def test_the_second_factor_gives_a_new_session_too(parts, store, factor):
    browser = another(parts)
    page = await browser.sign_in()
    half = browser.client.cookies["__Host-fhir-session"]
    await browser.send(page, otp=factor.code(), action="verify")
    assert store.session(half) is None


async def test_a_session_ends_when_it_is_idle(browser, clock):
    await browser.sign_in()
    for _ in range(4):
        clock.now += 1799
        assert (await browser.page("/auth/apps")).name == "apps"
    clock.now += 1800
    assert (await browser.page("/auth/apps")).name == "login"


async def test_a_session_ends_after_its_longest_time(browser, clock):
    await browser.sign_in()
    for _ in range(12 * 3):
        assert (await browser.page("/auth/apps")).name == "apps"
        clock.now += 1200
    assert (await browser.page("/auth/apps")).name == "login"


async def test_a_disabled_user_has_no_session(browser, store):
    await browser.sign_in()
    person(store, disabled=True)
    assert (await browser.page("/auth/apps")).name == "login"


async def test_sessions_are_listed_by_device_and_ended_from_afar(parts, store):
    browser, phone = another(parts), another(parts)
    phone.client.headers["User-Agent"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Safari/604.1"
    await browser.sign_in()
    await phone.sign_in()
    page = await browser.page("/auth/sessions")
    assert "Safari on iPhone" in page.answer.text
    assert len(page.forms) == 3
    page = await browser.send(page, action="end-others")
    assert len(page.forms) == 2
    assert (await phone.page("/auth/apps")).name == "login"
    mine = dict(page.forms[0]["fields"])["session"]
    assert (await browser.send(page, action="end", session=mine)).name == "login"
    assert store.sessions("jane") == []


async def test_the_online_access_of_a_session_ends_with_it(parts, store, clock):
    browser, other = another(parts), another(parts)
    await browser.sign_in()
    clock.now += 5
    await other.sign_in()
    for name, scope, seconds in (
        ("ends", "online_access", 5),
        ("stays", "online_access", 0),
        ("lasts", "offline_access", 5),
    ):
        store.add_grant(Grant(name, "app", f"{scope} patient/*.rs", clock(), "jane", auth_time=clock() - 5 + seconds))
    await browser.send(await browser.page("/auth/sessions"), action="end-others")
    assert {name: store.grant(name).revoked for name in ("ends", "stays", "lasts")} == {
        "ends": True, "stays": False, "lasts": False,
    }  # fmt: skip


async def test_the_session_of_somebody_else_cannot_be_ended(parts, store):
    person(store, "joe")
    browser, victim = another(parts), another(parts)
    await browser.sign_in()
    await victim.sign_in("", "joe")
    theirs = hashed(victim.client.cookies["__Host-fhir-session"])
    await browser.send(await browser.page("/auth/sessions"), action="end", session=theirs)
    assert (await victim.page("/auth/apps")).name == "apps"


# ---- apps


async def test_own_apps_are_listed_and_taken_back(browser, store, clock):
    app(store, id="other-app", name="Other")
    for name, client, user in (
        ("g1", "app", "jane"),
        ("g2", "app", "jane"),
        ("g3", "other-app", "jane"),
        ("g4", "app", "joe"),
    ):
        store.add_grant(Grant(name, client, "patient/*.rs", clock(), user))
    page = await browser.sign_in()
    assert (page.name, {form["attrs"]["id"] for form in page.forms}) == ("apps", {"revoke-app", "revoke-other-app"})
    (form,) = [form for form in page.forms if form["attrs"]["id"] == "revoke-app"]
    assert form["buttons"] == [("action", "revoke")]
    page.forms.append(form)
    page = await browser.send(page, action="revoke")
    assert [form["attrs"]["id"] for form in page.forms] == ["revoke-other-app"]
    assert [store.grant(name).revoked for name in ("g1", "g2", "g3", "g4")] == [True, True, False, False]


# ---- consent


async def consent_page(browser, store, clock, scope):
    return await browser.sign_in(request(store, clock, context=PATIENT, scope=scope))


async def granted(browser, store, page, **values) -> set[str]:
    back = landed(await browser.send(page, **values))
    return set(store.grant(store.use_code(back["code"]).grant).scope.split())


async def test_what_is_asked_is_ticked_and_identity_is_hidden(browser, store, clock):
    asked = "launch openid fhirUser offline_access patient/Patient.rs user/Encounter.read"
    page = await consent_page(browser, store, clock, asked)
    ticked = {scope for scope, on in page.form["boxes"].items() if on}
    assert ticked == {"offline_access", "patient/Patient.rs", "user/Encounter.read"}
    assert {value for name, value in page.form["fields"] if name == "scope"} == {"launch", "openid", "fhirUser"}


CATEGORY = "patient/{}.rs?category={}|{}"
CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
OBSERVATION = "http://terminology.hl7.org/CodeSystem/observation-category"
US_CORE = "http://hl7.org/fhir/us/core/CodeSystem"
NARROWER = {
    "patient/Condition.rs": [
        CATEGORY.format("Condition", CONDITION, "encounter-diagnosis"),
        CATEGORY.format("Condition", CONDITION, "problem-list-item"),
        CATEGORY.format("Condition", f"{US_CORE}/condition-category", "health-concern"),
    ],
    "patient/Observation.rs": [
        *[
            CATEGORY.format("Observation", OBSERVATION, code)
            for code in ("laboratory", "vital-signs", "social-history", "survey")
        ],
        CATEGORY.format("Observation", f"{US_CORE}/us-core-category", "sdoh"),
        CATEGORY.format("Observation", f"{US_CORE}/us-core-observation-category", "clinical-test"),
    ],
}


@pytest.mark.parametrize("wide", NARROWER)
async def test_categories_are_offered_unticked(browser, store, clock, wide):
    page = await consent_page(browser, store, clock, wide)
    assert page.form["boxes"] == {wide: True} | dict.fromkeys(NARROWER[wide], False)


async def test_each_type_is_offered_unticked_under_a_scope_for_all(browser, store, clock):
    page = await consent_page(browser, store, clock, "patient/*.rs")
    boxes = page.form["boxes"]
    assert boxes.pop("patient/*.rs") is True
    assert not any(boxes.values())
    types = {scope.removeprefix("patient/").partition(".")[0] for scope in boxes}
    assert {"Patient", "Observation", "Condition", "Encounter", "Practitioner", "Organization", "Provenance"} <= types
    assert {one for many in NARROWER.values() for one in many} <= boxes.keys()


async def test_v1_scopes_keep_their_form(browser, store, clock):
    page = await consent_page(browser, store, clock, "patient/*.read")
    assert "patient/Immunization.read" in page.form["boxes"]
    assert await granted(browser, store, page, scope=["patient/Immunization.read"], action="approve") == {
        "patient/Immunization.read"
    }


GRANTS = [
    ("types instead of all", "openid patient/*.rs", ["openid", "patient/Patient.rs", "patient/Condition.rs"], None),
    (
        "a wide one wins over its narrower ones",
        "patient/*.rs",
        ["patient/*.rs", "patient/Patient.rs"],
        {"patient/*.rs"},
    ),
    (
        "categories",
        "patient/Condition.rs patient/Patient.rs",
        ["patient/Patient.rs", *NARROWER["patient/Condition.rs"][:2]],
        None,
    ),
    (
        "what was not asked for is not given",
        "patient/Patient.rs",
        ["patient/Patient.rs", "patient/Patient.cruds", "user/*.cruds"],
        {"patient/Patient.rs"},
    ),
    ("another context", "patient/Patient.rs openid", ["openid", "user/Patient.rs", "system/Patient.rs"], {"openid"}),
    (
        "words that were not asked for",
        "patient/Patient.rs",
        ["patient/Patient.rs", "offline_access", "fhirUser", "junk"],
        {"patient/Patient.rs"},
    ),
    (
        "malformed",
        "patient/*.cruds",
        ["patient/Patient.rs", "patient/Patient.dus", "patient/<b>", ""],
        {"patient/Patient.rs"},
    ),
]


@pytest.mark.parametrize(("asked", "posted", "given"), [row[1:] for row in GRANTS], ids=[row[0] for row in GRANTS])
async def test_granted_is_posted_as_far_as_derivable(browser, store, clock, asked, posted, given):
    page = await consent_page(browser, store, clock, asked)
    page.form["fields"] = [field for field in page.form["fields"] if field[0] != "scope"]
    assert await granted(browser, store, page, scope=posted, action="approve") == (given or set(posted))


async def test_fhir_user_is_not_given_to_who_is_nobody(browser, store, clock):
    person(store, fhir_user="")
    page = await consent_page(browser, store, clock, "openid fhirUser patient/Patient.rs")
    assert ("scope", "fhirUser") not in page.form["fields"]
    assert await granted(
        browser, store, page, scope=["openid", "fhirUser", "patient/Patient.rs"], action="approve"
    ) == {"openid", "patient/Patient.rs"}


async def test_denying_goes_back_with_access_denied(browser, store, clock):
    page = await consent_page(browser, store, clock, SCOPE)
    back = landed(await browser.send(page, action="deny"))
    assert (back["error"], back["state"], "code" in back) == ("access_denied", "s1", False)


async def test_granting_nothing_is_denying(browser, store, clock):
    page = await consent_page(browser, store, clock, "patient/Patient.rs")
    assert landed(await browser.send(page, scope=[], action="approve"))["error"] == "access_denied"


@pytest.mark.parametrize("action", ["", "maybe", "APPROVE"])
async def test_an_unknown_action_grants_nothing(browser, store, clock, action):
    page = await consent_page(browser, store, clock, SCOPE)
    assert (await browser.send(page, action=action)).status == 403
    assert store.grants("jane") == []


async def test_a_get_never_approves(browser, store, clock):
    page = await consent_page(browser, store, clock, "patient/Patient.rs")
    fields = dict(page.form["fields"])
    again = await browser.get(
        f"/auth/consent?tx={fields['tx']}&csrf={fields['csrf']}&scope=patient/Patient.rs&action=approve"
    )
    assert again.status_code == 200
    assert store.grants("jane") == []


async def test_one_consent_serves_one_tab(browser, store, clock):
    page = await consent_page(browser, store, clock, "patient/Patient.rs")
    assert "code" in landed(await browser.send(page, action="approve"))
    again = await browser.send(page, action="approve")
    assert (again.status, again.name, again.errors) == (400, "error", ["expired_tx"])


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}"])
async def test_what_others_named_is_escaped(parts, browser, store, clock, hostile):
    app(store, name=hostile)
    parts.directory.known["p1"] = hostile
    page = await browser.sign_in(request(store, clock, login_hint=hostile))
    for one in (page, await browser.send(page, patient="p1", action="select")):
        assert html.escape(hostile).replace("&quot;", "&#34;") in one.answer.text
        assert "<script" not in one.answer.text
        assert "<img" not in one.answer.text


async def test_scope_text_is_escaped(browser, store, clock):
    hostile = "patient/Observation.rs?category=<script>alert(1)</script>"
    page = await consent_page(browser, store, clock, f"openid {hostile}")
    assert "<script" not in page.answer.text
    assert hostile in page.form["boxes"]


async def test_an_app_without_pkce_is_shown_in_red(browser, store, clock):
    app(store, kind="symmetric", legacy_no_pkce=True)
    page = await consent_page(browser, store, clock, "patient/Patient.rs")
    assert 'class="danger"' in page.answer.text


# ---- errors, forgery, headers


@pytest.mark.parametrize("name", [name for name in PAGES if name != "login"] + ["login"])
async def test_an_unknown_request_is_an_error_page(browser, name):
    page = await browser.page(f"/auth/{name}?tx=unknown")
    assert (page.status, page.name, page.errors) == (400, "error", ["expired_tx"])
    assert '<main id="auth-error" data-error="expired_tx">' in page.answer.text


async def test_a_request_expires(browser, store, clock):
    tx = request(store, clock)
    clock.now += 900
    assert (await browser.page(f"/auth/login?tx={tx}")).errors == ["expired_tx"]


async def test_an_app_that_was_disabled_meanwhile_is_an_error_page(browser, store, clock):
    tx = request(store, clock)
    app(store, disabled=True)
    assert (await browser.page(f"/auth/login?tx={tx}")).errors == ["invalid_client"]


async def test_a_request_belongs_to_the_first_session_it_meets(parts, store, clock):
    browser, thief = another(parts), another(parts)
    person(store, "eve")
    tx = request(store, clock)
    await browser.sign_in(tx)
    page = await thief.sign_in("", "eve")
    assert (await thief.page(f"/auth/consent?tx={tx}")).errors == ["expired_tx"]
    assert page.name == "apps"
    again = another(parts)
    assert (await again.sign_in(tx, "eve")).errors == ["expired_tx"]


@pytest.mark.parametrize("csrf", ["", "x", "0.0", "é.é"])
async def test_a_login_form_of_another_site_is_refused(browser, csrf):
    page = await browser.page("/auth/login")
    refused = await browser.send(page, csrf=csrf, username="jane", password=PASSWORD, action="login")
    assert (refused.status, refused.name, refused.errors) == (403, "error", ["csrf"])


async def test_the_login_form_of_another_browser_is_refused(parts):
    browser, attacker = another(parts), another(parts)
    page = await attacker.page("/auth/login")
    await browser.page("/auth/login")
    assert (await browser.send(page, username="jane", password=PASSWORD, action="login")).status == 403


async def test_no_page_acts_on_a_forged_form(parts, store, clock):
    browser, attacker = another(parts), another(parts)
    person(store, "eve")
    await attacker.sign_in("", "eve")
    forged = dict((await attacker.page("/auth/sessions")).form["fields"])["csrf"]
    page = await browser.sign_in(request(store, clock))
    refused = [await browser.send(page, csrf=forged, patient="p1", action="select")]
    page = await browser.send(page, patient="p1", action="select")
    refused.append(await browser.send(page, csrf=forged, action="approve"))
    store.add_grant(Grant("g1", "app", "patient/*.rs", clock(), "jane"))
    for name in ("apps", "sessions", "password", "factor"):
        page = await browser.page(f"/auth/{name}")
        refused.append(await browser.send(page, csrf=forged, action="revoke"))
    assert [(one.status, one.errors) for one in refused] == [(403, ["csrf"])] * 6
    assert len(store.grants("jane")) == 1


async def test_a_form_without_a_session_leads_to_the_login(browser, store, clock):
    page = await consent_page(browser, store, clock, "patient/Patient.rs")
    del browser.client.cookies["__Host-fhir-session"]
    assert (await browser.send(page, action="approve")).name == "login"
    assert store.grants("jane") == []


@pytest.mark.parametrize(
    "redirect",
    [
        (BACK, " https://app.example.org"),
        ("http://127.0.0.1:5555/cb", " http://127.0.0.1:5555"),
        ("org.example.app:/cb", " org.example.app:"),
        ("http://[::1]:7/cb", " http:"),
    ],
)
async def test_forms_lead_here_and_to_the_app_alone(browser, store, clock, redirect):
    uri, source = redirect
    app(store, redirect_uris=(uri,))
    page = await browser.page(f"/auth/login?tx={request(store, clock, redirect_uri=uri)}")
    policy = page.answer.headers["content-security-policy"]
    assert f"form-action 'self'{source}" in policy.split("; ")
    assert "script" not in policy
    assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy.split("; "))


@pytest.mark.parametrize("path", [f"/auth/{name}" for name in PAGES] + ["/auth/login?tx=unknown"])
async def test_pages_are_not_kept_framed_or_sniffed(browser, path):
    answer = await browser.get(path)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers
    if answer.status_code != 303:
        assert answer.headers["x-frame-options"] == "DENY"
        assert "<script" not in answer.text


async def test_the_way_back_to_the_app_is_not_hindered(browser, store, clock):
    page = await consent_page(browser, store, clock, "patient/Patient.rs")
    answer = await browser.post(page, action="approve")
    assert answer.status_code == 303
    assert not {"x-frame-options", "content-security-policy", "cross-origin-opener-policy"} & set(answer.headers)


BAD = [
    ("a form that is no form", "application/json", b"{}", 415),
    ("a form of files", "multipart/form-data; boundary=x", b"--x--", 415),
    ("too long a form", "application/x-www-form-urlencoded", b"a=" + b"x" * 600_000, 413),
    ("no text", "application/x-www-form-urlencoded", b"\xff=1", 400),
    ("broken text", "application/x-www-form-urlencoded", b"username=%ff", 400),
    ("too many fields", "application/x-www-form-urlencoded", b"a=1&" * 6000, 400),
    ("nothing", "application/x-www-form-urlencoded", b"", 403),
    ("a field twice", "application/x-www-form-urlencoded", b"csrf=a&csrf=b", 403),
]


@pytest.mark.parametrize(("kind", "body", "status"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_a_form_that_cannot_be_read_is_an_error_page(browser, kind, body, status):
    answer = await browser.client.post("/auth/login", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert 'data-page="error"' in answer.text


ODD = [
    "\0",
    "a\0b",
    "\u202e",
    "\ufffe",
    "😀" * 50,
    "'; DROP TABLE user; --",
    "%00",
    "../..",
    "\r\nSet-Cookie: a=b",
    "İ",
    "ß" * 201,
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
async def test_odd_texts_are_answered_as_wrong_ones(browser, store, clock, text):
    assert (await browser.sign_in("", text, text)).errors == ["bad_credentials"]
    tx = request(store, clock)
    page = await browser.sign_in(tx)
    assert (await browser.send(page, patient=text, action="select")).errors == ["no_patient"]
    page = await browser.send(page, q=text, search="search")
    assert (page.name, page.status) == ("patient", 200)
    assert (await browser.page(f"/auth/login?{urlencode({'tx': text})}")).errors == ["expired_tx"]


async def test_queries_that_cannot_be_read_are_an_error_page(browser):
    assert (await browser.page("/auth/login?tx=%ff")).status == 400


async def test_pages_take_get_and_post_alone(browser):
    for method in ("PUT", "DELETE", "PATCH"):
        assert (await browser.client.request(method, "/auth/login")).status_code == 405


async def test_the_style_sheet_is_served(browser):
    answer = await browser.get("/auth/style.css")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/css; charset=utf-8")


async def test_pages_below_a_path_of_the_public_url_lead_there(store, clock):
    app(store)
    person(store)
    browser = another(composed(store, clock, "https://hospital.example.org/ehr"))
    answer = await browser.client.get("https://hospital.example.org/auth/apps")
    assert answer.headers["location"] == "/ehr/auth/login"
    page = await browser.client.get("https://hospital.example.org/auth/login")
    assert 'action="/ehr/auth/login"' in page.text


async def test_the_address_of_an_ipv6_network_is_one():
    assert attempts.address_subject("2001:db8::1") == attempts.address_subject("2001:db8::ffff:1")
    assert attempts.address_subject("2001:db8:0:1::1") != attempts.address_subject("2001:db8::1")
    assert attempts.address_subject("::1") == "address:::/64"


def test_the_device_is_named_by_browser_and_system():
    assert (
        device_of("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36") == "Chrome on Linux"
    )
    assert device_of("") == "unknown device"
