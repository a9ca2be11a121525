"""Attacks by kinds of data and of scopes: attachments, contained resources, the directory, scopes beyond roles (10, 12)."""

import json

import pytest

from tests.attacks.verdicts import alike, ids, is_unknown, tells_nothing

pytestmark = pytest.mark.anyio

ALL, ANN = "ann-with-all", "ann-writing"
BINARY = {"resourceType": "Binary", "contentType": "text/html", "data": "PHNjcmlwdD4="}


@pytest.mark.parametrize("accept", ["application/fhir+json", "text/plain", "*/*", "text/html"])
async def test_attack_10_anothers_binary_is_not_there_in_any_form(hospital, accept):
    hidden = await hospital.ask(ALL, "GET", "Binary/quagga-binary", Accept=accept)
    missing = await hospital.ask(ALL, "GET", "Binary/zuagga-binary", Accept=accept)
    assert is_unknown(hidden)
    assert alike(hidden, missing, "quagga", "zuagga")
    assert tells_nothing(await hospital.ask(ALL, "GET", "Binary"))


@pytest.mark.parametrize("who", [ALL, "doctor", "receptionist", "ann-with-observations"])
async def test_attack_10_a_security_context_that_one_writes_opens_nothing(hospital, who):
    """Bob's Binary stays Bob's whatever Ann's documents point to."""
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": "Patient/ann"},
        "author": [{"reference": "Patient/ann"}],
        "content": [{"attachment": {"contentType": "text/plain", "url": "Binary/quagga-binary"}}],
    }
    await hospital.ask(ANN, "POST", "DocumentReference", json.dumps(document))
    answer = await hospital.ask(who, "GET", "Binary/quagga-binary")
    assert answer.status_code in (403, 404)


async def test_attack_10_a_binary_is_not_written_for_another(hospital):
    for context in ("Patient/quagga", "Patient/okapi", "Patient/ann"):
        posted = json.dumps({**BINARY, "securityContext": {"reference": context}})
        assert (await hospital.ask(ALL, "POST", "Binary", posted)).status_code == 403
        assert (await hospital.ask(ALL, "PUT", "Binary/quagga-binary", posted)).status_code == 403


async def test_attack_10_contained_resources_are_hidden_with_what_contains_them(hospital):
    for query in (
        "Medication?_contained=true&code=quagga-pill",
        "Medication?_contained=both&_containedType=contained&code=okapi-pill",
        "MedicationStatement?medication.code=quagga-pill",
    ):
        answer = await hospital.ask(ALL, "GET", query)
        assert answer.status_code == 400 or ids(answer) == []
        assert tells_nothing(answer)
    for path in (
        "Medication/pill",
        "MedicationStatement/quagga-medicationstatement#pill",
        "Medication/quagga-medicationstatement%23pill",
    ):
        answer = await hospital.ask(ALL, "GET", path)
        assert answer.status_code in (400, 404)


async def test_attack_10_an_old_version_that_was_about_another_is_not_shown(hospital):
    """A result that was filed under Cid by mistake and is Ann's now: what Ann sees of its past is hers alone."""
    note = {"resourceType": "Observation", "status": "final", "code": {"text": "okapi said"}}
    posted = json.dumps({**note, "subject": {"reference": "Patient/okapi"}})
    made = (await hospital.ask("integration", "POST", "Observation", posted)).json()
    here = f"Observation/{made['id']}"
    moved = json.dumps({**note, "code": {"text": "hers"}, "id": made["id"], "subject": {"reference": "Patient/ann"}})
    assert (await hospital.ask("integration", "PUT", here, moved)).status_code == 200
    assert (await hospital.ask(ALL, "GET", here)).status_code == 200
    for path in (
        f"{here}/_history/1",
        f"{here}/_history",
        "Observation/_history",
        f"$diff?from={here}/_history/1&to={here}",
        f"{here}/_history/1/$meta",
    ):
        answer = await hospital.ask(ALL, "GET", path)
        assert "okapi said" not in answer.text
        assert tells_nothing(answer)
    assert (await hospital.ask(ALL, "GET", f"{here}/_history/1")).status_code == 404


