"""Folding: what the journals hold goes into the ledger, in order, without loss and without repeats; ended journals are removed.

Rules.
1. A journal is read from where the last folding of it ended; that place moves in the transaction that adds the records.
2. A torn last line of a journal that has ended is told by a record of kind `torn`; a journal whose lines do not follow each other, or that is gone, by
   one of kind `broken`. What can be read behind it is folded all the same.
3. A `begun` record is not shown unless its journal ended and no answer followed.
4. A journal is registered a moment before its file is there and locked: in that moment it is neither gone nor ended.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from fhir_server.audit.adding import Slice
from fhir_server.audit.journal import journal_path
from fhir_server.audit.ledger import changed
from fhir_server.audit.patients import Patients
from fhir_server.audit.record import Record, chained, decode, encode

SLICE = 256 << 10
"""Bytes of a journal that one transaction takes: some ten milliseconds under the ledger's lock, and little more is saved by taking more."""
LONGEST = 4 << 20
"""Bytes that no record has."""
YOUNG = 60_000_000
"""Microseconds within which a journal that was registered may still be without its file, or have it empty and not locked."""
_SOME = 200
"""Lines whose records are in memory at once."""
_HASH = 64


Line = tuple[bytes, bytes, Record | None]
"""A whole line of a journal: the hash it bears, the bytes of its record, the record (None: it cannot be read)."""


def fold(connection: sqlite3.Connection, folder: Path, patients: Patients, leaving: Callable[[], bool] = bool) -> int:
    """Fold everything there is; how many records were added. `leaving` is asked between slices whether to end, also while others hold the lock."""
    added = 0
    for (number,) in connection.execute("SELECT number FROM journal WHERE ended = 0 ORDER BY number").fetchall():
        more = True
        while more and not leaving():
            change = partial(_slice, connection, folder, number, patients)
            more, count = changed(connection, folder, change, leaving) or (False, 0)
            added += count
    return added


def _slice(connection: sqlite3.Connection, folder: Path, number: int, patients: Patients) -> tuple[bool, int]:
    """Fold a part of one journal; whether more is there at once, and how many records were added."""
    place, count, before, ended, opened = connection.execute(
        "SELECT place, count, hash, ended, opened FROM journal WHERE number = ?", (number,)
    ).fetchone()
    if ended:
        return False, 0
    young = not place and time.time_ns() // 1000 - opened < YOUNG
    path = journal_path(folder, number)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False, 0 if young else _gone(connection, folder, number)
    try:
        over = _unlocked(descriptor)
        text, more = _part(descriptor, place)
    finally:
        os.close(descriptor)
    if young and not text:
        return False, 0
    added = Slice(connection)
    lines = lines_of(text)
    while some := list(islice(lines, _SOME)):
        owners = patients.of({key for _, _, record in some if record is not None for key in record.keys})
        for link, body, record in some:
            count += 1
            if not follows(link, body, record, before, (number, count)):
                added.add(*_note(number, "broken", f"line {count} does not follow the one before"), owners)
            if record is not None:
                added.add(body, record, owners)
            before = link
    size = text.rfind(b"\n") + 1
    if more and not size:  # no record is so long
        added.add(*_note(number, "broken", f"line {count + 1} has no end"), {})
        size = len(text)
    if over and not more and size < len(text):
        added.add(*_note(number, "torn", f"the last line ends after {len(text) - size} bytes"), {})
    if size:
        sql = "UPDATE journal SET place = ?, count = ?, hash = ? WHERE number = ?"
        connection.execute(sql, (place + size, count, before, number))
    written = added.write(folder)
    if over and not more:
        _end(connection, number)
    return more, written


def _gone(connection: sqlite3.Connection, folder: Path, number: int) -> int:
    """Tell that a journal is gone; how many records were added."""
    added = Slice(connection)
    added.add(*_note(number, "broken", "the journal is gone"), {})
    written = added.write(folder)
    _end(connection, number)
    return written


def _part(descriptor: int, place: int) -> tuple[bytes, bool]:
    """What stands in a journal from a place on, with one whole line at least where there is one, and whether more follows at once."""
    text = os.pread(descriptor, SLICE, place)
    if len(text) == SLICE and b"\n" not in text:
        text = os.pread(descriptor, LONGEST, place)
        return text, len(text) == LONGEST
    return text, len(text) == SLICE


def _unlocked(descriptor: int) -> bool:
    """Whether no process writes the journal any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lines_of(text: bytes) -> Iterator[Line]:
    """The whole lines of a part of a journal; what stands behind the last line feed is left out."""
    for whole in text.split(b"\n")[:-1]:
        link, _, body = whole.partition(b" ")
        try:
            record = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            record = None
        yield link[:_HASH], body, record


def follows(link: bytes, body: bytes, record: Record | None, before: bytes, place: tuple[int, int]) -> bool:
    """Whether a line is the one of a journal at this place (journal and number), behind the one whose hash is `before`."""
    return record is not None and (record.journal, record.number) == place and link == chained(before, body)


def _note(journal: int, kind: str, said: str) -> tuple[bytes, Record]:
    record = Record(journal, 0, kind, time.time_ns() // 1000, note=said)  # type: ignore[arg-type]
    return encode(record), record


def _end(connection: sqlite3.Connection, number: int) -> None:
    """Show what was begun in a journal and never answered; its file is removed after the commit that notes its end."""
    connection.execute("UPDATE journal SET ended = 1 WHERE number = ?", (number,))
    connection.execute("UPDATE record SET shown = 1 WHERE seq IN (SELECT seq FROM begun WHERE journal = ?)", (number,))


def remove_ended(connection: sqlite3.Connection, folder: Path) -> None:
    """Remove the files of journals whose records are all in the ledger."""
    for path in folder.glob("*.journal"):
        if path.stem.isdigit():
            row = connection.execute("SELECT ended FROM journal WHERE number = ?", (int(path.stem),)).fetchone()
            if row is not None and row[0]:
                path.unlink(missing_ok=True)
