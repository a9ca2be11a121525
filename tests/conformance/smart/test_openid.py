"""Section 1.4: who has signed in, told as OpenID Connect does."""

import time
from urllib.parse import urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.conformance.smart.conftest import ORIGIN
from tests.conformance.smart.rows import row
from tests.ehr.apps import opened

by_kind = pytest.mark.parametrize("kind", ["public", "symmetric", "asymmetric"])
FIELDS = (
    "issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported",
    "id_token_signing_alg_values_supported",
)  # fmt: skip


def configuration(ehr, claims):
    return ehr.http.get(f"{claims['iss']}/.well-known/openid-configuration")


def keys_of(ehr, claims):
    answer = ehr.http.get(configuration(ehr, claims).json()["jwks_uri"])
    assert answer.status_code == 200
    return [RSAKey.import_key(one) for one in answer.json()["keys"] if one["kty"] == "RSA"]


@row("smart_openid_decode_id_token")
@by_kind
def test_the_id_token_is_a_jwt(standalone, from_ehr, row, kind):
    for launch in (standalone, from_ehr):
        assert opened(launch(kind).body["id_token"], 0)["alg"]
        assert opened(launch(kind).body["id_token"])["sub"]


@row("smart_openid_retrieve_configuration")
def test_the_issuer_has_a_configuration(ehr, standalone, row):
    answer = configuration(ehr, opened(standalone("public").body["id_token"]))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")


@row("smart_openid_required_configuration_fields")
def test_the_configuration_has_its_fields(ehr, standalone, row):
    found = configuration(ehr, opened(standalone("public").body["id_token"])).json()
    assert all(found[name] for name in FIELDS)
    assert "RS256" in found["id_token_signing_alg_values_supported"]


@row("smart_openid_retrieve_jwks")
def test_there_is_an_rsa_key(ehr, standalone, row):
    keys = keys_of(ehr, opened(standalone("public").body["id_token"]))
    assert keys
    assert not any(key.is_private for key in keys)


@row("smart_openid_token_header")
def test_the_header_names_the_key(ehr, standalone, row):
    token = standalone("public").body["id_token"]
    header = opened(token, 0)
    assert header["alg"] == "RS256"
    assert header["kid"] in {key.kid for key in keys_of(ehr, opened(token))}


@row("smart_openid_token_payload")
@by_kind
def test_the_claims_are_signed_and_right(ehr, standalone, row, kind):
    launch = standalone(kind)
    keys = KeySet(keys_of(ehr, opened(launch.body["id_token"])))
    claims = jwt.decode(launch.body["id_token"], keys, algorithms=["RS256"]).claims
    assert claims["iss"] == configuration(ehr, claims).json()["issuer"]
    assert claims["aud"] == launch.app.id
    assert claims["iat"] - 60 <= time.time() < claims["exp"] + 60
    assert 0 < len(claims["sub"]) < 256


@row("smart_openid_fhir_user_claim")
@pytest.mark.parametrize("user", ["doctor", "ana"])
@pytest.mark.parametrize(
    "scope", ["openid fhirUser launch/patient patient/*.rs", "openid fhirUser"], ids=["all", "identity alone"]
)
def test_fhir_user_is_read_with_this_very_token(ehr, row, user, scope):
    body = ehr.apps["public"].launched(ehr.browser(user), scope=scope)
    kind, name = urlsplit(opened(body["id_token"])["fhirUser"]).path.split("/")[-2:]
    assert f"{kind}/{name}" == {"doctor": "Practitioner/doctor", "ana": "Patient/a"}[user]
    answer = ehr.fhir(f"{kind}/{name}", body["access_token"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == name


@row("smart_cors_openid_fhir_user_claim")
def test_scripts_of_any_origin_may_read_fhir_user(ehr, standalone, row):
    body = standalone("public").body
    answer = ehr.http.get(
        opened(body["id_token"])["fhirUser"],
        headers={"Authorization": f"Bearer {body['access_token']}", "Origin": ORIGIN},
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] in (ORIGIN, "*")
