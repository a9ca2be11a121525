"""Access tokens: what was signed is what is read, and nothing but our own fresh access tokens is taken."""

import base64
import hmac
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey, import_key

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth import keys
from smart_auth.model import Client, Grant, Principal, User
from smart_auth.options import SmartOptions
from smart_auth.tokens import TokenFault, Tokens

BASE = "https://ehr.example.org/fhir"
NOW = 1_800_000_000
OWN = Principal("g", "app", "patient/*.rs launch/patient", user="jane", roles=("doctor",), fhir_user="Practitioner/1",
                organization="Organization/h", patient="p", encounter="e", grant="g")  # fmt: skip


class Clock:
    """A clock that is set."""

    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path):
    opened = SqliteAuthStore.open(tmp_path)
    keys.ensure(opened, NOW)
    opened.put_user(User("jane", ("doctor",), fhir_user="Practitioner/1", organization="Organization/h"))
    opened.put_client(Client("app", "App", "public"))
    opened.put_client(Client("service", "Service", "backend", role="integration", organization="Organization/lab"))
    opened.add_grant(Grant("g", "app", OWN.scope, NOW, user="jane", auth_time=NOW - 9, nonce="n"))
    yield opened
    opened.close()


@pytest.fixture
def tokens(store, clock):
    return Tokens(store, BASE, BASE, SmartOptions(), clock)


def reason(tokens, token):
    with pytest.raises(TokenFault) as fault:
        tokens.verify(token)
    return fault.value.reason


def part(token, number):
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def access_key(store):
    return import_key(dict(keys.signing(store.keys(), "access").jwk))


def test_what_was_signed_is_what_is_read_also_when_it_is_remembered(tokens):
    token = tokens.access(OWN, 300)
    assert tokens.verify(token) == tokens.verify(token) == replace(OWN, expires=NOW + 300)


@given(
    scope=st.text(max_size=300),
    patient=st.text(max_size=64),
    principal=st.text(min_size=1, max_size=64),
    seconds=st.integers(1, keys.LONGEST),
)
def test_scope_and_context_come_back_byte_for_byte(tmp_path_factory, scope, patient, principal, seconds):
    store = SqliteAuthStore.open(tmp_path_factory.getbasetemp() / "bytes")
    keys.ensure(store, NOW)
    if store.grant("g") is None:
        store.add_grant(Grant("g", "", "", NOW))
    tokens = Tokens(store, BASE, BASE, SmartOptions(), lambda: NOW)
    given_ = Principal(principal, "", scope, patient=patient, grant="g", operator=True)
    assert tokens.verify(tokens.access(given_, seconds)) == replace(given_, expires=NOW + seconds)
    store.close()


def test_the_header_and_claims_are_those_of_rfc_9068(tokens, store):
    token = tokens.access(OWN, 300)
    assert part(token, 0) == {"alg": "ES256", "typ": "at+jwt", "kid": keys.signing(store.keys(), "access").kid}
    claims = part(token, 1)
    assert {name: claims[name] for name in ("iss", "aud", "sub", "client_id", "scope", "iat", "exp")} == {
        "iss": BASE, "aud": BASE, "sub": "jane", "client_id": "app", "scope": OWN.scope, "iat": NOW, "exp": NOW + 300,
    }  # fmt: skip
    assert claims["jti"] != part(tokens.access(OWN, 300), 1)["jti"]


def test_it_is_good_until_its_time_and_not_a_second_longer(tokens, clock):
    token = tokens.access(OWN, 300)
    clock.now += 299
    assert tokens.verify(token).expires == NOW + 300
    clock.now += 1
    assert reason(tokens, token) == "expired"
    assert reason(Tokens(tokens._store, BASE, BASE, SmartOptions(), clock), token) == "expired"


def test_no_token_lives_longer_than_a_retired_key_is_trusted(tokens):
    assert tokens.verify(tokens.access(OWN, 10 * keys.LONGEST)).expires == NOW + keys.LONGEST


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda store: store.revoke(["g"]), id="its grant is revoked"),
        pytest.param(lambda store: store.put_user(User("jane", (), disabled=True)), id="its user is disabled"),
        pytest.param(
            lambda store: store.put_client(Client("app", "App", "public", disabled=True)), id="its client is disabled"
        ),
    ],
)
def test_within_a_second_it_is_refused_in_another_process_when(tmp_path, tokens, clock, end):
    token = tokens.access(OWN, 300)
    assert tokens.verify(token)
    other = SqliteAuthStore.open(tmp_path)
    end(other)
    other.close()
    clock.now += 1
    assert reason(tokens, token) == "revoked"


def test_what_is_revoked_while_a_thread_checks_it_is_not_remembered(tokens, store, clock, monkeypatch):
    token, read = tokens.access(OWN, 300), store.grant

    def meanwhile(name):
        found = read(name)
        monkeypatch.setattr(store, "grant", read)
        store.revoke(["g"])
        clock.now += 1
        with pytest.raises(TokenFault, match="revoked"):
            tokens.verify(token)
        return found

    monkeypatch.setattr(store, "grant", meanwhile)
    tokens.verify(token)
    assert reason(tokens, token) == "revoked"


