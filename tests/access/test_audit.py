"""Who sees what of the audit trail, by access token: administrators all of their organization's, patients what is about themselves."""

import re

import pytest

from smart_auth.model import Client, User

pytestmark = pytest.mark.anyio

SEEN = "Observation/lab-anne"
READERS = {
    "the super-admin": ("sue", "user/*.rs", "", 200, True),
    "an admin": ("adam", "user/AuditEvent.rs", "", 200, True),
    "an operator": ("", "system/*.rs", "", 200, True),
    "the patient": ("anne", "user/*.rs", "", 200, True),
    "the patient by an app": ("anne", "patient/*.rs", "anne", 200, True),
    "another patient": ("bert", "patient/*.rs", "bert", 200, False),
    "another patient who names the first": ("bert", "patient/*.rs", "anne", 403, False),
    "a relative": ("rita", "user/*.rs", "", 200, True),
    "a relative by an app": ("rita", "patient/*.rs", "anne", 200, True),
    "somebody who is nobody's relative": ("stranger", "user/*.rs", "", 403, False),
    "a patient by an app without the scope": ("anne", "patient/Observation.rs", "anne", 403, False),
    "a doctor": ("dora", "user/*.rs", "", 403, False),
    "a doctor by an app for the patient": ("dora", "patient/*.rs", "anne", 403, False),
    "a nurse": ("nora", "user/*.rs", "", 403, False),
    "somebody without a role": ("nobody", "user/*.rs", "", 403, False),
}


@pytest.mark.parametrize("who", READERS)
async def test_the_reading_of_a_record_is_told_to(hospital, who):
    user, scope, patient, status, told = READERS[who]
    read = await hospital.get(SEEN, hospital.as_("dora", "user/*.rs"), **{"X-Request-Id": f"read-{hash(who)}"})
    assert read.status_code == 200
    answer = await hospital.get("AuditEvent?agent-name=dora&_count=1", hospital.as_(user, scope, patient))
    assert answer.status_code == status, answer.text
    entries = answer.json().get("entry", [])
    assert bool(entries) is told
    for entry in entries:
        event = entry["resource"]
        assert event["agent"][0]["who"]["display"] == "dora"
        assert {"reference": "Patient/anne"} in [entity.get("what") for entity in event["entity"]]
        single = await hospital.get(f"AuditEvent/{event['id']}", hospital.as_(user, scope, patient))
        assert single.status_code == 200


async def test_the_refused_reading_of_another_patients_record_is_told_with_who_tried(hospital):
    bert = hospital.as_("bert", "patient/*.rs", "bert")
    assert (await hospital.get(SEEN, bert)).status_code == 404
    answer = await hospital.get(
        "AuditEvent?agent-name=bert&patient=anne&outcome=4&_count=1", hospital.as_("adam", "user/*.rs")
    )
    (event,) = [entry["resource"] for entry in answer.json()["entry"]]
    assert event["outcomeDesc"] == "404 Not Found"
    assert event["agent"][1]["who"]["display"] == "app"


async def test_a_request_without_a_good_token_is_recorded_without_a_user(hospital):
    assert (await hospital.client.get(SEEN)).status_code == 401
    answer = await hospital.get("AuditEvent?outcome=4&_count=1", hospital.as_("sue", "user/*.rs"))
    (event,) = [entry["resource"] for entry in answer.json()["entry"]]
    assert event["outcomeDesc"] == "401 Unauthorized"
    assert [agent["requestor"] for agent in event["agent"]] == [True, False]


async def test_what_was_seen_in_an_emergency_is_told_as_such(fresh):
    dora = fresh.as_("dora", "user/*.rs user/Observation.rs launch")
    asked = {"patient": "bert", "reason": "unconscious at the door", "minutes": 5}
    opened = await fresh.send("POST", "https://fhir.example.org/auth/break-glass", asked, dora)
    assert opened.status_code in (200, 201), opened.text
    admin = fresh.as_("adam", "user/*.rs")
    answer = await fresh.get("AuditEvent?agent-name=dora&patient=bert&_count=1", admin)
    (event,) = [entry["resource"] for entry in answer.json()["entry"]]
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "BTG"


async def test_answers_to_somebody_with_a_token_are_not_kept(hospital):
    answer = await hospital.get(SEEN, hospital.as_("dora", "user/*.rs"))
    assert answer.headers["cache-control"] == "no-store"


PAGES = "https://fhir.example.org/auth"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TOKEN = "grant_type=authorization_code&code=zqsecret&client_id=app&redirect_uri=x&code_verifier=zqsecret"


