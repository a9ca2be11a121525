"""Attacks on the token endpoint and on tokens: codes, refresh tokens, client authentication, confusion, introspection (24, 25, 29-31)."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from tests.ehr.apps import ASSERTION, VERIFIER, App, basic, opened, segment
from tests.ehr.house import PASSWORD, SECRET

KINDS = ("public", "symmetric", "asymmetric")
by_kind = pytest.mark.parametrize("kind", KINDS)


def gone(ehr, token) -> bool:
    """Whether an access token is refused, a second from now at the latest."""
    end = time.monotonic() + 1.1
    while (answer := ehr.fhir("Patient/a", token)).status_code != 401 and time.monotonic() < end:
        time.sleep(0.1)
    return answer.status_code == 401


@by_kind
def test_attack_24_a_code_used_again_ends_what_was_given_for_it(ehr, kind):
    app = ehr.apps[kind]
    code = app.code(ehr.browser())
    body = app.exchange(code).json()
    assert ehr.fhir("Patient/a", body["access_token"]).status_code == 200
    answer = app.exchange(code)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert app.refresh(body["refresh_token"]).status_code == 400
    assert gone(ehr, body["access_token"])


@pytest.mark.serial
@by_kind
def test_attack_24_of_fifty_parallel_exchanges_one_succeeds_and_its_tokens_end(ehr, kind):
    app = ehr.apps[kind]
    code = app.code(ehr.browser())
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: app.exchange(code), range(50)))
    good = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(good) <= 1
    assert all(answer.json()["error"] == "invalid_grant" for answer in answers if answer.status_code != 200)
    for body in good:
        assert app.refresh(body["refresh_token"]).status_code == 400
        assert gone(ehr, body["access_token"])


def test_attack_24_a_code_is_its_client_s(ehr):
    app = ehr.apps["public"]
    for thief in (ehr.apps["symmetric"], ehr.apps["asymmetric"], ehr.app("thief", "public")):
        code = app.code(ehr.browser("ana"))
        answer = thief.exchange(code)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
        assert app.exchange(code).status_code == 400, "a code that was stolen is worth nothing"


@pytest.mark.parametrize(
    "uri", [None, "", "https://app.example.org/back", "https://evil.example/", "https://app.example.org/back?kept=1&"]
)
def test_attack_24_a_code_is_its_redirect_uri_s(ehr, uri):
    app = ehr.apps["public"]
    answer = app.exchange(app.code(ehr.browser("ana")), redirect_uri=uri)
    assert answer.status_code == 400
    assert "access_token" not in answer.json()


def test_attack_25_a_refresh_token_used_again_ends_the_family(ehr):
    app = ehr.apps["public"]
    body = app.launched(ehr.browser())
    first = body["refresh_token"]
    second = app.refresh(first).json()["refresh_token"]
    assert app.refresh(first).json()["refresh_token"] == second, "an answer was lost"
    third = app.refresh(second).json()
    assert third["refresh_token"] not in (first, second)
    assert app.refresh(first).json()["error"] == "invalid_grant", "two holders"
    assert app.refresh(third["refresh_token"]).status_code == 400
    assert gone(ehr, third["access_token"])


@pytest.mark.serial
def test_attack_25_of_many_parallel_refreshes_all_have_the_same_successor(ehr):
    app = ehr.apps["public"]
    token = app.launched(ehr.browser())["refresh_token"]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: app.refresh(token), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    successors = {answer.json()["refresh_token"] for answer in answers}
    assert len(successors) == 1
    assert app.refresh(successors.pop()).status_code == 200


def test_attack_25_a_refresh_token_is_its_client_s(ehr):
    app = ehr.apps["public"]
    token = app.launched(ehr.browser())["refresh_token"]
    for thief in (ehr.apps["symmetric"], ehr.apps["asymmetric"], ehr.app("thief", "public")):
        answer = thief.refresh(token)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert app.refresh(token, client_id="thief").json()["error"] == "invalid_grant"
    assert app.refresh(token, client_id="nobody").status_code in (400, 401)
    assert app.refresh(token, client_id=None).status_code == 200, "the token says whose it is"


def test_attack_25_a_confidential_client_proves_itself_to_refresh(ehr):
    app = ehr.apps["symmetric"]
    token = app.launched(ehr.browser())["refresh_token"]
    for headers in (
        basic("symmetric", "wrong"),
        basic("symmetric", ""),
        basic("asymmetric", SECRET),
        {"Authorization": "Basic"},
    ):
        assert app.refresh(token, headers).status_code == 401
    bare = App(ehr, "symmetric", "public", app.redirect)
    assert bare.refresh(token).status_code in (400, 401)
    assert bare.refresh(token, client_id=None).status_code in (400, 401)
    assert app.refresh(token, client_id="public").status_code == 401
    assert app.refresh(token).status_code == 200


@pytest.mark.parametrize("who", ["user", "client"])
def test_attack_25_who_is_disabled_gets_nothing(ehr, who):
    ehr.user(f"leaving-{who}", "--role", "patient", "--fhir-user", "Patient/a")
    app, browser = ehr.app(f"leaving-{who}", "public"), ehr.browser(f"leaving-{who}")
    body, code = app.launched(browser), app.code(browser)
    ehr.cli(who, "disable", f"leaving-{who}")
    for answer in (app.refresh(body["refresh_token"]), app.exchange(code)):
        assert answer.status_code in (400, 401)
        assert answer.json()["error"] in ("invalid_grant", "invalid_client")
    assert gone(ehr, body["access_token"])
    page = browser.asked(app)
    assert page.name == ("login" if who == "user" else "error")
    ehr.cli(who, "enable", f"leaving-{who}")
    if who == "user":
        assert app.refresh(body["refresh_token"]).status_code == 400, "what was revoked stays revoked"


def test_attack_29_there_is_one_authentication_in_a_request(ehr):
    one, other = ehr.apps["symmetric"], ehr.apps["asymmetric"]
    header, proof = one.proof()[0], other.proof()[1]
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    for headers, more in (
        (header, proof), (header, {"client_secret": SECRET}), ({}, {"client_id": "symmetric", "client_secret": SECRET}),
        (header, {"client_assertion_type": ASSERTION}), (header, {"client_id": "public"}), ({}, proof | {"client_id": "public"}),
        (header | {"X": "1"}, {"client_assertion": "x"}),
    ):  # fmt: skip
        answer = ehr.http.post(ehr.discovery["token_endpoint"], data=form | more, headers=headers)
        assert answer.status_code in (400, 401), more
        assert answer.json()["error"] in ("invalid_request", "invalid_client")
    twice = [*header.items(), *header.items()]
    answer = ehr.http.post(ehr.discovery["token_endpoint"], data=form, headers=twice)
    assert answer.status_code in (400, 401)
    repeated = "grant_type=refresh_token&grant_type=refresh_token&refresh_token=x&client_id=public"
    answer = ehr.http.post(
        ehr.discovery["token_endpoint"], content=repeated, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    "text",
    [
        b"symmetric", b":", b"symmetric:", b"symmetric:%00", b"symmetric\0:x", b"symmetric:x\0", b"\xff\xfe:x", b"symmetric:a:b",
        b"symm%65tric:x", b"symmetric:%", b"%zz:x", b"symmetric:" + b"x" * 20_000,
    ],
)  # fmt: skip
def test_attack_29_odd_credentials_are_refused(ehr, text):
    headers = {"Authorization": f"Basic {base64.b64encode(text).decode()}"}
    answer = ehr.apps["symmetric"].refresh("x", headers)
    assert answer.status_code in (401, 431)
    if answer.status_code == 401:
        assert answer.json()["error"] == "invalid_client"
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_attack_29_a_secret_with_reserved_characters_is_taken_encoded_or_plain(ehr):
    app = ehr.apps["symmetric"]
    plain = {"Authorization": f"Basic {base64.b64encode(f'symmetric:{SECRET}'.encode()).decode()}"}
    assert app.exchange(app.code(ehr.browser()), plain).status_code in (200, 401)
    assert app.exchange(app.code(ehr.browser()), basic("symmetric", SECRET)).status_code == 200


def test_attack_29_nothing_secret_is_taken_from_the_url(ehr):
    app = ehr.apps["public"]
    code = app.code(ehr.browser())
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": app.redirect,
        "code_verifier": VERIFIER,
        "client_id": "public",
    }
    for query in (form, {"client_id": "symmetric", "client_secret": SECRET}, {"x": "1"}):
        answer = ehr.http.post(ehr.discovery["token_endpoint"], params=query, data={} if query is form else form)
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"
    assert ehr.http.get(ehr.discovery["token_endpoint"], params=form).status_code == 405
    assert app.exchange(code).status_code == 200


@pytest.mark.parametrize(
    ("app", "grant"),
    [
        ("public", "client_credentials"), ("symmetric", "client_credentials"), ("asymmetric", "client_credentials"),
        ("backend", "authorization_code"), ("backend", "refresh_token"), ("public", "password"), ("symmetric", "implicit"),
        ("asymmetric", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("public", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("public", "urn:ietf:params:oauth:grant-type:device_code"),
    ],
)  # fmt: skip
def test_attack_29_each_kind_has_its_grants(ehr, app, grant):
    form = {
        "code": "x",
        "refresh_token": "x",
        "username": "doctor",
        "password": "x",
        "scope": "system/*.rs",
        "assertion": "x",
    }
    answer = ehr.apps[app].token(grant_type=grant, **form)
    assert answer.status_code == 400
    assert answer.json()["error"] in ("unauthorized_client", "unsupported_grant_type")


def test_attack_29_a_service_is_not_sent_through_the_pages(ehr):
    app = ehr.apps["backend"]
    answer = ehr.http.get(ehr.discovery["authorization_endpoint"], params=app.parameters())
    assert answer.status_code == 400


@pytest.fixture(scope="module")
def body(ehr):
    """A token response."""
    return ehr.apps["public"].launched(ehr.browser("ana"))


def confused(ehr, body) -> dict[str, str]:
    """What is no access token."""
    access = body["access_token"]
    head, claims, signature = access.split(".")
    key = ECKey.generate_key("P-256", {"kid": opened(access, 0)["kid"]}, private=True)
    public = ehr.http.get(ehr.discovery["jwks_uri"]).json()["keys"]
    theirs = next(one for one in public if one["kid"] == opened(access, 0)["kid"])
    symmetric = OctKey.import_key(json.dumps(theirs))
    return {
        "id_token": body["id_token"],
        "refresh token": body["refresh_token"],
        "code": ehr.apps["public"].code(ehr.browser("ana")),
        "launch": ehr.launch("public", "--patient", "a"),
        "client assertion": ehr.apps["backend"].assertion(),
        "assertion for the base": ehr.apps["backend"].assertion(aud=f"{ehr.public}/fhir", header={"typ": "at+jwt"}),
        "alg none": f"{segment({'alg': 'none', 'typ': 'at+jwt', 'kid': theirs['kid']})}.{claims}.",
        "HS256 with the public key": jwt.encode(
            {"alg": "HS256", "typ": "at+jwt", "kid": theirs["kid"]}, opened(access), symmetric, algorithms=["HS256"]
        ),
        "another key of this kid": jwt.encode(opened(access, 0), opened(access), key, algorithms=["ES256"]),
        "its own key in the header": jwt.encode(
            opened(access, 0) | {"jwk": key.as_dict(private=False)}, opened(access), key, algorithms=["ES256"]
        ),
        "claims changed": f"{head}.{segment(opened(access) | {'patient': 'b'})}.{signature}",
        "no signature": f"{head}.{claims}.",
        "signature cut": access[:-2],
        "signature of zeros": f"{head}.{claims}.{segment(bytes(64))}",
        "typ JWT": f"{segment(opened(access, 0) | {'typ': 'JWT'})}.{claims}.{signature}",
        "kid of another": f"{segment(opened(access, 0) | {'kid': '../../x'})}.{claims}.{signature}",
        "nested": f"{head}.{segment(access.encode())}.{signature}",
        "five parts": f"{access}.x.y",
        "padded": f"{access}==",
        "twice": f"{access},{access}",
        "one megabyte": "x" * 60_000,
        "demonstration": "demo",
    }


def test_attack_30_nothing_but_an_access_token_is_one(ehr, body):
    assert ehr.fhir("Patient/a", body["access_token"]).status_code == 200
    for name, token in confused(ehr, body).items():
        answer = ehr.http.get(f"{ehr.base}/Patient/a", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in ((401, 431) if name == "one megabyte" else (401,)), name
        assert "Alpha" not in answer.text
        told = ehr.http.post(f"{ehr.public}/auth/userinfo", headers={"Authorization": f"Bearer {token}"})
        assert told.status_code in (400, 401, 431), name


def test_attack_30_a_token_is_sent_in_the_header_alone(ehr, body):
    token = body["access_token"]
    for answer in (
        ehr.http.get(f"{ehr.base}/Patient/a", params={"access_token": token}),
        ehr.http.get(f"{ehr.base}/Patient/a", headers={"Cookie": f"access_token={token}; fhir-session={token}"}),
        ehr.http.post(f"{ehr.base}/Patient/_search", data={"_id": "a", "access_token": token}),
        ehr.http.get(f"{ehr.base}/Patient/a", headers={"Authorization": f"Basic {token}"}),
        ehr.http.get(f"{ehr.base}/Patient/a", headers={"Authorization": token}),
        ehr.http.get(
            f"{ehr.base}/Patient/a", headers=[("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
        ),
    ):
        assert answer.status_code == 401, answer.request.url
        assert "Alpha" not in answer.text


def test_attack_30_no_other_token_is_traded_for_a_token(ehr, body):
    app = ehr.apps["public"]
    for token in (body["access_token"], body["id_token"], app.code(ehr.browser("ana")), "", "a.b.c"):
        assert app.refresh(token).status_code == 400
    for code in (body["access_token"], body["refresh_token"], body["id_token"]):
        assert app.exchange(code).status_code == 400
    for assertion in (body["id_token"], body["access_token"]):
        answer = ehr.apps["backend"].service(client_assertion=assertion, client_assertion_type=ASSERTION)
        assert answer.json()["error"] == "invalid_client"


def test_attack_31_introspection_needs_authentication(ehr, body):
    form = {"token": body["access_token"]}
    for headers, more in (
        ({}, {}), ({}, {"client_id": "public"}), ({}, {"client_id": "symmetric"}), (basic("symmetric", "wrong"), {}),
        ({"Authorization": "Bearer x"}, {}), ({"Authorization": f"Bearer {body['id_token']}"}, {}),
    ):  # fmt: skip
        answer = ehr.http.post(ehr.discovery["introspection_endpoint"], data=form | more, headers=headers)
        assert answer.status_code in (400, 401), more
        assert "active" not in answer.json()


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_attack_31_an_app_learns_and_ends_nothing_of_others(ehr, body, name):
    app = ehr.apps["symmetric"]
    answer = app.post("introspection_endpoint", token=body[name])
    assert answer.json() == {"active": False}
    junk = app.post("introspection_endpoint", token="x" * 43)
    assert (junk.status_code, junk.json(), sorted(junk.headers)) == (200, answer.json(), sorted(answer.headers))
    app.post("revocation_endpoint", token=body[name])
    time.sleep(1.1)
    assert ehr.fhir("Patient/a", body["access_token"]).status_code == 200


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "nonsense"])
def test_attack_31_revocation_ends_the_family_whatever_is_hinted(ehr, name, hint):
    app = ehr.apps["symmetric"]
    body = app.launched(ehr.browser("ana"))
    later = app.refresh(body["refresh_token"]).json()
    answer = app.post("revocation_endpoint", token=body[name], token_type_hint=hint)
    assert answer.status_code == 200
    assert app.refresh(later["refresh_token"]).status_code == 400
    assert gone(ehr, later["access_token"])
    assert gone(ehr, body["access_token"])
    assert app.post("introspection_endpoint", token=later["access_token"]).json() == {"active": False}


def test_attack_31_revoking_what_is_not_there_is_no_oracle(ehr):
    app = ehr.apps["symmetric"]
    answers = {app.post("revocation_endpoint", token=token).text for token in ("x", "x" * 43, "a.b.c", "é")}
    assert answers == {"{}"}
    assert ehr.http.post(ehr.discovery["revocation_endpoint"], data={"token": "x"}).status_code in (400, 401)


def test_attack_40_no_secret_of_a_launch_is_in_the_log(ehr):
    handle = ehr.launch("symmetric", "--patient", "a")
    app, browser = ehr.apps["symmetric"], ehr.browser()
    found = browser.authorize(app, launch=handle, scope="launch openid offline_access patient/*.rs")
    body = app.exchange(found["code"]).json()
    ehr.fhir("Patient/a?name=Alpha", body["access_token"])
    app.exchange(found["code"])
    app.refresh(body["refresh_token"])
    ehr.browser("doctor", "a wrong password").sign_in()
    secrets = [handle, found["code"], body["access_token"], body["refresh_token"], body["id_token"], PASSWORD, SECRET]
    secrets += ["a wrong password", "Alpha", *(cookie.value for cookie in browser.http.cookies.jar)]
    time.sleep(1.2)  # until all of it is written
    log = ehr.server.log.read_text()
    assert "/auth/token" in log
    assert [secret for secret in secrets if secret in log] == []
    trail = b"".join(
        path.read_bytes() for path in ehr.server.folder.rglob("*") if path.is_file() and "audit" in str(path)
    )
    assert [secret for secret in secrets if secret.encode() in trail] == []
    stored = b"".join(path.read_bytes() for path in ehr.server.folder.glob("auth.sqlite*"))
    assert stored
    assert [secret for secret in secrets if secret.encode() in stored and secret != "Alpha"] == []


@pytest.mark.parametrize(
    "path",
    ["auth/token", "auth/revoke", "auth/jwks", "auth/userinfo", "fhir/Patient", "fhir/.well-known/smart-configuration"],
)
def test_attack_40_other_origins_are_answered_without_credentials(ehr, path):
    asked = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for answer in (
        ehr.http.options(f"{ehr.public}/{path}", headers=asked),
        ehr.http.get(f"{ehr.public}/{path}", headers={"Origin": "https://evil.example"}),
        ehr.http.get(f"{ehr.public}/{path}", headers={"Origin": "null"}),
    ):
        assert answer.headers.get("access-control-allow-origin", "*") == "*"
        assert "access-control-allow-credentials" not in answer.headers
    preflight = ehr.http.options(f"{ehr.public}/{path}", headers=asked)
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
