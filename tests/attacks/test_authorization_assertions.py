"""Attacks on client assertions: algorithms, keys in headers, fetched keys, replays, times (26-28)."""

import base64
import gzip
import hmac
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from joserfc import jwe, jws
from joserfc.jwk import ECKey, OctKey

from smart_auth.oauth import fetching
from smart_auth.oauth.fetching import FetchFault, check_url, fetch
from tests.ehr.apps import ASSERTION, opened, segment
from tests.ehr.house import furnished
from tests.ehr.listener import listening, said


def sent(app, assertion):
    """The answer to an assertion."""
    return app.service(client_assertion=assertion, client_assertion_type=ASSERTION)


def refused(answer) -> bool:
    return answer.status_code in (400, 401) and answer.json()["error"] in ("invalid_client", "invalid_request")


def forged(ehr) -> dict[str, str]:
    """Assertions that are signed in a wrong way."""
    app, rsa = ehr.apps["backend"], ehr.keys["backend"]
    good = app.assertion()
    head, claims, signature = good.split(".")
    stranger = ECKey.generate_key("P-384", {"kid": app.key.kid}, private=True)
    p256 = ECKey.generate_key("P-256", {"kid": app.key.kid}, private=True)
    public = app.key.as_dict(private=False)
    theirs = {"jwk": stranger.as_dict(private=False)}
    chain = base64.b64encode(b"certificate").decode()
    twice = json.dumps(opened(good))[:-1].encode() + b', "sub": "backend"}'
    headed = {
        f"with {name}": app.assertion(key=stranger, header={name: value})
        for name, value in {
            "jwk": theirs["jwk"], "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/x.pem", "x5c": [chain],
            "x5t": "x", "kid": "evil",
        }.items()
    }  # fmt: skip
    own_key = {
        f"own key with {name}": app.assertion(header={name: value})
        for name, value in {
            "jwk": public,
            "jku": "https://evil.example/",
            "x5u": "https://evil.example/",
            "x5c": [chain],
        }.items()
    }
    return headed | own_key | {
        "alg none": f"{segment({'alg': 'none', 'kid': app.key.kid})}.{claims}.",
        "alg None with a signature": f"{segment({'alg': 'None', 'kid': app.key.kid})}.{claims}.{signature}",
        "no alg": f"{segment({'kid': app.key.kid})}.{claims}.{signature}",
        "alg a list": f"{segment({'alg': ['ES384'], 'kid': app.key.kid})}.{claims}.{signature}",
        "HS256 with the public JWK": hmac_of(app, json.dumps(public).encode()),
        "HS256 with the public PEM": hmac_of(app, rsa.as_pem(private=False)),
        "RS256": _signed(app, rsa, "RS256"),
        "ES256": _signed(app, p256, "ES256"),
        "another key of this kid": app.assertion(key=stranger),
        "kid of the other key": app.assertion(header={"kid": rsa.kid}),
        "RS384 with the kid of EC": _signed(app, rsa, "RS384", kid=app.key.kid),
        "crit": f"{segment(opened(good, 0) | {'crit': ['exp']})}.{claims}.{signature}",
        "b64 false": f"{segment(opened(good, 0) | {'b64': False, 'crit': ['b64']})}.{claims}.{signature}",
        "zip": f"{segment(opened(good, 0) | {'zip': 'DEF'})}.{claims}.{signature}",
        "cty JWT": f"{segment(opened(good, 0) | {'cty': 'JWT'})}.{segment(good.encode())}.{signature}",
        "typ at+jwt": app.assertion(header={"typ": "at+jwt"}),
        "no kid": app.assertion(header={"kid": None}),
        "kid a number": f"{segment(opened(good, 0) | {'kid': 1})}.{claims}.{signature}",
        "kid a path": app.assertion(header={"kid": "../../../../dev/null"}),
        "kid a query": app.assertion(header={"kid": "x' OR '1'='1"}),
        "no signature": f"{head}.{claims}.",
        "signature of zeros": f"{head}.{claims}.{segment(bytes(96))}",
        "signature of another": f"{head}.{claims}.{app.assertion().split('.')[2]}",
        "signature in DER": f"{head}.{claims}.{segment(b'0' + bytes(100))}",
        "claims changed": f"{head}.{segment(opened(good) | {'jti': 'x'})}.{signature}",
        "claims twice": f"{head}.{segment(twice)}.{signature}",
        "claims a list": f"{head}.{segment([])}.{signature}",
        "claims no JSON": f"{head}.{segment(b'x')}.{signature}",
        "header no JSON": f"{segment(b'x')}.{claims}.{signature}",
        "header too deep": f"{segment(b'[' * 9000)}.{claims}.{signature}",
        "JWE": jwe.encrypt_compact({"alg": "dir", "enc": "A128CBC-HS256"}, good.encode(), OctKey.generate_key(256)),
        "nested": jws.serialize_compact({"alg": "ES384", "kid": app.key.kid, "cty": "JWT"}, good, app.key, algorithms=["ES384"]),
        "two parts": f"{head}.{claims}",
        "four parts": f"{good}.x",
        "white space": f" {good}",
        "not ASCII": f"{good}é",
        "60 kB": app.assertion(more="x" * 60_000)[:-1],
        "JSON serialization": json.dumps({"payload": claims, "protected": head, "signature": signature}),
    }  # fmt: skip


