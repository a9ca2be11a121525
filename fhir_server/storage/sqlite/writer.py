"""The writer of a process: rounds of units that are committed in one transaction and one fsync.

Rules.
1. A round takes the lock file (writers of several processes queue there), then BEGIN IMMEDIATE. Outcomes are told only after COMMIT
   has returned.
2. The statements of a light round run on the event loop, under a time budget: SQLite needs some 100 us for a resource, less than the
   two threads would lose to each other over the interpreter's lock. COMMIT, and every wait, happens on the writer's thread, while the
   loop goes on. A heavy round, and one that exceeded the budget, runs on the thread as a whole.
3. A unit with a fault of its own (anything but a Conflict) makes the round roll back and its units run one by one, so that it fails
   alone. When the file system fails every unit of the round gets 503 and the next round tries again.

A writer is used from one event loop at a time.
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
from fhir_server.storage.port import Conflict, Put, UnitOfWork, Written
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
_LIGHT_UNITS: Final = 32
_LIGHT_BYTES: Final = 256 << 10
"""The most units and bytes of resources whose statements run on the event loop."""
_BUDGET: Final = 0.02
"""Seconds that the statements of a light round may take there; three times what such a round needs on a busy machine."""
_APART: Final = 1.0
"""Seconds for which rounds run on the thread after one that exceeded the budget: the disk is slow, or a guard's query is."""
_STEPS: Final = 4000


