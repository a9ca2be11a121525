"""Reads: inline on the event loop under a time budget, else as a whole on a reader thread with the request's own deadline.

Rules. A progress handler compares the clock with the deadline every few thousand steps of SQLite's machine. What exceeds the
inline budget starts again from nothing in one snapshot on a thread. A thread hop costs more than a cheap statement, so there is at
most one per verb, and a query shape goes to a thread at once only while more than an eighth of its recent runs exceeded the
budget: one huge patient or one noisy moment moves nothing.

Specification: https://www.sqlite.org/c3ref/progress_handler.html
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from fhir_server.storage.sqlite.catalog import Catalog, Numbers
from fhir_server.storage.sqlite.connection import SqliteOptions, connect, unavailable
from resources.errors import FhirError

_T = TypeVar("_T")
_STEPS: Final = 4000
_WEIGHT: Final = 1 / 16
"""Weight of the latest run in the share of late runs."""
_MANY_LATE: Final = 1 / 8
_NONE_LATE: Final = 1 / 100
_MOST_SHAPES: Final = 1000


class Slow(Exception):  # noqa: N818  (a turn of events inside this package)
    """The work is known to be too slow for the event loop."""


class _Until:
    """When a read has to end (monotonic seconds). Whoever waits for it may end it sooner, from any thread."""

    __slots__ = ("deadline",)

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline


_NEVER: Final = _Until(float("inf"))


class _Session:
    """One connection with its deadline; used by one thread at a time."""

    def __init__(self, path: Path, options: SqliteOptions, numbers: Numbers) -> None:
        self.connection = connect(path, options, read_only=True)
        self.catalog = Catalog(self.connection, numbers)
        self.until = _Until(0.0)
        self.connection.set_progress_handler(self._late, _STEPS)

    def _late(self) -> int:
        return time.monotonic() > self.until.deadline

    def run(self, work: Callable[[Catalog], _T], until: "_Until", *, snapshot: bool) -> _T:
        """Run `work` in a read transaction; sqlite3.OperationalError "interrupted" when the deadline passes."""
        if not snapshot:
            self.until = until
            return work(self.catalog)
        # the handler must not end BEGIN and ROLLBACK: a cached statement's steps are counted on from run to run
        self.until = _NEVER
        self.connection.execute("BEGIN")
        try:
            self.until = until
            return work(self.catalog)
        finally:
            self.until = _NEVER
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")


class Reader:
    """Runs read verbs. One instance per process, opened after fork.

    `hops` counts reads that went to a thread, `interrupts` those that were begun inline and took too long.
    """

    def __init__(self, path: Path, options: SqliteOptions) -> None:
        self._path = path
        self._options = options
        self._numbers = Numbers()
        self._inline = _Session(path, options, self._numbers)
        self._pool = ThreadPoolExecutor(options.readers, thread_name_prefix="sqlite-reader")
        self._sessions = threading.local()
        self._opened: list[_Session] = []
        self._late: dict[Hashable, float] = {}
        self.hops = 0
        self.interrupts = 0

    def is_slow(self, shape: Hashable) -> bool:
        """Whether many of the shape's recent runs exceeded the inline budget."""
        return self._late.get(shape, 0.0) > _MANY_LATE

    def note(self, shape: Hashable, *, late: bool) -> None:
        """Keep the moving average of late runs; a shape that is never late is not kept."""
        share = self._late.get(shape, 0.0)
        share += (late - share) * _WEIGHT
        if share < _NONE_LATE:
            self._late.pop(shape, None)
            return
        if len(self._late) >= _MOST_SHAPES:
            self._late.clear()
        self._late[shape] = share

    async def run(
        self,
        inline: Callable[[Catalog], _T],
        whole: Callable[[Catalog], _T],
        shape: Callable[[], Hashable],
        *,
        snapshot: bool,
    ) -> _T:
        """Run `inline` here; when it is late or raises Slow, run `whole` on a thread. `shape` names what was slow.

        A caller that is cancelled ends the statement too.
        """
        begun = time.monotonic()
        late = False
        try:
            result = self._inline.run(inline, _Until(begun + self._options.inline), snapshot=snapshot)
        except Slow:
            pass
        except sqlite3.Error as error:
            if not _interrupted(error):
                raise unavailable(error) from error
            late = True
            self.interrupts += 1
        else:
            if self._late:
                self.note(shape(), late=False)
            return result
        self.hops += 1
        until = _Until(begun + self._options.deadline)
        try:
            loop = asyncio.get_running_loop()
            result, busy = await loop.run_in_executor(self._pool, self._on_thread, whole, until)
        except asyncio.CancelledError:
            until.deadline = 0.0
            raise
        self.note(shape(), late=late or busy > self._options.inline)
        return result

    def run_sync(self, work: Callable[[Catalog], _T]) -> _T:
        """Run `work` in the calling thread, for a process without event loop."""
        return self._on_thread(work, _Until(time.monotonic() + self._options.deadline))[0]

    def _on_thread(self, work: Callable[[Catalog], _T], until: _Until) -> tuple[_T, float]:
        """The result, and the seconds for which this thread was busy with it."""
        session: _Session | None = getattr(self._sessions, "session", None)
        try:
            if session is None:
                session = self._sessions.session = _Session(self._path, self._options, self._numbers)
                self._opened.append(session)
            begun = time.thread_time()
            return session.run(work, until, snapshot=True), time.thread_time() - begun
        except sqlite3.Error as error:
            if _interrupted(error):
                raise FhirError(
                    503, "timeout", "The search took longer than the server allows; make it narrower"
                ) from error
            raise unavailable(error) from error

    def close(self) -> None:
        """Release threads and connections; waits for running work."""
        self._pool.shutdown(cancel_futures=True)
        for session in (self._inline, *self._opened):
            session.connection.close()


def _interrupted(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT if hasattr(error, "sqlite_errorcode") else False
