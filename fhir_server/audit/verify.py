"""`audit verify`: whether the audit trail is whole. Anyone who changes, removes, adds or moves a record without the key is found out.

Checked are: the signatures of head and checkpoints, the chain from the last checkpoint to the head, that each journal's records are there from the first
to the last, the tables that searches use, and the journals that are not folded yet.

What is not found: a trail that was put back as a whole to an earlier state, head included. For that keep heads elsewhere (`audit verify --json` tells it)
and give one back by `--head`.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from fhir_server.audit.adding import indexed
from fhir_server.audit.event import action_of, outcome_of
from fhir_server.audit.fold import follows, lines_of
from fhir_server.audit.journal import journal_path
from fhir_server.audit.ledger import Signer
from fhir_server.audit.record import GENESIS, chained, decode, decode_about

_RECORDS = "SELECT seq, CAST(hash AS BLOB), CAST(body AS BLOB), CAST(about AS TEXT) FROM record ORDER BY seq"

_KEPT = 10_000
_decode_numbers = msgspec.json.Decoder(list[int]).decode

Rule = Literal["signature", "chain", "gap", "index", "journal", "head", "torn"]


class Fault(NamedTuple):
    """What is wrong, where. `torn` is no fault: a process died while it wrote, and its request was not answered."""

    rule: Rule
    where: str
    said: str


def verify(connection: sqlite3.Connection, folder: Path, expected: tuple[int, str] | None = None) -> Iterator[Fault]:
    """All faults. `expected`: number and hash of a record as they once were."""
    connection.execute("BEGIN")
    try:
        signer = Signer(folder)
        yield from _checkpoints(connection, signer)
        yield from _chain(connection, signer, expected)
        yield from _indexes(connection)
        yield from _journals(connection, folder)
    finally:
        connection.execute("ROLLBACK")


def head(connection: sqlite3.Connection) -> tuple[int, str]:
    """Number and hash of the last record."""
    row = connection.execute("SELECT seq, CAST(hash AS BLOB) FROM head").fetchone()
    return (row[0], row[1].decode("latin-1")) if row else (0, GENESIS.decode())


def _checkpoints(connection: sqlite3.Connection, signer: Signer) -> Iterator[Fault]:
    for seq, link, pruned, until, signature in connection.execute(
        "SELECT seq, CAST(hash AS BLOB), pruned, until, CAST(signature AS BLOB) FROM checkpoint ORDER BY seq"
    ):
        if not signer.good(signature, "checkpoint", seq, link, pruned, until):
            yield Fault("signature", f"checkpoint {seq}", "its signature is wrong")


def _chain(connection: sqlite3.Connection, signer: Signer, expected: tuple[int, str] | None) -> Iterator[Fault]:
    start = connection.execute("SELECT seq, CAST(hash AS BLOB) FROM checkpoint ORDER BY seq DESC LIMIT 1").fetchone()
    last, before = start or (0, GENESIS)
    numbers: dict[int, int] = {}
    for seq, link, body, told in connection.execute(_RECORDS):
        if seq != last + 1:
            yield Fault("gap", f"record {seq}", f"records {last + 1} to {seq - 1} are not there")
        if chained(before, b"%b\n%b" % (body, told.encode())) != link:
            yield Fault("chain", f"record {seq}", "its hash is not that of its content behind the record before")
        if expected is not None and expected == (seq, link.decode("latin-1")):
            expected = None
        last, before = seq, link
        yield from _numbered(seq, body, numbers)
    if expected is not None:
        yield Fault("head", f"record {expected[0]}", "it is not there with the expected hash")
    yield from _ends(connection, signer, last, before)


def _numbered(seq: int, body: bytes, numbers: dict[int, int]) -> Iterator[Fault]:
    """That the records of each journal follow each other."""
    try:
        record = decode(body)
    except msgspec.DecodeError:
        yield Fault("chain", f"record {seq}", "it cannot be read")
        return
    if record.kind == "torn":
        yield Fault("torn", f"journal {record.journal}", record.note)
    elif record.kind == "broken":
        yield Fault("journal", f"journal {record.journal}", record.note)
    else:
        known = numbers.get(record.journal)
        if known is not None and record.number != known + 1:
            yield Fault("gap", f"journal {record.journal}", f"record {record.number} follows record {known}")
        numbers[record.journal] = record.number


def _ends(connection: sqlite3.Connection, signer: Signer, last: int, link: bytes) -> Iterator[Fault]:
    row = connection.execute("SELECT seq, CAST(hash AS BLOB), CAST(signature AS BLOB) FROM head").fetchone()
    if row is None:
        if last:
            yield Fault("head", "head", "there is none")
        return
    seq, known, signature = row
    if not signer.good(signature, "head", seq, known):
        yield Fault("signature", "head", "its signature is wrong")
    if (seq, known) != (last, link):
        yield Fault("head", "head", f"it names record {seq}, the last is record {last} or has another hash")


def _indexes(connection: sqlite3.Connection) -> Iterator[Fault]:
    sql = "SELECT seq, time, CAST(body AS BLOB), CAST(about AS TEXT), outcome, action, code FROM record ORDER BY seq"
    tables = {name: _Table(connection, name) for name in ("party", "entity", "patient")}
    for seq, time, body, told, outcome, action, code in connection.execute(sql):
        try:
            record = decode(body)
            about = decode_about(told)
        except msgspec.DecodeError:
            continue  # told by the chain
        if (time, outcome, action, code) != (record.time, outcome_of(record), action_of(record), record.code):
            yield Fault("index", f"record {seq}", "its columns are not those of its content")
        for table, names in indexed(record, about):
            for name in names:
                if not tables[table].holds(name, seq):
                    yield Fault("index", f"record {seq}", f"it is not found by its {table}")
    for table, one in tables.items():
        if one.size() != one.wanted:
            yield Fault("index", table, "it has rows that no record has")


class _Table:
    """A table that searches use, asked for records in their order: what a name has at one place is read once. `wanted`: how often it was asked."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._read = f"SELECT CAST(seqs AS BLOB) FROM {name} WHERE name = ? AND first <= ? ORDER BY first DESC LIMIT 1"  # noqa: S608
        self._all = f"SELECT CAST(seqs AS BLOB) FROM {name}"  # noqa: S608
        self._known: dict[str, frozenset[int]] = {}
        self.wanted = 0

    def holds(self, name: str, seq: int) -> bool:
        self.wanted += 1
        if seq in self._known.get(name, ()):
            return True
        row = self._connection.execute(self._read, (name, seq)).fetchone()
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[name] = found = frozenset(_numbers(row[0]) if row is not None else ())
        return seq in found

    def size(self) -> int:
        return sum(len(_numbers(text)) for (text,) in self._connection.execute(self._all))


def _numbers(text: bytes) -> list[int]:
    try:
        return _decode_numbers(text)
    except msgspec.DecodeError:
        return []


def _journals(connection: sqlite3.Connection, folder: Path) -> Iterator[Fault]:
    """What is not folded yet follows what is; no journal is gone; none is unknown."""
    rows = connection.execute("SELECT number, place, count, hash FROM journal WHERE ended = 0").fetchall()
    for number, place, count, before in rows:
        path = journal_path(folder, number)
        if not path.exists():
            yield Fault("journal", f"journal {number}", "it is gone, and was not folded to its end")
            continue
        with path.open("rb") as file:
            file.seek(place)
            text = file.read()
        for link, body, record in lines_of(text):
            count += 1  # noqa: PLW2901
            if not follows(link, body, record, before, (number, count)):
                yield Fault("journal", f"journal {number}", f"line {count} does not follow the one before")
            before = link  # noqa: PLW2901
    known = {number for (number,) in connection.execute("SELECT number FROM journal")}
    for path in folder.glob("*.journal"):
        if not path.stem.isdigit() or int(path.stem) not in known:
            yield Fault("journal", path.name, "the ledger does not know it")