@pytest.mark.parametrize(
    "kind",
    [
        "Task",
        "Group",
        "ValueSet",
        "Person",
        "Subscription",
        "Device",
        "Contract",
        "CodeSystem",
        "AuditEvent",
        "Library",
        "Binary",
        "Bundle",
        "Parameters",
    ],
)
async def test_attack_12_all_types_of_a_patient_are_the_directory_and_their_compartment(hospital, kind):
    answer = await hospital.ask(ALL, "GET", kind)
    assert answer.status_code in (400, 403, 404) or ids(answer) == []
    assert tells_nothing(answer)


async def test_attack_12_the_directory_is_that_of_ones_house(hospital):
    found = ids(await hospital.ask(ALL, "GET", "Practitioner?_count=100"))
    assert sorted(found) == [
        "Practitioner/doctor",
        "Practitioner/nurse",
        "Practitioner/stranger",
        "Practitioner/technician",
    ]
    for path in ("Practitioner/quagga-doctor", "Organization/quagga-house", "Location/quagga-ward"):
        assert is_unknown(await hospital.ask(ALL, "GET", path))


@pytest.mark.parametrize(
    ("scope", "like", "path"),
    [
        ("user/*.cruds", "receptionist", "Condition"),
        ("user/Observation.rs", "receptionist", "Observation"),
        ("user/*.cruds", "billing", "Observation"),
        ("user/*.cruds", "pharmacist", "Procedure"),
        ("user/*.cruds", "insurer", "Observation"),
        ("user/*.cruds", "technician", "Coverage"),
        ("user/*.cruds", "nurse", "Claim"),
        ("system/*.cruds", "ann-with-all", "Patient"),
        ("system/*.cruds", "doctor", "Patient"),
        ("system/*.cruds", "admin", "Patient"),
        ("user/*.cruds", "backend", "Patient"),
        ("patient/*.cruds", "backend", "Patient"),
        ("patient/*.cruds", "receptionist", "Patient"),
        ("openid fhirUser launch", "doctor", "Patient"),
        ("offline_access online_access", "admin", "Patient"),
        ("*/*.*", "admin", "Patient"),
        ("user/Patient.*", "admin", "Observation"),
        ("", "admin", "Patient"),
    ],
)
async def test_attack_12_a_scope_is_not_more_than_its_context_and_role(hospital, scope, like, path):
    who = hospital.granted(scope, like)
    for below in ("", "?_summary=count", f"/ann-{path.lower()}", "/_history"):
        assert (await hospital.ask(who, "GET", f"{path}{below}")).status_code in (401, 403)


async def test_attack_12_a_patient_in_context_is_only_oneself(hospital):
    """A token of Ann's that names Bob as its patient, as if a launch had been mixed up."""
    for other in ("quagga", "okapi", "donor"):
        who = hospital.granted("patient/*.cruds", ALL, patient=other)
        for path in (f"Patient/{other}", f"Observation/{other}-laboratory", "Patient/ann"):
            assert (await hospital.ask(who, "GET", path)).status_code in (403, 404)


@pytest.mark.parametrize("patient", ["quagga", "okapi", "donor", "nobody"])
async def test_attack_12_a_launch_opens_no_patient_who_is_not_the_doctors(hospital, patient):
    who = hospital.granted("launch patient/*.rs", "doctor", patient=patient)
    for path in (f"Patient/{patient}", f"Observation/{patient}-laboratory", "Observation/ann-laboratory"):
        assert (await hospital.ask(who, "GET", path)).status_code in (403, 404)
    for path in ("Observation", f"Patient/{patient}/Observation"):
        answer = await hospital.ask(who, "GET", path)
        assert answer.status_code == 403 or ids(answer) == []
    for path in ("_history", f"Patient/{patient}/*"):
        assert tells_nothing(await hospital.ask(who, "GET", path))


async def test_attack_12_a_launch_does_not_widen_a_role(hospital):
    who = hospital.granted("launch patient/*.rs", "doctor")
    assert (await hospital.ask(who, "GET", "Observation/ann-laboratory")).status_code in (403, 404)  # of no patient
    who = hospital.granted("launch patient/*.rs", "doctor", patient="ann")
    assert (await hospital.ask(who, "GET", "Observation/ann-laboratory")).status_code == 200
    for kind in ("Claim", "Invoice", "Account"):
        assert (await hospital.ask(who, "GET", kind)).status_code == 403


@pytest.mark.parametrize("who", [ALL, "doctor"])
async def test_attack_12_how_the_server_works_is_not_told(hospital, who):
    assert (await hospital.ask(who, "GET", "Observation?_explain=true")).status_code == 403
