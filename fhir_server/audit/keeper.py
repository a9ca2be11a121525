"""What keeps the ledger up to date: a thread of the background process folds the journals each second and prunes what is too old.

Pruning removes the oldest records and leaves a checkpoint: number, hash and time of the last that is gone, signed. The chain of what is left goes on from it.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path

import structlog

from fhir_server.audit.fold import fold, remove_ended
from fhir_server.audit.ledger import FOLDER, Signer, changing, opened
from fhir_server.audit.patients import Patients
from fhir_server.integrity.bases import extractor_of
from fhir_server.interactions.assembly import DATABASE
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import SqliteOptions, connect
from resources.errors import FhirError
from search.extract import Extractor

_NICE = 10
FOLD_EVERY = 1.0
PRUNE_EVERY = 3600.0
_DAY = 86_400_000_000

_log = structlog.get_logger()


def fold_now(
    data_dir: Path, options: SqliteOptions, extractor: Callable[[], Extractor], leaving: Callable[[], bool] = bool
) -> int:
    """Fold what the journals hold; how many records were added. Raises FhirError 503, sqlite3.Error, OSError."""
    folder = data_dir / FOLDER
    with (
        opened(folder) as connection,
        closing(connect(data_dir / DATABASE, options, read_only=True)) as store,
    ):
        added = fold(connection, folder, Patients(store, extractor), leaving)
        remove_ended(connection, folder)
        return added


def prune(connection: sqlite3.Connection, folder: Path, now: int, keep_days: int) -> int:
    """Remove the records older than so many days (0: none), from the oldest on; how many. `now` in microseconds."""
    if not keep_days:
        return 0
    with changing(connection, folder):
        until = now - keep_days * _DAY
        first = connection.execute("SELECT min(seq) FROM record WHERE time >= ?", (until,)).fetchone()[0]
        bound = "seq < ?" if first is not None else "?1 IS NULL"
        row = connection.execute(
            f"SELECT seq, hash FROM record WHERE {bound} ORDER BY seq DESC LIMIT 1",  # noqa: S608
            (first,),
        ).fetchone()
        if row is None:
            return 0
        last, link = row
        latest = connection.execute("SELECT max(time) FROM record WHERE seq <= ?", (last,)).fetchone()[0]
        signature = Signer(folder).sign("checkpoint", last, link, now, latest)
        connection.execute("INSERT INTO checkpoint VALUES (?, ?, ?, ?, ?)", (last, link, now, latest, signature))
        for table in ("party", "entity", "patient", "organization", "begun"):
            connection.execute(f"DELETE FROM {table} WHERE seq <= ?", (last,))  # noqa: S608
        return connection.execute("DELETE FROM record WHERE seq <= ?", (last,)).rowcount


def extractor_for(settings: Settings) -> Extractor:
    """What makes the index entries of the store, for resources that were deleted."""
    with closing(connect(settings.data_dir / DATABASE, settings.store, read_only=True)) as connection:
        return extractor_of(connection, settings)[1]


@contextmanager
def keeping(settings: Settings) -> Iterator[None]:
    """Keep the ledger up to date meanwhile."""
    if not settings.recorded:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(settings, over), name="audit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _keep(settings: Settings, over: threading.Event) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # answers come first
    pruned = float("-inf")
    extractor = cache(partial(extractor_for, settings))
    while not over.wait(FOLD_EVERY):
        try:
            fold_now(settings.data_dir, settings.store, extractor, over.is_set)
            if time.monotonic() - pruned > PRUNE_EVERY:
                folder = settings.data_dir / FOLDER
                with opened(folder) as connection:
                    removed = prune(connection, folder, time.time_ns() // 1000, settings.audit.keep_days)
                pruned = time.monotonic()
                if removed:
                    _log.info("audit_pruned", records=removed)
        except (
            FhirError,
            sqlite3.Error,
            OSError,
        ) as error:  # the disk is full or the file is locked: later it may not be
            _log.error("audit_unavailable", reason=str(error))
