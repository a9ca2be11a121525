"""Folding: what the journals hold goes into the ledger, in order, without loss and without repeats; ended journals are removed.

Rules.
1. A journal is read from where the last folding of it ended; that place moves in the transaction that adds the records.
2. A torn last line of a journal that has ended is told by a record of kind `torn`; a journal whose lines do not follow each other, or that is gone, by
   one of kind `broken`. What can be read behind it is folded all the same.
3. A `begun` record is not shown unless its journal ended and no answer followed.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from fhir_server.audit.event import action_of, outcome_of
from fhir_server.audit.journal import journal_path
from fhir_server.audit.ledger import Signer, changing
from fhir_server.audit.patients import Patients
from fhir_server.audit.record import GENESIS, About, Record, chained, decode, encode
from search.values import fold as fold_text

SLICE = 4 << 20
"""Bytes of a journal that one transaction takes."""
_HASH = 64


class Line(NamedTuple):
    """A whole line of a journal: its bytes, the hash it bears, its record (None: it cannot be read)."""

    size: int
    hash: bytes
    body: bytes
    record: Record | None


@dataclass(slots=True)
class _Ended:
    """The last record of the ledger."""

    seq: int
    hash: bytes


def fold(connection: sqlite3.Connection, folder: Path, patients: Patients, leaving: Callable[[], bool] = bool) -> int:
    """Fold everything there is; how many records were added. `leaving` says whether to end after the slice at hand."""
    added = 0
    for (number,) in connection.execute("SELECT number FROM journal WHERE ended = 0 ORDER BY number").fetchall():
        while not leaving():
            with changing(connection, folder):
                more, count = _slice(connection, folder, number, patients)
            added += count
            if not more:
                break
    return added


def _slice(connection: sqlite3.Connection, folder: Path, number: int, patients: Patients) -> tuple[bool, int]:
    """Fold a part of one journal; whether more is there at once, and how many records were added."""
    row = connection.execute("SELECT place, count, hash, ended FROM journal WHERE number = ?", (number,)).fetchone()
    place, count, before, ended = row
    if ended:
        return False, 0
    path = journal_path(folder, number)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False, _end(connection, folder, number, [_note(number, "broken", "the journal is gone")], patients)
    try:
        over = _unlocked(descriptor)
        text = os.pread(descriptor, SLICE, place)
    finally:
        os.close(descriptor)
    lines = list(lines_of(text))
    folded: list[tuple[bytes, Record]] = []
    for line in lines:
        if line.record is None or line.hash != chained(before, line.body) or _misplaced(line.record, number, count):
            folded.append(_note(number, "broken", f"line {count + 1} does not follow the one before"))
        if line.record is not None:
            folded.append((line.body, line.record))
        before, count = line.hash, count + 1
    size = sum(line.size for line in lines)
    if not lines and len(text) == SLICE:  # no record is so long
        folded.append(_note(number, "broken", f"line {count + 1} has no end"))
        size = len(text)
    sql = "UPDATE journal SET place = ?, count = ?, hash = ? WHERE number = ?"
    connection.execute(sql, (place + size, count, before, number))
    if len(text) == SLICE:
        return True, _add(connection, folder, folded, patients)
    if not over:
        return False, _add(connection, folder, folded, patients)
    if size < len(text):
        folded.append(_note(number, "torn", f"the last line ends after {len(text) - size} bytes"))
    return False, _end(connection, folder, number, folded, patients)


def _misplaced(record: Record, journal: int, count: int) -> bool:
    return (record.journal, record.number) != (journal, count + 1)


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
        yield Line(len(whole) + 1, link[:_HASH], body, record)


def _note(journal: int, kind: str, said: str) -> tuple[bytes, Record]:
    record = Record(journal, 0, kind, time.time_ns() // 1000, note=said)  # type: ignore[arg-type]
    return encode(record), record


def _end(
    connection: sqlite3.Connection, folder: Path, number: int, last: list[tuple[bytes, Record]], patients: Patients
) -> int:
    """Add the last records of a journal, show what was begun and never answered, remove the file after the commit that notes its end."""
    added = _add(connection, folder, last, patients)
    connection.execute("UPDATE journal SET ended = 1 WHERE number = ?", (number,))
    connection.execute("UPDATE record SET shown = 1 WHERE seq IN (SELECT seq FROM begun WHERE journal = ?)", (number,))
    return added


def remove_ended(connection: sqlite3.Connection, folder: Path) -> None:
    """Remove the files of journals whose records are all in the ledger."""
    for path in folder.glob("*.journal"):
        if path.stem.isdigit():
            row = connection.execute("SELECT ended FROM journal WHERE number = ?", (int(path.stem),)).fetchone()
            if row is not None and row[0]:
                path.unlink(missing_ok=True)


def _add(
    connection: sqlite3.Connection, folder: Path, found: Iterable[tuple[bytes, Record]], patients: Patients
) -> int:
    row = connection.execute("SELECT seq, hash FROM head").fetchone()
    last = _Ended(*row) if row else _Ended(0, GENESIS)
    first = last.seq
    rows: dict[str, list[tuple[str, int]]] = {}
    for body, record in found:
        about = _add_one(connection, last, body, record, patients)
        for table, names in indexed(record, about):
            rows.setdefault(table, []).extend([(name, last.seq) for name in names])
    for table, entries in rows.items():
        connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", entries)  # noqa: S608
    if last.seq != first:
        signature = Signer(folder).sign("head", last.seq, last.hash)
        connection.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?)", (last.seq, last.hash, signature))
    return last.seq - first


def _add_one(connection: sqlite3.Connection, last: _Ended, body: bytes, record: Record, patients: Patients) -> About:
    owners = {name for key in record.keys for name in patients.organizations(key)} or {record.organization} - {""}
    about = About(tuple(sorted({name for key in record.keys for name in patients.of(key)})), tuple(sorted(owners)))
    told = msgspec.json.encode(about)
    last.seq, last.hash = last.seq + 1, chained(last.hash, b"%b\n%b" % (body, told))
    connection.execute(
        "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            last.seq,
            record.time,
            last.hash,
            body,
            told.decode(),
            int(record.kind != "begun"),
            outcome_of(record),
            action_of(record),
            record.code,
        ),
    )
    if record.kind == "begun":
        sql = "INSERT OR IGNORE INTO begun VALUES (?, ?, ?)"
        connection.execute(sql, (record.journal, record.number, last.seq))
    elif record.begun:
        journal, _, number = record.begun.partition(".")
        place = (int(journal), int(number))
        row = connection.execute("DELETE FROM begun WHERE journal = ? AND number = ? RETURNING seq", place).fetchone()
        if row is not None:
            connection.execute("UPDATE record SET shown = 0 WHERE seq = ?", row)
    return about


def indexed(record: Record, about: About) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """By which tables and names a record is found."""
    found = (("party", parties(record)), ("entity", record.keys), ("patient", about.patients))
    return (*found, ("organization", about.organizations))


def parties(record: Record) -> tuple[str, ...]:
    """Under which names the one who asked is found: `Practitioner/1`, and names behind `@`."""
    names = (
        record.fhir_user,
        record.user and f"@{fold_text(record.user)}",
        record.client and f"@{fold_text(record.client)}",
    )
    return tuple(dict.fromkeys(name for name in names if name))
