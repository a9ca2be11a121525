"""`reindex`: makes index rows again from the stored bodies, as a persisted job in small batches beside running writers.

Rules.
1. Rows are compared first, in a snapshot and without any lock; only what differs is written, in one transaction per batch.
2. A resource that was written meanwhile (another version) is passed over: its writer has made its rows.
3. How far the work is, is kept with the job about once a second; whoever claims it later goes on there. Doing a batch twice does
   no harm.
4. Narrowed to a parameter, rows of other parameters stay as they are. Owners are given by writers and never made here.
5. The end is a sample, compared once more, and a follow-up row of kind `report` that says what was done. A sample that disagrees
   fails the job.
"""

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fhir_server.integrity.bases import extractor_of
from fhir_server.integrity.check import HIGHEST, LOWEST, slice_end, snapshot
from fhir_server.integrity.expected import (
    KEY_COLUMNS,
    MADE_TABLES,
    MARKED,
    Expected,
    Lookup,
    RowSets,
    contained_in,
    expected,
    rows_of,
    unnamed,
)
from fhir_server.interactions.prepare import released
from fhir_server.jobs.port import Handler, Interrupted, Job, Payload, waiting
from fhir_server.jobs.queue import SqliteJobQueue
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.batch import Batch
from fhir_server.storage.sqlite.catalog import Catalog, Numbers
from fhir_server.storage.sqlite.connection import FileLock
from fhir_server.storage.sqlite.custom import settle
from fhir_server.storage.sqlite.rows import Allot
from resources.definitions import load
from resources.json_format import decode
from resources.model import ResourceKey
from search.dialects.sqlite.layout import CONTAINED, LIVE, UNKNOWN
from search.extract import Extractor
from search.parameters import COLUMNS, Registry

WORK: Final = "reindex"
REPORT: Final = "report"
BATCH: Final = 200
SAMPLE: Final = 500
KEEP_EVERY: Final = 1.0


class StillWrong(Exception):  # noqa: N818  (what the job's row says)
    """The sample after a reindex disagrees with its resources."""


def job_key(kind: str | None, parameter: str | None) -> str:
    """The key of the job: one at a time of each extent."""
    return "/".join((WORK, kind or "*", parameter or "*"))


def new_job(kind: str | None, parameter: str | None, now: int) -> dict[str, Any]:
    """The job's data for the queue. `kind`, `parameter`: only this resource type, this search parameter."""
    payload = {"type": kind, "parameter": parameter, "after": LOWEST, "seen": 0, "changed": 0, "unreadable": 0}
    return waiting(WORK, payload, now)


def refusal(kind: str | None, parameter: str | None, registry: Registry) -> str | None:
    """Why there is no such reindex by the parameters of `registry`; None when there is."""
    definitions = load()
    if kind is not None and not definitions.is_resource(kind):
        return f"there is no resource type {kind}"
    kinds = (kind,) if kind is not None else definitions.resource_types
    if parameter is not None and not any(codes_of(registry, one, parameter) for one in kinds):
        return f"no rows are kept for a search parameter {parameter}" + (f" of {kind}" if kind else "")
    return None


def reindex_handler(
    connection: sqlite3.Connection,
    lock: FileLock,
    settings: Settings,
    tell: Callable[[Payload], None] = lambda _payload: None,
) -> Handler:
    """The handler of `reindex` over one connection; the definitions are loaded by each job. `tell` hears how far it is."""
    queue = SqliteJobQueue(connection, lock)

    def handle(job: Job, leaving: Callable[[], bool]) -> Payload:
        registry, extractor = extractor_of(connection, settings)
        run = _Run(connection, lock, registry, extractor, dict(job.payload))
        kept = time.monotonic()
        while run.state["after"] < HIGHEST:
            if leaving():
                raise Interrupted(run.state)
            run.batch()
            tell(run.state)
            if time.monotonic() - kept > KEEP_EVERY:
                if not queue.progress(job, run.state, _now()):
                    raise Interrupted(run.state)
                kept = time.monotonic()
        report = dict(run.state)
        sampled, wrong = run.sample(random.Random(job.key))  # noqa: S311  (a sample, no secret)
        report |= {"sampled": sampled, "wrong": wrong, "finished": _now()}
        with lock.held():
            sql = "INSERT OR REPLACE INTO follow_up VALUES (?, ?, ?)"
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(sql, (REPORT, job.key, json.dumps(report)))
                fault = f"{wrong} of {sampled} sampled resources disagreed after its reindex" if wrong else ""
                settle(connection, run.state["type"], run.state["parameter"], registry, fault)
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        if wrong:
            raise StillWrong(f"{wrong} of {sampled} sampled resources disagree with their rows")
        return {}

    return handle


