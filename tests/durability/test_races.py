"""Races over HTTP between two serving processes: one winner, whoever else writes.

https://hl7.org/fhir/R4/http.html#ccreate, #concurrency
"""

import asyncio
import itertools
import json
from collections import Counter

import httpx2
import pytest

from tests.servers import FHIR, Server

pytestmark = [pytest.mark.serial, pytest.mark.anyio]


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("races") / "data", workers=2) as server:
        yield server


def connections(server, count):
    """A client whose requests are under way at once, each over a connection of its own."""
    limits = httpx2.Limits(max_connections=count, max_keepalive_connections=0)
    return httpx2.AsyncClient(base_url=f"{server.url}/", limits=limits, timeout=60)


def patient(value, **more):
    return {"resourceType": "Patient", "identifier": [{"system": "http://race", "value": value}], **more}


async def together(client, count, *request, **options):
    """`count` equal requests at once; `options` may be functions of the request's number."""
    said = [{name: value(n) if callable(value) else value for name, value in options.items()} for n in range(count)]
    return await asyncio.gather(*(client.request(*request, **each) for each in said))


async def total(client, query):
    return (await client.get(f"{query}&_total=accurate&_count=0")).json()["total"]


async def test_100_parallel_conditional_creates_make_one_resource(server, rounds):
    async with connections(server, 100) as client:
        for number in range(2 * rounds):
            name = f"create-{number}"
            headers = {**FHIR, "If-None-Exist": f"identifier=http://race|{name}"}
            answers = await together(
                client,
                100,
                "POST",
                "Patient",
                headers=headers,
                content=lambda n, name=name: json.dumps(patient(name, active=n % 2 == 0)),
            )
            assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 99}
            assert len({answer.headers["location"] for answer in answers}) == 1
            assert await total(client, f"Patient?identifier=http://race|{name}") == 1


async def test_parallel_conditional_creates_in_transactions_make_one_resource_that_all_refer_to(server):
    entry = {
        "fullUrl": "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "resource": patient("transaction"),
        "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=http://race|transaction"},
    }
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "race"},
        "subject": {"reference": entry["fullUrl"]},
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [entry, {"resource": observation, "request": {"method": "POST", "url": "Observation"}}],
    }
    async with connections(server, 40) as client:
        answers = await together(client, 40, "POST", server.url, headers=FHIR, content=json.dumps(bundle))
        done = [answer for answer in answers if answer.status_code == 200]
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert done
        assert await total(client, "Patient?identifier=http://race|transaction") == 1
        assert len({answer.json()["entry"][0]["response"]["location"] for answer in done}) == 1
        subject = done[0].json()["entry"][0]["response"]["location"].split("/_history")[0]
        assert await total(client, f"Observation?subject={subject}") == len(done)


async def test_50_parallel_updates_with_if_match_have_one_winner_a_version(server, rounds):
    async with connections(server, 50) as client:
        await client.put("Patient/contended", headers=FHIR, content=json.dumps(patient("update", id="contended")))
        for version in range(1, 4 * rounds + 1):
            answers = await together(
                client, 50, "PUT", "Patient/contended", headers={**FHIR, "If-Match": f'W/"{version}"'},
                content=lambda n, version=version: json.dumps(patient("update", id="contended", language=f"x-{version}-{n}")),
            )  # fmt: skip
            assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 49}
            winner = next(answer for answer in answers if answer.status_code == 200)
            assert winner.headers["etag"] == f'W/"{version + 1}"'
            current = (await client.get("Patient/contended")).json()
            assert (current["meta"], current["language"]) == (winner.json()["meta"], winner.json()["language"])


async def test_parallel_updates_without_conditions_are_all_kept_as_versions_without_gap(server):
    async with connections(server, 50) as client:
        answers = await together(
            client,
            50,
            "PUT",
            "Patient/busy",
            headers=FHIR,
            content=lambda n: json.dumps(patient("busy", id="busy", language=f"x-{n}")),
        )
        assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 49}
        history = (await client.get("Patient/busy/_history?_count=100")).json()["entry"]
        assert [entry["resource"]["meta"]["versionId"] for entry in history] == [str(n) for n in range(50, 0, -1)]
        assert {entry["resource"]["language"] for entry in history} == {f"x-{n}" for n in range(50)}
        moments = [entry["resource"]["meta"]["lastUpdated"] for entry in history]
        assert moments == sorted(moments, reverse=True)
        assert len(set(moments)) == 50


async def test_updates_and_deletes_at_once_never_answer_a_500(server):
    async with connections(server, 60) as client:
        content = json.dumps(patient("gone", id="gone"))
        puts, deletes, reads = await asyncio.gather(
            together(client, 20, "PUT", "Patient/gone", headers=FHIR, content=content),
            together(client, 20, "DELETE", "Patient/gone"),
            together(client, 20, "GET", "Patient/gone"),
        )
        assert {answer.status_code for answer in puts} <= {200, 201}
        assert {answer.status_code for answer in deletes} == {204}
        assert {answer.status_code for answer in reads} <= {200, 404, 410}
        history = (await client.get("Patient/gone/_history?_count=100")).json()["entry"]
        methods = [entry["request"]["method"] for entry in history]
        assert all(entry["response"]["etag"] == f'W/"{len(history) - n}"' for n, entry in enumerate(history))
        assert all((a, b) != ("DELETE", "DELETE") for a, b in itertools.pairwise(methods))
