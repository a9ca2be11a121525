"""Sections 1.10 and 1.11: what servers shall do and no public test checks; the strictest status of every case."""

import time
from urllib.parse import urlencode

import pytest

from tests.conformance.smart.rows import row
from tests.ehr.apps import ASSERTION, opened, query_of
from tests.ehr.people import back

STATES = ["a b+c&d=e%20f", "é ü", "\"<script>'", "x" * 2000, "{}"]
ODD = "%00%ff%FE+%2B%e9"
"""A state that is no UTF-8, as it may stand in a URL."""


@row("req-14-15-31")
@pytest.mark.parametrize("kind", ["public", "symmetric", "asymmetric"])
def test_pkce_is_s256_for_every_kind(ehr, row, kind):
    app = ehr.apps[kind]
    for changed in (
        {"code_challenge_method": "plain"}, {"code_challenge_method": None}, {"code_challenge": None},
        {"code_challenge": None, "code_challenge_method": None}, {"code_challenge_method": "s256"},
    ):  # fmt: skip
        found = back(ehr.browser().asked(app, **changed), app.redirect)
        assert found["error"] == "invalid_request", changed
    assert app.exchange(app.code(ehr.browser()), code_verifier="y" * 50).status_code == 400


@row("req-18-54-59")
def test_denial_and_errors_bring_the_state_back_byte_for_byte(ehr, row):
    app = ehr.apps["public"]
    for state in STATES:
        assert ehr.browser().authorize(app, state=state)["state"] == state
        assert back(ehr.browser().asked(app, state=state, scope="nonsense"), app.redirect)["state"] == state
    found = ehr.browser().authorize(app, {"action": "deny"})
    assert found["error"] == "access_denied"
    assert found["state"] == app.parameters()["state"]
    page = ehr.browser().asked(app, redirect_uri="https://evil.example/back")
    assert (page.status, page.name, page.errors) == (400, "error", ["invalid_redirect_uri"])
    url = f"{ehr.discovery['authorization_endpoint']}?{urlencode(app.parameters(state=None, scope='nonsense'))}&state={ODD}"
    location = ehr.http.get(url).headers["location"]
    assert location.endswith("&state=%00%FF%FE%20%2B%E9"), location


@row("req-77-94-96-265-266")
def test_an_expired_token_is_refused_and_scope_is_checked_on_each_interaction(ehr, row):
    token = ehr.token("patient/Observation.rs", "--patient", "a", "--user", "doctor", "--ttl", "3")
    assert ehr.fhir("Observation?patient=a", token).status_code == 200
    good = ehr.token("patient/Observation.rs", "--patient", "a", "--user", "doctor")
    body = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/a"},
    }
    for method, path in (
        ("GET", "Condition?patient=a"), ("GET", "Condition/condition-a"), ("GET", "Condition/_history"),
        ("POST", "Observation"), ("PUT", "Observation/laboratory-a"), ("DELETE", "Observation/laboratory-a"),
        ("GET", "Patient/a/$everything"),
    ):  # fmt: skip
        sent = {"json": body | {"id": "laboratory-a"}, "headers": {"Content-Type": "application/fhir+json"}}
        answer = ehr.fhir(path, good, method, **(sent if method in ("POST", "PUT") else {}))
        assert answer.status_code == 403, (method, path, answer.text)
    found = ehr.fhir("_history?_count=100", good).json()["entry"]
    assert {entry["resource"]["resourceType"] for entry in found} == {"Observation"}
    assert all(entry["resource"]["id"].endswith("-a") for entry in found)
    time.sleep(max(0.0, opened(token)["exp"] + 0.1 - time.time()))
    answer = ehr.fhir("Observation?patient=a", token)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@row("req-88-104")
