"""Attacks by many at once: what is good once is good once however many bring it at the same moment (19-21, 23, 31)."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pyotp
import pytest

from tests.ehr.house import PASSWORD
from tests.ehr.people import back

pytestmark = pytest.mark.serial
MANY = 20


def at_once(what: Callable[[int], Any], many: int = MANY) -> list[Any]:
    """What each of many threads got that began together."""
    gate = Barrier(many)

    def one(number: int) -> Any:
        gate.wait()
        return what(number)

    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(one, range(many)))


def test_attack_19_of_many_that_follow_a_launch_one_arrives(ehr):
    app, handle = ehr.apps["public"], ehr.launch("public", "--patient", "a")
    parameters = app.parameters(launch=handle, scope="launch patient/*.rs")
    answers = at_once(lambda _: ehr.http.get(ehr.discovery["authorization_endpoint"], params=parameters))
    arrived = [answer for answer in answers if "/auth/login?tx=" in answer.headers["location"]]
    assert len(arrived) == 1
    assert all("error=invalid_request" in answer.headers["location"] for answer in answers if answer not in arrived)


def test_attack_21_of_many_approvals_of_one_consent_one_gives_a_code(ehr):
    app, browser = ehr.apps["public"], ehr.browser()
    page = browser.to_consent(browser.asked(app))
    pages = at_once(lambda _: browser.send(page, action="approve"), 10)
    codes = [back(one, app.redirect)["code"] for one in pages if one.status == 303]
    assert len(codes) == 1
    assert app.exchange(codes[0]).status_code == 200


def test_attack_21_an_approval_and_a_denial_at_once_end_in_one_of_them(ehr):
    app, browser = ehr.apps["public"], ehr.browser()
    page = browser.to_consent(browser.asked(app))
    pages = at_once(lambda number: browser.send(page, action=("approve", "deny")[number]), 2)
    assert sorted(one.status for one in pages) == [303, 400]


def test_attack_23_of_many_that_bring_one_code_of_the_second_factor_one_is_let_in(ehr):
    told = ehr.cli("user", "add", "raced", "--role", "doctor", "--password-stdin", "--totp", stdin=f"{PASSWORD}\n")
    ready = []
    for _ in range(4):
        browser = ehr.browser("raced")
        page = browser.send(
            browser.open(f"{ehr.public}/auth/login"), username="raced", password=PASSWORD, action="login"
        )
        ready.append((browser, page))
    code = pyotp.TOTP(told["totpSecret"]).now()
    names = at_once(lambda number: ready[number][0].send(ready[number][1], otp=code, action="verify").name, len(ready))
    assert sorted(names) == ["apps", "otp", "otp", "otp"]


def test_attack_23_many_guesses_at_once_are_no_more_guesses(ehr):
    ehr.user("stormed", "--role", "doctor")
    ready = [(browser := ehr.browser("stormed"), browser.open(f"{ehr.public}/auth/login")) for _ in range(MANY)]

    def guess(number: int) -> str:
        browser, page = ready[number]
        return browser.send(page, username="stormed", password=f"wrong {number}", action="login").errors[0]

    errors = at_once(guess)
    assert errors.count("bad_credentials") <= 5
    assert set(errors) == {"bad_credentials", "locked"}
    assert ehr.browser("stormed").sign_in().errors == ["locked"]


def test_attack_31_what_is_refreshed_while_it_is_revoked_ends(ehr):
    app = ehr.apps["public"]
    body = app.launched(ehr.browser())

    def either(number: int) -> Any:
        if number == 0:
            return app.post("revocation_endpoint", token=body["refresh_token"])
        return app.refresh(body["refresh_token"])

    answers = at_once(either, 8)
    assert answers[0].status_code == 200
    time.sleep(1.1)
    for answer in answers[1:]:
        if answer.status_code == 200:
            assert ehr.fhir("Patient/a", answer.json()["access_token"]).status_code == 401
            assert app.refresh(answer.json()["refresh_token"]).status_code == 400
