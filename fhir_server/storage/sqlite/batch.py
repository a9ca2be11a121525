"""The units of one transaction: each is checked whole before anything of it is written, so a unit that fails leaves no trace.

Rules. Rows are collected and written sorted, table by table, at the end or before a guard's query has to see them. Versions,
lastUpdated and row numbers are given here, under the lock of all writers. What a refused unit changed is nothing: no savepoint.
Statements name their index: the statistics that a connection plans by are those of the moment when it was opened.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from fhir_server.storage.port import Conflict, Delete, FollowUp, Guard, Put, UnitOfWork, Written
from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.concepts import CONCEPT_TYPES, forget
from fhir_server.storage.sqlite.custom import RESOURCE, follow
from fhir_server.storage.sqlite.references import require_targets, require_unreferred
from fhir_server.storage.sqlite.rows import Rows, add_rows
from resources.model import ResourceKey
from search.dialects.sqlite.layout import CONTAINED, DELETED, LIVE, UNKNOWN, spaced
from search.entries import Entries
from search.prints import kinds_of, unchanged, without
from search.query import And, Match, Node, Query, TokenTest

Method = Literal["POST", "PUT", "PATCH", "DELETE"]
METHODS: Final[tuple[Method, ...]] = ("POST", "PUT", "PATCH", "DELETE")
"""`method` columns hold the position in this tuple."""

_INSERTS: Final = {
    table: f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608  (no value in it)
    for table, columns in (
        ("token", 7), ("string", 6), ("date", 6), ("number", 6), ("quantity", 9), ("reference", 8), ("uri", 5),
        ("position", 4), ("word", 4),
        ("compartment", 3), ("owner", 3),
    )
}  # fmt: skip
_STATE: Final = (
    "SELECT (SELECT coalesce(max(rid), 0) + 1 FROM resource),"
    " coalesce((SELECT value FROM meta WHERE key = 'wordings'), 0)"
)
_CURRENT: Final = "SELECT rid, version, updated, state, method, body, prints FROM resource WHERE type = ? AND id = ?"
_OWNERS: Final = "SELECT r.type, r.id FROM owner o INDEXED BY owner_rid CROSS JOIN resource r WHERE o.rid = ? AND r.rid = o.organization"
_INSERT_RESOURCE: Final = "INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_LIVE: Final = (
    "UPDATE resource SET version = ?, updated = ?, method = ?, released = ?, body = ?, prints = ? WHERE rid = ?"
)
_UPDATE_RESOURCE: Final = _UPDATE_LIVE.replace(" WHERE", ", state = ? WHERE")
"""Of a resource that is not live before and after: to write the state is to write the index of live ones, even when it stays."""


@dataclass(slots=True)
class _Resource:
    """A resource of this transaction: as the store has it, then as it will be. `fresh`: not in the table yet.

    `indexed`: it has index rows, of which `prints` and the owners `owned` tell (None: not looked up).
    """

    rid: int
    key: ResourceKey
    version: int
    updated: int
    state: int
    method: int
    body: bytes
    fresh: bool
    indexed: bool
    prints: bytes = b""
    owned: tuple[ResourceKey, ...] | None = None
    released: bool = True
    entries: Entries | None = None
    new_prints: bytes = b""
    organizations: tuple[ResourceKey, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it is there."""
        return self.state == LIVE

    def kept(self) -> frozenset[str]:
        """The tables in which its rows stay as they are."""
        if not self.indexed or self.entries is None:
            return frozenset()
        kept = unchanged(self.prints, self.new_prints)
        return kept | {"owner"} if self.owned and set(self.owned) == set(self.organizations) else kept

    def dropped(self, kept: frozenset[str]) -> Iterable[str]:
        """The tables in which it has rows that go; more when that is not known."""
        if not self.indexed:
            return ()
        had = kinds_of(self.prints) if self.prints else frozenset(_INSERTS)
        return (had if self.owned == () else had | {"owner"}) - kept


