"""https://hl7.org/fhir/R4/http.html#transaction, #batch"""

import asyncio
import json
import uuid

import pytest

from fhir_server.storage.port import Delete, UnitOfWork
from fhir_server.storage.sqlite.store import SqliteStore
from resources.model import ResourceKey
from tests.http.conftest import BASE, FHIR, issue_of, made

pytestmark = pytest.mark.anyio


def entry(method, url, resource=None, full_url=None, **conditions):
    request = {"method": method, "url": url, **conditions}
    return {
        **({"fullUrl": full_url} if full_url else {}),
        **({"resource": resource} if resource is not None else {}),
        "request": request,
    }


async def send(client, *entries, kind="transaction", **headers):
    body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)})
    return await client.post("", content=body, headers={**FHIR, **headers})


async def done(client, *entries, kind="transaction", **headers):
    answer = await send(client, *entries, kind=kind, **headers)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["type"] == f"{kind}-response"
    assert len(body["entry"]) == len(entries)
    return body["entry"]


def statuses(entries):
    return [item["response"]["status"].split()[0] for item in entries]


def identified(mark, **more):
    return {"resourceType": "Patient", "identifier": [{"system": "urn:test", "value": mark}], **more}


def observation(subject, **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": subject},
        **more,
    }


async def stored(client, item):
    location = item["response"]["location"]
    return (await client.get(location.partition("/_history")[0])).json()


@pytest.fixture
def mark():
    return str(uuid.uuid4())


@pytest.mark.parametrize("path", ["", "/"])
async def test_a_bundle_is_taken_at_the_base_with_and_without_a_slash(client, path):
    answer = await client.post(f"{BASE}{path}", content=b'{"resourceType":"Bundle","type":"batch"}', headers=FHIR)
    assert (answer.status_code, answer.json()) == (200, {"resourceType": "Bundle", "type": "batch-response"})


async def test_answers_stand_in_the_order_of_the_requests_whatever_the_order_of_work(client, patient, mark):
    old = await made(client, patient)
    gone = await made(client, patient)
    got = await done(
        client,
        entry("GET", f"Patient?identifier=urn:test|{mark}"),
        entry("PUT", f"Patient/{old['id']}", {**old, "active": False}),
        entry("POST", "Patient", identified(mark)),
        entry("GET", f"Patient/{gone['id']}"),
        entry("DELETE", f"Patient/{gone['id']}"),
        entry("HEAD", f"Patient/{old['id']}"),
    )
    assert statuses(got) == ["200", "200", "201", "410", "204", "200"]
    assert got[0]["resource"]["total"] == 1
    assert got[1]["response"]["etag"] == 'W/"2"'
    assert got[3]["response"].keys() >= {"outcome"} or "outcome" in got[3]
    assert "resource" not in got[5]
    assert got[2]["response"]["location"].endswith("/_history/1")
    assert got[2]["response"]["lastModified"].endswith("Z")


@pytest.mark.parametrize("wanted", ["minimal", "representation", "OperationOutcome"])
@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_prefer_says_what_entries_carry(client, patient, wanted, kind):
    (item,) = await done(client, entry("POST", "Patient", patient), kind=kind, Prefer=f"return={wanted}")
    assert ("resource" in item) == (wanted == "representation")
    assert ("outcome" in item["response"]) == (wanted == "OperationOutcome")


async def test_links_to_entries_are_rewritten_wherever_they_stand(client, patient):
    urn, other = f"urn:uuid:{uuid.uuid4()}", f"urn:uuid:{uuid.uuid4()}"
    narrative = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{urn}">him</a> {urn}</div>'
    referring = observation(
        urn,
        text={"status": "generated", "div": narrative},
        extension=[
            {"url": "http://example.org/a", "valueUri": urn},
            {"url": "http://example.org/b", "valueCanonical": urn},
            {"url": "http://example.org/c", "valueString": urn},
            {"url": "http://example.org/d", "valueUuid": urn},
            {"url": "http://example.org/e", "valueReference": {"reference": urn, "display": urn}},
        ],
        hasMember=[{"reference": other}],
    )
    got = await done(
        client,
        entry("POST", "Observation", referring, other),
        entry("POST", "Patient", patient, urn),
    )
    here = got[1]["response"]["location"].partition("/_history")[0]
    itself = got[0]["response"]["location"].partition("/_history")[0]
    seen = await stored(client, got[0])
    assert seen["subject"]["reference"] == here
    assert seen["hasMember"][0]["reference"] == itself
    assert f'href="{here}"' in seen["text"]["div"]
    assert f"him</a> {urn}" in seen["text"]["div"]
    values = [next(value for name, value in item.items() if name != "url") for item in seen["extension"]]
    assert values == [here, urn, urn, here, {"reference": here, "display": urn}]


