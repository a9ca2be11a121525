"""Referential integrity, where it is on: https://hl7.org/fhir/R4/references.html#integrity"""

import asyncio
import json
import uuid

import pytest

from tests.http.conftest import BASE, FHIR, issue_of, made, serving
from tests.http.test_bundles import done, entry, identified, observation, send, statuses

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def strict(anyio_backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strict")
    async with serving(folder, referential_integrity=True, conditional_delete="multiple") as client:
        yield client


@pytest.fixture
def mark():
    return str(uuid.uuid4())


@pytest.fixture
async def there(strict, mark):
    return (await made(strict, identified(mark)))["id"]


@pytest.fixture
async def gone(strict, mark):
    one = await made(strict, identified(f"{mark}-gone"))
    await strict.delete(f"Patient/{one['id']}")
    return one["id"]


async def post(client, resource, **headers):
    body = json.dumps(resource)
    return await client.post(resource["resourceType"], content=body, headers={**FHIR, **headers})


FORMS = [
    pytest.param("Patient/{}", id="relative"),
    pytest.param(BASE + "/Patient/{}", id="absolute"),
    pytest.param("http://alias.example.org/fhir/Patient/{}", id="absolute by another name of this server"),
    pytest.param("Patient/{}/_history/1", id="with a version"),
]


@pytest.mark.parametrize("form", FORMS)
async def test_a_reference_to_what_is_there_is_taken(strict, there, form):
    assert (await post(strict, observation(form.format(there)))).status_code == 201


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["never", "deleted"])
@pytest.mark.parametrize("method", ["POST", "PUT", "conditional PUT", "PATCH"])
async def test_a_reference_to_what_is_not_there_is_refused(strict, gone, form, target, method, mark):
    name = gone if target == "deleted" else f"never-{mark[:8]}"
    bad = observation(form.format(name))
    match method:
        case "POST":
            answer = await post(strict, bad)
        case "PUT":
            url = f"Observation/{mark}"
            answer = await strict.put(url, content=json.dumps({**bad, "id": mark}), headers=FHIR)
        case "conditional PUT":
            answer = await strict.put(f"Observation?_id={mark}", content=json.dumps(bad), headers=FHIR)
        case _:
            old = await made(strict, {name: value for name, value in bad.items() if name != "subject"})
            patch = [{"op": "add", "path": "/subject", "value": bad["subject"]}]
            headers = {"Content-Type": "application/json-patch+json"}
            answer = await strict.patch(f"Observation/{old['id']}", content=json.dumps(patch), headers=headers)
    assert answer.status_code == 422, answer.text
    issue = issue_of(answer)
    assert (issue["code"], issue["expression"]) == ("not-found", ["Observation.subject.reference"])
    assert f"Patient/{name}" in issue["diagnostics"]


@pytest.mark.parametrize(
    "text",
    ["http://elsewhere.example.org/fhir/Patient/1", "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8", "#inside"],
    ids=["another server", "a urn", "contained"],
)
async def test_what_is_no_resource_of_this_server_is_not_looked_for(strict, text):
    contained = [{"resourceType": "Patient", "id": "inside"}] if text == "#inside" else None
    resource = observation(text, **({"contained": contained} if contained else {}))
    assert (await post(strict, resource)).status_code == 201


async def test_a_version_that_never_was_is_unknown(strict, there):
    answer = await post(strict, observation(f"Patient/{there}/_history/2"))
    assert (answer.status_code, issue_of(answer)["code"]) == (422, "not-found")


async def test_every_unknown_target_is_told_with_all_its_places(strict, mark):
    bad = observation(
        f"Patient/a-{mark[:8]}",
        performer=[{"reference": f"Practitioner/b-{mark[:8]}"}, {"reference": f"Patient/a-{mark[:8]}"}],
        contained=[{"resourceType": "Encounter", "id": "x", "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": f"Patient/c-{mark[:8]}"}}],
        encounter={"reference": "#x"},
    )  # fmt: skip
    answer = await post(strict, bad)
    assert answer.status_code == 422
    assert [issue["expression"] for issue in answer.json()["issue"]] == [
        ["Observation.subject.reference", "Observation.performer[1].reference"],
        ["Observation.contained[0].subject.reference"],
        ["Observation.performer[0].reference"],
    ]


