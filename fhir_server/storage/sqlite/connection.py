"""Opening the database file: every connection has the same pragmas, no implicit transactions and a large statement cache.

Rules: transactions are begun and ended in plain sight (`isolation_level=None`); nothing is acknowledged before its commit is on
disk (WAL with synchronous=FULL); text, BLOB and numbers are all that is ever bound.

Specification: https://www.sqlite.org/pragma.html, https://www.sqlite.org/wal.html
"""

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resources.errors import FhirError
from search.types.near import distance

_TOO_LARGE = re.compile("Expression tree is too large|too many SQL variables|parser stack overflow|too many terms")


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """Settings of the store. Sizes in MiB, times in seconds.

    `deadline`: how long one read verb may take; `inline`: how long it may take on the event loop before it moves to a reader
    thread; `checkpoint_pages`: WAL pages (4 KiB) after which a commit moves them into the file; `batch`: the most units in one commit.
    """

    cache: int = 64
    mmap: int = 1024
    readers: int = 2
    deadline: float = 20.0
    inline: float = 0.002
    lock_wait: float = 10.0
    checkpoint_pages: int = 8000
    batch: int = 256
    include_limit: int = 1000


def connect(path: Path, options: SqliteOptions, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode with the store's pragmas; FhirError 503 when the file cannot be opened."""
    try:
        connection = sqlite3.connect(
            path, timeout=options.lock_wait, isolation_level=None, cached_statements=1024, check_same_thread=False
        )
        for pragma in (
            "page_size = 4096",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = OFF",
            "temp_store = MEMORY",
            f"cache_size = {-1024 * options.cache}",
            f"mmap_size = {options.mmap << 20}",
            f"wal_autocheckpoint = {options.checkpoint_pages}",
            f"query_only = {'ON' if read_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        connection.create_function("haversine", 4, distance, deterministic=True)
    except sqlite3.Error as error:
        raise unavailable(error) from error
    return connection


def unavailable(error: sqlite3.Error) -> FhirError:
    """What the client sees: 400 when its search is too large a statement; 503 with SQLite's own short message when the file system fails."""
    if _TOO_LARGE.search(str(error)):
        return FhirError(400, "too-costly", "The search has more conditions than one statement can hold; ask for less")
    return FhirError(503, "transient", f"The store cannot be used now: {error}", headers={"Retry-After": "5"})


class FileLock:
    """An flock beside the database: writers of all processes queue there fairly instead of polling SQLite's lock."""

    def __init__(self, database: Path) -> None:
        self._descriptor = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock of all processes."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """Wait for the lock of all processes."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take the lock when nobody has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Leave the lock to the next."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self._descriptor)
