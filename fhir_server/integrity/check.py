"""The check of a whole store, slice by slice, beside a running server.

Rules. A slice (some hundred row numbers) is read in one snapshot of its own, so a resource and its rows are compared as of one
moment, and the WAL can be moved into the file between slices; only SQLite's own check of the file holds one snapshot longer.
Slices cover every row number, so rows of resources that do not exist are met too.

Specification: https://www.sqlite.org/pragma.html#pragma_quick_check
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from fhir_server.integrity.expected import (
    MARKED,
    Expected,
    Lookup,
    RowSets,
    contained_in,
    expected,
    rows_between,
    rows_of,
    unnamed,
)
from fhir_server.integrity.versions import Current, Fault, Past, history_faults, read_body, state_faults
from fhir_server.interactions.prepare import released
from fhir_server.storage.sqlite.catalog import Catalog, Numbers
from fhir_server.storage.sqlite.expunge import first_version
from fhir_server.storage.sqlite.migrations import MIGRATIONS
from resources.model import Resource, ResourceKey
from search.dialects.sqlite.layout import CONTAINED, LIVE, TABLES
from search.extract import Extractor

SLICE: Final = 500
LOWEST: Final = -(1 << 63)
HIGHEST: Final = (1 << 63) - 1

RULES: Final[Mapping[str, str]] = {
    "file": "SQLite finds the file sound",
    "schema": "the tables and indexes are those of the store's version",
    "entry-missing": "every value of a searched element has its row",
    "entry-extra": "every row has its value in the resource",
    "entry-mark": "the smallest and largest rows of a parameter are marked",
    "prints": "the prints of a resource name every table in which it has rows",
    "entry-orphan": "only live resources and what they contain have rows",
    "contained": "the contained resources of a body are known, and no others",
    "compartment": "a resource is in the compartments that its references say",
    "owner": "owners are organizations of live resources",
    "released": "patients see what its status lets them see",
    "wording": "the words of every text beside a code are indexed",
    "state": "the columns of a resource fit together",
    "history-gap": "versions are 1..n, or begin behind what was expunged",
    "history-order": "the times of versions rise",
    "history-row": "the columns of a version fit together",
    "history-orphan": "versions belong to a resource",
    "updated": "no two versions have one time",
    "body": "a body can be read",
    "body-identity": "a body has the type and id of its row",
    "body-version": "a body has the version of its row",
    "body-time": "a body has the time of its row",
}


_CURRENT: Final = f"SELECT {', '.join(Current._fields)} FROM resource WHERE rid > ? AND rid <= ? ORDER BY rid"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule (of `RULES`), the resource or part of the store it is broken at, and how, without any value."""

    rule: str
    where: str
    detail: str


@dataclass(slots=True)
class Tally:
    """How far the check is."""

    resources: int = 0
    versions: int = 0
    rows: int = 0
    findings: Counter[str] = field(default_factory=Counter)