def hmac_of(app, secret):
    """An assertion that is signed with what everybody knows."""
    text = f"{segment({'alg': 'HS256', 'kid': app.key.kid})}.{segment(opened(app.assertion()))}"
    return f"{text}.{segment(hmac.digest(secret, text.encode(), 'sha256'))}"


def _signed(app, key, algorithm, kid=""):
    claims = json.dumps(opened(app.assertion()))
    members = {name: value for name, value in key.as_dict(private=True).items() if name != "alg"}
    key = type(key).import_key(members)
    return jws.serialize_compact({"alg": algorithm, "kid": kid or app.key.kid}, claims, key, algorithms=[algorithm])


def test_attack_26_only_a_registered_key_signs_and_only_in_two_ways(ehr):
    app = ehr.apps["backend"]
    with listening():
        for name, assertion in forged(ehr).items():
            answer = sent(app, assertion)
            assert refused(answer), (name, answer.status_code, answer.text)
            assert "Traceback" not in answer.text
    assert sent(app, app.assertion()).status_code == 200
    assert sent(app, app.assertion(key=ehr.keys["backend"])).status_code == 200


def test_attack_26_an_assertion_of_a_megabyte_is_refused(ehr):
    assert ehr.apps["backend"].service(client_assertion="x" * 1_000_000).status_code in (400, 413)


def keyed(ehr, name, keys, tmp_path):
    """A backend with these keys in its JWKS; the exit code and the app."""
    from tests.ehr.apps import App  # noqa: PLC0415

    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": keys}))
    ehr.cli(
        "client", "add", "--id", name, "--name", name, "--type", "backend", "--scope", "system/*.rs", "--jwks", path
    )
    return App(ehr, name, "backend", "", key=ehr.apps["backend"].key)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(lambda key: [key, {**key, "x": key["y"], "y": key["x"]}], id="duplicate kid"),
        pytest.param(lambda key: [{**key, "x": key["y"], "y": key["x"]}], id="a point off the curve"),
        pytest.param(lambda key: [{**key, "crv": "P-256"}], id="another curve"),
        pytest.param(lambda key: [{"kty": "RSA", "kid": key["kid"], "n": "AQAB", "e": "AQAB"}], id="another kind"),
        pytest.param(lambda key: [{"kty": "oct", "kid": key["kid"], "k": "AQAB"}], id="a secret"),
        pytest.param(lambda key: [{"kty": "RSA", "kid": key["kid"], "n": "A" * 20_000, "e": "AQAB"}], id="a huge RSA key"),
        pytest.param(lambda key: [{**key, "use": "enc"}], id="a key for encryption"),
    ],
)  # fmt: skip
def test_attack_26_a_key_set_that_is_not_sound_lets_nobody_in(ehr, tmp_path, keys, request):
    name = f"unsound-{request.node.callspec.id.replace(' ', '-')}"
    try:
        app = keyed(ehr, name, keys(ehr.apps["backend"].key.as_dict(private=False)), tmp_path)
    except AssertionError:  # the command line refuses such keys
        return
    assert refused(sent(app, app.assertion()))


def test_attack_26_a_private_key_is_not_taken(ehr, tmp_path):
    with pytest.raises(AssertionError):
        keyed(ehr, "private", [ehr.apps["backend"].key.as_dict(private=True)], tmp_path)


def served(ehr, name, url):
    """A backend whose keys are behind a URL."""
    from tests.ehr.apps import App  # noqa: PLC0415

    ehr.cli(
        "client",
        "add",
        "--id",
        name,
        "--name",
        name,
        "--type",
        "backend",
        "--scope",
        "system/*.rs",
        "--jwks-url",
        url,
        "--replace",
    )
    return App(ehr, name, "backend", "", key=ehr.apps["backend"].key)


