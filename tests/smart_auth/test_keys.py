"""Keys: which sign, which verify, what is published, and which keys of clients are taken."""

import json

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth import keys
from smart_auth.model import Key

NOW = 1_800_000_000
EC = ECKey.generate_key("P-384").as_dict(private=False) | {"kid": "e", "alg": "ES384"}
RSA = RSAKey.generate_key(2048).as_dict(private=False) | {"kid": "r", "alg": "RS384"}


@pytest.fixture
def store(tmp_path):
    opened = SqliteAuthStore.open(tmp_path)
    yield opened
    opened.close()


def key(kid, use="access", created=NOW, **state):
    return Key(kid, use, {"kty": "EC"}, created, **state)


def test_missing_keys_are_made_once(store):
    for _ in range(2):
        keys.ensure(store, NOW)
    made = {one.use: one for one in store.keys()}  # noqa: SIM118
    assert len(store.keys()) == 2
    assert (made["access"].jwk["crv"], made["access"].jwk["alg"]) == ("P-256", "ES256")
    assert (made["id"].jwk["kty"], made["id"].jwk["alg"]) == ("RSA", "RS256")
    assert [one.kid for one in made.values()] == [one.jwk["kid"] for one in made.values()]


def test_what_is_published_has_no_private_part(store):
    keys.ensure(store, NOW)
    published = keys.published(store.keys(), NOW)["keys"]
    assert [sorted(one) for one in published] == [
        ["alg", "e", "kid", "kty", "n", "use"],
        ["alg", "crv", "kid", "kty", "use", "x", "y"],
    ]
    for one in store.keys():  # noqa: SIM118
        assert one.jwk["d"] not in json.dumps(published)


@pytest.mark.parametrize(
    ("rows", "signs", "verify"),
    [
        pytest.param([], None, [], id="no keys"),
        pytest.param([key("a")], "a", ["a"], id="one key"),
        pytest.param([key("b"), key("a")], "b", ["b", "a"], id="two in use: the newest signs"),
        pytest.param([key("b"), key("a", retired=True)], "b", ["b", "a"], id="one retired just now"),
        pytest.param(
            [key("b", created=NOW - keys.LONGEST - 1), key("a", retired=True)], "b", ["b"], id="one retired long ago"
        ),
        pytest.param([key("a", retired=True)], None, ["a"], id="one retired without successor"),
        pytest.param([key("b"), key("a", retired=True, disabled=True)], "b", ["b"], id="one retired and disabled"),
        pytest.param([key("b", disabled=True), key("a")], "a", ["a"], id="the newest disabled"),
        pytest.param([key("i", "id"), key("a", retired=True)], None, ["i", "a"], id="another use is no successor"),
    ],
)
def test_which_key_signs_and_which_verify(rows, signs, verify):
    signing = keys.signing(rows, "access")
    assert (signing.kid if signing else None) == signs
    assert [one.kid for one in keys.trusted(rows, NOW)] == verify


def test_rotation_retires_what_was_before(store):
    keys.ensure(store, NOW)
    before = {one.kid for one in store.keys()}  # noqa: SIM118
    made = keys.rotate(store, NOW + 1)
    assert [one.use for one in made] == ["access", "id"]
    assert {one.kid for one in store.keys() if one.retired} == before  # noqa: SIM118


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"keys": [EC]}, id="one EC key"),
        pytest.param({"keys": [EC, RSA]}, id="an EC and an RSA key"),
        pytest.param(EC, id="one key without a set"),
        pytest.param({"keys": [{name: EC[name] for name in EC if name != "alg"}]}, id="without alg"),
        pytest.param({"keys": [EC, {**RSA, "kid": "e"}]}, id="one kid for two kinds"),
        pytest.param({"keys": [{**EC, "use": "sig", "key_ops": ["verify"]}]}, id="with use and key_ops"),
    ],
)
def test_these_keys_of_a_client_are_taken(document):
    assert keys.client_keys(document)["keys"] == document.get("keys", [document])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param({"keys": [ECKey.generate_key("P-384").as_dict(private=True) | {"kid": "1"}]}, "private", id="a private EC key"),
        pytest.param({"keys": [EC, RSAKey.generate_key(2048).as_dict(private=True) | {"kid": "1"}]}, "key 2.*private", id="a private RSA key"),
        pytest.param({"keys": [OctKey.generate_key().as_dict() | {"kid": "1"}]}, "private", id="a shared secret"),
        pytest.param({"keys": []}, "list of keys", id="no keys"),
        pytest.param({"keys": {"a": EC}}, "list of keys", id="keys that are no list"),
        pytest.param([EC], "no JSON object", id="a list"),
        pytest.param({"keys": ["x"]}, "no JSON object", id="a key that is no object"),
        pytest.param({"keys": [{**EC, "kid": None}]}, "no kid", id="without kid"),
        pytest.param({"keys": [{**EC, "kid": 1}]}, "no kid", id="with a kid that is no text"),
        pytest.param({"keys": [EC, EC]}, "kid", id="one kid twice"),
        pytest.param({"keys": [ECKey.generate_key("P-256").as_dict(private=False) | {"kid": "1"}]}, "P-384", id="on another curve"),
        pytest.param({"keys": [OKPKey.generate_key("Ed25519").as_dict(private=False) | {"kid": "1"}]}, "RSA|EC", id="of another kind"),
        pytest.param({"keys": [{**RSA, "alg": "RS256"}]}, "RS384", id="for another algorithm"),
        pytest.param({"keys": [{**RSA, "use": "enc"}]}, "sig", id="for encryption"),
        pytest.param({"keys": [{**RSA, "n": RSA["n"][:171]}]}, "2048", id="too short"),
        pytest.param({"keys": [{**RSA, "n": "AQAB" * 2000}]}, "bits|read", id="too long"),
        pytest.param({"keys": [{**EC, "x": EC["y"]}]}, "read", id="off the curve"),
        pytest.param({"keys": [{**EC, "x": 5}]}, "read", id="with a number as a coordinate"),
        pytest.param({"keys": [{"kty": "EC", "crv": "P-384", "kid": "1"}]}, "read", id="without coordinates"),
    ],
)  # fmt: skip
def test_these_keys_of_a_client_are_refused(document, words):
    with pytest.raises(keys.KeyFault, match=words):
        keys.client_keys(document)
