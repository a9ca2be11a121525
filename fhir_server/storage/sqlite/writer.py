"""The writer of a process: one thread that commits the units waiting together in one transaction and one fsync.

Rules. A batch first takes the lock file (writers of several processes queue there), then BEGIN IMMEDIATE. Outcomes are told only
after COMMIT has returned. A unit with a fault of its own (anything but a Conflict) makes the batch roll back and its units run
one by one, so that it fails alone. When the file system fails every unit of the batch gets 503 and the next batch tries again.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from fhir_server.observability.histogram import SECONDS, SIZES, Histogram
from fhir_server.storage.port import Conflict, UnitOfWork, Written
from fhir_server.storage.sqlite.batch import Batch
from fhir_server.storage.sqlite.catalog import Catalog, Numbers, Unloaded
from fhir_server.storage.sqlite.concepts import load_missing
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect, unavailable
from fhir_server.storage.sqlite.queries import matched_keys
from resources.errors import FhirError
from resources.model import ResourceKey
from search.query import Query

Outcome = tuple[Written, ...] | BaseException
_CLOSED: Final = "The store is closed"


class _Waiting(NamedTuple):
    unit: UnitOfWork
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[tuple[Written, ...]]"


class Writer:
    """Commits units of work; the thread starts with the first one that waits.

    `sizes` counts the units of each commit, `seconds` how long commits took with the wait for the lock.
    """

    def __init__(self, path: Path, options: SqliteOptions) -> None:
        self._options = options
        self._connection = connect(path, options)
        self._lock = FileLock(path)
        self._catalog = Catalog(self._connection, Numbers())
        self._busy = threading.Lock()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        self.sizes = Histogram(SIZES)
        self.seconds = Histogram(SECONDS)

    @property
    def waiting(self) -> int:
        """Units that no commit has taken yet."""
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        """Whether a unit that is handed over now will be committed."""
        return not self._closed and (self._thread is None or self._thread.is_alive())

    async def commit(self, unit: UnitOfWork) -> tuple[Written, ...]:
        """Hand the unit to the thread and wait for its commit."""
        if self._closed:
            raise FhirError(503, "transient", _CLOSED)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Written, ...]] = loop.create_future()
        turn = self._turns.setdefault(loop, [])
        if not turn:
            loop.call_soon(self._hand_over, loop)
        turn.append(_Waiting(unit, loop, future))
        return await future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Queue what one turn of the loop has gathered, so that its units share a commit instead of waiting for the first one's."""
        turn = self._turns.pop(loop)
        if self._closed:
            _tell(turn, [FhirError(503, "transient", _CLOSED)] * len(turn))
            return
        for waiting in turn:
            self._queue.put(waiting)

    def commit_all(self, units: Sequence[UnitOfWork]) -> list[Outcome]:
        """Commit the units in one transaction, in the calling thread; each gets what it wrote, or its exception."""
        return self._commit(lambda: units)

    def _commit(self, gather: Callable[[], Sequence[UnitOfWork]]) -> list[Outcome]:
        """Commit what `gather` gives once it is this process's turn: what came while others wrote goes into one commit."""
        units: Sequence[UnitOfWork] = ()
        with self._busy:
            begun = time.monotonic()
            try:
                with self._lock.held():
                    units = gather()
                    outcomes = self._transaction(units) if units else []
            except sqlite3.OperationalError as error:
                return [unavailable(error) for _ in units]
            except Exception as error:  # noqa: BLE001  (whatever a unit's fault is, it is told to its owner)
                units = units or gather()
                if len(units) == 1:
                    return [error]
            else:
                self.sizes.observe(len(units))
                self.seconds.observe(time.monotonic() - begun)
                return outcomes
        return [self.commit_all([unit])[0] for unit in units]

    def _transaction(self, units: Sequence[UnitOfWork]) -> list[Outcome]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            batch = Batch(self._connection, self._catalog, self._matches)
            outcomes = [_attempt(batch, unit) for unit in units]
            batch.flush()
            self._connection.execute("COMMIT")
        except BaseException:
            self._catalog.numbers = Numbers()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return outcomes

    def run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work` in a transaction of its own, in the calling thread."""
        connection = self._connection
        with self._busy, self._lock.held():
            connection.execute("BEGIN IMMEDIATE")
            try:
                work(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._catalog.numbers = Numbers()
                connection.execute("ROLLBACK")
                raise

    async def load(self, missing: Unloaded) -> None:
        """Load the concepts that a search missed, on a thread; FhirError 400 when nothing is known of them."""
        await asyncio.to_thread(self._load, missing)

    def _load(self, missing: Unloaded) -> None:
        self.run(lambda c: load_missing(missing, c, self._catalog, Batch(c, self._catalog, self._matches).term))

    def _matches(self, query: Query, limit: int) -> frozenset[ResourceKey]:
        return matched_keys(self._catalog, query, limit)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            outcomes = self._commit(partial(self._gathered, batch))
            _tell(batch, outcomes)

    def _gathered(self, batch: list[_Waiting]) -> list[UnitOfWork]:
        """Add what waits by now to the batch, up to the most units of one commit; the units of the batch."""
        while len(batch) < self._options.batch:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                self._queue.put(None)  # the end, which is for `_run` to find
                break
            batch.append(waiting)
        batch[:] = [waiting for waiting in batch if not waiting.future.cancelled()]
        return [waiting.unit for waiting in batch]

    def stop(self) -> None:
        """Commit what waits, then release thread and file; blocks."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        # what was handed over behind the end is told that nobody will commit it
        while not self._queue.empty():
            if (late := self._queue.get()) is not None:
                _tell([late], [FhirError(503, "transient", _CLOSED)])
        with self._busy:
            self._connection.close()
            self._lock.close()


def _attempt(batch: Batch, unit: UnitOfWork) -> Outcome:
    try:
        return batch.apply(unit)
    except Conflict as conflict:
        return conflict


def _tell(batch: list[_Waiting], outcomes: list[Outcome]) -> None:
    """Resolve the futures of one batch, with one call into each event loop."""
    told: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[tuple[Written, ...]], Outcome]]] = {}
    for waiting, outcome in zip(batch, outcomes, strict=True):
        told.setdefault(waiting.loop, []).append((waiting.future, outcome))
    for loop, pairs in told.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: "list[tuple[asyncio.Future[tuple[Written, ...]], Outcome]]") -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
