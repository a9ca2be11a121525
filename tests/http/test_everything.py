"""$everything: of whom, with whose data, in which parts.

https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html
"""

import asyncio
import json
from urllib.parse import urlencode

import pytest

from tests.http.conftest import BASE, FHIR, issue_of, serving

pytestmark = pytest.mark.anyio
CODE = {"text": "x"}


def ref(name):
    return {"reference": name}


def seen(kind, name, patient, **more):
    """An Observation or Condition of the patient."""
    return {"resourceType": kind, "id": name, "code": CODE, "subject": ref(f"Patient/{patient}"), **more}


def observation(name, patient, **more):
    return seen("Observation", name, patient, status="final", **more)


def encounter(name, patient, **more):
    subject = {"subject": ref(f"Patient/{patient}")} if patient else {}
    return {"resourceType": "Encounter", "id": name, "status": "finished", "class": {"code": "AMB"}, **subject, **more}


HOSPITAL = (
    {"resourceType": "Organization", "id": "org", "name": "Clinic", "partOf": ref("Organization/above")},
    {"resourceType": "Organization", "id": "above", "name": "Trust"},
    {"resourceType": "Practitioner", "id": "doc"},
    {"resourceType": "Practitioner", "id": "doc-b"},
    {"resourceType": "Location", "id": "ward", "managingOrganization": ref("Organization/above")},
    {"resourceType": "Patient", "id": "a", "managingOrganization": ref("Organization/org"), "link": []},
    {"resourceType": "Patient", "id": "b", "generalPractitioner": [ref("Practitioner/doc-b")],
     "link": [{"other": ref("Patient/a"), "type": "seealso"}]},
    encounter("ea", "a", period={"start": "2020-03-01", "end": "2020-03-05"}, location=[{"location": ref("Location/ward")}]),
    encounter("eb", "b"),
    observation("oa", "a", encounter=ref("Encounter/ea"), effectiveDateTime="2020-03-02", performer=[ref("Practitioner/doc")]),
    observation("oa-late", "a", effectiveDateTime="2022-01-01", performer=[ref("Practitioner/late")]),
    {"resourceType": "Practitioner", "id": "late"},
    observation("oa-undated", "a"),
    observation("ob", "b", encounter=ref("Encounter/eb"), performer=[ref("Practitioner/doc")]),
    observation("ob-astray", "b", encounter=ref("Encounter/ea")),
    {"resourceType": "Medication", "id": "drug", "code": CODE},
    {"resourceType": "MedicationRequest", "id": "ma", "status": "active", "intent": "order", "subject": ref("Patient/a"),
     "medicationReference": ref("Medication/drug"), "authoredOn": "2020-03-03"},
    {"resourceType": "Device", "id": "pump-b", "patient": ref("Patient/b")},
    {"resourceType": "Device", "id": "pump-a", "patient": ref("Patient/a")},
    {"resourceType": "Device", "id": "scanner"},
    {"resourceType": "Device", "id": "inner-b", "contained": [{"resourceType": "Device", "id": "d", "patient": ref("Patient/b")}],
     "parent": ref("#d")},
    {"resourceType": "ServiceRequest", "id": "sb", "status": "active", "intent": "order", "subject": ref("Patient/b")},
    {"resourceType": "ServiceRequest", "id": "sa", "status": "active", "intent": "order", "subject": ref("Patient/a")},
    {"resourceType": "Task", "id": "tb", "status": "ready", "intent": "order", "focus": ref("ServiceRequest/sb")},
    {"resourceType": "Task", "id": "ta", "status": "ready", "intent": "order", "focus": ref("ServiceRequest/sa")},
    {"resourceType": "Binary", "id": "bin-a", "contentType": "text/plain", "data": "YQ=="},
    {"resourceType": "Binary", "id": "bin-b", "contentType": "text/plain", "data": "Yg=="},
    {"resourceType": "Group", "id": "both", "type": "person", "actual": True, "managingEntity": ref("Organization/org"),
     "member": [{"entity": ref("Patient/a")}, {"entity": ref("Patient/b")}]},
    {"resourceType": "Group", "id": "only-b", "type": "person", "actual": True, "member": [{"entity": ref("Patient/b")}]},
    {"resourceType": "List", "id": "mixed", "status": "current", "mode": "working", "subject": ref("Patient/a"),
     "entry": [{"item": ref(name)} for name in (
         "Observation/oa", "Observation/ob", "Patient/b", "Device/pump-b", "Device/pump-a", "Device/scanner", "Device/inner-b",
         "Group/only-b", "Encounter/eb", "Practitioner/doc", "Task/ta", "Task/tb", "Binary/bin-a")]},
    {"resourceType": "Provenance", "id": "shared", "recorded": "2020-03-04T00:00:00Z",
     "target": [ref("Patient/a"), ref("Patient/b"), ref("Observation/oa"), ref("Observation/ob"), ref("Binary/bin-b")],
     "agent": [{"who": ref("Practitioner/doc")}]},
)  # fmt: skip

