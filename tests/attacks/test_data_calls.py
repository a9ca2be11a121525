"""Attacks through batches, transactions, compartments and operations (6, 7)."""

import json

import pytest

from fhir_server.operations import OPERATIONS
from tests.attacks.verdicts import alike, bundle, entry, ids, inner, is_refused, is_unknown, tells_nothing

pytestmark = pytest.mark.anyio

ALL, WRITING = "ann-with-all", "ann-writing"
NOTE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "pulse"},
    "subject": {"reference": "Patient/ann"},
    "performer": [{"reference": "Patient/ann"}],
}


def twins(*posted: str) -> list[tuple[str, str]]:
    """Each with the same about what is not there."""
    return [(one, one.replace("quagga", "zuagga")) for one in posted]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize(
    "asked",
    [
        entry("GET", "Patient/quagga"),
        entry("HEAD", "Patient/quagga"),
        entry("GET", "Patient/quagga/_history"),
        entry("GET", "Patient/quagga/$everything"),
        entry("GET", "http://localhost:8000/fhir/Patient/quagga"),
        entry("GET", "Observation?patient=Patient/quagga"),
        entry("PUT", "Patient/quagga", {"resourceType": "Patient", "id": "quagga"}),
        entry("PUT", "Observation/quagga-laboratory", {**NOTE, "id": "quagga-laboratory"}),
        entry("DELETE", "Observation/quagga-laboratory"),
        entry("DELETE", "Observation?identifier=quagga-laboratory"),
        entry("POST", "Observation", {**NOTE, "subject": {"reference": "Patient/quagga"}}),
        entry("POST", "Observation", {**NOTE, "subject": {"reference": "Patient?identifier=quagga-mrn"}}),
        entry("POST", "Observation", {**NOTE, "focus": [{"reference": "Patient?identifier=quagga-mrn"}]}),
    ],
    ids=lambda asked: f"{asked['request']['method']} {asked['request']['url']}",
)
async def test_attack_06_an_entry_may_no_more_than_a_request(hospital, kind, asked):
    [(hidden, missing)] = twins(bundle(kind, asked))
    one, other = await hospital.ask(WRITING, "POST", "", hidden), await hospital.ask(WRITING, "POST", "", missing)
    assert tells_nothing(one)
    assert alike(one, other, "quagga", "zuagga")


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize(
    "asked",
    [
        entry("PUT", "Observation?identifier=quagga-laboratory", NOTE),
        entry("POST", "Observation", NOTE, ifNoneExist="identifier=quagga-laboratory"),
    ],
    ids=["PUT", "POST"],
)
async def test_attack_06_a_condition_that_matches_what_is_hidden_matches_nothing(hospital, kind, asked):
    assert inner(await hospital.ask(WRITING, "POST", "", bundle(kind, asked))) == [201]
    kept = await hospital.ask("other-house", "GET", "Observation/quagga-laboratory")
    assert kept.json()["meta"]["versionId"] == "1"


async def test_attack_06_one_forbidden_entry_undoes_a_transaction(hospital):
    before = ids(await hospital.ask(WRITING, "GET", "Observation"))
    for bad in (
        entry("POST", "Observation", {**NOTE, "subject": {"reference": "Patient/quagga"}}),
        entry("POST", "Condition", {"resourceType": "Condition", "subject": {"reference": "Patient/ann"}}),
        entry("PUT", "Patient/quagga", {"resourceType": "Patient", "id": "quagga"}),
    ):
        answer = await hospital.ask(WRITING, "POST", "", bundle("transaction", entry("POST", "Observation", NOTE), bad))
        assert is_refused(answer)
    assert ids(await hospital.ask(WRITING, "GET", "Observation")) == before


async def test_attack_06_each_entry_of_a_batch_is_authorized_by_itself(hospital):
    asked = bundle(
        "batch", entry("GET", "Observation/ann-laboratory"), entry("GET", "Patient/ann"), entry("GET", "Patient/quagga")
    )
    assert inner(await hospital.ask("ann-with-observations", "POST", "", asked)) == [200, 403, 403]
    assert inner(await hospital.ask(ALL, "POST", "", asked)) == [200, 200, 404]


async def test_attack_06_a_batch_in_a_batch_is_refused(hospital):
    nested = {"resourceType": "Bundle", "type": "batch", "entry": [entry("GET", "Patient/quagga")]}
    answer = await hospital.ask(ALL, "POST", "", bundle("batch", entry("POST", "", nested)))
    assert is_refused(answer) or all(400 <= status < 500 for status in inner(answer))


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.example.org/fhir/Patient/quagga",
        "//localhost:8000/fhir/Patient/quagga",
        "../fhir/Patient/quagga",
    ],
)
async def test_attack_06_an_entry_stays_below_the_base(hospital, url):
    answer = await hospital.ask(ALL, "POST", "", bundle("batch", entry("GET", url)))
    assert is_refused(answer) or inner(answer) in ([400], [404])
    assert tells_nothing(answer)


