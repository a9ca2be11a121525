"""Sections 1.5, 1.6 and 1.7: refresh, introspection, backend services."""

import time

import pytest

from tests.conformance.smart.rows import row
from tests.ehr.apps import ASSERTION, opened

by_kind = pytest.mark.parametrize("kind", ["public", "symmetric", "asymmetric"])


@row("smart_token_refresh", "smart_token_refresh_stu2")
@by_kind
def test_a_token_is_refreshed_with_and_without_scope(standalone, row, kind):
    app = standalone(kind).app
    body = app.launched(app.ehr.browser())
    scope = body["scope"] if row == "smart_token_refresh_stu2" else None
    answer = app.refresh(body["refresh_token"], scope=scope)
    assert answer.status_code == 200, answer.text
    assert answer.json()["refresh_token"] != body["refresh_token"]
    assert app.refresh(answer.json()["refresh_token"]).status_code == 200


@row("smart_token_refresh_body")
@by_kind
def test_the_refreshed_scopes_are_a_literal_part(standalone, row, kind):
    app = standalone(kind).app
    for scope in (
        "offline_access launch/patient patient/Observation.r patient/Observation.s patient/Condition.read",
        None,
    ):
        body = app.launched(app.ehr.browser(), **({"scope": scope} if scope else {}))
        refreshed = app.refresh(body["refresh_token"]).json()
        assert refreshed["access_token"] != body["access_token"]
        assert refreshed["token_type"].lower() == "bearer"
        assert type(refreshed["expires_in"]) is int
        assert refreshed["scope"].split() == body["scope"].split()
        if scope:
            assert set(body["scope"].split()) == set(scope.split())


@row("g10_invalid_token_refresh")
@by_kind
def test_a_random_refresh_token_is_refused(standalone, row, kind):
    answer = standalone(kind).app.refresh("x" * 43)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"


@pytest.fixture(scope="module")
def introspector(ehr):
    """A client that may introspect the tokens of others."""
    return ehr.app("introspector", "symmetric", "--introspect")


@row("introspection-active")
@by_kind
def test_a_good_token_is_active(introspector, standalone, from_ehr, row, kind):
    for launch in (standalone, from_ehr):
        body = launch(kind).body
        answer = introspector.post("introspection_endpoint", token=body["access_token"])
        assert answer.status_code == 200
        found = answer.json()
        assert found["active"] is True
        assert found["client_id"] == kind
        assert sorted(found["scope"].split()) == sorted(body["scope"].split())
        assert found["exp"] > time.time()
        assert found["patient"] == body["patient"]
        assert found.get("encounter") == body.get("encounter")
        claims = opened(body["id_token"])
        assert all(found[name] == claims[name] for name in ("iss", "sub", "fhirUser"))


@row("introspection-invalid")
@pytest.mark.parametrize("token", ["invalid", "x" * 43, "a.b.c", "é", "eyJhbGciOiJub25lIn0.e30."])
def test_junk_is_not_active_and_nothing_else(introspector, row, token):
    answer = introspector.post("introspection_endpoint", token=token)
    assert answer.status_code == 200
    assert answer.json() == {"active": False}


@row("req-282-283")
def test_a_bearer_token_introspects_those_of_any_client(ehr, introspector, standalone, row):
    own = introspector.launched(ehr.browser())["access_token"]
    for bearer in (own, ehr.token("system/*.rs")):
        answer = ehr.http.post(
            ehr.discovery["introspection_endpoint"],
            data={"token": standalone("public").token},
            headers={"Authorization": f"Bearer {bearer}"},
        )
        assert answer.status_code == 200
        assert answer.json()["active"] is True


@row("smart_backend_services_invalid_grant_type")
def test_an_unknown_grant_type_is_refused(ehr, row):
    answer = ehr.apps["backend"].service(grant_type="not_a_grant_type")
    assert answer.status_code == 400
    assert answer.json()["error"] == "unsupported_grant_type"


@row("smart_backend_services_invalid_client_assertion")
def test_another_assertion_type_is_refused(ehr, row):
    assert ehr.apps["backend"].service(client_assertion_type="not_an_assertion_type").status_code == 400


@row("smart_backend_services_invalid_jwt")
def test_an_assertion_of_somebody_else_is_refused(ehr, row):
    app = ehr.apps["backend"]
    answer = app.service(client_assertion=app.assertion(iss="not_a_client"))
    assert answer.status_code in (400, 401)
    assert answer.json()["error"] == "invalid_client"


@row("smart_backend_services_auth_request_success")
@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
@pytest.mark.parametrize("ahead", [300, 310], ids=["five minutes", "a fast clock"])
def test_a_service_gets_a_token(ehr, row, algorithm, ahead):
    app = ehr.apps["backend"]
    key = app.key if algorithm == "ES384" else ehr.keys["backend"]
    assertion = app.assertion(key=key, exp=int(time.time()) + ahead)
    assert opened(assertion, 0)["alg"] == algorithm
    answer = app.service(client_assertion=assertion, client_assertion_type=ASSERTION)
    assert answer.status_code == 200, answer.text
    assert ehr.fhir("Patient?_count=1", answer.json()["access_token"]).status_code == 200


@row("smart_backend_services_auth_response_body")
def test_the_answer_to_a_service_has_its_members(ehr, row):
    body = ehr.apps["backend"].service("system/Patient.rs").json()
    assert body["access_token"]
    assert body["token_type"].lower() == "bearer"
    assert type(body["expires_in"]) is int
    assert body["scope"] == "system/Patient.rs"


@row("req-240-261")
def test_a_service_keeps_to_what_was_agreed(ehr, row):
    app = ehr.apps["backend"]
    body = app.service().json()
    assert body["expires_in"] <= 300
    assert "refresh_token" not in body
    for scope in (
        "system/*.cruds",
        "system/Patient.c",
        "user/*.rs",
        "patient/*.rs",
        "openid system/*.rs",
        "offline_access",
        "",
    ):
        answer = app.service(scope)
        assert answer.status_code == 400, scope
        assert answer.json()["error"] == "invalid_scope"


@row("req-335-342")
@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "nobody"}, {"sub": "public"}, {"iss": None}, {"aud": "https://other.example/token"}, {"exp": None}, {"exp": 0}, {"jti": None},
        {"header": {"jku": "https://other.example/jwks.json"}}, {"header": {"kid": "another"}}, {"header": {"kid": None}},
    ],
    ids=str,
)  # fmt: skip
def test_an_assertion_must_be_right_in_all_parts(ehr, row, changed):
    app = ehr.apps["backend"]
    answer = app.service(client_assertion=app.assertion(**changed), client_assertion_type=ASSERTION)
    assert answer.status_code in (400, 401)
    assert answer.json()["error"] == "invalid_client"