async def test_links_between_resources_of_another_server_are_rewritten(client, patient):
    got = await done(
        client,
        entry("POST", "Patient", patient, "http://other.example.org/fhir/Patient/7"),
        entry("POST", "Observation", observation("Patient/7"), "http://other.example.org/fhir/Observation/8"),
        entry("POST", "Observation", observation("http://other.example.org/fhir/Patient/7")),
        entry("POST", "Observation", observation("http://other.example.org/fhir/Patient/9")),
    )
    here = got[0]["response"]["location"].partition("/_history")[0]
    references = [(await stored(client, item))["subject"]["reference"] for item in got[1:]]
    assert references == [here, here, "http://other.example.org/fhir/Patient/9"]


async def test_an_absolute_reference_to_this_server_finds_like_a_relative_one(client, patient):
    name = (await made(client, patient))["id"]
    for base in (BASE, "http://alias.example.org/fhir", "http://elsewhere.example.org/fhir"):
        await made(client, observation(f"{base}/Patient/{name}"))
    found = await client.get(f"Observation?subject=Patient/{name}&_total=accurate")
    assert found.json()["total"] == 2


async def test_a_conditional_create_that_finds_is_linked_to_what_it_found(client, mark):
    old = await made(client, identified(mark))
    urn = f"urn:uuid:{uuid.uuid4()}"
    got = await done(
        client,
        entry("POST", "Patient", identified(mark), urn, ifNoneExist=f"identifier=urn:test|{mark}"),
        entry("POST", "Observation", observation(urn)),
    )
    assert statuses(got) == ["200", "201"]
    assert (await stored(client, got[1]))["subject"]["reference"] == f"Patient/{old['id']}"


async def test_conditional_references_find_what_is_stored(client, mark):
    old = await made(client, identified(mark))
    got = await done(client, entry("POST", "Observation", observation(f"Patient?identifier=urn:test|{mark}")))
    assert (await stored(client, got[0]))["subject"]["reference"] == f"Patient/{old['id']}"


async def test_conditional_references_find_what_the_bundle_creates(client, mark):
    got = await done(
        client,
        entry("POST", "Observation", observation(f"Patient?identifier=urn:test|{mark}")),
        entry("POST", "Patient", identified(mark)),
    )
    here = got[1]["response"]["location"].partition("/_history")[0]
    assert (await stored(client, got[0]))["subject"]["reference"] == here


async def test_conditional_references_do_not_find_what_the_bundle_deletes_or_changes(client, mark):
    old = await made(client, identified(mark))
    reference = entry("POST", "Observation", observation(f"Patient?identifier=urn:test|{mark}"))
    for change in (
        entry("DELETE", f"Patient/{old['id']}"),
        entry("PUT", f"Patient/{old['id']}", {"resourceType": "Patient", "id": old["id"]}),
    ):
        assert (await send(client, reference, change)).status_code == 412
    new = identified(mark)
    got = await done(client, reference, entry("DELETE", f"Patient/{old['id']}"), entry("POST", "Patient", new))
    assert (await stored(client, got[0]))["subject"]["reference"] in got[2]["response"]["location"]


@pytest.mark.parametrize("number", [0, 2])
async def test_a_conditional_reference_to_none_or_many_fails_the_whole(client, mark, number):
    for _ in range(number):
        await made(client, identified(mark))
    answer = await send(
        client,
        entry("POST", "Patient", identified(f"{mark}-other")),
        entry("POST", "Observation", observation(f"Patient?identifier=urn:test|{mark}")),
    )
    assert answer.status_code == 412
    assert issue_of(answer)["expression"] == ["Bundle.entry[1].resource.subject.reference"]
    found = await client.get(f"Patient?identifier=urn:test|{mark}-other")
    assert found.json().get("entry", []) == []


OLD = {"resourceType": "Patient", "id": "old"}
NEW = {"resourceType": "Patient"}


