"""https://hl7.org/fhir/R4/http.html#history"""

import json
from datetime import datetime, timedelta

import pytest

from tests.http.conftest import BASE, FHIR, issue_of, made

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


@pytest.mark.parametrize("query", ["", "?_since=2020", "?_at=2020", "?_list=x", "?_count=0"])
async def test_the_history_of_what_never_was_is_404(client, query):
    assert (await client.get(f"Patient/never/_history{query}")).status_code == 404


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


async def test_a_resource_put_back_after_its_deletion_was_created(client, patient):
    name = await lived(client, patient)
    entries = (await client.get(f"Patient/{name}/_history")).json()["entry"]
    assert [item["response"]["status"][:3] for item in entries] == ["201", "204", "200", "201"]


async def test_a_resource_under_the_client_s_id_was_created(client, patient):
    for active in (True, False):
        changed = {**patient, "id": "chosen-for-history", "active": active}
        await client.put("Patient/chosen-for-history", content=json.dumps(changed), headers=FHIR)
    entries = (await client.get("Patient/chosen-for-history/_history")).json()["entry"]
    assert [item["response"]["status"][:3] for item in entries] == ["200", "201"]


# ---- _at: https://hl7.org/fhir/R4/http.html#history "versions that were current at some point during the time period"


@pytest.mark.parametrize(
    ("at", "versions"),
    [
        pytest.param("{1}", [1], id="the moment a version was written"),
        pytest.param("{1+}", [1], id="between two versions"),
        pytest.param("{2}", [2], id="the moment the next was written"),
        pytest.param("{3+}", [3], id="while it was deleted"),
        pytest.param("{1-}", [], id="before it was"),
        pytest.param("2100-01-01T00:00:00Z", [4], id="the future: what is current"),
        pytest.param("2100", [4], id="a year to come"),
        pytest.param("2000", [], id="a year before"),
        pytest.param("{year}", [4, 3, 2, 1], id="the year of all versions"),
    ],
)
@pytest.mark.parametrize("level", ["Patient/{id}/_history", "Patient/_history", "_history"])
async def test_at_tells_what_was_current_then(client, patient, level, at, versions):
    name = await lived(client, patient)
    entries = (await client.get(f"Patient/{name}/_history")).json()["entry"]
    times = {str(len(entries) - n): item["response"]["lastModified"] for n, item in enumerate(entries)}
    moments = {"year": times["1"][:4]}
    for number, text in times.items():
        moment = datetime.fromisoformat(text)
        for sign, shift in (("", 0), ("+", 1), ("-", -1)):
            moments[number + sign] = (moment + timedelta(microseconds=shift)).isoformat()
    value = at[1:-1] if at.startswith("{") else None
    asked = moments[value] if value else at
    found, url, parameters = [], level.format(id=name), {"_at": asked, "_count": 1000}
    while url:
        bundle = (await client.get(url, params=parameters)).json()
        found += bundle.get("entry", [])
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
        parameters = None
    mine = [item["response"]["etag"] for item in found if item["fullUrl"].endswith(name)]
    assert mine == [f'W/"{version}"' for version in versions]


# ---- _list


async def listing(client, *references):
    resource = {"resourceType": "List", "status": "current", "mode": "working"}
    return await made(client, {**resource, "entry": [{"item": {"reference": one}} for one in references]})


async def shown(client, path, **parameters):
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return [
        (item["fullUrl"].rpartition("/")[2], item["response"]["etag"][3:-1]) for item in answer.json().get("entry", ())
    ]


async def test_list_tells_the_versions_of_its_members(client, patient):
    one, other = await lived(client, patient), await lived(client, patient)
    found = (await listing(client, f"Patient/{one}", "Patient/nobody"))["id"]
    assert await shown(client, "_history", _list=found) == [(one, str(version)) for version in (4, 3, 2, 1)]
    assert await shown(client, "Patient/_history", _list=f"List/{found}") == await shown(
        client, "_history", _list=found
    )
    assert await shown(client, "Observation/_history", _list=found) == []
    assert len(await shown(client, f"Patient/{one}/_history", _list=found)) == 4
    assert await shown(client, f"Patient/{other}/_history", _list=found) == []