def test_attack_27_a_jku_that_is_not_registered_is_not_fetched(ehr):
    app = ehr.apps["backend"]
    document = json.dumps({"keys": [app.key.as_dict(private=False)]}).encode()
    with listening(said(document)) as registered, listening(said(document)) as other:
        remote = served(ehr, "remote", f"{registered.url}/jwks.json")
        assert sent(remote, remote.assertion()).status_code == 200
        assert sent(remote, remote.assertion(header={"jku": f"{registered.url}/jwks.json"})).status_code == 200
        for url in (
            f"{other.url}/jwks.json",
            f"{registered.url}/other.json",
            f"{registered.url}/jwks.json#x",
            f"{registered.url}/./jwks.json",
        ):
            assert refused(sent(remote, remote.assertion(header={"jku": url})))
            assert refused(sent(app, app.assertion(header={"jku": url})))
        assert refused(sent(remote, remote.assertion(iss="nobody", sub="nobody")))
        assert other.paths == []
        assert set(registered.paths) == {"/jwks.json"}


def test_attack_27_a_key_set_is_kept_and_looked_at_again_for_a_new_key(ehr):
    app, fresh = ehr.apps["backend"], ECKey.generate_key("P-384", {"kid": "fresh"}, private=True)
    first = json.dumps({"keys": [app.key.as_dict(private=False)]}).encode()
    both = json.dumps({"keys": [app.key.as_dict(private=False), fresh.as_dict(private=False)]}).encode()
    with listening(said(first, Cache_Control="max-age=600")) as listener:
        remote = served(ehr, "rotating", f"{listener.url}/jwks.json")
        for _ in range(5):
            assert sent(remote, remote.assertion()).status_code == 200
        assert len(listener.paths) <= 2, "once for each worker"
        listener.answer = said(both, Cache_Control="max-age=600")
        time.sleep(2.1)
        assert sent(remote, remote.assertion(key=fresh)).status_code == 200
        for _ in range(5):
            assert refused(sent(remote, remote.assertion(header={"kid": "unknown"})))
        assert len(listener.paths) <= 8, "unknown keys do not make it fetch each time"


BOMB = gzip.compress(b'{"keys": []' + b" " * 20_000_000 + b"}")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(said(b"", 302, Location="http://127.0.0.1:1/x"), id="a redirect"),
        pytest.param(said(b"", 307, Location="https://example.org/"), id="a redirect to elsewhere"),
        pytest.param(said(b'{"keys": [' + b" " * 2_000_000), id="huge"),
        pytest.param(said(BOMB, Content_Encoding="gzip"), id="a gzip bomb"),
        pytest.param(said(BOMB), id="a gzip bomb that is not announced"),
        pytest.param(said(b"<html>"), id="no JSON"),
        pytest.param(said(b"[" * 50_000), id="too deep"),
        pytest.param(said(b'{"keys": {}}'), id="keys no list"),
        pytest.param(said(b'{"keys": [null, 1, "x", []]}'), id="keys no objects"),
        pytest.param(said(b"", 500), id="an error"),
        pytest.param(said(b"\xff\xfe"), id="no UTF-8"),
        pytest.param(lambda request: request.wfile.write(b"nonsense\r\n"), id="no HTTP"),
        pytest.param(lambda request: request.connection.close(), id="nothing"),
    ],
)
def test_attack_27_a_key_set_that_misbehaves_lets_nobody_in(ehr, answer):
    with listening(answer) as listener:
        remote = served(ehr, "misbehaving", f"{listener.url}/{time.monotonic_ns()}.json")
        began = time.monotonic()
        assert refused(sent(remote, remote.assertion()))
        assert time.monotonic() - began < 5


def test_attack_27_a_slow_key_set_is_cut_off(monkeypatch):
    monkeypatch.setattr(fetching, "SECONDS", 0.3)

    def drip(request):
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)

    with listening(drip) as listener:
        began = time.monotonic()
        with pytest.raises(FetchFault):
            fetch(f"{listener.url}/jwks.json", loopback=True)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/jwks.json", "file:///etc/passwd", "ftp://example.org/", "gopher://example.org/", "https://user@example.org/",
        "https:///jwks.json", "https://", "//example.org/", "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "http://localhost/",
        "https://example.org:99999/", "https://exämple.org/", "javascript:alert(1)", "",
    ],
)  # fmt: skip
def test_attack_27_a_url_that_must_not_be_fetched_is_not(url):
    with pytest.raises(FetchFault):
        check_url(url, loopback=False)