@pytest.mark.parametrize(
    ("entries", "status", "place"),
    [
        pytest.param([{"resource": NEW}], 422, "Bundle", id="no request (bdl-3)"),
        pytest.param([entry("POST", "Patient")], 400, "Bundle.entry[1].resource", id="POST without resource"),
        pytest.param([entry("GET", "Patient", NEW)], 400, "Bundle.entry[1].resource", id="GET with resource"),
        pytest.param([entry("POST", "Patient/1", NEW)], 400, "Bundle.entry[1].request.url", id="POST to an instance"),
        pytest.param([entry("PUT", "Patient/1?name=x", OLD)], 400, "Bundle.entry[1].request.url", id="PUT of an id with criteria"),
        pytest.param([entry("PUT", "Patient", NEW)], 400, "Bundle.entry[1]", id="conditional update without criteria"),
        pytest.param([entry("DELETE", "Patient?_count=1")], 400, "Bundle.entry[1]", id="conditional delete without criteria"),
        pytest.param([entry("PATCH", "Patient/1", NEW)], 400, "Bundle.entry[1].resource.resourceType", id="PATCH with no patch"),
        pytest.param([entry("GET", "Nonsense/1")], 400, "Bundle.entry[1].request.url", id="an unknown type"),
        pytest.param([entry("GET", "?_type=Patient&nonsense=1")], 400, "Bundle.entry[1].request.url", id="a bad system search"),
        pytest.param([entry("GET", "Patient?nonsense=1")], 400, "Bundle.entry[1].request.url", id="a bad search"),
        pytest.param(
            [entry("GET", "http://elsewhere.example.org/Patient/1")], 400, "Bundle.entry[1].request.url", id="elsewhere"
        ),
        pytest.param(
            [entry("POST", "Observation", NEW)], 400, "Bundle.entry[1].resource.resourceType", id="another type"
        ),
        pytest.param([entry("PUT", "Patient/1", OLD)], 400, "Bundle.entry[1].resource.id", id="another id"),
        pytest.param(
            [entry("POST", "Patient", NEW, ifMatch='W/"1"')], 400, "Bundle.entry[1].request.ifMatch", id="a wrong condition"
        ),
        pytest.param(
            [entry("POST", "Patient", {**NEW, "surprise": 1})], 400, "Bundle.entry[1].resource.surprise", id="an unknown element"
        ),
        pytest.param(
            [entry("PUT", "Patient/old", OLD), entry("DELETE", "Patient/old")], 400, None, id="one identity twice"
        ),
        pytest.param(
            [entry("POST", "Patient", NEW, ifNoneExist="identifier=a|b"), entry("POST", "Patient", NEW, ifNoneExist="identifier=a|b")],
            400,
            "Bundle.entry[2].request.ifNoneExist",
            id="one condition twice",
        ),
        pytest.param(
            [entry("POST", "Patient", NEW, "urn:uuid:1b4b2a7e-93d6-4d80-8d19-1d0e5a0f7c55"),
             entry("POST", "Patient", NEW, "urn:uuid:1b4b2a7e-93d6-4d80-8d19-1d0e5a0f7c55")],
            422, "Bundle", id="one fullUrl twice (bdl-7)",
        ),
        pytest.param([entry("PUT", "Patient/never", {**NEW, "id": "never"}, ifMatch='W/"3"')], 412, "Bundle.entry[1]", id="ifMatch"),
    ],
)  # fmt: skip
async def test_a_transaction_that_cannot_be_done_changes_nothing(client, mark, entries, status, place):
    answer = await send(client, entry("POST", "Patient", identified(mark)), *entries)
    assert answer.status_code == status, answer.text
    issue = issue_of(answer)
    if place is not None:
        assert issue["expression"] == [place], issue
    assert (await client.get(f"Patient?identifier=urn:test|{mark}&_total=accurate")).json()["total"] == 0


async def test_all_faults_of_a_transaction_are_told_at_once(client):
    answer = await send(
        client,
        entry("POST", "Patient", {**NEW, "surprise": 1, "active": "yes"}),
        entry("POST", "Patient", {**NEW, "birthDate": "x"}),
    )
    places = {issue["expression"][0] for issue in answer.json()["issue"]}
    assert places == {
        f"Bundle.entry[{place}" for place in ("0].resource.surprise", "0].resource.active", "1].resource.birthDate")
    }


@pytest.mark.parametrize("kind", ["collection", "searchset", "document", "message"])
async def test_other_bundles_are_refused(client, kind):
    assert (await send(client, kind=kind)).status_code == 400


