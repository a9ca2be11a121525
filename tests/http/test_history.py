"""https://hl7.org/fhir/R4/http.html#history"""

import json

import pytest

from tests.http.conftest import BASE, FHIR, made

pytestmark = pytest.mark.anyio


async def lived(client, patient):
    """A patient created, changed, deleted and put back: its id."""
    first = await made(client, patient)
    url = f"Patient/{first['id']}"
    await client.put(url, content=json.dumps({**first, "active": False}), headers=FHIR)
    await client.delete(url)
    await client.put(url, content=json.dumps(first), headers=FHIR)
    return first["id"]


async def test_the_history_of_a_resource_tells_every_version_newest_first(client, patient):
    name = await lived(client, patient)
    bundle = (await client.get(f"Patient/{name}/_history")).json()
    assert (bundle["type"], bundle["total"]) == ("history", 4)
    assert bundle["link"] == [{"relation": "self", "url": f"{BASE}/Patient/{name}/_history"}]
    entries = bundle["entry"]
    assert [item["response"]["etag"] for item in entries] == [f'W/"{version}"' for version in (4, 3, 2, 1)]
    assert [item["request"]["method"] for item in entries] == ["PUT", "DELETE", "PUT", "POST"]
    assert ["resource" in item for item in entries] == [True, False, True, True]
    assert entries[1]["response"]["status"].startswith("204")
    assert entries[3]["response"]["status"].startswith("201")
    assert entries[3]["request"]["url"] == "Patient"
    assert {item["fullUrl"] for item in entries} == {f"{BASE}/Patient/{name}"}
    times = [item["response"]["lastModified"] for item in entries]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 4


async def test_the_history_of_what_never_was_is_404(client):
    assert (await client.get("Patient/never/_history")).status_code == 404


@pytest.mark.parametrize("level", ["Patient/{id}/_history", "Patient/_history", "_history"])
async def test_pages_hold_everything_once_while_others_write(client, patient, level):
    name = await lived(client, patient)
    url = level.format(id=name) + "?_count=3"
    seen = []
    while url and len(seen) < 1000:
        bundle = (await client.get(url)).json()
        assert len(bundle["entry"]) <= 3
        seen += [(item["fullUrl"], item["response"]["etag"]) for item in bundle["entry"]]
        await made(client, patient)
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    assert len(seen) == len(set(seen))
    assert [etag for full, etag in seen if full.endswith(name)] == [f'W/"{version}"' for version in (4, 3, 2, 1)]


async def test_since_tells_what_came_later(client, patient):
    name = await lived(client, patient)
    everything = (await client.get(f"Patient/{name}/_history")).json()["entry"]
    since = everything[1]["response"]["lastModified"]
    later = (await client.get(f"Patient/{name}/_history", params={"_since": since})).json()["entry"]
    assert [item["response"]["etag"] for item in later] == ['W/"4"', 'W/"3"']
    assert (await client.get("_history?_since=2000-01-01T00:00:00Z&_count=1")).json()["entry"]
    assert "entry" not in (await client.get("Patient/_history?_since=2100")).json()


async def test_a_cursor_belongs_to_its_path(client, patient):
    name = await lived(client, patient)
    bundle = (await client.get(f"Patient/{name}/_history?_count=1")).json()
    url = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    assert (await client.get(url)).status_code == 200
    assert (await client.get(url.replace(f"/Patient/{name}/", "/Patient/"))).status_code == 400


async def test_count_zero_tells_the_total_alone(client, patient):
    name = await lived(client, patient)
    bundle = (await client.get(f"Patient/{name}/_history?_count=0")).json()
    assert bundle["total"] == 4
    assert "entry" not in bundle