async def test_attack_06_a_urn_does_not_lead_to_another_patient(hospital):
    """Two entries that refer to each other, one of which claims to be Bob."""
    bob = entry("PUT", "Patient/quagga", {"resourceType": "Patient", "id": "quagga"}) | {
        "fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001"
    }
    note = entry(
        "POST", "Observation", {**NOTE, "subject": {"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"}}
    )
    assert is_refused(await hospital.ask(WRITING, "POST", "", bundle("transaction", bob, note)))
    assert inner(await hospital.ask(WRITING, "POST", "", bundle("batch", bob, note))) == [403, 403]


@pytest.mark.parametrize(
    "path",
    [
        "Patient/quagga/Observation",
        "Patient/quagga/*",
        "Patient/okapi/Condition?_summary=count",
        "Practitioner/quagga-doctor/Observation",
        "Encounter/quagga-encounter/Condition",
        "RelatedPerson/quagga-relatedperson/*",
    ],
)
async def test_attack_07_compartments_of_others_are_as_empty_as_those_of_nobody(hospital, path):
    answer = await hospital.ask(ALL, "GET", path)
    missing = await hospital.ask(ALL, "GET", path.replace("quagga", "zuagga").replace("okapi", "zkapi"))
    word = "quagga" if "quagga" in path else "okapi"
    assert alike(answer, missing, word, f"z{word[1:]}")
    assert tells_nothing(answer)


@pytest.mark.parametrize(
    "path",
    [
        "Patient/quagga/$everything",
        "Patient/okapi/$everything?_type=Observation",
        "Encounter/quagga-encounter/$everything",
        "Observation/quagga-laboratory/$meta",
        "Observation/quagga-laboratory/_history/1/$meta",
        "Observation/quagga-laboratory/$diff",
        "$diff?from=Observation/ann-laboratory&to=Observation/quagga-laboratory",
    ],
)
async def test_attack_07_operations_on_what_is_hidden_are_those_on_nothing(hospital, path):
    word = "quagga" if "quagga" in path else "okapi"
    answer = await hospital.ask(ALL, "GET", path)
    assert is_unknown(answer)
    assert alike(answer, await hospital.ask(ALL, "GET", path.replace(word, f"z{word[1:]}")), word, f"z{word[1:]}")


async def test_attack_07_everything_about_oneself_has_nothing_of_others(hospital):
    answer = await hospital.ask(ALL, "GET", "Patient/ann/$everything?_count=1000")
    assert "Observation/ann-donor" in ids(answer)
    assert tells_nothing(answer)


async def test_attack_07_lastn_of_another_patient_is_empty(hospital):
    for who in (ALL, "doctor", "technician"):
        answer = await hospital.ask(who, "GET", "Observation/$lastn?patient=Patient/quagga&category=laboratory")
        assert ids(answer) == []
        assert tells_nothing(answer, "quagga", "okapi")


async def test_attack_07_labels_are_those_of_what_is_seen(hospital):
    for path in ("$meta", "Observation/$meta", "Condition/$meta"):
        answer = await hospital.ask(ALL, "GET", path)
        assert answer.status_code == 200
        assert tells_nothing(answer)


@pytest.mark.parametrize(
    "path",
    [
        "$export",
        "Patient/$export",
        "Group/quagga-group/$export",
        "$export-poll-status?_jobId=1",
        "$graphql?query=%7BPatient(id:%22quagga%22)%7Bid%7D%7D",
        "Patient/quagga/$graphql?query=%7Bid%7D",
        "Patient/$member-match",
        "Patient/$match",
        "Patient/quagga/$summary",
        "Patient/quagga/$merge",
        "Composition/quagga/$document",
        "DocumentReference/$docref?patient=quagga",
        "ConceptMap/$translate",
        "$process-message",
        "$convert",
        "$import",
        "$reset",
    ],
)
async def test_attack_07_an_operation_that_there_is_not_is_a_404(hospital, path):
    """Operations to come say in their table what a token must allow; until then there are none."""
    for method in ("GET", "POST"):
        body = json.dumps({"resourceType": "Parameters"}) if method == "POST" else None
        assert (await hospital.ask("admin", method, path, body)).status_code in (404, 501)


def test_attack_07_every_operation_says_what_a_token_must_allow():
    assert [row.name for row in OPERATIONS if row.needs is None] == []


@pytest.mark.parametrize("who", [ALL, WRITING, "doctor-writing", "admin", "integration"])
@pytest.mark.parametrize("path", ["$expunge", "Patient/$expunge", "Patient/ann/$expunge", "SearchParameter/x/$reindex"])
async def test_attack_07_operations_for_operators_are_for_nobody_else(hospital, who, path):
    answer = await hospital.ask(who, "POST", path, json.dumps({"resourceType": "Parameters"}))
    assert answer.status_code == 403


async def test_attack_07_validation_does_not_tell_whether_something_is_there(hospital):
    for mode in ("update", "delete"):
        posted = json.dumps({
            "resourceType": "Parameters",
            "parameter": [{"name": "mode", "valueCode": mode}, *([{"name": "resource", "resource": {**NOTE, "id": "quagga-laboratory"}}] if mode == "update" else [])],
        })  # fmt: skip
        hidden = await hospital.ask(WRITING, "POST", "Observation/quagga-laboratory/$validate", posted)
        missing = await hospital.ask(
            WRITING, "POST", "Observation/zuagga-laboratory/$validate", posted.replace("quagga", "zuagga")
        )
        assert alike(hidden, missing, "quagga", "zuagga")