def test_roles_are_those_of_now(tokens, store, clock):
    token = tokens.access(OWN, 300)
    store.put_user(User("jane", ("nurse",), fhir_user="Practitioner/2", organization="Organization/b"))
    clock.now += 1
    principal = tokens.verify(token)
    assert (principal.roles, principal.fhir_user, principal.organization) == (
        ("nurse",),
        "Practitioner/2",
        "Organization/b",
    )


def test_a_service_has_its_clients_role_and_organization(tokens, store):
    store.add_grant(Grant("s", "service", "system/*.rs", NOW))
    principal = tokens.verify(tokens.access(Principal("s", "service", "system/*.rs", grant="s"), 60))
    assert (principal.roles, principal.organization) == (("integration",), "Organization/lab")


def test_an_operators_token_has_no_role(tokens, store):
    store.add_grant(Grant("o", "", "system/*.cruds", NOW))
    asked = Principal("o", "", "system/*.cruds", grant="o", operator=True)
    assert tokens.verify(tokens.access(asked, 60)) == replace(asked, expires=NOW + 60)


def test_a_token_of_nobody_is_refused(tokens, store):
    store.add_grant(Grant("n", "", "system/*.cruds", NOW))
    assert reason(tokens, tokens.access(Principal("n", "", "system/*.cruds", grant="n"), 60)) == "invalid"


def test_keys_rotate_without_breaking_tokens(tokens, store, clock):
    before = tokens.access(OWN, 3600)
    made = keys.rotate(store, NOW + 10)
    clock.now += 10
    after = tokens.access(OWN, 3600)
    assert part(after, 0)["kid"] == made[0].kid != part(before, 0)["kid"]
    assert (tokens.verify(before).expires, tokens.verify(after).expires) == (NOW + 3600, NOW + 3610)
    assert len(tokens.jwks()["keys"]) == 4
    clock.now = NOW + 10 + keys.LONGEST + 1
    assert len(tokens.jwks()["keys"]) == 2


def test_a_disabled_key_verifies_nothing(tokens, store, clock):
    token = tokens.access(OWN, 3600)
    key = keys.signing(store.keys(), "access")
    store.put_key(replace(key, disabled=True))
    clock.now += 1
    assert reason(tokens, token) == "invalid"
    assert key.kid not in [one["kid"] for one in tokens.jwks()["keys"]]


def test_without_a_key_nothing_is_signed(tmp_path):
    store = SqliteAuthStore.open(tmp_path / "empty")
    with pytest.raises(keys.KeyFault, match="no key"):
        Tokens(store, BASE, BASE, SmartOptions(), lambda: NOW).access(OWN, 60)
    store.close()


def forged(store, header=None, claims=None, key=None, algorithm="ES256"):
    """A token like ours with other header members or claims, signed with our key or another."""
    head = {"alg": algorithm, "typ": "at+jwt", "kid": keys.signing(store.keys(), "access").kid} | (header or {})
    body = {
        "iss": BASE,
        "aud": BASE,
        "sub": "jane",
        "exp": NOW + 60,
        "client_id": "app",
        "user": "jane",
        "grant": "g",
        "principal": "g",
    }
    body |= claims or {}
    return jwt.encode(
        {name: value for name, value in head.items() if value is not None},
        {name: value for name, value in body.items() if value is not None},
        key or access_key(store),
        algorithms=[algorithm],
    )


