"""SIGKILL of all processes at any moment: nothing acknowledged is lost, no transaction is half there, the index agrees.

Quick: 2 rounds. Full: 20 more. `--rounds N` multiplies both (`--full --rounds 10`: the 200 of a release).
"""

import asyncio
import itertools
import json
import sqlite3
import subprocess
from contextlib import closing
from random import Random

import pytest

from fhir_server.interactions.assembly import DATABASE
from tests.durability.writers import SYSTEM, Ledger, write
from tests.servers import CLEAN, PRODUCT, Server

pytestmark = pytest.mark.serial
CLIENTS = 8
LONGEST = 1.0


def found(client, kind, mark):
    """The ids that a search finds by the mark."""
    answer = client.get(kind, params={"identifier": f"{SYSTEM}|{mark}", "_count": 100})
    assert answer.status_code == 200, answer.text
    return sorted(entry["resource"]["id"] for entry in answer.json().get("entry", ()))


def check_creates(client, ledger, marks):
    """Acknowledged creates are there as sent; those under way are there once or not at all; search says the same."""
    for mark in marks:
        ids = found(client, "Patient", mark)
        assert len(ids) <= 1, mark
        for name in ids:
            body = client.get(f"Patient/{name}").json()
            assert (body["name"][0]["family"], body["meta"]["versionId"]) == (mark * 20, "1")
        if mark in ledger.made:
            assert [f"Patient/{name}" for name in ids] == [ledger.made[mark]], mark


def check_records(client, ledger):
    """Each record is in its acknowledged state or in the one that was under way; its history has no gap."""
    for name, record in ledger.records.items():
        answer = client.get(f"Patient/{name}")
        current = answer.json()["identifier"][0]["value"] if answer.status_code == 200 else None
        history = client.get(f"Patient/{name}/_history", params={"_count": 1000})
        entries = history.json().get("entry", []) if history.status_code == 200 else []
        versions = [int(entry["response"]["etag"][3:-1]) for entry in entries]
        assert versions == list(range(len(versions), 0, -1)), name
        moments = [entry["response"]["lastModified"] for entry in entries]
        assert all(later > earlier for later, earlier in itertools.pairwise(moments)), name
        allowed = {(record.version, record.mark)}
        if record.pending is not ...:
            happened = record.pending is not None or record.mark is not None
            allowed.add((record.version + happened, record.pending))
        assert (len(versions), current) in allowed, (name, record, len(versions), current)
        if current is not None:
            assert name in found(client, "Patient", current)
        if record.mark is not None and record.mark != current:
            assert name not in found(client, "Patient", record.mark), "the index knows a former version"
        record.version, record.mark, record.pending = len(versions), current, ...


def check_bundles(client, ledger, marks):
    """All of a transaction or nothing; acknowledged ones are all there."""
    for mark in marks:
        patients = [name for name in found(client, "Patient", mark) if not name.startswith("own-")]
        observations = found(client, "Observation", mark)
        assert (len(patients), len(observations)) in ({(1, 2)} if ledger.bundles[mark] else {(0, 0), (1, 2)}), mark
        for name in patients:
            linked = client.get("Observation", params={"subject": f"Patient/{name}"}).json()["entry"]
            assert sorted(entry["resource"]["id"] for entry in linked) == observations


def check_file(folder):
    """SQLite finds its file sound, no version number is missing or given twice, every index row agrees with its resource."""
    command = [*PRODUCT, "check", "--data-dir", str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, env=CLEAN, timeout=120, check=False)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        gaps = connection.execute(
            "SELECT r.rid FROM resource r LEFT JOIN history h ON h.rid = r.rid GROUP BY r.rid "
            "HAVING r.version > 0 AND (count(h.version) <> r.version - 1 OR coalesce(max(h.version), 0) <> r.version - 1)"
        ).fetchall()
        assert gaps == []
        moments = connection.execute(
            "SELECT count(*), count(DISTINCT updated) FROM (SELECT updated FROM resource WHERE version > 0 UNION ALL SELECT updated FROM history)"
        ).fetchone()
        assert moments[0] == moments[1], "two versions have one lastUpdated"


async def attack(server, ledger, label, rng):
    """Write from all clients, kill the server at a random moment, wait until the clients have noticed."""
    enough = asyncio.Event()
    writing = asyncio.create_task(write(server.url, ledger, CLIENTS, label, enough, rng))
    await asyncio.wait_for(enough.wait(), 60)
    await asyncio.sleep(rng.uniform(0, LONGEST))
    await asyncio.to_thread(server.kill)
    await writing


def kill_rounds(folder, count, seed):
    rng, ledger = Random(seed), Ledger()
    server = Server(folder, workers=2).start()
    try:
        for number in range(count):
            before = set(ledger.tried), set(ledger.bundles)
            asyncio.run(attack(server, ledger, f"r{number}", rng))
            assert ledger.strange == []
            server.start()
            with server.client() as client:
                check_creates(client, ledger, ledger.tried - before[0])
                check_bundles(client, ledger, ledger.bundles.keys() - before[1])
                check_records(client, ledger)
            check_file(folder)
        with server.client() as client:
            check_creates(client, ledger, ledger.tried)
            check_bundles(client, ledger, ledger.bundles)
        assert server.stop() == 0
    finally:
        server.kill()
    assert ledger.acknowledged > 30 * count
    print(json.dumps({"rounds": count, "acknowledged": ledger.acknowledged}))  # noqa: T201  (shown by pytest -s)


def test_nothing_acknowledged_is_lost_when_all_processes_are_killed(tmp_path, rounds):
    kill_rounds(tmp_path / "data", 2 * rounds, 1)


@pytest.mark.full
def test_nothing_acknowledged_is_lost_in_20_kills(tmp_path, rounds):
    for number in range(rounds):  # a store of its own for each, so that looking at all of it stays affordable
        kill_rounds(tmp_path / f"data{number}", 20, 2 + number)