class Batch:
    """One transaction's work on the writer's connection; `matches` runs a guard's query there, with at most so many rows."""

    def __init__(
        self, connection: sqlite3.Connection, catalog: Catalog, matches: Callable[[Query, int], frozenset[ResourceKey]]
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._numbers = catalog.numbers
        self._matches = matches
        self._next: int
        self._next, removals = connection.execute(_STATE).fetchone()
        self._numbers.follow_wordings(removals)
        self._last: int = connection.execute(
            "SELECT coalesce(max(updated), 0) FROM resource INDEXED BY resource_updated WHERE version > 0"
        ).fetchone()[0]
        self._looked: dict[ResourceKey, _Resource] = {}
        self._changed: dict[int, _Resource] = {}
        self._stubs: dict[int, ResourceKey] = {}
        self._allotted: dict[ResourceKey, int] = {}
        self._codes: set[str] = set()
        self._history: list[tuple[Any, ...]] = []
        self._words: list[tuple[str, int]] = []
        self._follow_ups: list[tuple[str, str, str]] = []
        self._concepts_change = False
        self._parameters_change: dict[str, bytes] = {}

    def apply(self, unit: UnitOfWork) -> tuple[Written, ...]:
        """Check the unit, then take its writes over. Raises Conflict, having changed nothing."""
        for guard in unit.guards:
            self._check_guard(guard)
        ahead: dict[ResourceKey, tuple[int, bool]] = {}
        for write in unit.writes:
            put = isinstance(write, Put)
            current = self._current(write.key, fresh=isinstance(write, Put) and write.fresh)
            version, live = ahead.get(write.key, (current.version, current.state == LIVE))
            if write.expected is not None and write.expected != (version if live else 0):
                raise Conflict("exists" if write.expected == 0 else "version", write.key)
            ahead[write.key] = (version + (put or live), put)
        if unit.enforce_references:
            self._check_references(unit)
        outcome = tuple(self._put(w) if isinstance(w, Put) else self._delete(w) for w in unit.writes)
        self._follow_ups += [_follow_up(row) for row in unit.follow_ups]
        return outcome

    def _check_guard(self, guard: Guard) -> None:
        if self._changed and self._concerns(guard.query):
            self.flush()
        if self._matches(guard.query, len(guard.keys) + 1) != guard.keys:
            raise Conflict("guard", None)

    def _concerns(self, query: Query) -> bool:
        """Whether the query may have to see what this transaction has changed: not when all of that is new and lacks its code."""
        wanted = _code_of(query.where)
        return (
            wanted is None
            or query.contained != "no"
            or bool(query.others)
            or not self._codes.isdisjoint(wanted)
            or any(not resource.fresh for resource in self._changed.values())
        )

    def _check_references(self, unit: UnitOfWork) -> None:
        require_targets(unit, self._current)
        if any(isinstance(write, Delete) for write in unit.writes):
            if self._changed:
                self.flush()
            require_unreferred(unit, self._current, self._connection)

    def _current(self, key: ResourceKey, *, fresh: bool = False) -> _Resource:
        """The resource as it is now; one under a `fresh` key is not looked for."""
        found = self._looked.get(key)
        if found is None:
            values = (self.type(key.type), key.id)
            row = None if fresh else self._connection.execute(_CURRENT, values).fetchone()
            if row is not None:
                rid, version, updated, state, method, body, prints = row
                found = _Resource(
                    rid, key, version, updated, state, method, body, fresh=False, indexed=state == LIVE, prints=prints
                )
            else:
                rid = self._numbers.rids.get(key, 0)
                found = _Resource(
                    rid if rid in self._stubs else 0, key, 0, 0, UNKNOWN, 0, b"", fresh=True, indexed=False
                )
            self._looked[key] = found
        return found

    def _put(self, write: Put) -> Written:
        resource = self._current(write.key)
        created = resource.state != LIVE
        if not created and write.body.body(resource.version, resource.updated) == resource.body:
            return Written(
                write.key, resource.version, resource.updated, created=False, changed=False, body=resource.body
            )
        owners = (*self._owners(resource), *write.organizations)
        self._supersede(resource, LIVE, write.method)
        resource.body = write.body.body(resource.version, resource.updated)
        resource.entries, resource.new_prints = write.entries, write.prints
        resource.released, resource.organizations = write.released, owners
        self._codes.update([entry.code for entry in write.entries.tokens])
        if write.key.type == RESOURCE:
            self._parameters_change[write.key.id] = resource.body
        return Written(write.key, resource.version, resource.updated, created=created, changed=True, body=resource.body)

    def _owners(self, resource: _Resource) -> tuple[ResourceKey, ...]:
        """Who owns it already: an update takes it from nobody."""
        if not resource.live or resource.entries is not None:
            return resource.organizations
        rows = self._connection.execute(_OWNERS, (resource.rid,)).fetchall()
        resource.owned = tuple(ResourceKey(self._catalog.type_name(kind), name) for kind, name in rows)
        return resource.owned

    def _delete(self, write: Delete) -> Written:
        resource = self._current(write.key)
        changed = resource.state == LIVE
        if changed:
            self._supersede(resource, DELETED, "DELETE")
            resource.body, resource.entries, resource.new_prints, resource.organizations = b"", None, b"", ()
        return Written(write.key, resource.version, resource.updated, created=False, changed=changed, body=b"")

    def _supersede(self, resource: _Resource, state: int, method: Method) -> None:
        number = self.type(resource.key.type)
        if resource.version:
            self._history.append(
                (
                    resource.rid, resource.version, number, resource.updated, resource.method,
                    int(resource.state == DELETED), resource.body,
                )
            )  # fmt: skip
        if resource.rid == 0:
            resource.rid = self._numbers.rids.get(resource.key) or self._allot(resource.key)
        self._last = max(time.time_ns() // 1000, self._last + 1)
        resource.version += 1
        resource.updated, resource.state, resource.method = self._last, state, METHODS.index(method)
        self._changed[resource.rid] = resource
        self._concepts_change |= resource.key.type in CONCEPT_TYPES
        if resource.key.type == RESOURCE:
            self._parameters_change[resource.key.id] = b""

    # ---- numbers: see rows.Allot

    def type(self, name: str) -> int:
        """The number of a resource type."""
        number = self._numbers.types.get(name) or self._catalog.type(name)
        if number < 0:
            number = self._insert("INSERT INTO type(name) VALUES (?)", (name,))
            self._numbers.keep_type(name, number)
        return number

    def parameter(self, base: str, code: str) -> int:
        """The number of a parameter."""
        number = self._numbers.parameters.get((base, code)) or self._catalog.parameter(base, code)
        if number < 0:
            number = self._insert("INSERT INTO parameter(type, code) VALUES (?, ?)", (base, code))
            self._numbers.parameters[base, code] = number
        return number

    def term(self, text: str) -> int:
        """The number of a system or unit."""
        number = self._numbers.terms.get(text)
        if number is None:
            number = self._catalog.term(text)
        if number < 0:
            number = self._insert("INSERT INTO term(text) VALUES (?)", (text,))
            self._numbers.keep_term(text, number)
        return number

    def wording(self, code: str, system: int, text: str) -> int:
        """The number of a text that stands beside a code; a new one is indexed by its words."""
        number = self._catalog.wording(code, system, text)
        if number < 0:
            number = self._insert(
                "INSERT INTO wording(code, system, text) VALUES (?, ?, ?)", (code, system, spaced(text))
            )
            self._words += {(word, number) for word in text.split()}
            self._numbers.keep_wording((code, system, text), number)
        return number

    def known(self, key: ResourceKey) -> int:
        """The row number of a resource; one that was never heard of gets the next."""
        rid = self._numbers.rids.get(key) or self._allotted.get(key) or self._catalog.rid(key)
        return rid if rid > 0 else self._allot(key)

    def _allot(self, key: ResourceKey) -> int:
        rid = self._next
        self._next += 1
        self._stubs[rid] = key
        self._allotted[key] = rid  # the shared dictionary forgets, and the table does not have it before the flush
        self._numbers.keep_rid(key, rid)
        return rid

    def _insert(self, sql: str, values: tuple[object, ...]) -> int:
        number = self._connection.execute(sql, values).lastrowid
        assert number is not None
        return number

    # ---- writing

    def flush(self) -> None:
        """Write everything collected so far."""
        rows: Rows = {table: [] for table in _INSERTS}
        stale: dict[str, list[tuple[int]]] = {table: [] for table in _INSERTS}
        contained: dict[int, tuple[ResourceKey, int]] = {}
        for resource in self._changed.values():
            kept = resource.kept()
            if resource.entries is not None:
                self._collect(rows, contained, resource, resource.entries, kept)
            gone = [(rid,) for rid in self._with_contained(resource)] if resource.indexed else []
            for table in resource.dropped(kept):
                stale[table] += gone
        self._write_resources(contained)
        self._many("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?)", self._history)
        for table, collected in rows.items():
            self._many(f"DELETE FROM {table} INDEXED BY {table}_rid WHERE rid = ?", stale[table])  # noqa: S608
            collected.sort()
            self._many(_INSERTS[table], collected)
        self._words.sort()
        self._many("INSERT INTO wording_word VALUES (?, ?)", self._words)
        self._many("INSERT OR REPLACE INTO follow_up VALUES (?, ?, ?)", self._follow_ups)
        if self._concepts_change:
            forget(self._connection)
        if self._parameters_change:
            follow(self._connection, self._parameters_change)
            self._parameters_change = {}
        self._allotted.clear()
        for pending in (
            self._looked, self._changed, self._codes, self._stubs, self._history, self._words, self._follow_ups,
        ):  # fmt: skip
            pending.clear()

    def _collect(
        self,
        rows: Rows,
        contained: dict[int, tuple[ResourceKey, int]],
        resource: _Resource,
        entries: Entries,
        kept: frozenset[str],
    ) -> None:
        rid, key = resource.rid, resource.key
        number = self.type(key.type)
        add_rows(rows, without(entries, kept) if kept else entries, key, rid, self)
        if "compartment" not in kept:
            rows["compartment"] += {(self.known(owner), number, rid) for owner in entries.compartments}
        if "owner" not in kept:
            rows["owner"] += {(self.known(organization), number, rid) for organization in resource.organizations}
        for (kind, local), inner in entries.contained.items():
            inside = ResourceKey(kind, f"{key.id}#{local}")
            inside_rid = self.known(inside)
            contained[inside_rid] = (inside, rid)
            add_rows(rows, inner, inside, inside_rid, self, sign=-1)

    def _with_contained(self, resource: _Resource) -> list[int]:
        """The row numbers of the resource and of what it contained, which is no more unless it is written again."""
        if resource.prints:
            return [resource.rid]
        sql = "SELECT rid FROM resource INDEXED BY contained WHERE container = ?"
        inside = self._connection.execute(sql, (resource.rid,)).fetchall()
        self._many(f"UPDATE resource SET state = {UNKNOWN}, container = NULL WHERE rid = ?", inside)  # noqa: S608
        return [resource.rid, *(rid for (rid,) in inside)]

    def _write_resources(self, contained: dict[int, tuple[ResourceKey, int]]) -> None:
        fresh: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        still_live: list[tuple[Any, ...]] = []
        for resource in self._changed.values():
            r = resource
            if r.fresh:
                fresh.append(
                    (
                        r.rid,
                        self.type(r.key.type),
                        r.key.id,
                        r.version,
                        r.updated,
                        r.state,
                        r.method,
                        r.released,
                        None,
                        r.body,
                        r.new_prints,
                    )
                )
                self._stubs.pop(r.rid, None)
            elif r.indexed and r.live:
                still_live.append((r.version, r.updated, r.method, r.released, r.body, r.new_prints, r.rid))
            else:
                changed.append((r.version, r.updated, r.method, r.released, r.body, r.new_prints, r.state, r.rid))
        for rid, key in self._stubs.items():
            container = contained.pop(rid, (key, None))[1]
            state = UNKNOWN if container is None else CONTAINED
            fresh.append((rid, self.type(key.type), key.id, 0, 0, state, 0, 1, container, b"", b""))
        fresh.sort()
        self._many(_INSERT_RESOURCE, fresh)
        self._many(_UPDATE_LIVE, still_live)
        self._many(_UPDATE_RESOURCE, changed)
        again = [(CONTAINED, container, rid) for rid, (_, container) in contained.items()]
        self._many("UPDATE resource SET state = ?, container = ? WHERE rid = ?", again)

    def _many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self._connection.executemany(sql, rows)


def _code_of(node: Node) -> tuple[str, ...] | None:
    """Spellings of a code one of which every match has; None when the node asks for no code."""
    match node:
        case Match(test=TokenTest(codes=codes), identifier=False):
            return codes
        case And(parts):
            return next((codes for part in parts if (codes := _code_of(part)) is not None), None)
        case _:
            return None


def _follow_up(row: FollowUp) -> tuple[str, str, str]:
    return row.kind, row.key, msgspec.json.encode(row.data).decode()
