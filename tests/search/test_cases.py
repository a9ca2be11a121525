"""Searches through HTTP on a real store, as data: tests/cases/search/*.json.

A file has `resources`, stored in order by PUT (an array is the versions of one), and `cases`: a `query` with the ids it `finds` (in any
order, or in order where it sorts), what it includes, the words of a warning, or the status and words of its refusal. `anchor` is the
place in the specification that the expectation was derived from.
"""

import json
from pathlib import Path

import pytest

from tests.http.conftest import FHIR, serving

pytestmark = pytest.mark.anyio
FILES = sorted((Path(__file__).parent.parent / "cases" / "search").glob("*.json"))


def cases():
    for path in FILES:
        content = json.loads(path.read_text())
        for case in content["cases"]:
            yield pytest.param(path, case, id=f"{path.stem}: {case.get('says') or case['query']}")


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
async def stored(anyio_backend, request, tmp_path_factory):
    """A client of a store that holds the resources of one file."""
    content = json.loads(request.param.read_text())
    async with serving(tmp_path_factory.mktemp("cases")) as client:
        for versions in content["resources"]:
            for resource in versions if isinstance(versions, list) else [versions]:
                path = f"{resource['resourceType']}/{resource['id']}"
                answer = await client.put(path, content=json.dumps(resource), headers=FHIR)
                assert answer.status_code in (200, 201), answer.text
        yield content, client


async def test_every_case_finds_what_the_specification_says(stored, subtests):
    content, client = stored
    for case in content["cases"]:
        with subtests.test(case.get("says") or case["query"]):
            await check(client, case)


async def check(client, case):
    where = case.get("anchor", "")
    answer = await client.get(case["query"])
    body = answer.json()
    if "status" in case:
        assert answer.status_code == case["status"], (where, body)
        assert case["error"] in body["issue"][0]["diagnostics"], where
        return
    assert answer.status_code == 200, (where, body)
    found = {"match": [], "include": [], "outcome": []}
    while True:
        for entry in body.get("entry", ()):
            found[entry["search"]["mode"]].append(entry)
        url = next((link["url"] for link in body["link"] if link["relation"] == "next"), None)
        if url is None or case.get("pages") == "first":
            break
        body = (await client.get(url)).json()
    ids = [name(entry) for entry in found["match"]]
    if "_sort" in case["query"]:
        assert ids == case["finds"], where
    else:
        assert sorted(ids) == sorted(case["finds"]), where
    assert sorted(map(name, found["include"])) == sorted(case.get("includes", [])), where
    texts = [issue["diagnostics"] for entry in found["outcome"] for issue in entry["resource"]["issue"]]
    if "warns" in case:
        assert any(case["warns"] in text for text in texts), (where, texts)
    else:
        assert texts == [], where
    for path, expected in case.get("shows", {}).items():
        assert value(body, path) == expected, path


def name(entry):
    """`a` for a resource, `a@1` where a version that is not the first is shown, `c#a` for a contained one."""
    return entry["fullUrl"].rpartition("/")[2] + (
        f"@{entry['resource']['meta']['versionId']}" if versioned(entry) else ""
    )


def versioned(entry):
    return entry["search"]["mode"] == "include" and entry["resource"]["id"].startswith("v")


def value(body, path):
    for step in path.split("."):
        body = body[int(step)] if step.isdigit() else body.get(step)
    return body