class _Waiting(NamedTuple):
    unit: UnitOfWork
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
        self._waiting: list[_Waiting] = []
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._apart_until = float("-inf")
        self._begun = 0.0
        self._closed = self._ended = False
        self.sizes = Histogram(SIZES)
        self.seconds = Histogram(SECONDS)

    @property
    def waiting(self) -> int:
        """Units that no round has taken yet."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether a unit that is handed over now will be committed."""
        return not self._closed and (self._thread is None or self._thread.is_alive())

    # ---- units of the event loop, round by round

    async def commit(self, unit: UnitOfWork) -> tuple[Written, ...]:
        """Commit the unit in the next round."""
        if self._closed:
            raise FhirError(503, "transient", _CLOSED)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Written, ...]] = loop.create_future()
        if not self._waiting and self._idle.is_set():
            # not at once: what one turn of the loop gathers shares a commit
            loop.call_soon(self._advance, loop)
        self._waiting.append(_Waiting(unit, future))
        return await future

    def _advance(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the next round, unless one is under way."""
        if not self._idle.is_set():
            return
        if self._ended:
            self._refuse_rest()
        if not self._waiting:
            return
        self._idle.clear()
        self._begun = time.monotonic()
        if self._begun < self._apart_until or not self._light(1) or not self._busy.acquire(blocking=False):
            self._jobs.put(partial(self._round_apart, loop))
        elif self._lock.try_acquire():
            self._round_inline(loop)
        else:
            self._jobs.put(partial(self._await_turn, loop))

    def _light(self, most: int) -> int:
        """How many of the units that wait, at most `most`, make a light round."""
        size = 0
        for count, waiting in enumerate(self._waiting[:most]):
            size += sum(len(w.body.head) + len(w.body.tail) for w in waiting.unit.writes if isinstance(w, Put))
            if size > _LIGHT_BYTES:
                return count
        return min(most, len(self._waiting))

    def _await_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lock.acquire()
        if not self._call(loop, self._round_inline, loop):
            self._release()

    def _round_inline(self, loop: asyncio.AbstractEventLoop) -> None:
        """The statements of a light round; both locks are held and go on to the thread, which commits."""
        if self._ended:
            self._refuse_rest()
            return
        batch = self._take(self._light(_LIGHT_UNITS))
        until = time.monotonic() + _BUDGET
        self._connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        try:
            outcomes = self._statements([waiting.unit for waiting in batch])
        except Exception:  # noqa: BLE001  (the thread runs them again, from nothing, and tells each unit its own fault)
            self._release()
            self._waiting[:0] = batch
            self._apart_until = time.monotonic() + _APART
            self._jobs.put(partial(self._round_apart, loop))
        else:
            self._connection.set_progress_handler(
                None, 0
            )  # before the thread has the connection, which one uses at a time
            self._jobs.put(partial(self._end_round, batch, outcomes, loop))

    def _end_round(self, batch: list[_Waiting], outcomes: list[Outcome], loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._end_transaction()
            self._observe(len(batch), self._begun)
        except sqlite3.Error as error:
            outcomes = [unavailable(error) for _ in batch]
        finally:
            self._release()
        self._call(loop, self._settle, batch, outcomes, loop)

    def _round_apart(self, loop: asyncio.AbstractEventLoop) -> None:
        """A whole round on the thread."""
        batch: list[_Waiting] = []

        def gather() -> list[UnitOfWork]:
            batch.extend(self._take(self._options.batch))
            return [waiting.unit for waiting in batch]

        outcomes = self._commit(gather)
        self._call(loop, self._settle, batch, outcomes, loop)

    def _take(self, most: int) -> list[_Waiting]:
        """Take units that wait; nobody waits any more for some of them."""
        batch = self._waiting[:most]
        del self._waiting[:most]
        return [waiting for waiting in batch if not waiting.future.cancelled()]

    def _settle(self, batch: list[_Waiting], outcomes: list[Outcome], loop: asyncio.AbstractEventLoop) -> None:
        """Tell the outcomes of a round and begin the next one."""
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.future.done():
                continue
            if isinstance(outcome, BaseException):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)
        self._idle.set()
        self._advance(loop)

    def _call(self, loop: asyncio.AbstractEventLoop, then: Callable[..., None], *values: object) -> bool:
        """Go on on the event loop; False when it is closed, so that nobody waits any more."""
        try:
            loop.call_soon_threadsafe(then, *values)
        except RuntimeError:
            self._idle.set()
            return False
        return True

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    # ---- units of the calling thread

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
                units = units or gather()
                return [unavailable(error) for _ in units]
            except Exception as error:  # noqa: BLE001  (whatever a unit's fault is, it is told to its owner)
                units = units or gather()
                if len(units) == 1:
                    return [error]
            else:
                self._observe(len(units), begun)
                return outcomes
        return [self.commit_all([unit])[0] for unit in units]

    def _transaction(self, units: Sequence[UnitOfWork]) -> list[Outcome]:
        outcomes = self._statements(units)
        self._end_transaction()
        return outcomes

    def _statements(self, units: Sequence[UnitOfWork]) -> list[Outcome]:
        """Begin a transaction and do all but its end; a fault leaves no transaction."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            batch = Batch(self._connection, self._catalog, self._matches)
            outcomes = [_attempt(batch, unit) for unit in units]
            batch.flush()
        except BaseException:
            self._abandon()
            raise
        return outcomes

    def _end_transaction(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        self._connection.set_progress_handler(None, 0)  # which must not end the ROLLBACK
        self._catalog.numbers = Numbers()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _release(self) -> None:
        self._lock.release()
        self._busy.release()

    def _observe(self, units: int, begun: float) -> None:
        self.sizes.observe(units)
        self.seconds.observe(time.monotonic() - begun)

    def run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Run `work` in a transaction of its own, in the calling thread."""
        connection = self._connection
        with self._busy, self._lock.held():
            connection.execute("BEGIN IMMEDIATE")
            try:
                work(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._abandon()
                raise

    async def load(self, missing: Unloaded) -> None:
        """Load the concepts that a search missed, on a thread; FhirError 400 when nothing is known of them."""
        await asyncio.to_thread(self._load, missing)

    def _load(self, missing: Unloaded) -> None:
        self.run(lambda c: load_missing(missing, c, self._catalog, Batch(c, self._catalog, self._matches).term))

    def _matches(self, query: Query, limit: int) -> frozenset[ResourceKey]:
        return matched_keys(self._catalog, query, limit)

    def stop(self) -> None:
        """Commit what waits, then release thread and file; blocks. Called on the event loop, only what is under way is committed."""
        self._closed = True
        until = time.monotonic() + self._options.lock_wait
        while not _on_a_loop() and (self._waiting or not self._idle.is_set()) and time.monotonic() < until:
            time.sleep(0.001)
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        self._ended = True
        if self._busy.locked() and not self._idle.is_set():
            self._release()  # a round that waits for the event loop, which cannot come to it
        self._refuse_rest()
        with self._busy:
            self._connection.close()
            self._lock.close()

    def _refuse_rest(self) -> None:
        """Tell what was handed over behind the end that nobody will commit it."""
        for waiting in self._take(len(self._waiting)):
            waiting.future.get_loop().call_soon_threadsafe(_refuse, waiting.future)


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _refuse(future: "asyncio.Future[tuple[Written, ...]]") -> None:
    if not future.done():
        future.set_exception(FhirError(503, "transient", _CLOSED))


def _attempt(batch: Batch, unit: UnitOfWork) -> Outcome:
    try:
        return batch.apply(unit)
    except Conflict as conflict:
        return conflict
