"""`_summary` and `_elements` on read, vread and search: https://hl7.org/fhir/R4/search.html#summary, #elements."""

import json
from pathlib import Path

import pytest

from fhir_server.storage.sqlite import SqliteOptions
from resources.definitions import load
from resources.json_format import decode
from resources.reduction import Reduction
from tests.http.conftest import FHIR, issue_of, serving

pytestmark = pytest.mark.anyio
BODY = (
    '{"resourceType":"Observation","id":"red","language":"en","text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">x</div>"},'
    '"status":"final","code":{"coding":[{"code":"c"}],"text":"C"},"issued":"2020-01-01T00:00:00.000+01:00","valueQuantity":{"value":1.50,"unit":"u"},'
    '"note":[{"text":"n"}],"component":[{"code":{"text":"k"},"valueQuantity":{"value":1e3},"interpretation":[{"text":"i"}]}]}'
)


@pytest.fixture
async def stored(client):
    assert (await client.put("Observation/red", content=BODY, headers=FHIR)).status_code in (200, 201)
    return "Observation/red"


def tags(resource):
    return [tag["code"] for tag in resource["meta"].get("tag", ())]


CASES = [
    ("_summary=true", {"status", "code", "issued", "valueQuantity", "component"}),
    ("_summary=text", {"text", "status", "code"}),
    ("_summary=data", {"language", "status", "code", "issued", "valueQuantity", "note", "component"}),
    ("_elements=note", {"note", "status", "code"}),
    ("_elements=value", {"valueQuantity", "status", "code"}),
    ("_elements=id,issued", {"issued", "status", "code"}),
]


@pytest.mark.parametrize(("query", "kept"), CASES, ids=[query for query, _ in CASES])
@pytest.mark.parametrize("path", ["", "/_history/1", "?_id=red"], ids=["read", "vread", "search"])
async def test_part_of_a_resource_is_marked_and_has_what_is_mandatory(client, stored, query, kept, path):
    if path.startswith("?"):
        answer = await client.get(f"Observation{path}&{query}")
        resource = answer.json()["entry"][0]["resource"]
    else:
        answer = await client.get(f"{stored}{path}?{query}")
        resource = answer.json()
    assert answer.status_code == 200, answer.text
    assert set(resource) - {"resourceType", "id", "meta"} == kept
    assert tags(resource) == ["SUBSETTED"]
    if "valueQuantity" in kept:
        assert '"value":1.50,' in answer.text
    if "component" in kept:
        assert '"value":1e3}' in answer.text


async def test_a_summary_reaches_inside_elements(client, stored):
    resource = (await client.get(f"{stored}?_summary=true")).json()
    assert resource["component"] == [{"code": {"text": "k"}, "valueQuantity": {"value": 1000}}]


async def test_what_is_whole_is_not_marked(client, stored):
    whole = (await client.get(stored)).content
    assert (await client.get(f"{stored}?_summary=false")).content == whole
    await client.put("Basic/red", json={"resourceType": "Basic", "id": "red", "code": {"text": "x"}}, headers=FHIR)
    assert tags((await client.get("Basic/red?_summary=true")).json()) == []


async def test_includes_are_reduced_too(client, stored):
    await client.put(
        "Patient/red", json={"resourceType": "Patient", "id": "red", "gender": "male", "birthDate": "2000"}
    )
    await client.put(
        "Basic/r",
        json={"resourceType": "Basic", "id": "r", "code": {"text": "x"}, "subject": {"reference": "Patient/red"}},
    )
    bundle = (await client.get("?_type=Basic,Patient&_id=r&_include=Basic:subject&_elements=gender,subject")).json()
    assert [set(entry["resource"]) for entry in bundle["entry"]] == [
        {"resourceType", "id", "meta", "code", "subject"},
        {"resourceType", "id", "meta", "gender"},
    ]


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("Observation/red?_summary=count", "_summary"),
        ("Observation/red?_summary=some", "_summary"),
        ("Observation/red?_elements=nonsense", "nonsense"),
        ("Observation?_elements=nonsense", "nonsense"),
        ("Observation/red?_elements=note&_elements=issued", "_elements"),
        ("Observation?_summary=true&_elements=note", "_elements"),
    ],
)
async def test_what_does_not_fit_is_refused(client, stored, url, named):
    answer = await client.get(url)
    assert (answer.status_code, named in issue_of(answer)["diagnostics"]) == (400, True)


async def test_a_reduced_resource_cannot_be_written_back(client, stored):
    reduced = (await client.get(f"{stored}?_elements=note")).content
    answer = await client.put(stored, content=reduced, headers=FHIR)
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("summary", ["true", "text", "data"])
def test_a_reduction_of_any_example_stays_valid_json_with_its_mandatory_elements(summary):
    definitions = load()
    path = Path(__file__).parent.parent / "cases" / "search"
    for file in path.glob("*.json"):
        for versions in json.loads(file.read_text())["resources"]:
            for resource in versions if isinstance(versions, list) else [versions]:
                reduced = decode(Reduction(definitions, summary, ()).body(json.dumps(resource).encode()))
                needed = [e.name for e in definitions.types[resource["resourceType"]].elements.values() if e.min]
                for name in needed:
                    assert [p for p in reduced if p.startswith(name)] == [p for p in resource if p.startswith(name)]


# ---- includes that break off, and how a search is run


async def test_includes_of_one_match_go_on_in_further_pages(tmp_path):
    async with serving(tmp_path, SqliteOptions(include_limit=3)) as client:
        for at in range(8):
            await client.put(f"Patient/m{at}", json={"resourceType": "Patient", "id": f"m{at}"})
        for name, members in (("a", range(8)), ("b", range(2)), ("c", range(1))):
            group = {"resourceType": "Group", "id": name, "type": "person", "actual": True,
                     "member": [{"entity": {"reference": f"Patient/m{at}"}} for at in members]}  # fmt: skip
            await client.put(f"Group/{name}", json=group)
        url, pages = "Group?_include=Group:member", []
        while url:
            bundle = (await client.get(url)).json()
            pages.append([entry["resource"]["id"] for entry in bundle.get("entry", ())])
            relations = {link["relation"]: link["url"] for link in bundle["link"]}
            url = relations.get("next")
        assert pages == [["a", "m0", "m1", "m2"], ["m3", "m4", "m5"], ["m6", "m7"], ["b", "c", "m0", "m1"]]
        back = (await client.get(relations["previous"])).json()
        assert [entry["resource"]["id"] for entry in back["entry"]] == ["a", "m0", "m1", "m2"]


async def test_a_search_is_explained_without_its_values(client, stored):
    bundle = (await client.get("Observation?code=c&_explain=true")).json()
    told = [
        issue["diagnostics"]
        for entry in bundle["entry"]
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
    ]
    assert any("driven by" in text for text in told)
    assert any("USING PRIMARY KEY" in text or "USING INDEX" in text or "SEARCH" in text for text in told)
    assert not any("'c'" in text for text in told)
