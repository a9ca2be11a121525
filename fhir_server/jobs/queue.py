"""The job queue in the store's own file: follow-up rows of kind `job`.

`due` of a waiting job says when it may run, of a claimed one when its lease ends: both may then be claimed. A change names the token
it has seen, so a process whose lease was taken over changes nothing.
"""

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fhir_server.jobs.port import FIRST_DELAY, LEASE, MOST_ATTEMPTS, Job, Payload
from fhir_server.storage.sqlite.connection import FileLock

Execute = Callable[[str, tuple[str | int, ...]], sqlite3.Cursor]

_READ = "SELECT key, data FROM follow_up WHERE kind = 'job'"
_CHANGE = "UPDATE follow_up SET data = ? WHERE kind = 'job' AND key = ? AND json_extract(data, '$.token') = ?"
_REMOVE = "DELETE FROM follow_up WHERE kind = 'job' AND key = ? AND json_extract(data, '$.token') = ?"


class SqliteJobQueue:
    """A JobQueue over one connection, which its caller closes."""

    def __init__(self, connection: sqlite3.Connection, lock: FileLock) -> None:
        self._connection = connection
        self._lock = lock

    def add(self, key: str, data: Payload) -> bool:
        """JobQueue says what this does."""
        with self._transaction() as execute:
            done = execute(
                "INSERT OR IGNORE INTO follow_up(kind, key, data) VALUES ('job', ?, ?)", (key, json.dumps(data))
            )
            return done.rowcount == 1

    def claim(self, works: frozenset[str], now: int) -> Job | None:
        """JobQueue says what this does."""
        ready = self._ready(works)
        if not ready or ready[0][0] > now:
            return None
        with self._transaction() as execute:
            _, key, data = self._ready(works)[0]
            if data["due"] > now:
                return None
            token = secrets.token_hex(8)
            changed = {**data, "due": now + LEASE, "attempt": data["attempt"] + 1, "token": token}
            execute(_CHANGE, (json.dumps(changed), key, data["token"]))
        return Job(key, data["work"], data["payload"], changed["attempt"], data["every"], token)

    def renew(self, job: Job, now: int) -> bool:
        """JobQueue says what this does."""
        sql = "UPDATE follow_up SET data = json_set(data, '$.due', ?) WHERE kind = 'job' AND key = ? AND json_extract(data, '$.token') = ?"
        with self._transaction() as execute:
            return execute(sql, (now + LEASE, job.key, job.token)).rowcount == 1

    def progress(self, job: Job, payload: Payload, now: int) -> bool:
        """JobQueue says what this does."""
        data = _data(job, payload, now + LEASE, 0, job.token)
        with self._transaction() as execute:
            return execute(_CHANGE, (json.dumps(data), job.key, job.token)).rowcount == 1

    def release(self, job: Job, payload: Payload, now: int) -> None:
        """JobQueue says what this does."""
        with self._transaction():
            self._replace(job, payload, now, 0, "")

    def finish(self, job: Job, payload: Payload, now: int) -> None:
        """JobQueue says what this does."""
        with self._transaction() as execute:
            if job.every is None:
                execute(_REMOVE, (job.key, job.token))
            else:
                self._replace(job, payload, now + job.every, 0, "")

    def fail(self, job: Job, error: str, now: int) -> None:
        """JobQueue says what this does."""
        with self._transaction():
            last = job.attempt >= MOST_ATTEMPTS and job.every is None
            self._replace(job, job.payload, None if last else now + FIRST_DELAY * 2**job.attempt, job.attempt, error)

    def next_due(self, works: frozenset[str]) -> int | None:
        """JobQueue says what this does."""
        ready = self._ready(works)
        return ready[0][0] if ready else None

    def _replace(self, job: Job, payload: Payload, due: int | None, attempt: int, error: str) -> None:
        data = _data(job, payload, due, attempt, "", error)
        self._connection.execute(_CHANGE, (json.dumps(data), job.key, job.token))

    def _ready(self, works: frozenset[str]) -> list[tuple[int, str, dict[str, Any]]]:
        """Jobs that will run, by the time they are due; few rows, for the queue holds work to do and not work done."""
        rows = ((key, json.loads(data)) for key, data in self._connection.execute(_READ).fetchall())
        return sorted(
            ((data["due"], key, data) for key, data in rows if data["work"] in works and data["due"] is not None),
            key=lambda row: row[:2],
        )

    @contextmanager
    def _transaction(self) -> Iterator[Execute]:
        with self._lock.held():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def _data(job: Job, payload: Payload, due: int | None, attempt: int, token: str, error: str = "") -> dict[str, Any]:
    data = {"work": job.work, "payload": dict(payload), "due": due, "every": job.every, "attempt": attempt}
    return {**data, "token": token, "error": error}
