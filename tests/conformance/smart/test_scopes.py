"""Section 1.8: what goes wrong in a launch, and what the granted scopes keep from an app."""

import json
import time

import pytest

from smart_auth.scopes import parse
from tests.conformance.smart.rows import row
from tests.ehr.apps import VERIFIER, challenge_of
from tests.ehr.people import back
from tests.ehr.records import CATEGORIES, CLINICAL

SYSTEM = {f"{kind}.{code}": system for kind, rows in CATEGORIES.items() for code, system in rows.items()}
GROUPS = (
    ("encounter-diagnosis", "health-concern", "laboratory", "social-history"),
    ("problem-list-item", "health-concern", "vital-signs", "survey", "sdoh"),
)


def granular(context: str, code: str) -> str:
    kind, system = next((name.split(".")[0], system) for name, system in SYSTEM.items() if name.endswith(f".{code}"))
    return f"{context}/{kind}.rs?category={system}|{code}"


def ids(bundle) -> set[str]:
    return {entry["resource"]["id"] for entry in bundle.get("entry", ())}


@row("g10_smart_invalid_aud")
def test_a_foreign_audience_gets_no_code(ehr, row):
    app = ehr.apps["public"]
    found = back(ehr.browser().asked(app, aud="https://other.example.com/fhir"), app.redirect)
    assert found["error"] == "invalid_request"
    assert "code" not in found


@row("g10_smart_invalid_token_request", "g10_smart_invalid_token_request_stu2")
@pytest.mark.parametrize("kind", ["public", "symmetric", "asymmetric"])
def test_a_bad_code_and_a_bad_client_are_refused(ehr, row, kind):
    app = ehr.apps[kind]
    answer = app.exchange("BAD_CODE")
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
    answer = app.exchange(app.code(ehr.browser()), client_id="BAD_CLIENT_ID")
    assert answer.status_code in (400, 401)
    assert answer.json()["error"] == "invalid_client"


@row("g10_smart_invalid_pkce_code_verifier_group")
@pytest.mark.parametrize("kind", ["public", "symmetric", "asymmetric"])
@pytest.mark.parametrize(
    "verifier", [None, "", "x" * 64, challenge_of(VERIFIER)], ids=["absent", "empty", "random", "the challenge"]
)
def test_a_wrong_verifier_is_refused(ehr, row, kind, verifier):
    app = ehr.apps[kind]
    answer = app.exchange(app.code(ehr.browser()), code_verifier=verifier)
    assert answer.status_code in (400, 401)
    assert "access_token" not in answer.json()


@pytest.fixture(scope="module")
def limited(ehr):
    """A launch in which the person left the wide scope out and ticked three types."""
    ticked = [f"patient/{kind}.rs" for kind in ("Patient", "Condition", "Observation")]
    return ehr.apps["public"].launched(ehr.browser("ana"), {"scope": [*ticked, "offline_access"]})


@row("g10_limited_scope_grant")
def test_only_what_was_ticked_is_granted(limited, row):
    found = parse(limited["scope"])
    assert {one.text for one in found.resource} == {
        "patient/Patient.rs",
        "patient/Condition.rs",
        "patient/Observation.rs",
    }
    assert {"openid", "fhirUser", "launch/patient", "offline_access"} == set(found.words)


@row("g10_restricted_access_test")
@pytest.mark.parametrize("kind", ["Patient", *CLINICAL])
def test_what_was_not_ticked_is_refused(ehr, limited, row, kind):
    answer = ehr.fhir("Patient?_id=a" if kind == "Patient" else f"{kind}?patient=a", limited["access_token"])
    if kind in ("Patient", "Condition", "Observation"):
        assert answer.status_code == 200
        assert answer.json()["entry"]
    else:
        assert answer.status_code == 403
        assert answer.json()["resourceType"] == "OperationOutcome"
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.fixture(scope="module")
def by_user(ehr):
    """A token of a launch from the EHR with what the doctor may see."""
    handle = ehr.launch("public", "--patient", "a")
    return ehr.apps["public"].launched(ehr.browser(), launch=handle, scope="launch openid fhirUser user/*.read")[
        "access_token"
    ]


@row("g10_resource_access_test")
@pytest.mark.parametrize("kind", CLINICAL)
@pytest.mark.parametrize("way", ["public", "symmetric", "user"])
def test_an_unrestricted_launch_reads_all_types(ehr, standalone, by_user, row, kind, way):
    answer = ehr.fhir(f"{kind}?patient=a", by_user if way == "user" else standalone(way).token)
    assert answer.status_code == 200, answer.text
    found = answer.json()["entry"]
    assert found
    assert all(entry["resource"]["id"].endswith("-a") for entry in found)


@row("g10_smart_v1_scopes")
def test_scopes_of_version_1_work(ehr, row):
    asked = "launch/patient openid fhirUser offline_access patient/Patient.read patient/Observation.read patient/Condition.*"
    body = ehr.apps["public"].launched(ehr.browser(), scope=asked)
    assert set(body["scope"].split()) == set(asked.split())
    assert "permission-v1" in ehr.discovery["capabilities"]
    assert ehr.fhir("Observation?patient=a", body["access_token"]).status_code == 200
    assert ehr.fhir("Procedure?patient=a", body["access_token"]).status_code == 403


