"""Waiting for a job in the process of a command: the running server does it, or this process when no server takes it.

Rules: a job that nobody has claimed for a while is claimed here, with the same lease and the same handlers; a signal ends the
wait after the batch at hand, and the job goes on where it was when it is claimed again.
"""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fhir_server.jobs.background import Leaving, run_next
from fhir_server.jobs.port import Payload
from fhir_server.jobs.queue import SqliteJobQueue
from fhir_server.jobs.reindex import WORK, reindex_handler
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import FileLock, connect

SERVER_TAKES = 1.5
"""Seconds within which the background process of a running server claims a job."""
LOOK_EVERY = 0.2
_ROW = "SELECT data FROM follow_up WHERE kind = 'job' AND key = ?"
_REVIVE = "DELETE FROM follow_up WHERE kind = 'job' AND key = ? AND json_extract(data, '$.due') IS NULL"


def enqueue(settings: Settings, database: Path, key: str, data: Payload) -> bool:
    """Enqueue a job; False when it is under way. One that was left for people begins anew."""
    with _opened(settings, database) as (connection, lock):
        with lock.held():
            connection.execute(_REVIVE, (key,))
        return SqliteJobQueue(connection, lock).add(key, data)


def await_job(settings: Settings, database: Path, key: str, tell: Callable[[Payload], None]) -> str | None:
    """Wait for the end of a reindex; the error it failed with, or None. `tell` hears the payload while it goes on."""
    with (
        _signals() as leaving,
        _opened(settings, database) as (claims, claims_lock),
        _opened(settings, database) as (connection, lock),
    ):
        queue = SqliteJobQueue(claims, claims_lock)
        handlers = {WORK: reindex_handler(connection, lock, settings, tell)}
        first = _data(connection, key)
        here = time.monotonic() + SERVER_TAKES
        while (data := _data(connection, key)) is not None:
            tried_again = first is None or data["attempt"] > first["attempt"]
            if data["due"] is None or (data["error"] and tried_again):
                return str(data["error"])
            tell(data["payload"])
            if leaving.wait(LOOK_EVERY):
                return "interrupted; a server or the same command goes on with it"
            if time.monotonic() > here:
                run_next(queue, handlers, leaving)
    return None


def _data(connection: sqlite3.Connection, key: str) -> dict[str, Any] | None:
    row = connection.execute(_ROW, (key,)).fetchone()
    return None if row is None else json.loads(row[0])


@contextmanager
def _opened(settings: Settings, database: Path) -> Iterator[tuple[sqlite3.Connection, FileLock]]:
    with closing(connect(database, settings.store)) as connection, closing(FileLock(database)) as lock:
        yield connection, lock


@contextmanager
def _signals() -> Iterator[Leaving]:
    """What is told by SIGINT and SIGTERM."""
    reading, writing = os.pipe()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, lambda *_: None)
        yield Leaving(reading)
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