OF_A = {
    "Patient/a", "Encounter/ea", "Observation/oa", "Observation/oa-late", "Observation/oa-undated", "MedicationRequest/ma",
    "Group/both", "List/mixed", "Provenance/shared", "ServiceRequest/sa",
}  # fmt: skip
REFERRED_BY_A = {
    "Organization/org", "Practitioner/doc", "Practitioner/late", "Location/ward", "Medication/drug", "Device/pump-a", "Device/scanner",
    "Task/ta", "Binary/bin-a",
}  # fmt: skip


async def send(client, resources):
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in ({key: value for key, value in row.items() if value != []} for row in resources)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await client.post("", content=json.dumps(bundle), headers=FHIR)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
async def hospital(anyio_backend, tmp_path_factory):
    async with serving(tmp_path_factory.mktemp("everything")) as client:
        await send(client, HOSPITAL)
        yield client


def names(bundle, mode=None):
    found = [entry["fullUrl"].removeprefix(f"{BASE}/") for entry in bundle.get("entry", ())
             if mode in (None, entry["search"]["mode"])]  # fmt: skip
    assert len(set(found)) == len(found)
    return set(found)


async def asked(client, path="Patient/a", **parameters):
    answer = await client.get(f"{path}/$everything", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def nothing():
    """Between pages: nothing happens."""


async def walked(client, url, between=nothing):
    """The addresses page by page."""
    pages = []
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        pages.append([entry["fullUrl"].removeprefix(f"{BASE}/") for entry in bundle.get("entry", ())])
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
        await between()
    return pages


async def test_a_patient_comes_with_the_compartment_and_what_it_refers_to_and_nothing_of_others(hospital):
    bundle = await asked(hospital)
    assert bundle["type"] == "searchset"
    assert names(bundle, "match") == OF_A
    assert names(bundle, "include") == REFERRED_BY_A
    assert bundle["total"] == len(OF_A | REFERRED_BY_A)
    assert bundle["entry"][0]["resource"]["id"] == "a"


async def test_the_other_patient_has_the_shared_resources_too_and_nothing_of_the_first(hospital):
    found = names(await asked(hospital, "Patient/b"))
    assert found == {
        "Patient/b", "Encounter/eb", "Observation/ob", "Observation/ob-astray", "Group/both", "Group/only-b", "Provenance/shared", "ServiceRequest/sb",
        "Practitioner/doc", "Practitioner/doc-b", "Organization/org",
    }  # fmt: skip


async def test_an_encounter_comes_with_its_members_its_patient_and_what_they_refer_to(hospital):
    bundle = await asked(hospital, "Encounter/ea")
    assert names(bundle, "match") == {"Encounter/ea", "Observation/oa"}
    assert names(bundle, "include") == {"Patient/a", "Location/ward", "Practitioner/doc"}


async def test_an_encounter_of_nobody_has_nobody(hospital):
    await hospital.put("Encounter/none", content=json.dumps(encounter("none", None)), headers=FHIR)
    assert names(await asked(hospital, "Encounter/none")) == {"Encounter/none"}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param({"_type": "Observation"}, {"Observation/oa", "Observation/oa-late", "Observation/oa-undated"}, id="a type"),
        pytest.param({"_type": "Patient,Medication"}, {"Patient/a", "Medication/drug"}, id="types, one of them only referred to"),
        pytest.param({"_type": ["Patient", "Group"]}, {"Patient/a", "Group/both"}, id="types in several parameters"),
        pytest.param({"_type": "Claim"}, set(), id="a type that is not there"),
        pytest.param({"_since": "2999"}, set(), id="nothing is as new as that"),
        pytest.param({"_since": "2000-01-01T00:00:00Z"}, OF_A | REFERRED_BY_A, id="all is newer than that"),
        pytest.param({"end": "2021"}, (OF_A | REFERRED_BY_A) - {"Observation/oa-late", "Practitioner/late"}, id="care until then"),
        pytest.param(
            {"start": "2021", "_type": "Encounter,Observation,MedicationRequest,Practitioner"},
            {"Observation/oa-late", "Observation/oa-undated", "Practitioner/late", "Practitioner/doc"},
            id="care since then, or of no date",
        ),
        pytest.param({"start": "2020-03-04", "end": "2020-03-04", "_type": "Encounter,Observation"},
                     {"Encounter/ea", "Observation/oa-undated"}, id="care that was going on"),
    ],
)  # fmt: skip
async def test_parameters_restrict_what_comes(hospital, parameters, expected):
    assert names(await asked(hospital, **parameters)) == expected
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": name, {"_type": "valueCode", "_since": "valueDateTime"}.get(name, "valueDate"): one}
            for name, value in parameters.items()
            for one in (value if isinstance(value, list) else [value])
        ],
    }
    answer = await hospital.post("Patient/a/$everything", content=json.dumps(body), headers=FHIR)
    assert answer.status_code == 200, answer.text
    assert names(answer.json()) == expected