def signed_hs256(store):
    """What a careless verifier takes: the public key as the secret of an HMAC."""
    head = encoded({"alg": "HS256", "typ": "at+jwt", "kid": keys.signing(store.keys(), "access").kid})
    body = encoded({"iss": BASE, "aud": BASE, "exp": NOW + 60, "user": "jane", "grant": "g"})
    mac = hmac.digest(access_key(store).as_pem(private=False), f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


FORGERIES = {
    "an id_token": lambda store: forged(store, {"typ": "JWT"}),
    "without typ": lambda store: forged(store, {"typ": None}),
    "of another typ in other letters": lambda store: forged(store, {"typ": "AT+JWT"}),
    "without kid": lambda store: forged(store, {"kid": None}),
    "of an unknown kid": lambda store: forged(store, {"kid": "other"}),
    "of the kid of the id_tokens' key": lambda store: forged(store, {"kid": keys.signing(store.keys(), "id").kid}),
    "with an embedded key": lambda store: forged(store, {"jwk": ECKey.generate_key("P-256").as_dict(private=False)}),
    "with a jku": lambda store: forged(store, {"jku": "https://evil.example/jwks"}),
    "with an x5u": lambda store: forged(store, {"x5u": "https://evil.example/cert"}),
    "with a content type": lambda store: forged(store, {"cty": "JWT"}),
    "signed by another key": lambda store: forged(store, key=ECKey.generate_key("P-256")),
    "signed with RS256": lambda store: forged(store, key=RSAKey.generate_key(2048), algorithm="RS256"),
    "signed with HS256 and our public key": signed_hs256,
    "of another issuer": lambda store: forged(store, claims={"iss": "https://other.example/fhir"}),
    "for another audience": lambda store: forged(store, claims={"aud": "https://other.example/fhir"}),
    "for several audiences": lambda store: forged(store, claims={"aud": [BASE, "https://other.example/fhir"]}),
    "without an audience": lambda store: forged(store, claims={"aud": None}),
    "without an end": lambda store: forged(store, claims={"exp": None}),
    "with an end in words": lambda store: forged(store, claims={"exp": str(NOW + 60)}),
    "with an end that is no whole number": lambda store: forged(store, claims={"exp": 1.5e300}),
    "with a scope that is no text": lambda store: forged(store, claims={"scope": ["patient/*.rs"]}),
}  # fmt: skip


@pytest.mark.parametrize("make", FORGERIES.values(), ids=FORGERIES)
def test_a_token_is_refused_that_is(tokens, store, make):
    assert reason(tokens, make(store)) == "invalid"


def test_the_audience_may_have_a_slash_at_its_end(tokens, store):
    assert tokens.verify(forged(store, claims={"aud": f"{BASE}/"})).user == "jane"


def test_an_unsigned_token_is_refused(tokens, store):
    ours = tokens.access(OWN, 60)
    for algorithm in ("none", "None", ""):
        head = encoded({**part(ours, 0), "alg": algorithm})
        assert reason(tokens, f"{head}.{ours.split('.')[1]}.") == "invalid"


def test_an_id_token_is_no_access_token(tokens, store):
    told = tokens.identity(store.grant("g"), store.client("app"), store.user("jane"), "")
    assert reason(tokens, told) == "invalid"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "é.é.é",
        "a" * 100_000,
        "e30.e30.e30",
        f"{'A' * 40}.{'A' * 40}.{'A' * 40}",
        "\0",
        "eyJhbGciOiJFUzI1NiJ9..x",
    ],
)
def test_nonsense_is_refused(tokens, text):
    assert reason(tokens, text) == "invalid"


@given(place=st.integers(0, 10_000), letter=st.characters(codec="ascii"))
def test_a_token_with_any_letter_changed_is_refused(tmp_path_factory, place, letter):
    store = SqliteAuthStore.open(tmp_path_factory.getbasetemp() / "letters")
    keys.ensure(store, NOW)
    if store.grant("g") is None:
        store.add_grant(Grant("g", "", "", NOW))
    tokens = Tokens(store, BASE, BASE, SmartOptions(), lambda: NOW)
    token = tokens.access(Principal("g", "", "system/*.rs", grant="g", operator=True), 60)
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(TokenFault):
            tokens.verify(changed)
    store.close()


def test_only_one_text_is_the_token(tokens):
    token = tokens.access(OWN, 60)
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=":
        if letter != token[-1]:
            assert reason(tokens, token[:-1] + letter) == "invalid"
    assert reason(tokens, f"{token}=") == reason(tokens, f"{token}\n") == reason(tokens, f" {token}") == "invalid"


def test_an_id_token_tells_who_signed_in(tokens, store):
    told = tokens.identity(store.grant("g"), store.client("app"), store.user("jane"), f"{BASE}/Practitioner/1")
    key = keys.signing(store.keys(), "id")
    assert part(told, 0) == {"alg": "RS256", "typ": "JWT", "kid": key.kid}
    assert part(told, 1) == {
        "iss": BASE, "sub": "jane", "aud": "app", "iat": NOW, "exp": NOW + 3600, "auth_time": NOW - 9, "nonce": "n",
        "fhirUser": f"{BASE}/Practitioner/1",
    }  # fmt: skip
    (public,) = [one for one in tokens.jwks()["keys"] if one["kid"] == key.kid]
    assert jwt.decode(told, RSAKey.import_key(public), algorithms=["RS256"]).claims["sub"] == "jane"


def test_an_id_token_says_nothing_that_is_not_known(tokens, store):
    told = tokens.identity(Grant("x", "app", "openid", NOW), store.client("app"), store.user("jane"), "")
    assert sorted(part(told, 1)) == ["aud", "exp", "iat", "iss", "sub"]


def test_remembering_is_bounded(tokens, monkeypatch):
    monkeypatch.setattr("smart_auth.tokens._KNOWN", 3)
    for _ in range(10):
        tokens.verify(tokens.access(OWN, 60))
    assert len(tokens._known) <= 3


def test_a_warm_check_reads_nothing(tokens, store, monkeypatch):
    token = tokens.access(OWN, 300)
    tokens.verify(token)
    monkeypatch.setattr(tokens, "_store", None)
    began = time.perf_counter()
    for _ in range(1000):
        tokens.verify(token)
    assert time.perf_counter() - began < 0.1
