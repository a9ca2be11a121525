"""Attacks over the wall between two organizations, and into the reach of a practitioner: by writing what reach depends on."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from smart_auth.break_glass import open_record
from smart_auth.model import Client, User
from tests.access.hospital import FHIR, OPERATOR, observation, opened, patient, ref

pytestmark = pytest.mark.anyio
HOUSE, NORTH = "Organization/house", "Organization/north"
NOW = datetime.now(UTC)
ENTERED = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "entered-in-error"}]
}
PATCH = {"Content-Type": "application/json-patch+json"}


def at(days):
    return (NOW + timedelta(days=days)).isoformat()


def appointment(name, patients, who="d1", days=1, status="booked"):
    actors = [*(f"Patient/{one}" for one in patients), f"Practitioner/{who}"]
    return {
        "resourceType": "Appointment",
        "id": name,
        "status": status,
        "start": at(days),
        "end": at(days),
        "participant": [{"actor": ref(actor), "status": "accepted"} for actor in actors],
    }


def team(name, of, member, **more):
    return {
        "resourceType": "CareTeam",
        "id": name,
        "status": "active",
        "subject": ref(f"Patient/{of}"),
        "participant": [{"member": ref(member), **more}],
    }


def related(name, of, **more):
    return {"resourceType": "RelatedPerson", "id": name, "patient": ref(f"Patient/{of}"), **more}


SEEDS = {
    "house": [
        {"resourceType": "Practitioner", "id": "d1"},
        {"resourceType": "Practitioner", "id": "d2"},
        patient("pa"),
        patient("pb"),
        patient("pc"),
        patient("past"),
        patient("hurt"),
        related("kin", "pa"),
        observation("o-pa", "pa"),
        observation("o-pb", "pb"),
        appointment("ap-pa", ["pa"]),
        appointment("ap-past", ["past"], days=-300),
        appointment("ap-off", ["past"], status="cancelled"),
        appointment("ap-d2", ["pa"], who="d2"),
        team("left", "pc", "Practitioner/d1", period={"start": "2019-01-01", "end": "2020-01-01"}),
        team("over", "pc", "Practitioner/d1") | {"period": {"start": "2019-01-01", "end": "2020-01-01"}},
    ],
    "north": [
        patient("na"),
        observation("o-na", "na"),
        related("rel", "na"),
        appointment("ap-na", ["na"]),
        patient("gone"),
        team("team-na", "na", "Practitioner/d1"),
        {"resourceType": "Task", "id": "t", "status": "requested", "intent": "order", "for": ref("Patient/pb"), "owner": ref("Practitioner/d2")},
    ],
}  # fmt: skip
PEOPLE = (
    User("d1", ("doctor",), fhir_user="Practitioner/d1", organization=HOUSE),
    User("d2", ("doctor",), fhir_user="Practitioner/d2", organization=HOUSE),
    User("desk", ("receptionist",), organization=NORTH),
    User("boss", ("admin",), organization=NORTH),
    User("home", ("admin",), organization=HOUSE),
    User("rel", ("patient",), fhir_user="RelatedPerson/rel", organization=NORTH),
    User("pc", ("patient",), fhir_user="Patient/pc"),
    User("pa", ("patient",), fhir_user="Patient/pa", organization=HOUSE),
)
DOCTOR = "user/*.cruds"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def houses(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("houses")) as made:
        store = made.auth.store
        for person in PEOPLE:
            store.put_user(person)
        store.put_client(Client("house", "House", "backend", organization=HOUSE))
        store.put_client(Client("north", "North", "backend", organization=NORTH))
        store.put_client(Client("loose", "Loose", "backend"))
        await asyncio.sleep(1.1)  # what the process has looked at a second ago counts
        for name, seeds in SEEDS.items():
            for one in seeds:
                who = made.as_("-", "system/*.cruds", client=name)
                if one["resourceType"] == "Task":  # its patient is known to nobody there
                    who = made.as_("", OPERATOR)
                answer = await made.send("PUT", f"{one['resourceType']}/{one['id']}", one, who)
                assert answer.status_code == 201, answer.text
        gone = await made.send("DELETE", "Patient/gone", None, made.as_("-", "system/*.cruds", client="north"))
        assert gone.status_code == 204
        yield made


async def status(houses, who, url):
    return (await houses.get(url, houses.as_(who, DOCTOR))).status_code


@pytest.mark.parametrize("change", [
    appointment("ap-pa", ["pb"]),
    appointment("ap-pa", ["pa", "pb"]),
    appointment("ap-past", ["past"]),
    appointment("ap-off", ["past"]),
], ids=["another patient", "one more patient", "a day that counts", "a status that counts"])  # fmt: skip
async def test_a_doctor_brings_nobody_into_reach_by_an_appointment(houses, change):
    other = change["participant"][-2]["actor"]["reference"]
    assert await status(houses, "d1", other) == 404
    answer = await houses.send("PUT", f"Appointment/{change['id']}", change, houses.as_("d1", DOCTOR))
    assert answer.status_code == 403
    assert await status(houses, "d1", other) == 404


async def test_a_doctor_answers_their_own_appointments(houses):
    d1 = houses.as_("d1", DOCTOR)
    for own in (
        appointment("ap-pa", ["pa"], status="fulfilled"),
        appointment("ap-past", ["past"], days=-300, status="noshow"),
    ):
        assert (await houses.send("PUT", f"Appointment/{own['id']}", own, d1)).status_code == 200


async def test_a_doctor_does_not_make_an_appointment_of_another_a_reach_by_patch(houses):
    patch = json.dumps([{"op": "add", "path": "/participant/0/actor/reference", "value": "Patient/pb"}])
    headers = houses.as_("d1", DOCTOR) | PATCH
    assert (
        await houses.client.request("PATCH", "Appointment/ap-past", content=patch, headers=headers)
    ).status_code == 403
    assert await status(houses, "d1", "Patient/pb") == 404


async def test_what_is_another_organizations_makes_nobody_a_doctors(houses):
    for url in ("Patient/na", "Observation/o-na", "Appointment/ap-na"):
        assert await status(houses, "d1", url) == 404
    assert await status(houses, "d2", "Patient/pb") == 404


async def test_who_has_left_a_team_looks_after_nobody(houses):
    assert await status(houses, "d1", "Patient/pc") == 404


async def test_a_doctor_in_context_has_their_reach_and_no_more(houses):
    context = houses.as_("d2", "patient/*.cruds", "pb")
    for url in ("Patient/pb", "Observation/o-pb"):
        assert (await houses.get(url, context)).status_code in (403, 404)
    here = houses.as_("d1", "patient/*.cruds", "pa")
    assert (await houses.get("Observation/o-pa", here)).status_code == 200
    cancelled = appointment("ap-d2", ["pa"], who="d2", status="cancelled")
    assert (await houses.send("PUT", "Appointment/ap-d2", cancelled, here)).status_code == 403


@pytest.mark.parametrize(("who", "url", "body"), [
    ("desk", "RelatedPerson/rel", related("rel", "pa")),
    ("desk", "RelatedPerson", {"resourceType": "RelatedPerson", "patient": ref("Patient/pa")}),
    ("desk", "RelatedPerson", {"resourceType": "RelatedPerson", "patient": ref("Patient/never")}),
    ("boss", "CareTeam", {name: value for name, value in team("x", "pb", "Practitioner/d2").items() if name != "id"}),
    ("-north", "Observation", {name: value for name, value in observation("x", "pa").items() if name != "id"}),
    ("desk", "Person", {"resourceType": "Person", "link": [{"target": ref("RelatedPerson/rel"), "assurance": "level4"}, {"target": ref("Patient/pa"), "assurance": "level4"}]}),
], ids=["a relative", "a new relative", "of nobody", "a team", "a result", "a person"])  # fmt: skip
async def test_nothing_is_written_about_a_patient_of_another_organization(houses, who, url, body):
    headers = houses.as_("-", "system/*.cruds", client="north") if who == "-north" else houses.as_(who, "user/*.cruds")
    answer = await houses.send("PUT" if "id" in body else "POST", url, body, headers)
    assert answer.status_code == 403
    assert (await houses.get("Patient/pa", houses.as_("rel", "user/*.rs"))).status_code == 404


async def test_who_is_linked_to_another_organizations_relative_is_shown_nobody_of_it(houses):
    """Neither in the record nor where a patient is chosen for an app."""
    links = [{"target": ref(f"RelatedPerson/{name}"), "assurance": "level4"} for name in ("rel", "kin")]
    person = {"resourceType": "Person", "link": links}
    await houses.send("POST", "Person", person, houses.as_("desk", "user/*.cruds"))
    await asyncio.sleep(1.1)  # what the process has looked at a second ago counts
    rel = next(one for one in PEOPLE if one.name == "rel")
    assert [name for name, _ in await houses.auth.directory.patients(rel, "")] == ["na"]
    assert await status(houses, "rel", "Patient/pa") == 404
    assert await status(houses, "rel", "Patient/na") == 200


async def test_what_is_written_together_may_be_about_one_another(houses):
    entries = [
        {"fullUrl": "urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a01", "resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}},
        {"resource": {"resourceType": "RelatedPerson", "patient": ref("urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a01")}, "request": {"method": "POST", "url": "RelatedPerson"}},
    ]  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert (await houses.send("POST", "", bundle, houses.as_("desk", "user/*.cruds"))).status_code == 200


async def test_a_patient_without_organization_writes_about_themselves_with_a_narrow_scope(houses):
    scope = "patient/Observation.cruds"
    note = {
        name: value for name, value in observation("x", "pc", performer=[ref("Patient/pc")]).items() if name != "id"
    }
    for who in ("pc", ""):
        assert (await houses.send("POST", "Observation", note, houses.as_(who, scope, "pc"))).status_code == 201


async def test_an_emergency_opens_nothing_of_another_organization(houses):
    open_record(houses.auth.store, "d2", "na", "unconscious", "app", int(time.time()), 10)
    open_record(houses.auth.store, "d2", "pb", "unconscious", "app", int(time.time()), 10)
    await asyncio.sleep(1.1)  # what the process has looked at a second ago counts
    for url in ("Patient/na", "Observation/o-na"):
        assert await status(houses, "d2", url) == 404
    assert await status(houses, "d2", "Observation/o-pb") == 200
    note = {"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "subject": ref("Patient/na")}
    assert (await houses.send("POST", "Flag", note, houses.as_("d2", DOCTOR))).status_code == 403


async def test_an_emergency_is_not_made_to_last(houses):
    """What one writes while a record is open may not make its patient one's own for good."""
    open_record(houses.auth.store, "d1", "hurt", "unconscious", "app", int(time.time()), 10)
    await asyncio.sleep(1.1)  # what the process has looked at a second ago counts
    about, me = {"subject": ref("Patient/hurt")}, ref("Practitioner/d1")
    order = {"resourceType": "ServiceRequest", "status": "active", "intent": "order", "code": {"text": "x"}, **about}
    visit = {"resourceType": "Encounter", "status": "in-progress", "class": {"code": "EMER"}, **about}
    crew = {"resourceType": "CareTeam", "status": "active", **about}
    doctor = houses.as_("d1", DOCTOR)
    for lasting in (
        {**order, "performer": [me]},
        {**visit, "participant": [{"individual": me}]},
        {**crew, "participant": [{"member": me}]},
        {**crew, "participant": [{"member": ref(HOUSE)}]},
        {"resourceType": "Task", "status": "requested", "intent": "order", "for": ref("Patient/hurt"), "owner": me},
    ):
        assert (await houses.send("POST", lasting["resourceType"], lasting, doctor)).status_code == 403
    for passing in (order, visit, {**order, "requester": me}):
        assert (await houses.send("POST", passing["resourceType"], passing, doctor)).status_code == 201


