"""Attacks on what a rule looks at: versions that are superseded, narratives, labels and statuses of other kinds, references that name nobody here."""

import asyncio
import json

import pytest

from smart_auth.model import User
from tests.access.hospital import LABORATORY, OPERATOR, VITAL, coded, observation, opened, ref
from tests.http.test_custom_parameters import work

pytestmark = pytest.mark.anyio
ANNE = ("anne", "patient/*.rs", "anne")
VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
DORA = {
    "resourceType": "Practitioner",
    "id": "dora",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Hometown</div>'},
    "extension": [{"url": "http://example.org/x", "valueString": "Hometown"}],
    "name": [{"family": "Dora"}],
    "address": [{"use": "home", "city": "Hometown"}],
}


def labelled(name, system):
    label = {"code": "NOPAT"} | ({"system": system} if system else {})
    return observation(name, "anne", meta={"security": [label]})


def verified(name, code, kind="Condition"):
    subject = "patient" if kind == "AllergyIntolerance" else "subject"
    return {
        "resourceType": kind,
        "id": name,
        subject: ref("Patient/anne"),
        "code": coded("x"),
        "verificationStatus": coded(code, VERIFIED.replace("condition-ver-status", "allergyintolerance-verification") if subject == "patient" else VERIFIED),
    }  # fmt: skip


def provenance(name, *targets):
    agent = [{"who": ref("Practitioner/dora")}]
    return {
        "resourceType": "Provenance",
        "id": name,
        "recorded": "2026-01-01T00:00:00Z",
        "target": list(targets),
        "agent": agent,
    }


