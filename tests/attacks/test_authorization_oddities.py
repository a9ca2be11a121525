"""Requests to the authorization server that nobody means: each is answered, none is the server's fault (18, 22, 29)."""

import random

import httpx2
import pytest

ENDPOINTS = (
    "auth/authorize", "auth/token", "auth/introspect", "auth/revoke", "auth/register", "auth/userinfo", "auth/jwks", "auth/logout",
    "auth/login", "auth/otp", "auth/password", "auth/patient", "auth/consent", "auth/apps", "auth/sessions", "auth/factor",
    "auth/break-glass", "auth/style.css", "auth/smart-style.json", "auth/", "auth/nothing", ".well-known/smart-configuration",
    "fhir/.well-known/openid-configuration", ".well-known/nothing",
)  # fmt: skip
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
BODIES = (
    b"", b"a=b", b"&&&===", b"=", b"\0", b"\xff\xfe", b"a" * 200_000, b"a=" + b"%" * 1000, b"&".join(b"a%d=1" % n for n in range(6000)),
    b"grant_type=%00&client_id=%ff", b"{}", b"[]", b"[" * 50_000, b'{"a":', b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--",
    b"tx=" + b"x" * 5000, b"csrf=%E2%82", b"scope=" + b"patient/*.rs+" * 3000, b"client_assertion_type=x&client_assertion=..", b"token=%F0%9F",
)  # fmt: skip
KINDS = (
    "application/x-www-form-urlencoded", "application/json", "application/fhir+json", "multipart/form-data; boundary=x", "text/plain", "", ";",
    "application/x-www-form-urlencoded; charset=utf-16", "application/json; charset=\xff",
)  # fmt: skip
HEADERS = (
    {}, {"Authorization": "Basic =="}, {"Authorization": "Bearer ."}, {"Authorization": "\xff"}, {"Cookie": "fhir-session=\xff; fhir-login=;=;;"},
    {"Cookie": "x" * 9000}, {"Accept": "*/*;q=x"}, {"Origin": "null"}, {"Content-Encoding": "gzip"}, {"Accept-Language": "x" * 500},
    {"User-Agent": "\xff<script>"}, {"X-Forwarded-For": "1.2.3.4, ::1, x"}, {"Host": "[::1"}, {"Range": "bytes=0-0"}, {"If-None-Match": "*"},
)  # fmt: skip
QUERIES = (
    "", "?", "?tx=x", "?tx=%ff", "?tx=%00", "?a=1&a=2", "?" + "a=1&" * 3000, "?client_id=public&redirect_uri=%00", "?q=%ff&tx=x", "?=&;=",
    "?response_type=code&client_id=public&redirect_uri=https%3A%2F%2Fapp.example.org%2Fback%3Fkept%3D1&state=%ff%00&scope=%ff",
    "?id_token_hint=a.b.c&post_logout_redirect_uri=javascript:1", "?max_age=99999999999999999999", "?prompt=%F0%9F%92%A9",
)  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_attack_29_an_odd_request_is_answered_with_its_fault(ehr, endpoint, rounds):
    rng = random.Random(f"{endpoint} {rounds}")
    for _ in range(25 * rounds):
        kind, extra = rng.choice(KINDS), rng.choice(HEADERS)
        method, query, body = rng.choice(METHODS), rng.choice(QUERIES), rng.choice(BODIES)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in ({"Content-Type": kind} | extra).items()]
        sent = httpx2.Request(
            method, f"{ehr.base.removesuffix('/fhir')}/{endpoint}{query}", content=body, headers=headers
        )
        answer = ehr.http.send(sent)
        case = (method, query[:80], body[:40], kind, extra)
        assert answer.status_code < 500, (case, answer.text[:300])
        assert "Traceback" not in answer.text, case
        assert "location" not in answer.headers or answer.status_code in (201, 303, 307, 308), case


def test_attack_29_after_all_of_that_people_sign_in(ehr):
    assert ehr.apps["public"].launched(ehr.browser())["patient"] == "a"
    log = ehr.server.log.read_text()
    assert "Traceback" not in log
    assert '"level":"error"' not in log.replace(" ", "")
