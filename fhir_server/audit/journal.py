"""The journal of one process: records are written to a file before the answer they are about leaves.

Rules.
1. `append` is one write(2) by the event loop's thread: what it returned for is in the kernel and survives the death of the process. A thread
   brings it to the disk within a second.
2. A journal has a number that the ledger gave, and the file `<number>.journal`. The process holds an flock on it while it may still write:
   a journal that can be locked has ended.
3. A file beyond its limit is followed by another, opened beforehand by that thread.
4. A write that fails leaves no part of a line behind (where the file can still be cut), and raises OSError: the request is then not answered.
"""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from fhir_server.audit.line import part
from fhir_server.audit.record import GENESIS, Kind, chained

SYNC_EVERY = 0.5
"""Seconds between two looks of the thread."""

_log = structlog.get_logger()


def journal_path(folder: Path, number: int) -> Path:
    """Where the journal of this number is."""
    return folder / f"{number:010d}.journal"


@dataclass(slots=True)
class _File:
    number: int
    descriptor: int
    size: int = 0
    synced: int = 0
    count: int = 0
    hash: bytes = GENESIS


class Journal:
    """Call `append` from one thread alone. `register` gives the number of a new journal; `limit` in bytes."""

    def __init__(self, folder: Path, register: Callable[[], int], limit: int) -> None:
        self._folder = folder
        self._register = register
        self._limit = limit
        self._file = self._opened()
        self._next: _File | None = None
        self._former: list[_File] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="audit", daemon=True)
        self._thread.start()

    def append(self, kind: Kind, *fields: Any) -> str:
        """Write a record: the fields of `Record` from `time` on. Gives its place, `<journal>.<number>`; raises OSError."""
        return self.write(part(kind, *fields))

    def write(self, members: str) -> str:
        """Write a record whose fields from `kind` on are encoded already (`line.part`). As `append`."""
        if self._next is not None and self._file.size > self._limit:
            self._former.append(self._file)
            self._file, self._next = self._next, None
        file = self._file
        place = file.count + 1
        body = f"[{file.number},{place},{members}]".encode()
        link = chained(file.hash, body)
        line = link + b" " + body + b"\n"
        written = os.write(file.descriptor, line)
        if written != len(line):
            os.ftruncate(file.descriptor, file.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.size += written
        file.count = place
        file.hash = link
        return f"{file.number}.{place}"

    def close(self) -> None:
        """Bring everything to the disk and end."""
        self._over.set()
        self._thread.join()
        self._sync()
        for file in (self._file, self._next):
            if file is not None:
                os.close(file.descriptor)

    def _look(self) -> None:
        while not self._over.wait(SYNC_EVERY):
            try:
                self._sync()
                if self._next is None and self._file.size > self._limit * 3 // 4:
                    self._next = self._opened()
            except Exception:  # noqa: BLE001  (a thread that ended would leave every later record to the kernel alone)
                _log.exception("audit_sync_failed")

    def _sync(self) -> None:
        former, self._former = self._former, []
        for file in (*former, self._file):
            size = file.size
            if file.synced != size:
                os.fsync(file.descriptor)
                file.synced = size
        for file in former:
            os.close(file.descriptor)

    def _opened(self) -> _File:
        number = self._register()
        path = journal_path(self._folder, number)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return _File(number, descriptor)