async def test_a_refused_sign_in_is_recorded_with_the_user_who_there_is(hospital):
    page = await hospital.client.get(f"{PAGES}/login")
    csrf = re.findall(r'name="csrf" value="([^"]*)"', page.text)[0]
    cookies = "; ".join(line.split(";")[0] for line in page.headers.get_list("set-cookie"))
    for name in ("dora", "zqsecret"):
        body = f"username={name}&password=zqsecret&action=login&csrf={csrf}"
        answer = await hospital.client.post(f"{PAGES}/login", content=body, headers=FORM | {"Cookie": cookies})
        assert answer.status_code == 401
    answer = await hospital.get("AuditEvent?subtype=login&_count=2", hospital.as_("sue", "user/*.rs"))
    nobody, dora = [entry["resource"] for entry in answer.json()["entry"]]
    assert dora["type"]["code"] == "110114"
    assert dora["subtype"][0] == {
        "system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110122", "display": "Login",
    }  # fmt: skip
    assert dora["agent"][0]["who"]["display"] == "dora"
    assert dora["outcomeDesc"] == nobody["outcomeDesc"] == "401 Unauthorized: bad_credentials"
    assert "zqsecret" not in answer.text


async def test_a_refused_token_is_recorded_with_the_client_and_without_the_code(hospital):
    answer = await hospital.client.post(f"{PAGES}/token", content=TOKEN, headers=FORM)
    assert answer.status_code == 400
    found = await hospital.get("AuditEvent?subtype=token&_count=1", hospital.as_("sue", "user/*.rs"))
    (event,) = [entry["resource"] for entry in found.json()["entry"]]
    assert event["agent"][0]["who"]["display"] == "app"
    assert event["outcomeDesc"] == "400 Bad Request: invalid_grant"
    assert "zqsecret" not in found.text


async def test_a_path_that_is_none_is_recorded_without_it(hospital):
    assert (await hospital.client.get(f"{PAGES}/zqsecret")).status_code == 404
    found = await hospital.get("AuditEvent?outcome=4&_count=1", hospital.as_("sue", "user/*.rs"))
    assert "zqsecret" not in found.text


async def test_what_is_about_an_organization_is_told_to_its_administrators_alone_whoever_asked(fresh):
    for name in ("other", "insurer"):
        store = fresh.auth.store
        store.put_client(Client(f"of-{name}", name, "backend", organization=f"Organization/{name}"))
        store.put_user(User(f"admin-{name}", ("admin",), organization=f"Organization/{name}"))
        sent = {"resourceType": "Patient", "id": f"pat-{name}"}
        service = fresh.as_("-", "system/*.cruds", client=f"of-{name}")
        assert (await fresh.send("PUT", f"Patient/pat-{name}", sent, service)).status_code == 201
    operator, theirs = fresh.as_("", "system/*.rs"), fresh.as_("admin-insurer", "user/*.rs")
    assert (await fresh.get("Patient/pat-other", operator)).status_code == 200
    assert (await fresh.get("Patient/pat-other", theirs)).status_code == 404
    assert (await fresh.get("Patient?_id=pat-other,pat-insurer", operator)).json()["total"] == 2
    told = {}
    for name in ("other", "insurer"):
        found = await fresh.get("AuditEvent?action=R&entity=Patient/pat-other", fresh.as_(f"admin-{name}", "user/*.rs"))
        told[name] = [entry["resource"]["outcomeDesc"] for entry in found.json().get("entry", ())]
        of_both = await fresh.get("AuditEvent?action=E&subtype=search-type", fresh.as_(f"admin-{name}", "user/*.rs"))
        assert "pat-" not in of_both.text
    assert told == {"other": ["404 Not Found", "200 OK"], "insurer": []}


@pytest.mark.parametrize(("user", "status"), [("dora", "403 Forbidden"), ("adam", "200 OK")])
async def test_an_entry_of_a_batch_reads_the_trail_as_a_request_of_its_own_does(hospital, user, status):
    sent = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": "AuditEvent?_count=1"}}],
    }
    answer = await hospital.send("POST", "", sent, hospital.as_(user, "user/*.rs"))
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == [status]


async def test_a_compartment_of_events_is_that_of_a_visible_patient(hospital):
    anne = hospital.as_("anne", "patient/*.rs", "anne")
    mine = await hospital.get("Patient/anne/AuditEvent?_count=1", anne)
    others = await hospital.get("Patient/bert/AuditEvent?_count=1", anne)
    assert (mine.status_code, len(mine.json()["entry"])) == (200, 1)
    assert "entry" not in others.json()