INSIDE = [
    "127.0.0.1", "127.0.0.2", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "::1", "::", "fe80::1",
    "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "ff02::1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
@pytest.mark.parametrize("loopback", [False, True])
def test_attack_27_a_name_that_leads_inside_is_not_followed(monkeypatch, address, loopback):
    _resolving(monkeypatch, [[address], ["93.184.216.34", address]])
    for _ in range(2):
        with pytest.raises(FetchFault, match="not public"):
            fetch("https://keys.example.org/jwks.json", loopback=loopback)


def test_attack_27_the_address_that_was_judged_is_the_one_connected_to(monkeypatch):
    asked, connected = _resolving(monkeypatch, [["93.184.216.34"], ["127.0.0.1"]]), []

    def connect(address, *_, **__):
        connected.append(address)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(FetchFault):
        fetch("https://keys.example.org/jwks.json", loopback=False)
    assert connected == [("93.184.216.34", 443)]
    assert asked == ["keys.example.org"]


def _resolving(monkeypatch, answers):
    """Names resolve to these addresses in turn, the last one from then on; which were asked for."""
    asked = []

    def resolve(host, port, *_, **__):
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.serial
def test_attack_28_of_many_parallel_uses_of_a_jti_one_succeeds(ehr):
    app = ehr.apps["backend"]
    assertion = app.assertion()
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: sent(app, assertion), range(30)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 29]


@pytest.mark.serial
def test_attack_28_a_jti_is_used_once_over_all_workers_and_restarts(tmp_path):
    ehr = furnished(tmp_path / "data", 2, ("--public-url", "https://ehr.example.org"))
    try:
        app = ehr.apps["backend"]
        ehr.discovery["token_endpoint"] = ehr.discovery["token_endpoint"].replace(
            "https://ehr.example.org", ehr.base.removesuffix("/fhir")
        )
        assertion = app.assertion(aud="https://ehr.example.org/auth/token")
        assert sent(app, assertion).status_code == 200
        for _ in range(6):
            assert refused(sent(app, assertion))
        ehr.server.kill()
        old = ehr.base
        ehr.server.start()
        ehr.discovery["token_endpoint"] = (
            ehr.discovery["token_endpoint"]
            .replace(old, ehr.base)
            .replace(old.removesuffix("/fhir"), ehr.base.removesuffix("/fhir"))
        )
        assert refused(sent(app, assertion))
        assert sent(app, app.assertion(aud="https://ehr.example.org/auth/token")).status_code == 200
    finally:
        ehr.http.close()
        ehr.server.stop()


def test_attack_28_a_jti_is_its_issuer_s(ehr):
    one, other = ehr.apps["backend"], ehr.app("second", "backend", "--scope", "system/*.rs")
    for app in (one, other):
        assert sent(app, app.assertion(jti="shared-by-two")).status_code == 200
        assert refused(sent(app, app.assertion(jti="shared-by-two")))


NOW = time.time
CLAIMS = [
    {"exp": lambda: int(NOW()) + 600}, {"exp": lambda: int(NOW()) + 10**9}, {"exp": lambda: int(NOW()) - 90}, {"exp": None},
    {"exp": lambda: str(int(NOW()) + 60)}, {"exp": True}, {"exp": 1e400}, {"exp": -1}, {"exp": [1]}, {"exp": "never"},
    {"iat": lambda: int(NOW()) + 600}, {"nbf": lambda: int(NOW()) + 600}, {"iat": "now"}, {"nbf": {}}, {"nbf": "0"},
    {"aud": None}, {"aud": "https://other.example/auth/token"}, {"aud": []}, {"aud": ["https://other.example/"]}, {"aud": 1}, {"aud": ""},
    {"aud": lambda ehr: [ehr.discovery["token_endpoint"], "https://other.example/"]}, {"aud": lambda ehr: f"{ehr.discovery['token_endpoint']}x"},
    {"iss": "public"}, {"sub": "public"}, {"iss": "asymmetric", "sub": "backend"}, {"sub": None}, {"iss": None}, {"iss": 1, "sub": 1},
    {"iss": ["backend"], "sub": ["backend"]}, {"iss": "", "sub": ""}, {"jti": None}, {"jti": ""}, {"jti": 1}, {"jti": "x" * 5000}, {"jti": ["x"]},
]  # fmt: skip


@pytest.mark.parametrize(
    "claims", CLAIMS, ids=lambda claims: " ".join(f"{k}={v}"[:30] for k, v in claims.items() if not callable(v)) or None
)
def test_attack_28_claims_are_right_in_kind_time_and_place(ehr, claims):
    app = ehr.apps["backend"]
    said_now = {
        name: (value(ehr) if name == "aud" else value()) if callable(value) else value for name, value in claims.items()
    }
    answer = sent(app, app.assertion(**said_now))
    assert refused(answer), answer.text


def test_attack_28_an_assertion_is_its_client_s(ehr):
    one, other = ehr.apps["backend"], ehr.apps["asymmetric"]
    assert refused(sent(one, one.assertion(key=other.key)))
    assert refused(sent(one, other.assertion(key=one.key)))
    answer = one.service(client_assertion=one.assertion(), client_assertion_type=ASSERTION, client_id="asymmetric")
    assert refused(answer)
    ehr.app("barred-service", "backend", "--scope", "system/*.rs")
    ehr.cli("client", "disable", "barred-service")
    assert refused(ehr.apps["barred-service"].service())
