"""What keeps the ledger up to date: a thread of the background process folds the journals each second and prunes what is too old.

Rules.
1. The thread gives way to answers: it is nicer than they are, and pauses between slices, so that whoever wants the ledger gets it.
2. It is not as nice as can be. With both of two processors taken by others it folded 1900 records a second at 10, and 84 at 19: the journals would grow, and
   each search of AuditEvent would have to fold them in an answering process. It holds the ledger's lock for a slice alone (0.7 s then), and a search
   waits for the lock no longer than it may fold.
3. Its connections stay open: the last one that closes moves the WAL into the file, so that each page would be written twice for each folding.

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
PAUSE = 0.005
"""Seconds between two slices."""
CHECKPOINT_EVERY = 10.0
PRUNE_EVERY = 3600.0
_DAY = 86_400_000_000

_log = structlog.get_logger()


class Folding:
    """Folds what the journals in `folder` hold into the ledger `connection`; `store` is read-only.

    Between slices, without the ledger's lock, it moves the ledger's WAL into its file now and then.
    """

    def __init__(
        self,
        folder: Path,
        connection: sqlite3.Connection,
        store: sqlite3.Connection,
        extractor: Callable[[], Extractor],
    ) -> None:
        self.folder = folder
        self.connection = connection
        self._store = store
        self._extractor = extractor
        self._moved = time.monotonic()

    def fold(self, leaving: Callable[[], bool] = bool) -> int:
        """Fold everything there is; how many records were added. `leaving` says whether to end after the slice at hand."""

        def over() -> bool:
            if time.monotonic() - self._moved > CHECKPOINT_EVERY:
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._moved = time.monotonic()
            return leaving()

        added = fold(self.connection, self.folder, Patients(self._store, self._extractor), over)
        remove_ended(self.connection, self.folder)
        return added


@contextmanager
def folding(data_dir: Path, options: SqliteOptions, extractor: Callable[[], Extractor]) -> Iterator[Folding]:
    """What folds the journals of the server in `data_dir`. Raises FhirError 503."""
    folder = data_dir / FOLDER
    with (
        opened(folder) as connection,
        closing(connect(data_dir / DATABASE, options, read_only=True)) as store,
    ):
        yield Folding(folder, connection, store, extractor)


def fold_now(
    data_dir: Path, options: SqliteOptions, extractor: Callable[[], Extractor], leaving: Callable[[], bool] = bool
) -> int:
    """Fold once; how many records were added. Raises FhirError 503, sqlite3.Error, OSError."""
    with folding(data_dir, options, extractor) as one:
        return one.fold(leaving)


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
        for table in ("party", "entity", "patient"):
            left = f"FROM json_each({table}.seqs) WHERE value > ?1"
            connection.execute(f"DELETE FROM {table} WHERE first <= ?1 AND NOT EXISTS (SELECT 1 {left})", (last,))  # noqa: S608
            sql = f"UPDATE {table} SET seqs = (SELECT json_group_array(value) {left}) WHERE first <= ?1"  # noqa: S608
            connection.execute(sql, (last,))
        connection.execute("DELETE FROM begun WHERE seq <= ?", (last,))
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
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    extractor = cache(partial(extractor_for, settings))
    while not over.wait(FOLD_EVERY):
        try:
            with folding(settings.data_dir, settings.store, extractor) as one:
                _keep_on(one, settings, over)
        except (
            FhirError,
            sqlite3.Error,
            OSError,
        ) as error:  # the disk is full or the file is locked: later it may not be
            _log.error("audit_unavailable", reason=str(error))


def _keep_on(one: Folding, settings: Settings, over: threading.Event) -> None:
    pruned = float("-inf")
    while True:
        one.fold(lambda: over.wait(PAUSE))
        if time.monotonic() - pruned > PRUNE_EVERY:
            removed = prune(one.connection, one.folder, time.time_ns() // 1000, settings.audit.keep_days)
            pruned = time.monotonic()
            if removed:
                _log.info("audit_pruned", records=removed)
        if over.wait(FOLD_EVERY):
            return