async def test_batch_entries_fail_one_by_one(client, mark, patient):
    old = await made(client, patient)
    got = await done(
        client,
        entry("GET", "Patient/never"),
        entry("POST", "Patient", {**NEW, "surprise": 1}),
        entry("POST", "Patient", identified(mark)),
        entry("PUT", f"Patient/{old['id']}", {**old, "active": False}, ifMatch='W/"9"'),
        entry("DELETE", f"Patient/{old['id']}"),
        entry("GET", f"Patient?identifier=urn:test|{mark}"),
        entry("GET", "Patient?nonsense=1"),
        entry("POST", "Patient", identified(mark), ifNoneExist=f"identifier=urn:other|{mark}"),
        entry("PATCH", "Patient/1", NEW),
        kind="batch",
    )
    assert statuses(got) == ["404", "400", "201", "412", "204", "200", "400", "201", "400"]
    for item in got:
        failed = item["response"]["status"] >= "4"
        assert ("outcome" in item["response"]) == failed
    assert got[1]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1].resource.surprise"]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_an_entry_may_search_several_types(client, mark, patient, kind):
    got = await done(
        client,
        entry("POST", "Patient", identified(mark)),
        entry("GET", f"?_type=Patient,Practitioner&identifier=urn:test|{mark}"),
        kind=kind,
    )
    assert statuses(got) == ["201", "200"]
    found = got[1]["resource"]
    assert (found["type"], found["total"]) == ("searchset", 1)


async def test_entries_of_a_batch_may_not_refer_to_each_other(client, patient):
    urn = f"urn:uuid:{uuid.uuid4()}"
    got = await done(
        client, entry("POST", "Patient", patient, urn), entry("POST", "Observation", observation(urn)), kind="batch"
    )
    assert statuses(got) == ["201", "400"]


async def test_conditional_reads_inside_a_bundle(client, patient):
    old = await made(client, patient)
    got = await done(
        client, entry("GET", f"Patient/{old['id']}", ifNoneMatch='W/"1"'), entry("GET", f"Patient/{old['id']}")
    )
    assert statuses(got) == ["304", "200"]
    assert got[1]["resource"] == old


async def test_parallel_transactions_with_one_condition_make_one_resource(client, mark):
    urn = f"urn:uuid:{uuid.uuid4()}"
    entries = (
        entry("POST", "Patient", identified(mark), urn, ifNoneExist=f"identifier=urn:test|{mark}"),
        entry("POST", "Observation", observation(urn)),
    )
    answers = await asyncio.gather(*(send(client, *entries) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    found = (await client.get(f"Patient?identifier=urn:test|{mark}&_total=accurate")).json()
    assert found["total"] == 1
    name = found["entry"][0]["resource"]["id"]
    assert (await client.get(f"Observation?subject=Patient/{name}&_total=accurate&_count=0")).json()["total"] == 20


async def test_a_large_transaction_lets_others_run(client, patient):
    entries = [
        entry("POST", "Patient", {**patient, "name": [{"family": f"N{i}", "given": ["x"] * 20}] * 5})
        for i in range(400)
    ]
    loop = asyncio.get_running_loop()
    gaps = []

    async def watch():
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            gaps.append(loop.time() - before)

    watcher = asyncio.create_task(watch())
    await done(client, *entries)
    watcher.cancel()
    assert len(gaps) > 10


async def test_what_a_conditional_create_found_must_still_be_there_at_the_commit(client, mark, monkeypatch):
    there = await made(client, identified(mark))
    commit, raced = SqliteStore.commit, []

    async def racing(store, unit):
        if not raced:
            raced.append(await commit(store, UnitOfWork((Delete(ResourceKey("Patient", there["id"])),))))
        return await commit(store, unit)

    monkeypatch.setattr(SqliteStore, "commit", racing)
    answers = await done(
        client,
        entry("POST", "Patient", identified(mark), "urn:uuid:6f4c9c0e-8d0c-4a53-8a5b-3d5e5a0f7c55", ifNoneExist=f"identifier=urn:test|{mark}"),
        entry("POST", "Basic", {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "urn:uuid:6f4c9c0e-8d0c-4a53-8a5b-3d5e5a0f7c55"}}),
        Prefer="return=representation",
    )  # fmt: skip
    assert raced
    assert statuses(answers) == ["201", "201"]
    assert answers[1]["resource"]["subject"]["reference"] == f"Patient/{answers[0]['resource']['id']}"
    assert answers[0]["resource"]["id"] != there["id"]
