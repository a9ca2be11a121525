"""Sections 1.2 and 1.3: the standalone launch and the launch from the EHR, for each kind of app."""

import re

import pytest

from smart_auth.scopes import parse
from tests.conformance.smart.conftest import ORIGIN
from tests.conformance.smart.rows import row
from tests.ehr.apps import ASSERTION, query_of
from tests.ehr.house import EHR_LAUNCH, START

KINDS = ("public", "symmetric", "asymmetric")
by_kind = pytest.mark.parametrize("kind", KINDS)
REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")


@row("smart_app_redirect", "smart_app_redirect_stu2")
@pytest.mark.parametrize("slash", ["", "/"], ids=["base", "base with a slash"])
def test_the_browser_comes_back_with_the_same_state(ehr, row, slash):
    app, state = ehr.apps["public"], "0b2c6f3e-5f0d-4b7c-9a53-8f1d1f1c2a3b"
    method = "GET" if row == "smart_app_redirect" else "POST"
    found = ehr.browser().authorize(app, {"method": method}, state=state, aud=f"{ehr.public}/fhir{slash}")
    assert found["state"] == state
    assert found["kept"] == "1"
    assert found["iss"] == f"{ehr.public}/fhir"


@row("smart_code_received")
@by_kind
def test_the_redirect_has_a_code(standalone, from_ehr, row, kind):
    for launch in (standalone, from_ehr):
        found = launch(kind).redirected
        assert found["code"].strip()
        assert "error" not in found


@row("smart_token_exchange", "smart_token_exchange_stu2", "smart_token_exchange_stu2_2")
@by_kind
def test_the_code_is_traded(standalone, row, kind):
    answer = standalone(kind).answer
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")


@row("smart_token_response_body")
@by_kind
def test_the_token_response_has_its_members(standalone, from_ehr, row, kind):
    for launch in (standalone, from_ehr):
        body = launch(kind).body
        assert body["token_type"].lower() == "bearer"
        assert type(body["expires_in"]) is int
        assert body["expires_in"] > 60
        texts = ("access_token", "scope", "refresh_token", "id_token", "patient", "smart_style_url")
        assert all(isinstance(body[name], str) and body[name] for name in texts)
        asked = launch(kind).app.parameters()["scope"] if launch is standalone else EHR_LAUNCH
        assert set(body["scope"].split()) == set(asked.split())


@row("smart_token_response_body_stu2_2")
def test_fhir_context_is_of_objects(from_ehr, row):
    for one in from_ehr("public").body["fhirContext"]:
        assert isinstance(one, dict)
        assert {"reference", "canonical", "identifier"} & one.keys()
        assert REFERENCE.fullmatch(one.get("reference", "Patient/a"))


@row("smart_token_response_headers")
@by_kind
def test_the_token_response_is_not_stored(standalone, row, kind):
    for answer in (standalone(kind).answer, standalone(kind).refreshed()):
        assert "no-store" in answer.headers["cache-control"]
        assert "no-cache" in answer.headers["pragma"]


@row("smart_cors_token_exchange")
def test_scripts_of_any_origin_may_trade(standalone, row):
    assert standalone("public").answer.headers["access-control-allow-origin"] in (ORIGIN, "*")


@row("g10_patient_context")
@by_kind
def test_the_patient_in_context_is_read(ehr, standalone, row, kind):
    refreshed = standalone(kind).refreshed().json()
    for body in (standalone(kind).body, refreshed):
        assert body["patient"] == "a"
        answer = ehr.fhir(f"Patient/{body['patient']}", body["access_token"])
        assert answer.status_code == 200
        assert answer.json()["resourceType"] == "Patient"


@row("g10_smart_scopes")
@by_kind
def test_the_scopes_of_g10_are_granted(standalone, from_ehr, row, kind):
    for launch, word in ((standalone, "launch/patient"), (from_ehr, "launch")):
        found = parse(launch(kind).body["scope"])
        assert {"openid", "fhirUser", word, "offline_access"} <= set(found.words)
        assert any(one.type == "*" for one in found.resource)


@row("g10_unauthorized_access")
def test_without_a_token_there_is_no_access(ehr, row):
    answer = ehr.fhir("Patient/a", None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["resourceType"] == "OperationOutcome"


@row("g10_asymmetric_launch_id_token")
def test_an_asymmetric_launch_gives_an_id_token(standalone, row):
    assert standalone("asymmetric").body["id_token"].count(".") == 2


@row("smart_app_launch", "smart_launch_received")
def test_the_ehr_opens_the_launch_url(ehr, row):
    url = ehr.cli("launch", "--client", "public", "--patient", "a")["url"]
    found = query_of(url)
    assert url.startswith(f"{START}?")
    if row == "smart_app_launch":
        assert found["iss"] == f"{ehr.public}/fhir" == ehr.discovery["issuer"]
    else:
        assert found["launch"].strip()


@row("g10_encounter_context")
@by_kind
def test_the_encounter_in_context_is_read(ehr, from_ehr, row, kind):
    body = from_ehr(kind).body
    answer = ehr.fhir(f"Encounter/{body['encounter']}", body["access_token"])
    assert answer.status_code == 200
    assert answer.json()["resourceType"] == "Encounter"


@row("g10_smart_style_url", "Test13")
def test_the_style_is_there_for_everybody(ehr, from_ehr, row):
    answer = ehr.http.get(from_ehr("public").body["smart_style_url"])
    assert answer.status_code == 200
    assert isinstance(answer.json(), dict)


@row("g10_smart_need_patient_banner", "Test14")
def test_the_need_for_a_banner_is_told(standalone, from_ehr, row):
    assert from_ehr("public").body["need_patient_banner"] is False
    assert standalone("public").body["need_patient_banner"] is True


@row("g10_patient_scope")
@pytest.mark.parametrize("kind", ["public", "asymmetric"])
def test_a_patient_scope_brings_the_patient_of_the_launch(ehr, row, kind):
    app = ehr.apps[kind]
    scope = "launch openid fhirUser offline_access patient/Patient.rs"
    body = app.launched(ehr.browser(), launch=ehr.launch(kind, "--patient", "a"), scope=scope)
    assert "patient/Patient.rs" in body["scope"].split()
    assert body["patient"] == "a"


@row("g10_public_standalone_launch")
def test_a_public_app_launches_reads_and_refreshes(ehr, row):
    _whole(ehr, ehr.apps["public"])


@row("g10_asymmetric_launch")
def test_an_asymmetric_app_launches_reads_and_refreshes(ehr, row):
    app = ehr.apps["asymmetric"]
    assert app.proof()[1]["client_assertion_type"] == ASSERTION
    _whole(ehr, app)


def _whole(ehr, app):
    body = app.launched(ehr.browser("ana"))
    assert body["patient"] == "a"
    refreshed = app.refresh(body["refresh_token"]).json()
    for token in (body["access_token"], refreshed["access_token"]):
        assert ehr.fhir("Patient/a", token).status_code == 200
