"""The housekeeping of the SQLite file: moving the WAL into it, and the statistics of the query planner.

Specification: https://www.sqlite.org/wal.html#ckpt, https://www.sqlite.org/lang_analyze.html
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from fhir_server.jobs.port import Handler, Job, Payload
from fhir_server.storage.sqlite.connection import FileLock

WAL_WORTH_MOVING = 4 << 20
GROWTH_WORTH_ANALYSING = 1.5
ROWS_PER_INDEX = 1000


def checkpoint(connection: sqlite3.Connection, database: Path) -> None:
    """Move the WAL into the file when it has grown; never waits for readers or writers."""
    wal = database.with_name(f"{database.name}-wal")
    if wal.exists() and wal.stat().st_size > WAL_WORTH_MOVING:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def statistics_handler(connection: sqlite3.Connection, lock: FileLock) -> Handler:
    """The handler of `statistics`: analyse when the store has grown by half since the last time."""

    def handle(job: Job, _leaving: Callable[[], bool]) -> Payload:
        rows: int = connection.execute("SELECT coalesce(max(rid), 0) FROM resource").fetchone()[0]
        if rows <= GROWTH_WORTH_ANALYSING * job.payload.get("rows", 0):
            return job.payload
        with lock.held():
            connection.execute(f"PRAGMA analysis_limit = {ROWS_PER_INDEX}").fetchall()
            connection.execute("ANALYZE")
        return {"rows": rows}

    return handle
