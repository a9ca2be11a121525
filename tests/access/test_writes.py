"""Who writes what: a table of attempts, and that nothing changed where one was refused.

Specification: https://hl7.org/fhir/R4/http.html, https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

import asyncio
import base64
import json

import pytest

from search.query import All
from smart_auth.model import Principal
from tests.access.hospital import OPERATOR, VITAL, coded, observation, opened, patient, ref

pytestmark = pytest.mark.anyio
ANNE = ("anne", "patient/*.cruds", "anne")
ANNES_APP = ("", "patient/*.cruds", "anne")
DORA = ("dora", "user/*.cruds", "")
NORA = ("nora", "user/*.cruds", "")


def without_id(resource, **more):
    return {name: value for name, value in resource.items() if name != "id"} | more


def answers(of, author="Patient/anne"):
    return {
        "resourceType": "QuestionnaireResponse",
        "status": "completed",
        "questionnaire": "http://example.org/q",
        "subject": ref(f"Patient/{of}"),
        "author": ref(author),
    }


def appointment(of, with_="Practitioner/dora", **more):
    actors = [ref(f"Patient/{of}"), ref(with_)]
    participants = [{"actor": actor, "status": "accepted"} for actor in actors]
    return {"resourceType": "Appointment", "status": "proposed", "participant": participants, **more}


def mine(of, **more):
    return without_id(observation("x", of, performer=[ref(f"Patient/{of}")]), **more)


CREATES = {
    "a patient answers questions": (ANNE, answers("anne"), 201),
    "a patient answers for somebody else": (ANNE, answers("bert"), 403),
    "a patient answers as somebody else": (ANNE, answers("anne", "Practitioner/dora"), 403),
    "a patient books for herself": (ANNE, appointment("anne"), 201),
    "a patient books for somebody else": (ANNE, appointment("bert"), 403),
    "a patient books for two": (ANNE, appointment("anne", "Patient/bert"), 403),
    "a patient notes a value of her own": (ANNE, mine("anne"), 201),
    "a patient notes a value as a doctor": (ANNE, without_id(observation("x", "anne", performer=[ref("Practitioner/dora")])), 403),
    "a patient notes a value of nobody": (ANNE, without_id(observation("x", "anne")), 403),
    "a patient files a value under somebody else": (ANNE, mine("anne", subject=ref("Patient/bert")), 403),
    "a patient prescribes": (ANNE, {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": ref("Patient/anne"), "medicationCodeableConcept": coded("x")}, 403),
    "a patient makes a patient": (ANNE, without_id(patient("x")), 403),
    "a patient with too few letters": (("anne", "patient/*.ruds", "anne"), answers("anne"), 403),
    "a patient with another type's scope": (("anne", "patient/Observation.cruds", "anne"), answers("anne"), 403),
    "a related person answers": (("rita", "patient/*.cruds", "anne"), answers("anne", "RelatedPerson/rita"), 201),
    "a related person of somebody else": (("rita", "patient/*.cruds", "bert"), answers("bert", "RelatedPerson/rita"), 403),
    "an app of the operator writes for its patient": (ANNES_APP, without_id(observation("x", "anne")), 201),
    "and for no other": (ANNES_APP, without_id(observation("x", "bert")), 403),
    "and for no other who performed it": (ANNES_APP, without_id(observation("x", "bert", performer=[ref("Patient/anne")])), 403),
    "a doctor notes a condition": (DORA, {"resourceType": "Condition", "subject": ref("Patient/anne"), "clinicalStatus": coded("active", "http://terminology.hl7.org/CodeSystem/condition-clinical")}, 201),
    "a doctor notes one of a stranger": (DORA, {"resourceType": "Condition", "subject": ref("Patient/bert"), "clinicalStatus": coded("active", "http://terminology.hl7.org/CodeSystem/condition-clinical")}, 403),
    "a doctor registers a patient": (DORA, without_id(patient("x")), 403),
    "a doctor dispenses": (DORA, {"resourceType": "MedicationDispense", "status": "completed", "subject": ref("Patient/anne"), "medicationCodeableConcept": coded("x")}, 403),
    "a doctor makes a user's role": (DORA, {"resourceType": "PractitionerRole", "practitioner": ref("Practitioner/dora")}, 403),
    "a nurse notes vital signs": (NORA, without_id(observation("x", "anne", "vital-signs")), 201),
    "a nurse notes a laboratory result": (NORA, without_id(observation("x", "anne")), 403),
    "a nurse notes vital signs off her ward": (NORA, without_id(observation("x", "bert", "vital-signs")), 403),
    "a receptionist registers a patient": (("resi", "user/*.cruds", ""), without_id(patient("x")), 201),
    "a receptionist notes a value": (("resi", "user/*.cruds", ""), without_id(observation("x", "anne")), 403),
    "a receptionist books for anybody": (("resi", "user/*.cruds", ""), appointment("bert"), 201),
    "an administrator registers a patient": (("adam", "user/*.cruds", ""), without_id(patient("x")), 201),
    "an administrator treats": (("adam", "user/*.cruds", ""), without_id(observation("x", "anne")), 403),
    "a super-administrator treats": (("sue", "user/*.cruds", ""), without_id(observation("x", "anne")), 403),
    "a pharmacist dispenses": (("phil", "user/*.cruds", ""), {"resourceType": "MedicationDispense", "status": "completed", "subject": ref("Patient/anne"), "medicationCodeableConcept": coded("x")}, 201),
    "a technician without an order": (("lab", "user/*.cruds", ""), without_id(observation("x", "anne", status="preliminary")), 403),
    "a granular scope holds for what is written": (("", f"patient/Observation.cruds?category={VITAL}", "anne"), without_id(observation("x", "anne", "vital-signs")), 201),
    "and for nothing else": (("", f"patient/Observation.cruds?category={VITAL}", "anne"), without_id(observation("x", "anne")), 403),
    "an audit record": (("adam", "user/*.cruds", ""), {"resourceType": "Basic", "code": coded("x")}, 403),
    "a backend writes": (("-", "system/*.cruds", ""), without_id(observation("x", "bert")), 201),
    "a backend without the letter": (("-", "system/*.rs", ""), without_id(observation("x", "bert")), 403),
}  # fmt: skip

CHANGES = {
    "a patient changes her doctor's result": (ANNE, observation("lab-anne", "anne"), 403),
    "a patient takes over a result": (ANNE, observation("lab-anne", "anne", performer=[ref("Patient/anne")]), 403),
    "a patient changes what is hidden from her": (ANNE, observation("early-anne", "anne"), 404),
    "a patient changes somebody else's": (ANNE, observation("lab-bert", "bert"), 404),
    "a patient takes somebody else's": (ANNE, observation("lab-bert", "anne"), 404),
    "a patient makes one under her own id": (ANNE, observation("unheard-of", "anne"), 404),
    "a patient changes her record": (ANNE, patient("anne", link=[{"other": ref("Patient/bert"), "type": "seealso"}]), 403),
    "an app of the operator changes a result": (ANNES_APP, observation("lab-anne", "anne", valueString="new"), 200),
    "and moves it to somebody else": (ANNES_APP, observation("lab-anne", "bert"), 403),
    "and moves one here": (ANNES_APP, observation("lab-bert", "anne"), 404),
    "and makes one that nobody knows": (ANNES_APP, observation("unheard-of", "anne"), 404),
    "a doctor changes a result": (DORA, observation("lab-anne", "anne", valueString="new"), 200),
    "a doctor moves it to a stranger": (DORA, observation("lab-anne", "bert"), 403),
    "a doctor changes a stranger's": (DORA, observation("lab-bert", "bert"), 404),
    "a doctor makes one under an id": (DORA, observation("unheard-of", "anne"), 404),
    "a doctor changes a colleague's entry": (DORA, {"resourceType": "Practitioner", "id": "nora"}, 403),
    "a nurse makes vital signs of a result": (NORA, observation("lab-anne", "anne", "vital-signs"), 403),
    "a nurse makes a result of vital signs": (NORA, observation("vital-anne", "anne"), 403),
    "a nurse changes vital signs": (NORA, observation("vital-anne", "anne", "vital-signs", valueString="new"), 200),
    "a receptionist changes an address": (("resi", "user/*.cruds", ""), patient("bert", gender="male"), 200),
    "an administrator makes one under an id": (("adam", "user/*.cruds", ""), patient("unheard-of"), 404),
    "a super-administrator makes one under an id": (("sue", "user/*.cruds", ""), patient("unheard-of"), 201),
    "a backend makes one under an id": (("-", "system/*.cruds", ""), patient("unheard-of"), 201),
    "an operator makes one under an id": (("", OPERATOR, ""), patient("unheard-of"), 201),
    "out of a granular scope": (("", f"patient/Observation.ru?category={VITAL}", "anne"), observation("vital-anne", "anne"), 403),
    "into a granular scope": (("", f"patient/Observation.ru?category={VITAL}", "anne"), observation("lab-anne", "anne", "vital-signs"), 404),
    "without the letter": (("", "patient/Observation.rs", "anne"), observation("lab-anne", "anne"), 403),
}  # fmt: skip

DELETES = {
    "a patient deletes her result": (ANNE, "Observation/lab-anne", 403),
    "a patient deletes somebody else's": (ANNE, "Observation/lab-bert", 403),
    "an app of the operator deletes": (ANNES_APP, "Observation/lab-anne", 204),
    "an app of the operator deletes somebody else's": (ANNES_APP, "Observation/lab-bert", 204),
    "a doctor deletes": (DORA, "Observation/lab-anne", 403),
    "an administrator deletes a patient": (("adam", "user/*.cruds", ""), "Patient/linked", 204),
    "an administrator deletes a treatment": (("adam", "user/*.cruds", ""), "Observation/lab-anne", 403),
    "a super-administrator deletes": (("sue", "user/*.cruds", ""), "Patient/linked", 403),
    "an operator deletes": (("", OPERATOR, ""), "Observation/lab-bert", 204),
}


def header_of(hospital, who):
    user, scope, context = who
    return hospital.as_(user, scope, context, "backend" if user == "-" else "app")


async def versions(hospital):
    """How many versions of anything there are."""
    return (await hospital.get("_history?_count=0", hospital.as_("", OPERATOR))).json()["total"]


async def stored(hospital):
    """Everything there is, as an operator sees it."""
    history = (await hospital.get("_history?_count=1000", hospital.as_("", OPERATOR))).json()
    return {(entry["fullUrl"], entry["response"]["etag"]): entry.get("resource") for entry in history["entry"]}


@pytest.mark.parametrize("case", CREATES)
async def test_create(workshop, case):
    who, resource, status = CREATES[case]
    before = await versions(workshop)
    answer = await workshop.send("POST", resource["resourceType"], resource, header_of(workshop, who))
    assert answer.status_code == status, answer.text
    assert await versions(workshop) - before == (status == 201)


@pytest.mark.parametrize("case", CREATES)
@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_create_in_a_bundle(workshop, case, kind):
    who, resource, status = CREATES[case]
    before = await versions(workshop)
    entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
    answer = await workshop.send("POST", "", bundle, header_of(workshop, who))
    if kind == "batch" or status == 201:
        assert answer.json()["entry"][0]["response"]["status"].startswith(str(status)), answer.text
    else:
        assert answer.status_code == status, answer.text
    assert await versions(workshop) - before == (status == 201)


@pytest.mark.parametrize("case", [case for case, (_, _, status) in CHANGES.items() if status < 300])
async def test_update(fresh, case):
    who, resource, status = CHANGES[case]
    before = await versions(fresh)
    answer = await fresh.send("PUT", f"{resource['resourceType']}/{resource['id']}", resource, header_of(fresh, who))
    assert answer.status_code == status, answer.text
    assert await versions(fresh) == before + 1


@pytest.mark.parametrize("case", [case for case, (_, _, status) in CHANGES.items() if status > 300])
async def test_update_is_refused(workshop, case):
    who, resource, status = CHANGES[case]
    before = await versions(workshop)
    kind, name = resource["resourceType"], resource["id"]
    answer = await workshop.send("PUT", f"{kind}/{name}", resource, header_of(workshop, who))
    assert answer.status_code == status, answer.text
    assert await versions(workshop) == before
    if status == 404:
        missing = dict(resource, id="q" * len(name))
        unknown = await workshop.send("PUT", f"{kind}/{missing['id']}", missing, header_of(workshop, who))
        assert unknown.text == answer.text.replace(name, missing["id"])


@pytest.mark.parametrize("case", [case for case, (_, _, status) in DELETES.items() if status < 300])
async def test_delete(fresh, case):
    who, url, status = DELETES[case]
    before = await versions(fresh)
    answer = await fresh.send("DELETE", url, None, header_of(fresh, who))
    assert answer.status_code == status, answer.text
    gone = "somebody else" not in case
    assert await versions(fresh) - before == gone
    if not gone:
        unknown = await fresh.send("DELETE", f"{url.split('/')[0]}/unheard-of", None, header_of(fresh, who))
        assert "etag" not in answer.headers
        assert dict(unknown.headers) | {"x-request-id": ""} == dict(answer.headers) | {"x-request-id": ""}


@pytest.mark.parametrize("case", [case for case, (_, _, status) in DELETES.items() if status > 300])
async def test_delete_is_refused(workshop, case):
    who, url, status = DELETES[case]
    before = await versions(workshop)
    assert (await workshop.send("DELETE", url, None, header_of(workshop, who))).status_code == status
    assert await versions(workshop) == before


PATCH = [{"op": "replace", "path": "/valueString", "value": "patched"}]


@pytest.mark.parametrize(
    ("who", "name", "status"),
    [
        (ANNES_APP, "lab-anne", 200),
        (ANNES_APP, "lab-bert", 404),
        (ANNES_APP, "unheard-of", 404),
        (("", "patient/Observation.u", "anne"), "lab-anne", 403),
        (("", "patient/Observation.r", "anne"), "lab-anne", 403),
        (ANNE, "lab-anne", 403),
        (DORA, "lab-anne", 200),
        (DORA, "lab-bert", 404),
    ],
)
async def test_patch(fresh, who, name, status):
    header = header_of(fresh, who) | {"Content-Type": "application/json-patch+json"}
    answer = await fresh.client.patch(f"Observation/{name}", content=json.dumps(PATCH), headers=header)
    assert answer.status_code == status, answer.text
    fields = [{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Observation.value"}, {"name": "value", "valueString": "again"}]  # fmt: skip
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": fields}]}
    entry = {"resource": parameters, "request": {"method": "PATCH", "url": f"Observation/{name}"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = await fresh.send("POST", "", bundle, header_of(fresh, who))
    assert answer.status_code == status, answer.text


async def test_a_patch_asks_nothing_of_what_may_not_be_read(fresh):
    """A `test` of JSON Patch, or a path of FHIRPath, would tell of the content."""
    blind = fresh.as_("", "patient/Observation.us", "anne")
    answers = set()
    for guess in ("secret of anne", "something else"):
        patch = [{"op": "test", "path": "/valueString", "value": guess}]
        header = blind | {"Content-Type": "application/json-patch+json"}
        told = await fresh.client.patch("Observation/lab-anne", content=json.dumps(patch), headers=header)
        data = base64.b64encode(json.dumps(patch).encode()).decode()
        binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
        texts = [told.text]
        for url in ("Observation/lab-anne", "Observation?_id=lab-anne"):
            entry = {"resource": binary, "request": {"method": "PATCH", "url": url}}
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
            texts.append((await fresh.send("POST", "", bundle, blind)).text)
        answers.add(tuple(texts))
    assert len(answers) == 1


async def test_a_patch_does_not_move_a_resource(fresh):
    move = [{"op": "replace", "path": "/subject/reference", "value": "Patient/bert"}]
    header = header_of(fresh, ANNES_APP) | {"Content-Type": "application/json-patch+json"}
    answer = await fresh.client.patch("Observation/lab-anne", content=json.dumps(move), headers=header)
    assert answer.status_code == 403, answer.text


async def test_conditional_writes_match_what_is_seen(fresh):
    """What is hidden is no match: neither is it changed, nor told of."""
    anne = fresh.as_("", "patient/*.cruds", "anne")
    told = await fresh.send("POST", "Observation", mine("anne"), anne, **{"If-None-Exist": "subject=Patient/bert"})
    assert told.status_code == 201
    changed = await fresh.send("PUT", "Observation?_id=lab-bert", mine("anne"), anne)
    assert changed.status_code == 201
    assert changed.json()["id"] != "lab-bert"
    assert (await fresh.send("DELETE", "Observation?_id=lab-bert", None, anne)).status_code == 204
    header = anne | {"Content-Type": "application/json-patch+json"}
    patched = await fresh.client.patch("Observation?_id=lab-bert", content=json.dumps(PATCH), headers=header)
    assert patched.status_code == 404
    whole = (await fresh.get("Observation/lab-bert", fresh.as_("", OPERATOR))).json()
    assert whole["meta"]["versionId"] == "1"
    for method, scope in (("PUT", "patient/Observation.cru"), ("DELETE", "patient/Observation.crud")):
        refused = await fresh.send(method, "Observation?_id=lab-anne", mine("anne"), fresh.as_("", scope, "anne"))
        assert refused.status_code == 403, refused.text
    blind = fresh.as_("", "patient/Observation.cru", "anne")
    probe = await fresh.send("POST", "Observation", mine("anne"), blind, **{"If-None-Exist": "_id=lab-anne"})
    assert probe.status_code == 403


async def test_a_conditional_reference_means_what_is_seen(fresh):
    anne = fresh.as_("", "patient/*.cruds", "anne")
    for who, status in (("anne", 200), ("bert", 412), ("nobody", 412)):
        entry = {
            "resource": mine("anne", subject=ref(f"Patient?identifier=urn:mrn|mrn-{who}")),
            "request": {"method": "POST", "url": "Observation"},
        }
        answer = await fresh.send("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}, anne)
        assert answer.status_code == status, answer.text
        if status == 412:
            assert answer.json()["issue"][0]["diagnostics"] == "the conditional reference means no resource"


async def test_a_transaction_is_refused_as_a_whole(fresh):
    anne = fresh.as_("", "patient/*.cruds", "anne")
    before = await stored(fresh)
    entries = [
        {"resource": mine("anne"), "request": {"method": "POST", "url": "Observation"}},
        {"resource": observation("lab-bert", "bert"), "request": {"method": "PUT", "url": "Observation/lab-bert"}},
    ]
    answer = await fresh.send("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, anne)
    assert answer.status_code == 404
    assert await stored(fresh) == before


async def test_a_transaction_deletes_what_is_seen_alone(fresh):
    anne = fresh.as_("", "patient/*.cruds", "anne")
    entries = [
        {"request": {"method": "DELETE", "url": f"Observation/{name}"}}
        for name in ("lab-anne", "lab-bert", "unheard-of")
    ]
    answer = await fresh.send("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, anne)
    assert answer.status_code == 200, answer.text
    told = [entry["response"] for entry in answer.json()["entry"]]
    assert [one["status"] for one in told] == ["204 No Content"] * 3
    assert ["etag" in one for one in told] == [True, False, False]
    operator = fresh.as_("", OPERATOR)
    assert (await fresh.get("Observation/lab-anne", operator)).status_code == 410
    assert (await fresh.get("Observation/lab-bert", operator)).status_code == 200


async def test_a_history_bundle_is_for_whom_nothing_is_hidden(fresh):
    entries = [
        {
            "resource": observation("old", "anne"),
            "request": {"method": "PUT", "url": "Observation/old"},
            "response": {"status": "201"},
        },
        {
            "resource": observation("old", "anne", valueString="older"),
            "request": {"method": "PUT", "url": "Observation/old"},
            "response": {"status": "200"},
        },
    ]
    bundle = {"resourceType": "Bundle", "type": "history", "entry": entries}
    assert (await fresh.send("POST", "", bundle, fresh.as_("", "patient/*.cruds", "anne"))).status_code == 404
    answer = await fresh.send("POST", "", bundle, fresh.as_("", OPERATOR))
    assert answer.status_code == 200, answer.text


async def test_references_to_what_is_hidden_are_references_to_nothing(tmp_path):
    async with opened(tmp_path, referential_integrity=True) as hospital:
        anne = hospital.as_("", "patient/*.cruds", "anne")
        told = []
        for encounter in ("visit-bert", "visit-nobo"):
            answer = await hospital.send(
                "POST", "Observation", mine("anne", encounter=ref(f"Encounter/{encounter}")), anne
            )
            assert answer.status_code == 422, answer.text
            told.append(answer.text.replace(encounter, ""))
        assert told[0] == told[1]
        good = await hospital.send("POST", "Observation", mine("anne", encounter=ref("Encounter/visit-anne")), anne)
        assert good.status_code == 201


async def test_what_somebody_makes_belongs_to_their_organization(fresh):
    far = fresh.as_("far", "user/*.cruds")
    made = (await fresh.send("POST", "Patient", without_id(patient("far")), far)).json()["id"]
    assert (await fresh.get(f"Patient/{made}", far)).status_code == 200
    assert (await fresh.get(f"Patient/{made}", fresh.as_("adam", "user/*.cruds"))).status_code == 404
    assert (await fresh.get(f"Patient/{made}", fresh.as_("sue", "user/*.cruds"))).status_code == 200
    # an update by somebody without organization takes it from nobody
    changed = await fresh.send(
        "PUT", f"Patient/{made}", dict(patient(made), gender="male"), fresh.as_("sue", "user/*.cruds")
    )
    assert changed.status_code == 200
    assert (await fresh.get(f"Patient/{made}", fresh.as_("adam", "user/*.cruds"))).status_code == 404
    away = fresh.as_("-", "system/*.cruds", "", "away")
    assert made in await fresh.ids("Patient", away)


async def test_an_update_that_loses_a_race_is_decided_again(fresh):
    """Ten writers of one resource, without If-Match: each is carried out, on the version that was decided on."""
    dora = header_of(fresh, DORA)
    updates = [fresh.send("PUT", "Observation/lab-anne", observation("lab-anne", "anne", valueString=str(n)), dora) for n in range(10)]  # fmt: skip
    assert {answer.status_code for answer in await asyncio.gather(*updates)} == {200}
    whole = (await fresh.get("Observation/lab-anne", dora)).json()
    assert whole["meta"]["versionId"] == "11"


async def test_a_technician_works_on_orders_up_to_preliminary(fresh):
    operator, lab = fresh.as_("", OPERATOR), fresh.as_("lab", "user/*.cruds")
    order = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": ref("Patient/bert"),
        "performer": [ref("Practitioner/lab")],
    }
    made = await fresh.send("POST", "ServiceRequest", order, operator)
    assert await fresh.ids("ServiceRequest", lab) == {made.json()["id"]}
    assert (await fresh.get("Patient/bert", lab)).status_code == 200
    assert (await fresh.get("Patient/anne", lab)).status_code == 404
    result = observation("x", "bert", status="preliminary")
    written = await fresh.send("POST", "Observation", without_id(result), lab)
    assert written.status_code == 201
    name = written.json()["id"]
    final = dict(result, id=name, status="final")
    assert (await fresh.send("PUT", f"Observation/{name}", final, lab)).status_code == 403
    assert (await fresh.send("PUT", f"Observation/{name}", dict(final, status="registered"), lab)).status_code == 200
    assert (await fresh.send("POST", "Observation", without_id(final), lab)).status_code == 403
    assert (await fresh.send("PUT", "Observation/lab-bert", observation("lab-bert", "bert"), lab)).status_code == 403


async def test_an_insurer_answers_claims_of_its_own(fresh):
    operator, ines = fresh.as_("", OPERATOR), fresh.as_("ines", "user/*.cruds")
    claim = {
        "resourceType": "Claim",
        "status": "active",
        "type": coded("x"),
        "use": "claim",
        "patient": ref("Patient/anne"),
        "created": "2026-01-01",
        "provider": ref("Practitioner/dora"),
        "priority": coded("x"),
        "insurance": [{"sequence": 1, "focal": True, "coverage": ref("Coverage/coverage-anne")}],
    }
    for insurer in ("insurer", "other"):
        await fresh.send("POST", "Claim", claim | {"insurer": ref(f"Organization/{insurer}")}, operator)
    (own,) = await fresh.ids("Claim", ines)
    answer = {
        "resourceType": "ClaimResponse",
        "status": "active",
        "type": coded("x"),
        "use": "claim",
        "patient": ref("Patient/anne"),
        "created": "2026-01-01",
        "insurer": ref("Organization/insurer"),
        "request": ref(f"Claim/{own}"),
        "outcome": "complete",
    }
    assert (await fresh.send("POST", "ClaimResponse", answer, ines)).status_code == 201
    foreign = answer | {"insurer": ref("Organization/other")}
    assert (await fresh.send("POST", "ClaimResponse", foreign, ines)).status_code == 403


async def test_nothing_is_hidden_from_operators(hospital):
    operator = Principal(id="x", client="app", scope=OPERATOR, operator=True)
    admitted = await hospital.app.state.gate.admitted(operator)
    assert admitted.access.operates
    assert admitted.access.node("Patient", "d") == All()
