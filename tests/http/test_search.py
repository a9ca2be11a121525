"""Search through HTTP: forms of the request, links, what is refused. What a search finds is tested in tests/search and tests/contract."""

import uuid

import pytest

from tests.http.conftest import BASE, issue_of, made

pytestmark = pytest.mark.anyio


@pytest.fixture
async def family(client):
    """The family name of five patients that nobody else has, and their ids."""
    name = f"F{uuid.uuid4().hex}"
    ids = []
    for born in range(5):
        resource = {"resourceType": "Patient", "name": [{"family": name}], "birthDate": f"200{born}-01-01"}
        ids.append((await made(client, resource))["id"])
    return name, ids


def links(bundle):
    return {link["relation"]: link["url"] for link in bundle["link"]}


def ids_of(bundle):
    return [item["resource"]["id"] for item in bundle.get("entry", ()) if item["search"]["mode"] == "match"]


async def test_a_search_answers_a_searchset(client, family):
    name, ids = family
    answer = await client.get(f"Patient?family={name}")
    bundle = answer.json()
    assert (answer.status_code, bundle["type"]) == (200, "searchset")
    assert ids_of(bundle) == ids
    assert [item["fullUrl"] for item in bundle["entry"]] == [f"{BASE}/Patient/{one}" for one in ids]
    assert links(bundle)["self"].startswith(f"{BASE}/Patient?")
    assert name in links(bundle)["self"]


@pytest.mark.parametrize("query", ["", "&_sort=-birthdate", "&_sort=birthdate", "&_sort=-_id"])
async def test_pages_follow_each_other_by_next(client, family, query):
    name, ids = family
    url = f"Patient?family={name}&_count=2{query}"
    found = []
    while url:
        bundle = (await client.get(url)).json()
        assert len(ids_of(bundle)) <= 2
        found += ids_of(bundle)
        url = links(bundle).get("next")
    assert found == (ids[::-1] if "-" in query else ids)


@pytest.mark.parametrize("path", ["Patient/_search", "Patient/_search?_count=50"])
async def test_a_search_by_post_is_the_same(client, family, path):
    name, ids = family
    answer = await client.post(path, data={"family": name})
    assert ids_of(answer.json()) == ids


async def test_a_search_by_post_wants_a_form(client):
    answer = await client.post("Patient/_search", content=b"{}", headers={"Content-Type": "application/fhir+json"})
    assert (answer.status_code, issue_of(answer)["code"]) == (415, "not-supported")


async def test_head_of_a_search(client, family):
    answer = await client.head(f"Patient?family={family[0]}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


async def test_a_compartment_narrows_the_search(client, family):
    _, (one, two, *_) = family
    for owner in (one, one, two):
        await made(
            client,
            {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": f"Patient/{owner}"},
            },
        )
    assert len(ids_of((await client.get(f"Patient/{one}/Observation")).json())) == 2
    assert len(ids_of((await client.get(f"Patient/{one}/Observation?status=final&_count=1")).json())) == 1
    assert len(ids_of((await client.post(f"Patient/{two}/Observation/_search", data={"status": "final"})).json())) == 1
    bundle = (await client.get(f"Patient/{one}/Observation?_count=1")).json()
    following = (await client.get(links(bundle)["next"])).json()
    assert len(ids_of(following)) == 1
    assert ids_of(following) != ids_of(bundle)
    assert (await client.get(f"Observation/{one}/Observation")).status_code == 404


async def test_total_and_count(client, family):
    name, _ = family
    assert (await client.get(f"Patient?family={name}&_total=accurate&_count=2")).json()["total"] == 5
    for query in ("_count=0", "_summary=count"):
        bundle = (await client.get(f"Patient?family={name}&{query}")).json()
        assert bundle["total"] == 5
        assert "entry" not in bundle


async def test_lenient_handling_reports_what_it_ignored(client, family):
    name, ids = family
    url = f"Patient?family={name}&nonsense=1"
    assert (await client.get(url)).status_code == 400
    assert (await client.get(url, headers={"Prefer": "handling=strict"})).status_code == 400
    bundle = (await client.get(url, headers={"Prefer": "handling=lenient"})).json()
    assert ids_of(bundle) == ids
    told = [item for item in bundle["entry"] if item["search"]["mode"] == "outcome"]
    assert "nonsense" in told[0]["resource"]["issue"][0]["diagnostics"]
    assert "nonsense" not in links(bundle)["self"]


async def test_a_cursor_belongs_to_its_search(client, family):
    name, _ = family
    following = links((await client.get(f"Patient?family={name}&_count=2")).json())["next"]
    assert (await client.get(following)).status_code == 200
    assert (await client.get(following.replace("/Patient?", "/Observation?"))).status_code == 400


async def test_includes_come_with_the_matches(client, family):
    _, (one, *_) = family
    seen = await made(
        client,
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/{one}"},
        },
    )
    bundle = (await client.get(f"Observation?_id={seen['id']}&_include=Observation:subject")).json()
    assert [(item["search"]["mode"], item["resource"]["id"]) for item in bundle["entry"]] == [
        ("match", seen["id"]),
        ("include", one),
    ]