def test_refresh_tokens_last_as_asked_and_stay_with_their_client(ehr, row):
    public, symmetric = ehr.apps["public"], ehr.apps["symmetric"]
    assert "refresh_token" not in public.launched(ehr.browser(), scope="launch/patient patient/*.rs")
    online = public.launched(ehr.browser(), scope="launch/patient patient/*.rs online_access")
    offline = public.launched(ehr.browser(), scope="launch/patient patient/*.rs offline_access")
    exp = {
        name: symmetric_exp(ehr, body["refresh_token"]) - time.time() for name, body in (("on", online), ("off", offline))
    }  # fmt: skip
    assert exp["on"] <= 12 * 3600 + 60
    assert exp["off"] > 89 * 86400
    assert symmetric.refresh(offline["refresh_token"]).status_code == 400
    wider = public.refresh(offline["refresh_token"], scope="launch/patient patient/*.cruds offline_access")
    assert wider.status_code == 400
    assert wider.json()["error"] == "invalid_scope"
    narrower = public.refresh(offline["refresh_token"], scope="patient/Observation.rs")
    assert narrower.status_code == 400
    literal = public.refresh(offline["refresh_token"], scope="patient/*.rs")
    assert literal.json()["scope"] == "patient/*.rs"


def symmetric_exp(ehr, token: str) -> int:
    """When a token expires, as introspection says."""
    return (
        ehr.app("introspector", "symmetric", "--introspect").post("introspection_endpoint", token=token).json()["exp"]
    )


@row("req-164-168-178")
@pytest.mark.parametrize(
    "scope", ["patient/*.rs", "patient/Patient.read", "patient/Observation.rs?category=vital-signs"]
)
def test_patient_scopes_bring_a_patient(ehr, row, scope):
    app = ehr.apps["public"]
    assert app.launched(ehr.browser(), scope=scope)["patient"] == "a"
    handle = ehr.launch("public", "--patient", "a", "--intent", "reconcile", "--encounter", "encounter-a")
    body = app.launched(ehr.browser(), launch=handle, scope=f"launch {scope}")
    assert (body["patient"], body["encounter"], body["intent"]) == ("a", "encounter-a", "reconcile")
    assert "fhirContext" not in body
    assert "launch" not in opened(body["access_token"])


STATUSES = {
    "status-bad-code": lambda ehr: ehr.apps["public"].exchange("BAD"),
    "status-bad-grant-type": lambda ehr: ehr.apps["public"].token(grant_type="nonsense"),
    "status-bad-assertion-type": lambda ehr: ehr.apps["backend"].service(client_assertion_type="nonsense"),
    "status-bad-client": lambda ehr: ehr.apps["public"].exchange("x", client_id="nobody"),
    "status-bad-issuer": lambda ehr: _with_issuer(ehr.apps["backend"]),
    "status-bad-verifier": lambda ehr: ehr.apps["public"].exchange(ehr.apps["public"].code(ehr.browser()), code_verifier="x" * 43),
    "status-bad-refresh": lambda ehr: ehr.apps["public"].refresh("nonsense"),
    "status-bad-basic": lambda ehr: ehr.apps["symmetric"].exchange("x", {"Authorization": "Basic c3ltbWV0cmljOndyb25n"}),
    "status-no-token": lambda ehr: ehr.fhir("Patient/a", None),
    "status-scope-denied": lambda ehr: ehr.fhir("Condition?patient=a", ehr.token("patient/Patient.rs", "--patient", "a")),
    "status-introspection-of-junk": lambda ehr: ehr.apps["symmetric"].post("introspection_endpoint", token="junk"),
}  # fmt: skip
EXPECTED = {
    "status-bad-basic": 401,
    "status-no-token": 401,
    "status-scope-denied": 403,
    "status-introspection-of-junk": 200,
}


def _with_issuer(app):
    return app.service(client_assertion=app.assertion(iss="nobody"), client_assertion_type=ASSERTION)


@row(*STATUSES)
def test_the_status_is_the_strictest_of_all_kits(ehr, row):
    answer = STATUSES[row](ehr)
    assert answer.status_code == EXPECTED.get(row, 400), answer.text
    assert query_of(str(answer.url)).keys() <= {"patient"}