def check_store(
    connection: sqlite3.Connection,
    extractor: Extractor,
    tally: Tally,
    *,
    thorough: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[Finding]:
    """All findings, as they are met. `connection` is read-only; `thorough`: SQLite compares all its indexes with their tables.

    `progress` is called after each slice, when `tally` has its counts.
    """
    for finding in chain(_file(connection, thorough), _schema(connection)):
        tally.findings[finding.rule] += 1
        yield finding
    if tally.findings["schema"]:
        return
    check = _Check(connection, Catalog(connection, Numbers()), extractor, tally)
    low = LOWEST
    while low < HIGHEST:
        with snapshot(connection):
            high = slice_end(connection, low)
            found = list(check.slice(low, high))
        low = high
        yield from found
        progress()
    yield from check.wordings()
    yield from check.times()


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """One read transaction."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def slice_end(connection: sqlite3.Connection, low: int, size: int = SLICE) -> int:
    """The upper end of the slice that begins after `low`; HIGHEST for the last."""
    sql = "SELECT rid FROM resource WHERE rid > ? ORDER BY rid LIMIT 1 OFFSET ?"
    row = connection.execute(sql, (low, size - 1)).fetchone()
    return HIGHEST if row is None else int(row[0])


_WORD: Final = "SELECT 1 FROM wording_word WHERE word = ? AND wording = ?"


@dataclass(slots=True)
class _Check:
    connection: sqlite3.Connection
    catalog: Catalog
    extractor: Extractor
    tally: Tally
    names: dict[int, str] = field(default_factory=dict)
    codes: dict[int, str] = field(default_factory=dict)

    def slice(self, low: int, high: int) -> Iterator[Finding]:
        """The findings of the resources with `low` < rid <= `high`."""
        execute, bounds = self.connection.execute, (low, high)
        self.names = dict(execute("SELECT number, name FROM type").fetchall())
        self.codes = dict(execute("SELECT number, code FROM parameter").fetchall())
        rows = rows_between(self.connection, low, high)
        past: dict[int, list[Past]] = defaultdict(list)
        for old in map(
            Past._make, execute("SELECT * FROM history WHERE rid > ? AND rid <= ? ORDER BY rid, version", bounds)
        ):
            past[old.rid].append(old)
        for row in map(Current._make, execute(_CURRENT, bounds)):
            yield from self.told(self.resource(row, rows.pop(row.rid, {}), past.pop(row.rid, [])), self.name(row))
        for rid in rows:
            yield from self.told([("entry-orphan", "rows of a resource that does not exist")], f"row {rid}")
        for rid in past:
            yield from self.told([("history-orphan", "versions of a resource that does not exist")], f"row {rid}")
        for rid, fault in self.owners(low, high):
            yield from self.told([("owner", fault)], f"row {rid}")

    def told(self, faults: Any, where: str) -> Iterator[Finding]:
        for rule, detail in faults:
            self.tally.findings[rule] += 1
            yield Finding(rule, where, detail)

    def name(self, row: Current) -> str:
        return f"{self.names.get(row.type, f'type {row.type}')}/{row.id}"

    def resource(self, row: Current, rows: RowSets, past: list[Past]) -> Iterator[Fault]:
        """Everything about one row of `resource`."""
        self.tally.resources += row.state == LIVE
        self.tally.versions += len(past) + (row.version > 0)
        yield from state_faults(row)
        whole = len(past) == max(row.version - 1, 0)
        yield from history_faults(row, past, 1 if whole else first_version(self.connection, row.rid))
        if row.type not in self.names:
            yield "state", f"type {row.type} does not exist"
            return
        key = ResourceKey(self.names[row.type], row.id)
        for old in past:
            if old.body:
                yield from read_body(key, old.version, old.updated, old.body)[1]
        if row.state == LIVE:
            resource, faults = read_body(key, row.version, row.updated, row.body)
            yield from faults
            if resource is not None:
                yield from self.live(row, key, resource, rows)
        elif row.state == CONTAINED:
            sql = "SELECT type, id FROM resource WHERE rid = ? AND state = 1"
            container = self.connection.execute(sql, (row.container,)).fetchone()
            if container is None or row.id.partition("#")[0] != container[1]:
                yield "contained", "its container is no live resource"
        elif any(rows.values()):
            yield "entry-orphan", f"rows of a resource in state {row.state}"

    def live(self, row: Current, key: ResourceKey, resource: Resource, rows: RowSets) -> Iterator[Fault]:
        """The index of a live resource."""
        if bool(row.released) != released(resource):
            yield "released", f"released is {row.released}"
        try:
            wanted = expected(self.extractor.extract(resource, key), key, row.rid, Lookup(self.catalog))
        except Exception as error:  # noqa: BLE001  (a body that was valid when it was written makes entries; this one was changed)
            yield "body", f"no entries can be made of it ({type(error).__name__})"
            return
        inside = contained_in(self.connection, row.rid)
        if inside != set(wanted.contained.values()):
            yield "contained", f"{len(wanted.contained)} contained resources, {len(inside)} known to the store"
        actual = {table: set(found) for table, found in rows.items()}
        for table, found in rows_of(self.connection, inside).items():
            actual.setdefault(table, set()).update(found)
        if missing := unnamed(row.prints, actual):
            yield "prints", f"they name no rows in {', '.join(sorted(missing))}"
        yield from self.compared(wanted, actual)

    def compared(self, wanted: Expected, actual: RowSets) -> Iterator[Fault]:
        for table, must in wanted.rows.items():
            self.tally.rows += len(must)
            have = actual.get(table, set())
            if must == have:
                continue
            if table == "compartment":
                yield "compartment", f"{len(must - have)} rows missing, {len(have - must)} too many"
                continue
            missing, extra = must - have, have - must
            marks = {row[:-1] for row in missing} & {row[:-1] for row in extra} if table in MARKED else set()
            for rule, found in (
                ("entry-mark", [row for row in missing if row[:-1] in marks]),
                ("entry-missing", [row for row in missing if row[:-1] not in marks]),
                ("entry-extra", [row for row in extra if row[:-1] not in marks]),
            ):
                for param, count in sorted(Counter(row[0] for row in found).items()):
                    code = self.codes.get(abs(param), "a parameter that the store does not know")
                    inside = " (contained)" if param < 0 else ""
                    yield rule, f"{table} {code}{inside}: {count} row{'s' * (count > 1)}"

    def owners(self, low: int, high: int) -> Iterator[tuple[int, str]]:
        """Owner rows whose resource is not live or has another type, or whose organization is none."""
        sql = """SELECT o.rid FROM owner o INDEXED BY owner_rid LEFT JOIN resource r ON r.rid = o.rid
            LEFT JOIN resource g ON g.rid = o.organization LEFT JOIN type t ON t.number = g.type
            WHERE o.rid > ? AND o.rid <= ? AND (r.state IS NOT 1 OR r.type IS NOT o.type OR t.name IS NOT 'Organization')"""
        for (rid,) in self.connection.execute(sql, (low, high)):
            yield rid, "an owner row without its live resource or its organization"

    def wordings(self) -> Iterator[Finding]:
        """Words of texts that no search finds, and words that no text has."""
        execute, low, words, faulty = self.connection.execute, 0, 0, 0
        with snapshot(self.connection):
            while rows := execute(
                "SELECT number, text FROM wording WHERE number > ? ORDER BY number LIMIT ?", (low, SLICE)
            ).fetchall():
                for number, text in rows:
                    found = {(word, number) for word in text.split()}
                    words += len(found)
                    faulty += not all(execute(_WORD, one).fetchone() for one in found)
                low = rows[-1][0]
            extra = execute("SELECT count(*) FROM wording_word").fetchone()[0] - words
        if faulty:
            yield from self.told([("wording", f"words of {faulty} texts are not indexed")], "texts")
        elif extra:
            yield from self.told([("wording", f"{extra} words are of no text")], "texts")

    def times(self) -> Iterator[Finding]:
        """Times that two versions share, over the whole store."""
        sql = """SELECT updated, count(*) FROM (
            SELECT updated FROM resource INDEXED BY resource_updated WHERE version > 0 UNION ALL
            SELECT updated FROM history INDEXED BY history_updated) GROUP BY updated HAVING count(*) > 1"""
        for updated, count in self.connection.execute(sql).fetchall():
            yield from self.told([("updated", f"{count} versions have this time")], f"time {updated}")


def _file(connection: sqlite3.Connection, thorough: bool) -> Iterator[Finding]:
    for (line,) in connection.execute(f"PRAGMA {'integrity_check' if thorough else 'quick_check'}").fetchall():
        if line != "ok":
            yield Finding("file", "store", str(line).partition("\n")[0])


def _schema(connection: sqlite3.Connection) -> Iterator[Finding]:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != len(MIGRATIONS):
        yield Finding("schema", "store", f"version {version}; this software has version {len(MIGRATIONS)}")
        return
    sql = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    have = dict(connection.execute(sql).fetchall())
    for name in sorted(TABLES.keys() | have.keys()):
        if _squeezed(TABLES.get(name)) != _squeezed(have.get(name)):
            yield Finding("schema", name, "missing, added or changed")


def _squeezed(sql: str | None) -> str | None:
    return None if sql is None else "".join(sql.split())