async def test_what_another_organization_has_deleted_is_not_taken_over(houses):
    house = houses.as_("-", "system/*.cruds", client="house")
    assert (await houses.send("PUT", "Patient/gone", patient("gone"), house)).status_code == 404
    assert (await houses.get("Patient/gone/_history/1", house)).status_code == 404
    assert (await houses.send("PUT", "Patient/gone", patient("gone"), houses.as_("", OPERATOR))).status_code == 201


async def test_what_has_no_owner_is_not_everybodys_where_there_are_two_organizations(houses):
    boss = houses.as_("boss", "user/*.cruds")
    assert await houses.ids("Patient", boss) >= {"na"}
    assert not {"anne", "bert"} & await houses.ids("Patient", boss)
    assert (await houses.send("DELETE", "Patient/bert", None, boss)).status_code == 204
    assert (await houses.send("DELETE", "ValueSet/values", None, boss)).status_code in (403, 204)
    operator = houses.as_("", OPERATOR)
    for url in ("Patient/bert", "ValueSet/values"):
        assert (await houses.get(url, operator)).status_code == 200


async def test_a_client_without_role_and_organization_reaches_nothing(houses):
    loose = houses.as_("-", "system/*.cruds", client="loose")
    for url in ("Patient", "Patient/anne", "Practitioner", "ValueSet"):
        assert (await houses.get(url, loose)).status_code == 403
    assert (
        await houses.client.post("Patient", content='{"resourceType":"Patient"}', headers=FHIR | loose)
    ).status_code == 403