async def test_a_newer_version_is_what_since_looks_at(hospital):
    drug = {"resourceType": "Medication", "id": "drug", "code": {"text": "y"}}
    written = (await hospital.put("Medication/drug", content=json.dumps(drug), headers=FHIR)).json()
    assert names(await asked(hospital, _since=written["meta"]["lastUpdated"])) == {"Medication/drug"}


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 15, 16, 17])
@pytest.mark.parametrize("parameters", [{}, {"_type": "Observation,Practitioner"}, {"end": "2021"}], ids=str)
async def test_pages_hold_the_same_each_once(hospital, count, parameters):
    expected = names(await asked(hospital, **parameters))
    pages = await walked(hospital, f"Patient/a/$everything?{urlencode({**parameters, '_count': count})}")
    assert [len(page) for page in pages[:-1]] == [count] * (len(pages) - 1)
    flat = [one for page in pages for one in page]
    assert len(flat) == len(expected)
    assert set(flat) == expected


async def test_pages_of_a_post_are_linked_by_get(hospital):
    body = {"resourceType": "Parameters", "parameter": [{"name": "_count", "valueInteger": 4}]}
    first = (await hospital.post("Patient/a/$everything", content=json.dumps(body), headers=FHIR)).json()
    (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    rest = await walked(hospital, following)
    assert {*names(first), *(one for page in rest for one in page)} == OF_A | REFERRED_BY_A


async def test_a_cursor_is_good_for_its_own_question_alone(hospital):
    first = await asked(hospital, _count=3)
    (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    for other in (
        following.replace("Patient/a", "Patient/b"),
        following.replace("_count=3", "_count=4"),
        f"{following}A",
    ):
        answer = await hospital.get(other)
        assert (answer.status_code, issue_of(answer)["code"]) == (400, "invalid")


@pytest.mark.parametrize(
    ("path", "query", "status", "told"),
    [
        pytest.param("Patient/nobody", "", 404, "Patient/nobody", id="an unknown patient"),
        pytest.param("Encounter/nothing", "", 404, "Encounter/nothing", id="an unknown encounter"),
        pytest.param("Observation/oa", "", 404, "$everything", id="a type without the operation"),
        pytest.param("Patient/a", "name=x", 400, "name", id="an unknown parameter"),
        pytest.param("Encounter/ea", "start=2020", 400, "start", id="a parameter that encounters do not have"),
        pytest.param("Patient/a", "start=soon", 400, "start", id="no date"),
        pytest.param("Patient/a", "start=2021&end=2020", 400, "start", id="an end before the start"),
        pytest.param("Patient/a", "_since=then", 400, "_since", id="no instant"),
        pytest.param("Patient/a", "_count=0", 400, "_count", id="a page of nothing"),
        pytest.param("Patient/a", "_count=many", 400, "_count", id="no number"),
        pytest.param("Patient/a", "_type=Thing", 400, "Thing", id="no type"),
        pytest.param("Patient/a", "_count=1&_count=2", 400, "_count", id="a parameter given twice"),
        pytest.param("Patient/a", "_cursor=AAAA", 400, "_cursor", id="no cursor"),
    ],
)
async def test_what_cannot_be_answered_is_named(hospital, path, query, status, told):
    answer = await hospital.get(f"{path}/$everything?{query}")
    assert answer.status_code == status
    assert told in answer.text


@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        pytest.param({"name": "name", "valueString": "x"}, "name", id="an unknown parameter"),
        pytest.param({"name": "_count", "valueBoolean": True}, "valueInteger", id="a value of another type"),
        pytest.param({"valueInteger": 1}, "Parameters.parameter[0].name", id="a value without name"),
    ],
)
async def test_posted_parameters_that_cannot_be_answered_are_named(hospital, parameter, told):
    body = {"resourceType": "Parameters", "parameter": [parameter]}
    answer = await hospital.post("Patient/a/$everything", content=json.dumps(body), headers=FHIR)
    assert answer.status_code == 400
    assert told in answer.text