async def test_list_tells_the_version_that_it_names(client, patient):
    one, other = await lived(client, patient), await lived(client, patient)
    found = (await listing(client, f"Patient/{one}/_history/2", f"{BASE}/Patient/{other}/_history/4"))["id"]
    assert await shown(client, "_history", _list=found) == [(other, "4"), (one, "2")]


async def test_several_lists_are_paged_like_one(client, patient):
    names = [await lived(client, patient) for _ in range(3)]
    lists = [(await listing(client, f"Patient/{name}"))["id"] for name in names]
    url, seen = f"_history?_count=5&_list={','.join(lists)}", []
    while url:
        bundle = (await client.get(url)).json()
        seen += [item["response"]["lastModified"] for item in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    assert len(seen) == len(set(seen)) == 12
    assert seen == sorted(seen, reverse=True)


async def test_a_list_that_never_was_or_is_deleted_lists_nothing(client, patient):
    name = await lived(client, patient)
    found = (await listing(client, f"Patient/{name}"))["id"]
    await client.delete(f"List/{found}")
    assert await shown(client, "_history", _list=f"{found},never") == []


# ---- refusals


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        pytest.param("_at=soon", "invalid", "_at=soon", id="_at is no date"),
        pytest.param("_at=gt2020", "invalid", "_at=gt2020", id="_at with a prefix"),
        pytest.param("_at=2020&_at=2021", "invalid", "_at", id="_at twice"),
        pytest.param("_list=$current-problems", "not-supported", "$current-problems", id="a functional list"),
        pytest.param("_list=a_b", "invalid", "a_b", id="no id of a List"),
        pytest.param("_list=a&_list=b", "invalid", "_list", id="_list twice"),
        pytest.param("_since=&_since=2020", "invalid", "_since", id="twice, once without a value"),
        pytest.param("_sort=_lastUpdated", "not-supported", "_sort", id="_sort"),
        pytest.param("_count=-1", "invalid", "_count", id="a negative count"),
        pytest.param("name=x", "not-supported", "name", id="a search parameter"),
    ],
)
async def test_a_parameter_that_cannot_be_served_is_named(client, query, code, told):
    answer = await client.get(f"Patient/_history?{query}")
    assert answer.status_code == 400
    assert issue_of(answer)["code"] == code
    assert told in issue_of(answer)["diagnostics"]


async def test_lenient_handling_tells_what_it_ignored(client, patient):
    name = await lived(client, patient)
    answer = await client.get(
        f"Patient/{name}/_history?_sort=x&_count=2&colour=red", headers={"Prefer": "handling=lenient"}
    )
    bundle = answer.json()
    assert bundle["link"][0]["url"] == f"{BASE}/Patient/{name}/_history?_count=2"
    last = bundle["entry"].pop()
    assert [issue["severity"] for issue in last["resource"]["issue"]] == ["warning", "warning"]
    assert "_sort" in last["resource"]["issue"][0]["diagnostics"]
    assert "colour" in last["resource"]["issue"][1]["diagnostics"]
    assert (last["request"]["method"], last["response"]["status"]) == ("GET", "200 OK")
    assert len(bundle["entry"]) == 2
    bundle["entry"].append(last)
    checked = await client.post("Bundle", content=json.dumps(bundle), headers=FHIR)
    assert checked.status_code == 201, checked.text


async def test_what_is_no_id_has_no_history_whatever_is_asked_of_it(client):
    answer = await client.get("Patient/a%0Db/_history?_at=3021-07")
    assert answer.status_code == 404
    assert issue_of(answer)["code"] == "not-found"
