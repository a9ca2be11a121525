"""Long resources: written whole, refused with the place of the fault, and prepared on a thread while the event loop goes on."""

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from msgspec import structs

from fhir_server.interactions import apart
from fhir_server.interactions.apart import checked_apart, put_apart
from fhir_server.interactions.assembly import compose
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.prepare import put
from resources.errors import FhirError
from resources.model import ResourceKey
from tests.http.conftest import FHIR

pytestmark = pytest.mark.anyio
KEY = ResourceKey("Group", "crowd")


def group(members, **more):
    found = [{"entity": {"reference": f"Patient/m{at}"}} for at in range(members)]
    return {"resourceType": "Group", "id": KEY.id, "type": "person", "actual": True, "member": found, **more}


def concepts(number):
    listed = [{"code": f"c{at}"} for at in range(number)]
    return {"resourceType": "ValueSet", "id": "v", "status": "draft", "compose": {"include": [{"system": "urn:s", "concept": listed}]}}  # fmt: skip


@pytest.fixture(scope="module")
def preparer():
    return compose("https://fhir.example.org/fhir", (), RestOptions()).preparer


@pytest.fixture
def threads(monkeypatch):
    """On which threads something was checked or indexed."""
    seen = []
    for name in ("checked", "put"):
        monkeypatch.setattr(apart, name, noting(seen, getattr(apart, name)))
    return seen


def noting(seen, real):
    def noted(*arguments, **options):
        seen.append(threading.current_thread() is threading.main_thread())
        return real(*arguments, **options)

    return noted


@pytest.mark.parametrize(
    ("resource", "at_once"),
    [
        pytest.param(group(10), True, id="a short one"),
        pytest.param(group(apart.LONG), False, id="a long array"),
        pytest.param(concepts(apart.LONG), False, id="a long array further inside"),
        pytest.param({"resourceType": "List", "entry": [{"flag": {"coding": [{"code": "x"}] * 50}}] * 50}, True, id="many short arrays"),
        pytest.param({"resourceType": "SearchParameter", "target": ["Patient"] * apart.LONG}, True, id="a SearchParameter, which asks the store"),
        pytest.param({"resourceType": "Group", "member": []}, True, id="nothing"),
    ],
)  # fmt: skip
async def test_what_is_long_is_checked_on_a_thread(preparer, threads, resource, at_once):
    with suppress(FhirError):
        await checked_apart(preparer, resource)
    assert threads == [at_once]


async def test_the_event_loop_goes_on_while_a_long_resource_is_prepared(preparer):
    turns, work = 0, asyncio.ensure_future(put_apart(preparer, group(20_000), KEY, "PUT"))
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 3
    assert len((await work).entries.references) == 20_000


async def test_a_long_resource_is_prepared_like_a_short_one(preparer):
    for resource in (group(3), group(apart.LONG + 1, name="Crowd")):
        made = await put_apart(preparer, resource, KEY, "PUT", expected=4)
        expected = put(preparer, resource, KEY, "PUT", expected=4)
        assert structs.replace(made, body=expected.body) == expected
        assert made.body.body(1, 0) == expected.body.body(1, 0)


async def test_faults_of_a_long_resource_are_told_with_their_places(client):
    broken = group(3000)
    broken["member"][2999] = {"entity": {"reference": "Nobody/1"}}
    for method, url in (("PUT", f"Group/{KEY.id}"), ("POST", "Group")):
        answer = await client.request(method, url, content=json.dumps(broken), headers=FHIR)
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["expression"] == ["Group.member[2999].entity.reference"]


async def test_a_long_resource_is_written_by_every_interaction_and_found(client):
    body = json.dumps(group(3000))
    assert (await client.put(f"Group/{KEY.id}", content=body, headers=FHIR)).status_code == 201
    assert (await client.put(f"Group/{KEY.id}", content=json.dumps(group(3001)), headers=FHIR)).status_code == 200
    created = await client.post("Group", content=body, headers=FHIR)
    assert created.status_code == 201
    entries = [{"resource": group(3002), "request": {"method": "PUT", "url": f"Group/{KEY.id}"}}]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await client.post(client.base_url, content=json.dumps(bundle), headers=FHIR)
    assert answer.json()["entry"][0]["response"]["status"] == "200 OK"
    for member, found in (("m2999", {KEY.id, created.json()["id"]}), ("m3001", {KEY.id})):
        entries = (await client.get(f"Group?member=Patient/{member}")).json()["entry"]
        assert {entry["resource"]["id"] for entry in entries} == found


async def test_search_parameters_that_change_meanwhile_do_not_count_for_it(preparer):
    other = replace(preparer, extractor=preparer.extractor.snapshot())
    expected = put(other, group(4000), KEY, "PUT")
    registry = other.extractor._registry
    work = asyncio.ensure_future(put_apart(other, group(4000), KEY, "PUT"))
    await asyncio.sleep(0)
    registry.replace([], {}, registry.epoch + 1)
    made = await work
    assert (made.entries, made.prints) == (expected.entries, expected.prints)
    assert put(other, group(4000), KEY, "PUT").prints != made.prints, "the next one counts the change"
