"""Races over HTTP between two serving processes: one winner, whoever else writes.

https://hl7.org/fhir/R4/http.html#ccreate, #concurrency
"""

import asyncio
import itertools
import json
from collections import Counter
from graphlib import TopologicalSorter
from random import Random

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


async def test_100_parallel_conditional_updates_make_one_resource(server, rounds):
    async with connections(server, 100) as client:
        for number in range(2 * rounds):
            name = f"cond-update-{number}"
            answers = await together(
                client,
                100,
                "PUT",
                f"Patient?identifier=http://race|{name}",
                headers=FHIR,
                content=lambda n, name=name: json.dumps(patient(name, language=f"x-{n}")),
            )
            assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 99}
            assert {answer.headers["etag"] for answer in answers} == {f'W/"{n}"' for n in range(1, 101)}
            assert await total(client, f"Patient?identifier=http://race|{name}") == 1


SHARED = [f"shared-{n}" for n in range(5)]


def put_entry(name, mark, **request):
    resource = patient("shared", id=name, language=mark)
    return {"resource": resource, "request": {"method": "PUT", "url": f"Patient/{name}", **request}}


async def send_transaction(client, server, *entries):
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return await client.post(server.url, headers=FHIR, content=json.dumps(bundle))


async def marks(client, name):
    """The marks of the versions, oldest first."""
    history = (await client.get(f"Patient/{name}/_history?_count=1000")).json()
    return [entry["resource"]["language"] for entry in reversed(history["entry"])]


async def test_parallel_transactions_over_shared_resources_have_one_order(server, rounds):
    rng = Random(1)
    async with connections(server, 40) as client:
        for number in range(2 * rounds):
            chosen = {f"x-{number}-{n}": rng.sample(SHARED, 3) for n in range(40)}
            answers = await asyncio.gather(
                *(
                    send_transaction(client, server, *(put_entry(name, mark) for name in names))
                    for mark, names in chosen.items()
                )
            )
            assert {answer.status_code for answer in answers} == {200}
            told = {name: [mark for mark in await marks(client, name) if mark in chosen] for name in SHARED}
            for name, order in told.items():
                assert sorted(order) == sorted(mark for mark, names in chosen.items() if name in names)
            # an order of all that agrees with that of each resource: there is none when two transactions saw each other half done
            before = {mark: set() for mark in chosen}
            for order in told.values():
                for first, second in itertools.pairwise(order):
                    before[second].add(first)
            assert len(list(TopologicalSorter(before).static_order())) == len(chosen)


async def test_parallel_transfers_between_shared_resources_lose_nothing(server, rounds):
    """Each transaction takes one from one count and gives it to another, on condition that it knows the versions of both."""
    names = [f"count-{n}" for n in range(4)]
    rng = Random(2)
    async with connections(server, 20) as client:
        await send_transaction(client, server, *(put_entry(name, "x-10") for name in names))

        async def transfer(pair):
            read = [await client.get(f"Patient/{name}") for name in pair]
            counts = [int(answer.json()["language"][2:]) for answer in read]
            new = [counts[0] - 1, counts[1] + 1]
            if min(new) < 0:
                return 0
            entries = [
                put_entry(name, f"x-{count}", ifMatch=answer.headers["etag"])
                for name, count, answer in zip(pair, new, read, strict=True)
            ]
            return (await send_transaction(client, server, *entries)).status_code

        won = 0
        for _ in range(5 * rounds):
            statuses = await asyncio.gather(*(transfer(rng.sample(names, 2)) for _ in range(20)))
            assert set(statuses) <= {0, 200, 412, 409}
            assert 200 in statuses
            won += statuses.count(200)
        ends = [(await client.get(f"Patient/{name}")).json() for name in names]
        assert sum(int(one["language"][2:]) for one in ends) == 40
        assert sum(int(one["meta"]["versionId"]) - 1 for one in ends) == 2 * won


async def test_parallel_patches_are_all_kept(server):
    async with connections(server, 8) as client:
        await client.put(
            "Patient/patched", headers=FHIR, content=json.dumps(patient("patched", id="patched", name=[{"text": "x"}]))
        )
        answers = await together(
            client, 8, "PATCH", "Patient/patched", headers={"Content-Type": "application/json-patch+json"},
            content=lambda n: json.dumps([{"op": "add", "path": "/name/-", "value": {"text": f"n{n}"}}]),
        )  # fmt: skip
        done = [n for n, answer in enumerate(answers) if answer.status_code == 200]
        assert {answer.status_code for answer in answers} <= {200, 409}
        names = (await client.get("Patient/patched")).json()["name"]
        assert sorted(one["text"] for one in names) == sorted(["x", *(f"n{n}" for n in done)])


async def later(seconds, request):
    await asyncio.sleep(seconds)
    return await request


async def test_of_a_deletion_and_a_reference_that_race_one_wins(tmp_path, rounds):
    environment = {"FHIR_REST__REFERENTIAL_INTEGRITY": "on"}
    with Server(tmp_path / "data", workers=2, environment=environment) as server:
        async with connections(server, 6) as client:
            outcomes = Counter()
            for number in range(50 * rounds):
                name = f"target-{number}"
                await client.put(f"Patient/{name}", headers=FHIR, content=json.dumps(patient("target", id=name)))
                basic = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": f"Patient/{name}"}}

                # who has a head start differs
                deletion, *creates = await asyncio.gather(
                    later(0.004 * (number % 3 == 1), client.delete(f"Patient/{name}")),
                    *(
                        later(0.004 * (number % 3 == 2), client.post("Basic", headers=FHIR, content=json.dumps(basic)))
                        for _ in range(2)
                    ),
                )
                statuses = [answer.status_code for answer in creates]
                assert (deletion.status_code, statuses) in [(204, [422, 422]), (409, [201, 201])]
                there = (await client.get(f"Patient/{name}")).status_code
                assert (deletion.status_code, there) in [(204, 410), (409, 200)]
                assert await total(client, f"Basic?subject=Patient/{name}") == statuses.count(201)
                outcomes[deletion.status_code] += 1
        assert outcomes.keys() == {204, 409}


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