@row("g10_smart_granular_scope_selection")
@pytest.mark.parametrize("group", GROUPS, ids=["first", "second"])
def test_a_person_picks_categories(ehr, row, group):
    asked = "launch/patient openid fhirUser patient/Condition.rs patient/Observation.rs patient/Patient.rs"
    chosen = [granular("patient", code) for code in group]
    body = ehr.apps["public"].launched(ehr.browser(), {"scope": [*chosen, "patient/Patient.rs"]}, scope=asked)
    assert {one.text for one in parse(body["scope"]).resource} == {*chosen, "patient/Patient.rs"}


@pytest.fixture(scope="module", params=GROUPS, ids=["first", "second"])
def picked(ehr, request):
    """The codes of a group and the token response of a launch that asked for exactly these."""
    scope = " ".join(["launch/patient", "patient/Patient.rs", *(granular("patient", code) for code in request.param)])
    return request.param, ehr.apps["public"].launched(ehr.browser("ana"), scope=scope), scope


@row("us_core_granted_granular_scopes")
def test_granular_scopes_are_granted_as_asked(picked, row):
    _, body, scope = picked
    assert set(body["scope"].split()) == set(scope.split())


@row("granular_scope_search_test")
def test_searches_are_filtered_by_the_granular_scopes(ehr, picked, standalone, row):
    codes, body, _ = picked
    for kind, categories in CATEGORIES.items():
        queries = [
            f"{kind}?patient=a",
            f"{kind}?patient=Patient/a",
            *(f"{kind}?patient=a&category={code}" for code in categories),
        ]
        for query in queries:
            answer = ehr.fhir(query, body["access_token"])
            assert answer.status_code == 200, answer.text
            every = ids(ehr.fhir(query, standalone("public").token).json())
            assert ids(answer.json()) == {name for name in every if name.removesuffix("-a") in codes}, query
        posted = ehr.fhir(f"{kind}/_search", body["access_token"], "POST", data={"patient": "a"})
        assert ids(posted.json()) == {f"{code}-a" for code in categories if code in codes}


@row("granular_scope_read_test")
def test_reads_are_filtered_by_the_granular_scopes(ehr, picked, row):
    codes, body, _ = picked
    for kind, categories in CATEGORIES.items():
        for code in categories:
            answer = ehr.fhir(f"{kind}/{code}-a", body["access_token"])
            if code in codes:
                assert answer.status_code == 200
                assert answer.json()["id"] == f"{code}-a"
            else:
                assert answer.status_code == 404
                assert answer.json()["resourceType"] == "OperationOutcome"


@row("g10_token_revocation")
@pytest.mark.parametrize("kind", ["public", "symmetric", "asymmetric"])
@pytest.mark.parametrize("way", ["the person", "the app", "the operator"])
def test_what_was_revoked_is_refused_within_a_second(ehr, row, kind, way):
    user = f"{kind}-{way.replace(' ', '-')}"
    ehr.user(user, "--role", "patient", "--fhir-user", "Patient/a")
    app, browser = ehr.apps[kind], ehr.browser(user)
    body = app.launched(browser)
    assert ehr.fhir("Patient/a", body["access_token"]).status_code == 200
    if way == "the person":
        page = browser.open(f"{ehr.public}/auth/apps")
        assert page.form["attrs"]["id"] == f"revoke-{kind}"
        assert browser.send(page, action="revoke").name == "apps"
    elif way == "the app":
        assert app.post("revocation_endpoint", token=body["refresh_token"]).status_code == 200
    else:
        assert ehr.cli("grant", "revoke", "--user", user) == {"revoked": 1}
    time.sleep(1.1)
    answer = ehr.fhir("Patient/a", body["access_token"])
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert app.refresh(body["refresh_token"]).status_code == 400


@row("req-130")
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_each_entry_is_authorized_by_itself(ehr, limited, row, kind):
    paths = ("Patient/a", "Procedure/procedure-a", "Observation?patient=a", "Patient/b", "Procedure?patient=a")
    bundle = {
        "resourceType": "Bundle", "type": kind, "entry": [{"request": {"method": "GET", "url": path}} for path in paths],
    }  # fmt: skip
    headers = {"Content-Type": "application/fhir+json"}
    answer = ehr.fhir("", limited["access_token"], "POST", content=json.dumps(bundle), headers=headers)
    assert "-b" not in answer.text
    assert "Beta" not in answer.text
    found = [entry["response"]["status"][:3] for entry in answer.json()["entry"]]
    assert found == ["200", "403", "200", "404", "403"]
    note = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/a"},
    }
    writes = [{"resource": note, "request": {"method": "POST", "url": "Observation"}}]
    before = ehr.fhir("Observation?patient=a&_summary=count", limited["access_token"]).json()["total"]
    answer = ehr.fhir(
        "", limited["access_token"], "POST", content=json.dumps(bundle | {"entry": writes}), headers=headers
    )
    refused = answer.json()["entry"][0]["response"]["status"] if kind == "batch" else str(answer.status_code)
    assert refused.startswith("403")
    assert ehr.fhir("Observation?patient=a&_summary=count", limited["access_token"]).json()["total"] == before