VERSIONS = {
    "unreleased": (observation("v-early", "anne", status="preliminary"), observation("v-early", "anne")),
    "withheld": (labelled("v-label", None), observation("v-label", "anne")),
    "of another category": (observation("v-category", "anne", "survey"), observation("v-category", "anne")),
    "of another patient": (observation("v-moved", "bert"), observation("v-moved", "anne")),
    "of a third": (observation("v-third", "cleo"), observation("v-third", "anne")),
}
HIDDEN = {
    "a label without a system": labelled("label", None),
    "a label of the system of before": labelled("label-2", "http://hl7.org/fhir/v3/ActCode"),
    "an erroneous condition": verified("wrong", "entered-in-error"),
    "an erroneous allergy": verified("wrong-2", "entered-in-error", "AllergyIntolerance"),
    "a provenance of somebody by identifier": provenance("logical", ref("Observation/lab-anne"), {"identifier": {"system": "urn:mrn", "value": "mrn-bert"}}),
}  # fmt: skip


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def ward(anyio_backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ward")
    async with opened(folder) as made:
        made.folder = folder
        operator = made.as_("", OPERATOR)
        team = {"resourceType": "CareTeam", "id": "bert", "status": "active", "subject": ref("Patient/bert")}
        also = [
            {"resourceType": "Patient", "id": "cleo"},
            {**team, "participant": [{"member": ref("Practitioner/two")}]},
            {
                **team,
                "id": "anne",
                "subject": ref("Patient/anne"),
                "participant": [{"member": ref("Practitioner/two")}],
            },
            DORA,
            observation("includes", "anne", hasMember=[ref("Observation/v-early/_history/1")]),
        ]
        made.auth.store.put_user(User("two", ("doctor",), fhir_user="Practitioner/two"))
        versions = [one for pair in VERSIONS.values() for one in pair]
        for one in (*versions, *HIDDEN.values(), verified("right", "confirmed"), *also):
            answer = await made.send("PUT", f"{one['resourceType']}/{one['id']}", one, operator)
            assert answer.status_code in (200, 201), answer.text
        await asyncio.sleep(1.1)  # what the process has looked at a second ago counts
        yield made


def reader(case):
    if case == "of another category":
        return "anne", f"patient/Observation.rs?category={LABORATORY}", "anne"
    return ("two", "user/*.rs", "") if case == "of a third" else ANNE


@pytest.mark.parametrize("case", VERSIONS)
async def test_a_superseded_version_is_judged_by_its_own_content(ward, case):
    url = f"Observation/{VERSIONS[case][1]['id']}"
    who = ward.as_(*reader(case))
    assert (await ward.get(f"{url}/_history/1", who)).status_code == 404
    assert (await ward.get(f"{url}/_history/2", who)).status_code == 200
    for history in (f"{url}/_history", f"{url}/_history?_count=1"):
        body = (await ward.get(history, who)).json()
        assert [entry["resource"]["meta"]["versionId"] for entry in body["entry"]] == ["2"]
        assert body["total"] == 1
        assert [link["relation"] for link in body["link"]] == ["self"]
    assert (await ward.get(f"{url}/_history?_count=0", who)).json()["total"] == 1
    for history in ("Observation/_history?_count=1000", "_history?_count=1000", "Observation/_history?_count=2"):
        found = await pages(ward, history, who)
        assert (VERSIONS[case][1]["id"], "2") in found
        assert (VERSIONS[case][1]["id"], "1") not in found
    operator = ward.as_("", OPERATOR)
    assert (await ward.get(f"{url}/_history/1", operator)).status_code == 200
    assert (await ward.get(f"{url}/_history", operator)).json()["total"] == 2


async def pages(ward, url, who):
    found = set()
    while url:
        body = (await ward.get(url, who)).json()
        found |= {(one["resource"]["id"], one["resource"]["meta"]["versionId"]) for one in body.get("entry", ())}
        url = next((link["url"] for link in body["link"] if link["relation"] == "next"), "")
    return found


async def test_two_categories_do_not_add_up_to_another_patient(ward):
    scope = f"patient/Observation.rs?category={LABORATORY} patient/Observation.rs?category={VITAL}"
    who = ward.as_("anne", scope, "anne")
    assert (await ward.get("Observation/v-moved/_history/1", who)).status_code == 404
    assert (await ward.get("Observation/v-moved", who)).status_code == 200


async def test_a_reference_includes_no_version_that_is_hidden(ward):
    url = "Observation?_id=includes&_include=Observation:has-member"
    assert await ward.ids(url, ward.as_(*ANNE)) == {"includes"}
    assert await ward.ids(url, ward.as_("", OPERATOR)) == {"includes", "v-early"}


@pytest.mark.parametrize("case", HIDDEN)
async def test_what_is_withheld_stays_so_however_it_is_said(ward, case):
    url = f"{HIDDEN[case]['resourceType']}/{HIDDEN[case]['id']}"
    assert (await ward.get(url, ward.as_(*ANNE))).status_code == 404
    assert (await ward.get("Condition/right", ward.as_(*ANNE))).status_code == 200


async def test_what_is_left_out_is_told_in_no_other_place(ward):
    for url in ("Practitioner/dora", "Practitioner/dora/_history", "Practitioner?_id=dora"):
        assert "Hometown" not in (await ward.get(url, ward.as_(*ANNE))).text
        assert "Hometown" in (await ward.get(url, ward.as_("adam", "user/*.rs"))).text


async def test_a_parameter_that_somebody_made_tells_nothing_of_what_is_left_out(ward):
    made = {
        "resourceType": "SearchParameter",
        "id": "home",
        "url": "http://example.org/home",
        "name": "Home",
        "status": "active",
        "description": "home",
        "code": "home-city",
        "base": ["Practitioner"],
        "type": "string",
        "expression": "Practitioner.address.city",
    }
    operator = ward.as_("", OPERATOR)
    assert (await ward.send("PUT", "SearchParameter/home", made, operator)).status_code == 201
    assert (await ward.send("POST", "SearchParameter/home/$reindex", None, operator)).status_code == 202
    await asyncio.to_thread(work, ward.folder)
    await asyncio.sleep(1.1)
    answer = await ward.get("Practitioner?home-city=Hometown", operator)
    assert answer.status_code == 200, answer.text
    refused = {
        (await ward.get(f"Practitioner?home-city={city}", ward.as_(*ANNE))).text for city in ("Hometown", "Nowhere")
    }
    assert len(refused) == 1
    assert json.loads(refused.pop())["resourceType"] == "OperationOutcome"


PUBLISHED = "http://hl7.org/fhir/SearchParameter"


async def test_who_takes_the_url_of_a_published_parameter_disturbs_nobody(anyio_backend, tmp_path):
    """An administrator of one organization must not switch off what everybody's access is decided by."""
    async with opened(tmp_path) as worn:
        operator = worn.as_("", OPERATOR)
        for at, name in enumerate(("Resource-security", "CareTeam-participant", "clinical-patient")):
            own = {
                "resourceType": "SearchParameter",
                "id": f"own-{at}",
                "url": f"{PUBLISHED}/{name}",
                "name": "own",
                "status": "active",
                "description": "mine",
                "code": f"own-{at}",
                "base": ["Observation"],
                "type": "string",
                "expression": "Observation.note.text",
            }
            assert (await worn.send("PUT", f"SearchParameter/own-{at}", own, operator)).status_code == 201
        await asyncio.sleep(1.1)  # what the process has looked at a second ago counts
        for who in (ANNE, ("dora", "user/*.rs", "")):
            assert (await worn.get("Observation/lab-anne", worn.as_(*who))).status_code == 200
        for search in (
            "Observation?_security=NOPAT",
            "CareTeam?participant=Practitioner/dora",
            "Observation?patient=anne",
        ):
            assert (await worn.get(search, operator)).status_code == 200
