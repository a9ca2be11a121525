"""Clients that write until the server dies, and remember what was acknowledged and what was under way.

Each client owns its records, so what the store must hold afterwards is known exactly: the last acknowledged state, or the one
state that was under way when the server died.
"""

import asyncio
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2

from tests.servers import FHIR

SYSTEM = "http://kill"


@dataclass
class Record:
    """A resource of one client: acknowledged version and mark (None: deleted), and the mark under way (`...`: nothing is)."""

    version: int = 0
    mark: str | None = None
    pending: Any = ...
    unsure: bool = False


@dataclass
class Ledger:
    """What the clients know. `made`: location by mark of acknowledged creates; `tried`: marks of creates sent; `bundles` alike."""

    made: dict[str, str] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    records: dict[str, Record] = field(default_factory=dict)
    bundles: dict[str, bool] = field(default_factory=dict)
    acknowledged: int = 0
    strange: list[str] = field(default_factory=list)


def patient(mark: str, name: str | None = None) -> dict[str, Any]:
    """A patient who is found by `mark`; big enough that a commit is more than one page."""
    made = {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": mark}],
        "name": [{"family": mark * 20}],
    }
    return made if name is None else {**made, "id": name}


def bundle(mark: str, own: str) -> dict[str, Any]:
    """A transaction: a patient with two observations, and an update of the client's own record."""
    link = "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "identifier": [{"system": SYSTEM, "value": mark}],
        "subject": {"reference": link},
    }
    post = {"resource": observation, "request": {"method": "POST", "url": "Observation"}}
    entries = [
        {"fullUrl": link, "resource": patient(mark), "request": {"method": "POST", "url": "Patient"}},
        post,
        {"resource": patient(mark, own), "request": {"method": "PUT", "url": f"Patient/{own}"}},
        post,
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


async def write(url: str, ledger: Ledger, clients: int, label: str, enough: asyncio.Event, rng: Random) -> None:
    """Let `clients` write until the server is gone. `enough` is set once every client had an answer or two."""
    waiting = set(range(clients))

    async def one(number: int) -> None:
        limits = httpx2.Limits(max_connections=1)
        async with httpx2.AsyncClient(base_url=f"{url}/", limits=limits, timeout=30) as client:
            turn = 0
            while True:
                turn += 1
                try:
                    await _step(client, ledger, f"{label}-{number}-{turn}", f"own-{number}", rng)
                except httpx2.TransportError:
                    return
                if turn > 2:
                    waiting.discard(number)
                    if not waiting:
                        enough.set()

    await asyncio.gather(*(one(number) for number in range(clients)))


async def _step(client: httpx2.AsyncClient, ledger: Ledger, mark: str, own: str, rng: Random) -> None:
    record = ledger.records.setdefault(own, Record())
    match rng.randrange(6):
        case 0 | 1:
            ledger.tried.add(mark)
            answer = await client.post("Patient", headers=FHIR, content=json.dumps(patient(mark)))
            if _expect(ledger, answer, {201}):
                ledger.made[mark] = answer.headers["location"].split("/fhir/")[1].split("/_history")[0]
        case 2 | 3:
            record.pending = mark
            answer = await client.put(f"Patient/{own}", headers=FHIR, content=json.dumps(patient(mark, own)))
            if _expect(ledger, answer, {200, 201}):
                _settled(record, int(answer.headers["etag"][3:-1]), mark)
        case 4:
            ledger.bundles[mark], record.pending = False, mark
            answer = await client.post(client.base_url, headers=FHIR, content=json.dumps(bundle(mark, own)))
            if _expect(ledger, answer, {200}):
                ledger.bundles[mark] = True
                _settled(record, int(answer.json()["entry"][2]["response"]["etag"][3:-1]), mark)
        case 5:
            record.pending = None
            answer = await client.delete(f"Patient/{own}")
            if _expect(ledger, answer, {204}):
                _settled(record, int(answer.headers["etag"][3:-1]) if "etag" in answer.headers else 0, None)


def _settled(record: Record, version: int, mark: str | None) -> None:
    record.version, record.mark, record.pending = version, mark, ...


def _expect(ledger: Ledger, answer: httpx2.Response, statuses: set[int]) -> bool:
    """Whether it was acknowledged; anything but that is strange."""
    if answer.status_code in statuses:
        ledger.acknowledged += 1
        return True
    ledger.strange.append(f"{answer.status_code} {answer.text[:300]}")
    return False