async def test_a_resource_may_refer_to_itself(strict, mark):
    organization = {
        "resourceType": "Organization",
        "id": mark,
        "name": "x",
        "partOf": {"reference": f"Organization/{mark}"},
    }
    url = f"Organization/{mark}"
    assert (await strict.put(url, content=json.dumps(organization), headers=FHIR)).status_code == 201
    assert (await strict.delete(url)).status_code == 204


# ---- deletions


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("conditional", [False, True], ids=["by id", "by criteria"])
async def test_what_is_referred_to_is_not_deleted(strict, there, form, conditional, mark):
    other = await made(strict, observation(form.format(there)))
    url = f"Patient?identifier=urn:test|{mark}" if conditional else f"Patient/{there}"
    answer = await strict.delete(url)
    assert (answer.status_code, issue_of(answer)["code"]) == (409, "conflict")
    assert f"Observation/{other['id']}" in issue_of(answer)["diagnostics"]
    assert (await strict.get(f"Patient/{there}")).status_code == 200
    await strict.delete(f"Observation/{other['id']}")
    assert (await strict.delete(url)).status_code == 204


async def test_a_contained_resource_refers_too(strict, there):
    inside = {"resourceType": "Basic", "id": "x", "code": {"text": "x"}, "subject": {"reference": f"Patient/{there}"}}
    resource = {"resourceType": "Basic", "code": {"text": "y"}, "contained": [inside], "subject": {"reference": "#x"}}
    other = await made(strict, resource)
    answer = await strict.delete(f"Patient/{there}")
    assert answer.status_code == 409
    assert f"by Basic/{other['id']}" in issue_of(answer)["diagnostics"]


async def test_a_reference_that_was_taken_back_holds_nothing(strict, there):
    other = await made(strict, observation(f"Patient/{there}"))
    del other["subject"]
    await strict.put(f"Observation/{other['id']}", content=json.dumps(other), headers=FHIR)
    assert (await strict.delete(f"Patient/{there}")).status_code == 204


async def test_ten_of_many_referrers_are_named(strict, there):
    for _ in range(12):
        await made(strict, observation(f"Patient/{there}"))
    said = issue_of(await strict.delete(f"Patient/{there}"))["diagnostics"]
    assert said.count("Observation/") == 10
    assert said.endswith("and others")


# ---- Bundles


async def test_what_one_bundle_writes_may_refer_to_each_other(strict):
    a, b = f"urn:uuid:{uuid.uuid4()}", f"urn:uuid:{uuid.uuid4()}"
    patient = {"resourceType": "Patient", "link": [{"other": {"reference": b}, "type": "seealso"}]}
    other = {"resourceType": "Patient", "link": [{"other": {"reference": a}, "type": "seealso"}]}
    got = await done(strict, entry("POST", "Patient", patient, a), entry("POST", "Patient", other, b))
    assert statuses(got) == ["201", "201"]
    names = [item["response"]["location"].partition("/_history")[0] for item in got]
    assert (await strict.delete(names[0])).status_code == 409
    assert statuses(await done(strict, *(entry("DELETE", name) for name in names))) == ["204", "204"]


async def test_a_bundle_that_refers_to_the_unknown_is_refused_as_a_whole(strict, mark):
    answer = await send(
        strict,
        entry("POST", "Patient", identified(f"{mark}-x")),
        entry("POST", "Observation", observation(f"Patient/never-{mark[:8]}")),
        entry("POST", "Observation", observation(f"Patient/other-{mark[:8]}")),
    )
    assert answer.status_code == 422
    places = [issue["expression"] for issue in answer.json()["issue"]]
    assert places == [[f"Bundle.entry[{n}].resource.subject.reference"] for n in (1, 2)]
    assert (await strict.get(f"Patient?identifier=urn:test|{mark}-x&_total=accurate")).json()["total"] == 0


async def test_a_bundle_may_delete_what_it_no_longer_refers_to(strict, there, mark):
    one, two = [await made(strict, observation(f"Patient/{there}")) for _ in range(2)]
    del one["subject"]
    delete, put = entry("DELETE", f"Patient/{there}"), entry("PUT", f"Observation/{one['id']}", one)
    answer = await send(strict, delete, put)
    assert (answer.status_code, issue_of(answer)["expression"]) == (409, ["Bundle.entry[0]"])
    got = await done(strict, delete, put, entry("DELETE", f"Observation/{two['id']}"))
    assert statuses(got) == ["204", "200", "204"]


