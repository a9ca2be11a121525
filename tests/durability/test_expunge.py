"""$expunge beside writers in two processes, and through SIGKILL: the store stays sound, texts that come back are found, what is live stays.

Quick: 2 rounds. `--rounds N` multiplies them.
"""

import asyncio
import json
import subprocess
from random import Random

import httpx2
import pytest

from tests.servers import CLEAN, FHIR, PRODUCT, Server

pytestmark = pytest.mark.serial
WRITERS = 6
TEXTS = [f"wort{number} {word}" for number in range(4) for word in ("eins", "zwei")]
EXPUNGE = {
    "resourceType": "Parameters",
    "parameter": [
        {"name": "expungeDeletedResources", "valueBoolean": True},
        {"name": "expungePreviousVersions", "valueBoolean": True},
    ],
}


def observation(name, rng):
    """An observation whose texts many share."""
    code = {"coding": [{"system": "urn:s", "code": rng.choice("ab"), "display": rng.choice(TEXTS)}]}
    subject = {"reference": "Patient/p", "display": rng.choice(TEXTS)}
    return {"resourceType": "Observation", "id": name, "status": "final", "code": code, "subject": subject}


async def writer(client, name, rng, live):
    """Put and delete one resource again and again; `live` tells what it said last, None when that is not known."""
    while True:
        resource = observation(name, rng)
        live[name] = None
        if rng.random() < 0.3:
            await client.delete(f"Observation/{name}")
            live[name] = ""
            continue
        answer = await client.put(f"Observation/{name}", content=json.dumps(resource), headers=FHIR)
        assert answer.status_code in (200, 201), answer.text
        live[name] = resource["code"]["coding"][0]["display"]


async def expunger(client, removed):
    while True:
        answer = await client.post("$expunge", content=json.dumps(EXPUNGE), headers=FHIR)
        assert answer.status_code == 200, answer.text
        removed.append(answer.json()["parameter"][0]["valueInteger"])


async def until_killed(server, seed, live, removed):
    rng = Random(seed)
    async with httpx2.AsyncClient(base_url=f"{server.url}/", timeout=30) as client:
        work = [writer(client, f"o{number}", Random(rng.random()), live) for number in range(WRITERS)]
        tasks = [asyncio.create_task(one) for one in (*work, expunger(client, removed))]
        done, _ = await asyncio.wait(tasks, timeout=0.5 + rng.random() / 2, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        await asyncio.to_thread(server.kill)
        told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one for one in told if not isinstance(one, httpx2.HTTPError)] == []


def look(client, live):
    """What is live is found by its text, and by no other."""
    for text in TEXTS:
        answer = client.get("Observation", params={"code:text": text, "_count": 100}).json()
        ids = {entry["resource"]["id"] for entry in answer.get("entry", ())}
        assert {name for name, said in live.items() if said == text} <= ids
        assert not ids & {name for name, said in live.items() if said not in (None, text)}


def test_writers_notice_nothing_of_an_expunge(tmp_path, rounds):
    live, removed = {}, []
    server = Server(tmp_path / "data", workers=2, environment={"FHIR_REST__EXPUNGE": "on"})
    command = [*PRODUCT, "check", "--data-dir", str(server.folder)]
    for seed in range(2 * rounds):
        with server.start().client() as client:
            look(client, live)
        asyncio.run(until_killed(server, seed, live, removed))
        checked = subprocess.run(command, check=False, capture_output=True, text=True, env=CLEAN)
        assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout
    with server, server.client() as client:
        look(client, live)
    assert sum(removed) > 0