class _Seen(NamedTuple):
    """A resource as the comparison saw it."""

    rid: int
    type: int
    id: str
    version: int
    state: int
    released: int
    body: bytes
    prints: bytes


_COLUMNS: Final = "rid, type, id, version, state, released, body, prints"
_DELETES: Final = {
    table: f"DELETE FROM {table} WHERE {' AND '.join(f'{column} = ?' for column in columns)}"  # noqa: S608  (no value in it)
    for table, columns in KEY_COLUMNS.items()
}
_INSERTS: Final = {
    table: f"INSERT INTO {table} VALUES ({', '.join('?' * (len(columns) + (table in MARKED)))})"  # noqa: S608
    for table, columns in KEY_COLUMNS.items()
}


@dataclass(slots=True)
class _Run:
    """The work of one job; `state` is what is kept of it."""

    connection: sqlite3.Connection
    lock: FileLock
    registry: Registry
    extractor: Extractor
    state: dict[str, Any]
    catalog: Catalog = field(init=False)
    covered: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.connection, Numbers())

    def batch(self) -> None:
        """Compare the next resources and write what differs."""
        with snapshot(self.connection):
            seen, high = self.next_ones()
            differing = [one for one in seen if self.differs(one)]
        if differing:
            with self.writing() as batch:
                self.state["changed"] += sum(self.repaired(one, batch) for one in differing)
        self.state["seen"] += len(seen)
        self.state["after"] = high

    def next_ones(self) -> tuple[list[_Seen], int]:
        """Resources after the last batch, and the row number that the next begins after."""
        low, kind = self.state["after"], self.state["type"]
        if kind is not None:
            sql = f"SELECT {_COLUMNS} FROM resource WHERE type = ? AND state = 1 AND rid > ? ORDER BY rid LIMIT ?"  # noqa: S608
            seen = [_Seen._make(row) for row in self.connection.execute(sql, (self.catalog.type(kind), low, BATCH))]
            return seen, seen[-1].rid if len(seen) == BATCH else HIGHEST
        high = slice_end(self.connection, low, BATCH)
        sql = f"SELECT {_COLUMNS} FROM resource WHERE rid > ? AND rid <= ? ORDER BY rid"  # noqa: S608
        seen = [_Seen._make(row) for row in self.connection.execute(sql, (low, high))]
        return seen + self.strays(low, high, {one.rid for one in seen}), high

    def strays(self, low: int, high: int, known: set[int]) -> list[_Seen]:
        """Row numbers with rows and without a resource."""
        found: set[int] = set()
        for table in MADE_TABLES:
            sql = f"SELECT DISTINCT rid FROM {table} INDEXED BY {table}_rid WHERE rid > ? AND rid <= ?"  # noqa: S608
            found.update(row[0] for row in self.connection.execute(sql, (low, high)))
        return [_Seen(rid, 0, "", 0, UNKNOWN, 1, b"", b"") for rid in sorted(found - known)]

    def differs(self, one: _Seen) -> bool:
        """Whether anything of it has to be written."""
        if one.state == CONTAINED and self.is_contained(one):
            return False
        try:
            wanted = self.wanted(one, Lookup(self.catalog))
        except Exception:  # noqa: BLE001  (a body that was changed by hand does not stop the others; `check` names it)
            self.state["unreadable"] += 1
            return False
        inside = contained_in(self.connection, one.rid)
        if inside != set(wanted.contained.values()) or one.state == CONTAINED:
            return True
        actual = rows_of(self.connection, {one.rid, *inside})
        missing, extra = self.difference(wanted, actual)
        return (
            any(missing.values())
            or any(extra.values())
            or bool(unnamed(one.prints, actual))
            or self.released_differs(one)
        )

    def is_contained(self, one: _Seen) -> bool:
        """Whether its container is there, which accounts for its rows."""
        sql = """SELECT 1 FROM resource c JOIN resource r ON r.rid = c.container
            WHERE c.rid = ? AND r.state = 1 AND substr(c.id, 1, length(r.id) + 1) = r.id || '#'"""
        return self.connection.execute(sql, (one.rid,)).fetchone() is not None

    def released_differs(self, one: _Seen) -> bool:
        return (
            one.state == LIVE and self.state["parameter"] is None and bool(one.released) != released(decode(one.body))
        )

    def wanted(self, one: _Seen, allot: Allot) -> Expected:
        """The rows it must have; none unless it is live."""
        if one.state != LIVE:
            return Expected({}, {})
        key = ResourceKey(self.catalog.type_name(one.type), one.id)
        return expected(self.extractor.extract(decode(one.body), key), key, one.rid, allot)

    def difference(self, wanted: Expected, actual: RowSets) -> tuple[RowSets, RowSets]:
        """Missing rows and rows too many, of the parameter concerned."""
        missing, extra = {}, {}
        for table, have in actual.items():
            must = wanted.rows.get(table, set())
            if must != have:
                missing[table] = {row for row in must - have if self.concerns(table, row)}
                extra[table] = {row for row in have - must if self.concerns(table, row)}
        return missing, extra

    def concerns(self, table: str, row: tuple[Any, ...]) -> bool:
        """Whether a row belongs to what this job makes again."""
        parameter = self.state["parameter"]
        if parameter is None:
            return True
        if table == "compartment":
            return False
        found = self.connection.execute("SELECT type, code FROM parameter WHERE number = ?", (abs(row[0]),)).fetchone()
        if found is None:
            return bool(row[0] == 0)  # a parameter that has no rows yet, perhaps the one concerned
        kind, code = found
        if kind not in self.covered:
            self.covered[kind] = codes_of(self.registry, kind, parameter)
        return code.partition("|")[0].partition("/")[0] in self.covered[kind]

    @contextmanager
    def writing(self) -> Iterator[Batch]:
        """One write transaction; numbers that were allotted in it are forgotten when it fails."""
        with self.lock.held():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                batch = Batch(self.connection, self.catalog, lambda _query, _limit: frozenset())
                yield batch
                self.connection.execute("COMMIT")
            except BaseException:
                self.catalog.numbers = Numbers()
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def repaired(self, one: _Seen, batch: Batch) -> bool:
        """Write what differs of one resource, unless it was written meanwhile; whether anything was."""
        sql = f"SELECT {_COLUMNS} FROM resource WHERE rid = ?"  # noqa: S608
        row = self.connection.execute(sql, (one.rid,)).fetchone()
        if row is not None and (row[3], row[4]) != (one.version, one.state):
            return False
        if one.state == CONTAINED and self.is_contained(one):
            return False
        wanted = self.wanted(one, batch)
        batch.flush()
        inside = contained_in(self.connection, one.rid)
        missing, extra = self.difference(
            wanted, rows_of(self.connection, {one.rid, *inside, *wanted.contained.values()})
        )
        for table, rows in extra.items():
            self.connection.executemany(_DELETES[table], [row[: len(KEY_COLUMNS[table])] for row in rows])
        for table, rows in missing.items():
            self.connection.executemany(_INSERTS[table], sorted(rows))
        execute = self.connection.executemany
        execute(
            f"UPDATE resource SET state = {CONTAINED}, container = ? WHERE rid = ?",  # noqa: S608
            [(one.rid, rid) for rid in wanted.contained.values()],
        )
        gone = [(rid,) for rid in inside.difference(wanted.contained.values())]
        gone += [(one.rid,)] if one.state == CONTAINED else []
        execute(f"UPDATE resource SET state = {UNKNOWN}, container = NULL WHERE rid = ?", gone)  # noqa: S608
        execute("UPDATE resource SET prints = x'' WHERE rid = ?", [(one.rid,)])  # what they named is not what is there
        if self.released_differs(one):
            execute("UPDATE resource SET released = ? WHERE rid = ?", [(released(decode(one.body)), one.rid)])
        return True

    def sample(self, chance: random.Random) -> tuple[int, int]:
        """Compare some resources once more: how many, and how many of them disagree."""
        with snapshot(self.connection):
            kind = self.state["type"]
            where, bound = ("", ()) if kind is None else ("AND type = ?", (self.catalog.type(kind),))
            last = self.connection.execute("SELECT coalesce(max(rid), 0) FROM resource").fetchone()[0]
            starts = range(last) if last <= SAMPLE else [chance.randrange(last) for _ in range(SAMPLE)]
            sql = f"SELECT {_COLUMNS} FROM resource WHERE state = 1 {where} AND rid > ? ORDER BY rid LIMIT 1"  # noqa: S608
            rows = [self.connection.execute(sql, (*bound, start)).fetchone() for start in starts]
            sampled = {row[0]: _Seen._make(row) for row in rows if row is not None}
            return len(sampled), sum(map(self.differs, sampled.values()))


def codes_of(registry: Registry, kind: str, parameter: str) -> frozenset[str]:
    """The codes under which a type's entries of a parameter are stored; empty when it has none."""
    found = registry.find(kind, parameter)
    if found is None or not found.searchable or parameter in COLUMNS:
        return frozenset()
    parts = [row for one in found.components if found.conjunction for row in one.rows]
    parts += [row for one in found.alternatives for row in one.rows]
    return frozenset(row.partition("/")[0] for row in (*found.rows, *parts))


def _now() -> int:
    return time.time_ns() // 1000