async def test_a_bundle_may_not_refer_to_what_it_deletes(strict, there):
    answer = await send(
        strict, entry("DELETE", f"Patient/{there}"), entry("POST", "Observation", observation(f"Patient/{there}"))
    )
    assert answer.status_code == 422
    assert issue_of(answer)["expression"] == ["Bundle.entry[1].resource.subject.reference"]


async def test_entries_of_a_batch_stand_for_themselves(strict, there):
    other = await made(strict, observation(f"Patient/{there}"))
    got = await done(
        strict,
        entry("DELETE", f"Patient/{there}"),
        entry("POST", "Observation", observation(f"Patient/{there}")),
        entry("POST", "Observation", observation("Patient/never-was")),
        kind="batch",
    )
    assert statuses(got) == ["409", "201", "422"]
    assert other["id"] in got[0]["response"]["outcome"]["issue"][0]["diagnostics"]


async def test_a_history_may_end_without_what_it_referred_to(strict, mark):
    content = [
        {"fullUrl": f"{BASE}/Patient/h-{mark[:8]}", "request": {"method": "DELETE", "url": f"Patient/h-{mark[:8]}"}, "response": {"status": "204"}},
        {"fullUrl": f"{BASE}/Observation/h-{mark[:8]}", "request": {"method": "DELETE", "url": f"Observation/h-{mark[:8]}"}, "response": {"status": "204"}},
        {"fullUrl": f"{BASE}/Observation/h-{mark[:8]}", "resource": observation(f"Patient/h-{mark[:8]}", id=f"h-{mark[:8]}"),
         "request": {"method": "POST", "url": "Observation"}, "response": {"status": "201"}},
        {"fullUrl": f"{BASE}/Patient/h-{mark[:8]}", "resource": identified(mark, id=f"h-{mark[:8]}"),
         "request": {"method": "POST", "url": "Patient"}, "response": {"status": "201"}},
    ]  # fmt: skip
    assert (await send(strict, *content, kind="history")).status_code == 200
    assert (await send(strict, *content[2:], kind="history")).status_code == 200
    assert (await send(strict, content[0], kind="history")).status_code == 409


# ---- races, and where it is off


async def test_of_a_deletion_and_a_reference_that_race_one_wins(strict, mark, rounds):
    for number in range(50 * rounds):
        name = (await made(strict, identified(f"{mark}-{number}")))["id"]
        asked = [strict.delete(f"Patient/{name}"), post(strict, observation(f"Patient/{name}"))]
        answers = await asyncio.gather(*(asked if number % 2 else reversed(asked)))
        deleted, referred = answers if number % 2 else reversed(answers)
        assert (deleted.status_code, referred.status_code) in {(204, 422), (409, 201)}
        assert (await strict.get(f"Patient/{name}")).status_code == (410 if deleted.status_code == 204 else 200)


async def test_where_it_is_off_references_may_lead_nowhere(client, patient):
    there = await made(client, patient)
    await made(client, observation(f"Patient/{there['id']}"))
    await made(client, observation("Patient/never-was"))
    assert (await client.delete(f"Patient/{there['id']}")).status_code == 204


async def test_what_leads_nowhere_from_before_has_to_be_mended_by_the_next_update(tmp_path):
    async with serving(tmp_path) as client:
        there = await made(client, observation("Patient/never-was"))
    async with serving(tmp_path, referential_integrity=True) as client:
        url, new = f"Observation/{there['id']}", {**there, "status": "amended"}
        assert (await client.put(url, content=json.dumps(new), headers=FHIR)).status_code == 422
        await client.put("Patient/never-was", content='{"resourceType":"Patient","id":"never-was"}', headers=FHIR)
        assert (await client.put(url, content=json.dumps(new), headers=FHIR)).status_code == 200
        assert (await client.delete("Patient/never-was")).status_code == 409


@pytest.mark.parametrize(
    ("on", "policies"), [(False, ["literal", "logical"]), (True, ["literal", "logical", "enforced"])]
)
async def test_the_statement_tells_the_policy(tmp_path, on, policies):
    async with serving(tmp_path, referential_integrity=on) as client:
        (rest,) = (await client.get("metadata")).json()["rest"]
    assert {tuple(row["referencePolicy"]) for row in rest["resource"] if row["type"] != "AuditEvent"} == {
        tuple(policies)
    }
