"""What one transaction adds to the ledger: the records of a slice are gathered first and written by a few statements.

Rules.
1. What records of a slice share is made once: by whom they are found, and whom the resources they name are about.
2. A `begun` record and its answer within one slice need no row of `begun`. An answer that is folded before what it answers (it stands in the following
   journal, which is read a moment later) leaves a row that names no record in its place, so that what it answers is never shown.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from fhir_server.audit.event import action_of, outcome_of
from fhir_server.audit.ledger import Signer
from fhir_server.audit.patients import NOBODY
from fhir_server.audit.record import GENESIS, About, Record, chained, encode
from search.values import fold as fold_text


class _Told(NamedTuple):
    """Whom some records are about: as bytes behind a line feed, as text, and the numbers of the records."""

    about: About
    bytes: bytes
    text: str
    seqs: list[int]


class Slice:
    """Records behind the last of the ledger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._seq: int
        self._hash: bytes
        self._seq, self._hash = connection.execute("SELECT seq, hash FROM head").fetchone() or (0, GENESIS)
        self._rows: list[tuple[object, ...]] = []
        self._told: dict[tuple[tuple[str, ...], str], _Told] = {}
        self._askers: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        self._begun: dict[tuple[int, int], int] = {}
        self._answered: list[tuple[int, int]] = []

    def add(self, body: bytes, record: Record, owners: Mapping[str, About]) -> None:
        """Add a record behind the others. `body`: as its journal has it; `owners`: whom the resources are about that it names."""
        told = self._told.get((record.keys, record.organization)) or self._about(record, owners)
        self._seq = seq = self._seq + 1
        self._hash = link = chained(self._hash, body + told.bytes)
        told.seqs.append(seq)
        self._askers[record.fhir_user, record.user, record.client].append(seq)
        begun = record.kind == "begun"
        shown = 0 if begun else 1
        outcome, action = outcome_of(record), action_of(record)
        self._rows.append((seq, record.time, link, body, told.text, shown, outcome, action, record.code))
        if begun:
            self._begun.setdefault((record.journal, record.number), seq)
        elif record.begun:
            journal, _, number = record.begun.partition(".")
            place = (int(journal), int(number))
            if self._begun.pop(place, None) is None:
                self._answered.append(place)

    def write(self, folder: Path) -> int:
        """Write them, and sign the last; how many there are."""
        if not self._rows:
            return 0
        execute, executemany = self._connection.execute, self._connection.executemany
        executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", self._rows)
        for table, names in self._names():
            rows = [(name, seqs[0], encode(seqs).decode()) for name, seqs in names.items()]
            executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608
        for place in self._answered:
            row = execute("DELETE FROM begun WHERE journal = ? AND number = ? RETURNING seq", place).fetchone()
            if row is None:
                execute("INSERT INTO begun VALUES (?, ?, 0)", place)
            else:
                execute("UPDATE record SET shown = 0 WHERE seq = ?", row)
        begun = [(*place, seq) for place, seq in self._begun.items()]
        executemany("INSERT OR IGNORE INTO begun VALUES (?, ?, ?)", begun)
        signature = Signer(folder).sign("head", self._seq, self._hash)
        execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?)", (self._seq, self._hash, signature))
        return len(self._rows)

    def _about(self, record: Record, owners: Mapping[str, About]) -> _Told:
        """Whom the resources are about, and who owns them: when nobody does, the organization of the one who asked."""
        found = [owners.get(key, NOBODY) for key in record.keys]
        patients = {name for one in found for name in one.patients}
        organizations = {name for one in found for name in one.organizations} or {record.organization} - {""}
        about = About(tuple(sorted(patients)), tuple(sorted(organizations)))
        text = encode(about)
        told = _Told(about, b"\n" + text, text.decode(), [])
        self._told[record.keys, record.organization] = told
        return told

    def _names(self) -> Iterator[tuple[str, dict[str, list[int]]]]:
        """By table and name the numbers of the records in which the name stands."""
        told = self._told.items()
        yield "party", _merged((parties(*asker), seqs) for asker, seqs in self._askers.items())
        yield "entity", _merged((dict.fromkeys(keys), one.seqs) for (keys, _), one in told)
        yield "patient", _merged((one.about.patients, one.seqs) for _, one in told)


def _merged(groups: Iterable[tuple[Iterable[str], list[int]]]) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for names, seqs in groups:
        for name in names:
            found[name] += seqs
    for seqs in found.values():
        seqs.sort()
    return found


def indexed(record: Record, about: About) -> tuple[tuple[str, Iterable[str]], ...]:
    """By which tables and names a record is found."""
    asked = parties(record.fhir_user, record.user, record.client)
    return (("party", asked), ("entity", dict.fromkeys(record.keys)), ("patient", about.patients))


def parties(fhir_user: str, user: str, client: str) -> tuple[str, ...]:
    """Under which names the one who asked is found: `Practitioner/1`, and names behind `@`."""
    names = (fhir_user, user and f"@{fold_text(user)}", client and f"@{fold_text(client)}")
    return tuple(dict.fromkeys(name for name in names if name))
