"""Client assertions: what SMART asks of them, and every way in which one is refused before anything is given or fetched."""

import base64
import hmac
import json
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from threading import Event

import anyio
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, RSAKey

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth.keys import KeyFault
from smart_auth.model import handle
from smart_auth.oauth.assertions import LEEWAY
from smart_auth.oauth.client_keys import ClientKeys
from smart_auth.oauth.fetching import Fetched, FetchFault
from tests.smart_auth.apps import ASSERTION, TOKEN, World, ec_key, jwks, rsa_key, segment

pytestmark = pytest.mark.anyio

URL = "https://keys.example.org/jwks"


async def refused(world, assertion, **form):
    """The description of the refusal."""
    answer = await world.service(assertion, **form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client"), answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()["error_description"]


@pytest.mark.parametrize("key", [ec_key, rsa_key], ids=["ES384", "RS384"])
async def test_both_algorithms_of_smart_are_taken(world, key):
    assert (await world.service(world.assertion(key=key()))).status_code == 200


TAKEN = [
    pytest.param({"exp": 300 + LEEWAY}, {}, id="exp five minutes ahead by a fast clock"),
    pytest.param({"exp": 1 - LEEWAY}, {}, id="exp just past by a slow clock"),
    pytest.param({"exp": 300.5}, {}, id="exp with a fraction"),
    pytest.param({"iat": 0, "nbf": 0}, {}, id="iat and nbf"),
    pytest.param({}, {"typ": None}, id="no typ"),
    pytest.param({}, {"typ": "jwt"}, id="typ in small letters"),
]


@pytest.mark.parametrize(("times", "header"), TAKEN)
async def test_what_need_not_be_refused_is_taken(world, times, header):
    claims = {name: world.clock() + value for name, value in times.items()}
    assert (await world.service(world.assertion(header=header, **claims))).status_code == 200


async def test_an_audience_may_be_a_list_of_one(world):
    assert (await world.service(world.assertion(aud=[TOKEN]))).status_code == 200


CLAIMS = [
    pytest.param({"iss": None}, id="no iss"),
    pytest.param({"sub": None}, id="no sub"),
    pytest.param({"iss": "key-app"}, id="iss is another client"),
    pytest.param({"sub": "key-app"}, id="sub is another client"),
    pytest.param({"iss": "nobody", "sub": "nobody"}, id="unknown client"),
    pytest.param({"iss": "app", "sub": "app"}, id="a public client"),
    pytest.param({"iss": "secret-app", "sub": "secret-app"}, id="a symmetric client"),
    pytest.param({"iss": 7, "sub": 7}, id="iss is a number"),
    pytest.param({"iss": ["service"], "sub": ["service"]}, id="iss is a list"),
    pytest.param({"aud": None}, id="no aud"),
    pytest.param({"aud": "http://localhost:8000/fhir"}, id="aud is the FHIR base"),
    pytest.param({"aud": "https://other.example/auth/token"}, id="aud is another server"),
    pytest.param({"aud": f"{TOKEN}/"}, id="aud with a slash"),
    pytest.param({"aud": [TOKEN, "https://other.example/auth/token"]}, id="aud for two servers"),
    pytest.param({"aud": []}, id="aud for nobody"),
    pytest.param({"aud": {"0": TOKEN}}, id="aud is an object"),
    pytest.param({"exp": None}, id="no exp"),
    pytest.param({"exp": "300"}, id="exp is a text"),
    pytest.param({"exp": True}, id="exp is a boolean"),
    pytest.param({"jti": None}, id="no jti"),
    pytest.param({"jti": ""}, id="empty jti"),
    pytest.param({"jti": 7}, id="jti is a number"),
    pytest.param({"jti": "x" * 257}, id="jti without end"),
    pytest.param({"nbf": "0"}, id="nbf is a text"),
    pytest.param({"iat": None, "nbf": 4_000_000_000}, id="nbf in the future"),
    pytest.param({"iat": 4_000_000_000}, id="iat in the future"),
]


@pytest.mark.parametrize("claims", CLAIMS)
async def test_claims_are_refused(world, claims):
    await refused(world, world.assertion(**claims))


@pytest.mark.parametrize("seconds", [-LEEWAY, -3600, 300 + LEEWAY + 1, 365 * 86400])
async def test_an_assertion_lives_for_five_minutes(world, seconds):
    await refused(world, world.assertion(exp=world.clock() + seconds))


HEADERS = [
    pytest.param({"kid": None}, id="no kid"),
    pytest.param({"kid": "ec-2"}, id="unknown kid"),
    pytest.param({"kid": "rsa-1"}, id="the kid of a key of another kty"),
    pytest.param({"typ": "at+jwt"}, id="typ of an access token"),
    pytest.param({"jwk": jwks(ec_key())["keys"][0]}, id="embedded jwk"),
    pytest.param({"jku": "https://evil.example/jwks"}, id="jku that is not registered"),
    pytest.param({"cty": "JWT"}, id="nested"),
]


@pytest.mark.parametrize("header", HEADERS)
async def test_headers_are_refused(world, header):
    await refused(world, world.assertion(header=header))


def forged(header, world, key=None, sign=None, **claims) -> str:
    """A JWT with any header, signed as `sign` does it."""
    said = {"iss": "service", "sub": "service", "aud": TOKEN, "exp": world.clock() + 300, "jti": handle()} | claims
    signed = f"{segment(header)}.{segment(said)}"
    return f"{signed}.{segment(sign(signed.encode()) if sign else b'x' * 96)}"


FORGED = [
    pytest.param({"alg": "none", "kid": "ec-1"}, id="alg none"),
    pytest.param({"alg": "None", "kid": "ec-1"}, id="alg None"),
    pytest.param({"alg": "HS256", "kid": "rsa-1"}, id="HS256"),
    pytest.param({"alg": "HS384", "kid": "rsa-1"}, id="HS384"),
    pytest.param({"alg": "RS256", "kid": "rsa-1"}, id="RS256"),
    pytest.param({"alg": "PS384", "kid": "rsa-1"}, id="PS384"),
    pytest.param({"alg": "ES256", "kid": "ec-1"}, id="ES256"),
    pytest.param({"alg": "EdDSA", "kid": "ec-1"}, id="EdDSA"),
    pytest.param({"alg": ["ES384"], "kid": "ec-1"}, id="alg is a list"),
    pytest.param({"alg": "ES384", "kid": ["ec-1"]}, id="kid is a list"),
    pytest.param({"alg": "ES384", "kid": "ec-1", "crit": ["exp"], "exp": 1}, id="crit"),
    pytest.param({"alg": "ES384", "kid": "ec-1", "b64": False, "crit": ["b64"]}, id="b64 false"),
    pytest.param({"alg": "ES384", "kid": "ec-1", "x5u": "https://evil.example/cert"}, id="x5u"),
    pytest.param({"alg": "ES384", "kid": "ec-1", "x5c": ["MII"]}, id="x5c"),
    pytest.param({"alg": "ES384", "kid": "ec-1"}, id="no signature of the key"),
    pytest.param({"alg": "ES384", "kid": "ec-1", "jku": ""}, id="empty jku"),
    pytest.param({"alg": "ES384", "kid": "ec-1", "jku": 7}, id="jku that is a number"),
    pytest.param({"kid": "ec-1"}, id="no alg"),
    pytest.param(["alg", "ES384"], id="header is a list"),
]


@pytest.mark.parametrize("header", FORGED)
async def test_forgeries_are_refused_before_a_key_is_looked_for(world, header):
    why = await refused(world, forged(header, world))
    assert ("is not signed by" in why) == (header == {"alg": "ES384", "kid": "ec-1"})


async def test_hs_with_the_public_key_as_secret_is_refused(world):
    public = rsa_key().as_pem(private=False)

    def sign(text):
        return hmac.digest(public, text, "sha256")

    await refused(world, forged({"alg": "HS256", "kid": "rsa-1"}, world, sign=sign))


async def test_a_valid_signature_of_rs256_is_refused(world):
    def sign(text):
        return rsa_key().private_key.sign(text, PKCS1v15(), hashes.SHA256())

    await refused(world, forged({"alg": "RS256", "kid": "rsa-1"}, world, sign=sign))


async def test_a_key_of_somebody_else_is_refused(world):
    other = ECKey.generate_key("P-384", {"kid": "ec-1"}, private=True)
    await refused(world, world.assertion(key=other))


SHAPES = [
    pytest.param("", id="nothing"),
    pytest.param("x", id="one part"),
    pytest.param("..", id="three empty parts"),
    pytest.param("a.b.c", id="three parts of nothing"),
    pytest.param("é.é.é", id="beyond ASCII"),
    pytest.param("x" * 20_000, id="long"),
    pytest.param("e30.e30.", id="empty objects"),
    pytest.param(f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.e30.x", id="deep"),
]


@pytest.mark.parametrize("assertion", SHAPES)
async def test_what_is_no_signed_jwt_is_refused(world, assertion):
    answer = await world.token(
        grant_type="client_credentials",
        scope="system/*.rs",
        client_assertion_type=ASSERTION,
        client_assertion=assertion,
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


async def test_an_encrypted_jwt_is_refused(world):
    key = OctKey.generate_key(256)
    encrypted = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, b"{}", key)
    await refused(world, encrypted)


async def test_a_member_given_twice_is_refused(world):
    raw = json.dumps({"iss": "service", "sub": "service", "aud": TOKEN, "exp": world.clock() + 300})[:-1]
    header = segment({"alg": "ES384", "kid": "ec-1"})
    claims = segment((raw + ', "jti": "1", "jti": "2"}').encode())
    assert "JSON" in await refused(world, f"{header}.{claims}.{segment(b'x' * 96)}")


async def test_the_type_of_the_assertion_is_checked(world):
    for kind in ("urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "not_an_assertion_type", None):
        await refused(world, world.assertion(), client_assertion_type=kind)
    await refused(world, None, client_assertion=None)


async def test_a_client_id_beside_it_says_the_same(world):
    assert (await world.service(client_id="service")).status_code == 200
    await refused(world, world.assertion(), client_id="key-app")


async def test_a_disabled_client_is_refused(world):
    world.change_client("service", disabled=True)
    await refused(world, world.assertion())


# ---- jti


async def test_a_jti_is_used_once(world):
    assertion = world.assertion()
    assert (await world.service(assertion)).status_code == 200
    assert "jti" in await refused(world, assertion)
    assert "jti" in await refused(world, world.assertion(jti=json.loads(_claims(assertion))["jti"], key=rsa_key()))


async def test_a_jti_is_each_clients_own(world):
    assert (await world.service(world.assertion(jti="1"))).status_code == 200
    code = await world.code(client_id="key-app")
    answer = await world.exchange(code, client_id=None, **world.proof(world.assertion("key-app", jti="1")))
    assert answer.status_code == 200


async def test_a_jti_is_not_spent_by_a_forgery(world):
    other = ECKey.generate_key("P-384", {"kid": "ec-1"}, private=True)
    await refused(world, world.assertion(key=other, jti="1"))
    assert (await world.service(world.assertion(jti="1"))).status_code == 200


async def test_a_jti_is_used_once_also_after_a_restart(world):
    assertion = world.assertion()
    assert (await world.service(assertion)).status_code == 200
    again = SqliteAuthStore.open(world.store.path.parent)
    try:
        fresh = World(again, world.clock)
        assert "jti" in await refused(fresh, assertion)
        await fresh.http.aclose()
    finally:
        again.close()


async def test_of_twenty_that_bring_one_assertion_one_succeeds(world):
    assertion, found = world.assertion(), []

    async def bring():
        found.append((await world.service(assertion)).status_code)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(bring)
    assert sorted(found) == [200] + [400] * 19


# ---- keys


KEYSETS = [
    pytest.param(
        [ec_key(), ECKey.generate_key("P-384", {"kid": "ec-1"}, private=True)], id="two keys of one kid and kty"
    ),
    pytest.param([ECKey.generate_key("P-256", {"kid": "ec-1"}, private=True)], id="another curve"),
    pytest.param([RSAKey.generate_key(2048, {"kid": "ec-1"}, private=True)], id="another kty"),
    pytest.param([], id="none"),
]


@pytest.mark.parametrize("held", KEYSETS)
async def test_kid_and_kty_select_exactly_one_key(world, held):
    world.change_client("service", jwks=jwks(*held))
    await refused(world, world.assertion())


async def test_one_kid_may_be_that_of_keys_of_two_kinds(world):
    rsa = RSAKey.generate_key(2048, {"kid": "ec-1"}, private=True)
    world.change_client("service", jwks=jwks(rsa, ec_key()))
    assert (await world.service(world.assertion())).status_code == 200
    assert (await world.service(world.assertion(key=rsa))).status_code == 200


ROWS = [
    pytest.param({"use": "enc"}, id="a key for encryption"),
    pytest.param({"y": base64.urlsafe_b64encode(b"\1" * 48).decode()}, id="a point off the curve"),
    pytest.param({"x": None}, id="no point"),
    pytest.param({"x": 7}, id="a point that is no text"),
    pytest.param({"d": "AQAB"}, id="a private part"),
    pytest.param({"alg": "ES256"}, id="another algorithm"),
]


@pytest.mark.parametrize("changed", ROWS)
async def test_a_key_that_is_no_good_is_not_used(world, changed):
    row = {name: value for name, value in (jwks(ec_key())["keys"][0] | changed).items() if value is not None}
    world.change_client("service", jwks={"keys": [row]})
    await refused(world, world.assertion())


async def test_a_huge_rsa_key_is_refused_before_it_costs_anything(world):
    row = jwks(rsa_key())["keys"][0] | {"n": base64.urlsafe_b64encode(b"\xff" * 8192).decode().rstrip("=")}
    world.change_client("service", jwks={"keys": [row]})
    begun = time.perf_counter()
    await refused(world, world.assertion(key=rsa_key()))
    assert time.perf_counter() - begun < 1


def _claims(assertion: str) -> bytes:
    part = assertion.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


# ---- keys behind a URL


class Site:
    """What a JWKS URL gives, and how often it was asked."""

    def __init__(self, *held, seconds=300):
        self.held, self.seconds, self.asked, self.fault = held, seconds, [], ""

    def __call__(self, url):
        self.asked.append(url)
        if self.fault:
            raise FetchFault(self.fault)
        return Fetched(jwks(*self.held), self.seconds)


@pytest.fixture
def site(world):
    world.change_client("service", jwks={}, jwks_url=URL)
    return Site(ec_key())


@pytest.fixture
def keys(site, world):
    return ClientKeys(site, world.clock)


def found(keys, world, kid="ec-1", kty="EC"):
    try:
        return keys.key(world.store.client("service"), kid, kty)["kid"]
    except ValueError:
        return None


async def test_keys_are_kept_as_long_as_the_url_says(world, site, keys):
    for _ in range(5):
        assert found(keys, world) == "ec-1"
    assert site.asked == [URL]
    world.clock.now += 300
    assert found(keys, world) == "ec-1"
    assert len(site.asked) == 2


async def test_keys_that_must_not_be_kept_are_fetched_each_time(world, site, keys):
    site.seconds = 0
    for _ in range(3):
        found(keys, world)
    assert len(site.asked) == 3


async def test_a_new_kid_is_fetched_but_not_more_than_once_a_second(world, site, keys):
    assert found(keys, world) == "ec-1"
    site.held = (ec_key(), rsa_key())
    world.clock.now += 2
    assert found(keys, world, "rsa-1", "RSA") == "rsa-1"
    for _ in range(20):
        assert found(keys, world, "guess", "EC") is None
    assert len(site.asked) == 2
    assert found(keys, world) == "ec-1"


async def test_a_key_taken_away_is_good_no_longer_than_it_may_be_kept(world, site, keys):
    assert found(keys, world) == "ec-1"
    site.held = ()
    world.clock.now += 300
    assert found(keys, world) is None


async def test_a_url_that_fails_is_left_alone_for_a_second(world, site, keys):
    site.fault = "it does not answer"
    with pytest.raises(FetchFault):
        keys.key(world.store.client("service"), "ec-1", "EC")
    assert found(keys, world) is None
    assert len(site.asked) == 1
    site.fault = ""
    world.clock.now += 2
    assert found(keys, world) == "ec-1"


async def test_a_fetch_that_fails_takes_no_key_away(world, site, keys):
    assert found(keys, world) == "ec-1"
    site.fault = "it does not answer"
    world.clock.now += 2
    with pytest.raises(FetchFault):
        keys.key(world.store.client("service"), "guess", "EC")
    assert found(keys, world) == "ec-1"


@pytest.mark.parametrize(("ahead", "held"), [(2, 1), (300, 12)], ids=["a new kid", "keys that are old"])
async def test_a_slow_url_holds_few_threads(world, site, ahead, held):
    going, gone = Event(), Event()

    def slow(url):
        if site.asked:
            going.set()
            gone.wait(30)
        return site(url)

    keys, client = ClientKeys(slow, world.clock), world.store.client("service")
    assert keys.key(client, "ec-1", "EC")["kid"] == "ec-1"
    world.clock.now += ahead
    with ThreadPoolExecutor(40) as pool:
        try:
            asked = [pool.submit(keys.key, client, "guess", "EC") for _ in range(40)]
            assert going.wait(30)
            for one in islice(as_completed(asked, timeout=30), 40 - held):
                assert isinstance(one.exception(), FetchFault | KeyFault)
            assert sum(not one.done() for one in asked) == held
            if ahead < 300:
                assert keys.key(client, "ec-1", "EC")["kid"] == "ec-1"  # whose key is known does not wait
        finally:
            gone.set()
    assert len(site.asked) == 2


@pytest.mark.parametrize("document", [[], {"keys": {}}, {"keys": None}, "x", None, {"keys": ["x", 7, {"kid": "ec-1"}]}])
async def test_what_is_no_jwks_has_no_key(world, site, keys, document):
    keys = ClientKeys(lambda _: Fetched(document, 300), world.clock)
    with pytest.raises((ValueError, FetchFault)):
        keys.key(world.store.client("service"), "ec-1", "EC")


async def test_a_jku_is_the_registered_url_or_refused_without_a_fetch(world, site, monkeypatch):
    monkeypatch.setattr("smart_auth.oauth.endpoints.fetch", lambda url, loopback: site(url))
    fresh = World(world.store, world.clock)
    fresh.change_client("service", jwks={}, jwks_url=URL)
    assert (await fresh.service(fresh.assertion(header={"jku": URL}))).status_code == 200
    site.asked.clear()
    await refused(fresh, fresh.assertion(header={"jku": f"{URL}/other"}))
    assert site.asked == []
    await fresh.http.aclose()
