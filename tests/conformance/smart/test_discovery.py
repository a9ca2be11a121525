"""Sections 1.1 and parts of 1.10: what the server says about itself."""

from urllib.parse import urlsplit

import pytest

from smart_auth.scopes import parse
from tests.conformance.smart.conftest import ORIGIN
from tests.conformance.smart.rows import row

STANDALONE = {
    "launch-standalone", "client-public", "client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect",
    "context-standalone-patient", "permission-offline", "permission-patient", "authorize-post", "permission-v2", "permission-v1",
}  # fmt: skip
FROM_EHR = {
    "launch-ehr", "client-confidential-symmetric", "client-confidential-asymmetric", "sso-openid-connect", "context-banner",
    "context-style", "context-ehr-patient", "context-ehr-encounter", "permission-offline", "permission-user", "authorize-post",
    "permission-v2", "permission-v1",
}  # fmt: skip


def configuration(ehr, **headers):
    answer = ehr.http.get(f"{ehr.base}/.well-known/smart-configuration", headers=headers)
    assert answer.status_code == 200
    return answer


@row("well_known_endpoint")
def test_the_configuration_is_there(ehr, row):
    answer = configuration(ehr, Accept="application/json")
    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(answer.json(), dict)
    assert ehr.http.get(f"{ehr.public}/.well-known/smart-configuration").json() == answer.json()


@row("well_known_capabilities_stu1")
def test_it_names_the_endpoints_and_capabilities(ehr, row):
    found = configuration(ehr).json()
    assert found["authorization_endpoint"].strip()
    assert found["token_endpoint"].strip()
    assert all(isinstance(one, str) for one in found["capabilities"])


@row("well_known_capabilities_stu2")
def test_it_has_what_version_2_adds(ehr, row):
    found = configuration(ehr).json()
    assert "authorization_code" in found["grant_types_supported"]
    assert "S256" in found["code_challenge_methods_supported"]
    assert "plain" not in found["code_challenge_methods_supported"]
    assert "sso-openid-connect" in found["capabilities"]
    assert isinstance(found["issuer"], str)
    assert isinstance(found["jwks_uri"], str)


@row("smart_cors_well_known_endpoint", "smart_cors_metadata_request")
def test_scripts_of_any_origin_may_read_it(ehr, row):
    path = "metadata" if row == "smart_cors_metadata_request" else ".well-known/smart-configuration"
    answer = ehr.http.get(f"{ehr.base}/{path}", headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] in (ORIGIN, "*")
    assert "access-control-allow-credentials" not in answer.headers


@row("g10_smart_well_known_capabilities")
@pytest.mark.parametrize("needed", [STANDALONE, FROM_EHR], ids=["standalone", "ehr"])
def test_it_can_do_what_g10_asks(ehr, row, needed):
    assert needed <= set(configuration(ehr).json()["capabilities"])


@row("us_core_smart_well_known_capabilities")
def test_it_has_what_us_core_asks(ehr, row):
    found = configuration(ehr).json()
    assert any(
        one.letters and not one.text.endswith((".read", ".write", ".*"))
        for one in parse(" ".join(found["scopes_supported"])).resource
    )
    assert isinstance(found["introspection_endpoint"], str)


@row("bulk_data_smart_discovery_v101_contents")
def test_it_has_what_bulk_data_asks(ehr, row):
    found = configuration(ehr).json()
    parts = urlsplit(found["token_endpoint"])
    assert parts.scheme
    assert parts.netloc
    assert "private_key_jwt" in found["token_endpoint_auth_methods_supported"]
    assert {"RS384", "ES384"} & set(found["token_endpoint_auth_signing_alg_values_supported"])
    assert isinstance(found["scopes_supported"], list)


@row("req-374-378")
@pytest.mark.parametrize("accept", ["*/*", "application/fhir+json", "application/fhir+xml", "text/html", "image/png"])
def test_it_is_json_whatever_is_accepted_and_its_urls_are_absolute(ehr, row, accept):
    answer = configuration(ehr, Accept=accept)
    assert answer.headers["content-type"].startswith("application/json")
    urls = {name: value for name, value in answer.json().items() if name.endswith(("_endpoint", "_uri", "issuer"))}
    assert urls
    assert all(url.startswith(f"{ehr.public}/") for url in urls.values()), urls


@row("req-285-297")
def test_asymmetric_clients_are_listed_and_can_register_by_url_and_by_keys(ehr, row, tmp_path):
    found = configuration(ehr).json()
    assert "private_key_jwt" in found["token_endpoint_auth_methods_supported"]
    assert {"RS384", "ES384"} <= set(found["token_endpoint_auth_signing_alg_values_supported"])
    assert ehr.apps["asymmetric"].key is not None
    told = ehr.cli(
        "client", "add", "--name", "By URL", "--type", "backend", "--jwks-url", "https://keys.example.org/jwks.json",
        "--scope", "system/*.rs",
    )  # fmt: skip
    assert told["type"] == "backend"