async def test_lenient_handling_ignores_unknown_parameters(hospital):
    answer = await hospital.get("Patient/a/$everything?name=x", headers={"Prefer": "handling=lenient"})
    assert answer.status_code == 200
    bundle = answer.json()
    assert "name" not in bundle["link"][0]["url"]
    (told,) = (entry["resource"] for entry in bundle["entry"] if entry["search"]["mode"] == "outcome")
    assert "the parameter name is not supported" in told["issue"][0]["diagnostics"]


async def test_a_deleted_patient_is_gone(hospital):
    gone = {"resourceType": "Patient", "id": "gone"}
    await hospital.put("Patient/gone", content=json.dumps(gone), headers=FHIR)
    await hospital.delete("Patient/gone")
    assert (await hospital.get("Patient/gone/$everything")).status_code == 410


async def test_the_statement_names_the_published_definitions(hospital):
    (rest,) = (await hospital.get("metadata")).json()["rest"]
    listed = {row["type"]: one["definition"] for row in rest["resource"] for one in row.get("operation", ())
              if one["name"] == "everything"}  # fmt: skip
    assert listed == {
        kind: f"http://hl7.org/fhir/OperationDefinition/{kind}-everything" for kind in ("Encounter", "Patient")
    }


async def test_everything_comes_once_while_others_write(tmp_path):
    async with serving(tmp_path) as client:
        doctors = [{"resourceType": "Practitioner", "id": f"d{at}"} for at in range(60)]
        rows = [
            observation(f"s{at}", "p", performer=[ref(f"Practitioner/d{at % 60}")], note=[{"text": "0"}])
            for at in range(240)
        ]
        await send(client, [{"resourceType": "Patient", "id": "p"}, *doctors, *rows])
        stop, turns = asyncio.Event(), asyncio.Queue()

        async def write(number):
            count = 0
            while not stop.is_set():
                count += 1
                row = {**rows[(count * 7 + number) % 240], "note": [{"text": f"{number}.{count}"}]}
                await client.put(f"Observation/{row['id']}", content=json.dumps(row), headers=FHIR)
                extra = observation(f"x{number}-{count % 9}", "p", performer=[ref(f"Practitioner/y{number}-{count}")])
                await client.put(f"Observation/{extra['id']}", content=json.dumps(extra), headers=FHIR)
                await client.delete(f"Observation/x{number}-{(count + 4) % 9}")
                turns.put_nowait(number)

        async def written():
            """Some rounds of writing have come to their end."""
            for _ in range(4):
                await asyncio.wait_for(turns.get(), 20)

        writers = [asyncio.create_task(write(number)) for number in range(4)]
        try:
            for count in (17, 60, 100):
                pages = await walked(client, f"Patient/p/$everything?_count={count}", written)
                found = [one for page in pages for one in page if "/x" not in one and "/y" not in one]
                assert len(found) == 301
                assert len(set(found)) == 301
        finally:
            stop.set()
            await asyncio.gather(*writers)
