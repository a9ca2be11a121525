"""What this machine can do at best, probed in the same run as the figures that are held against it.

| limit | probe |
|---|---|
| http | this server's ASGI stack (uvicorn, FastAPI application, Starlette endpoint) answering 2 KB of stored bytes |
| point_read | reading 2 KB by key from a SQLite file of 20,000 rows, in one thread |
| sync | appending 4 KB to a file and fdatasync |
| decode | decoding JSON with msgspec, MB/s |
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fhir_server.benchmark.client import Request, measure
from fhir_server.benchmark.server import Server, started

STORED = 2048
ROWS = 20_000


def probe(folder: Path, bodies: Sequence[bytes], *, workers: int, seconds: float) -> dict[str, float]:
    """All limits, in units per second. `bodies`: JSON texts of the kind that is loaded."""
    with _ceiling(folder, workers) as server:
        http = measure(server.url, [Request("GET", "/stored")], 32, seconds).rate
    return {
        "http": http,
        "point_read": _point_reads(folder, seconds / 4),
        "sync": _syncs(folder, seconds / 4),
        "decode": _decoding(bodies, seconds / 4),
    }


@contextmanager
def _ceiling(folder: Path, workers: int) -> Iterator[Server]:
    arguments = ("-m", "fhir_server.benchmark.ceiling", str(workers), str(STORED))
    with started(arguments, folder / "ceiling.log") as server:
        yield server


def _point_reads(folder: Path, seconds: float) -> float:
    connection = sqlite3.connect(folder / "limits.sqlite", isolation_level=None)
    connection.execute("CREATE TABLE stored (type INTEGER, id TEXT, body BLOB, PRIMARY KEY (type, id)) WITHOUT ROWID")
    connection.execute("BEGIN")
    body = os.urandom(STORED)
    connection.executemany("INSERT INTO stored VALUES (?, ?, ?)", ((n % 20, str(n), body) for n in range(ROWS)))
    connection.execute("COMMIT")
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        n = count * 7919 % ROWS
        connection.execute("SELECT body FROM stored WHERE type = ? AND id = ?", (n % 20, str(n))).fetchone()
        count += 1
    connection.close()
    return round(count / seconds, 1)


def _syncs(folder: Path, seconds: float) -> float:
    sync = getattr(os, "fdatasync", os.fsync)
    block, count = bytes(4096), 0
    with (folder / "limits.sync").open("wb", buffering=0) as file:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            file.write(block)
            sync(file.fileno())
            count += 1
    return round(count / seconds, 1)


def _decoding(bodies: Sequence[bytes], seconds: float) -> float:
    decode, done, end = msgspec.json.Decoder().decode, 0, time.perf_counter() + seconds
    began = time.perf_counter()
    while time.perf_counter() < end:
        for body in bodies:
            decode(body)
            done += len(body)
    return round(done / 1e6 / (time.perf_counter() - began), 1)
