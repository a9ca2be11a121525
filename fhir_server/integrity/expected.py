"""Index rows as they must be, made from a resource, and as they are, read from the store: both in the layout's column order.

Rows of contained resources belong to their container. `owner` rows are given by the writer and cannot be made from a body.
See docs/index-layout.md.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.rows import Allot, Rows, add_rows
from resources.model import ResourceKey
from search.dialects.sqlite.layout import INDEX_TABLES, TABLES
from search.entries import Entries
from search.prints import kinds_of

MADE_TABLES: Final = (*INDEX_TABLES, "compartment")
"""The tables whose rows are made from the resource alone."""

MARKED: Final = frozenset(table for table in MADE_TABLES if " mark INTEGER" in TABLES[table])
"""The tables whose last column is a mark."""

KEY_COLUMNS: Final = {
    table: TABLES[table].partition("PRIMARY KEY(")[2].partition(")")[0].split(", ") for table in MADE_TABLES
}
"""Table -> columns of its primary key, which are its first ones."""

RowSets = dict[str, set[tuple[Any, ...]]]
"""Table -> rows."""


class Lookup:
    """Numbers of names over the committed dictionaries (see `rows.Allot`); a name without a number gets one that no row has."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def type(self, name: str) -> int:
        """The number of a resource type, or 0."""
        return max(self._catalog.type(name), 0)

    def parameter(self, base: str, code: str) -> int:
        """The number of a parameter, or 0."""
        return max(self._catalog.parameter(base, code), 0)

    def term(self, text: str) -> int:
        """The number of a system or unit, or -1."""
        return max(self._catalog.term(text), -1)

    def wording(self, code: str, system: int, text: str) -> int:
        """The number of a text beside a code, or -1."""
        return max(self._catalog.wording(code, system, text), -1)

    def known(self, key: ResourceKey) -> int:
        """The row number of a resource, or 0."""
        return max(self._catalog.rid(key), 0)


@dataclass(frozen=True, slots=True)
class Expected:
    """The rows of a resource and of what it contains; `contained`: the row numbers of these."""

    rows: RowSets
    contained: Mapping[ResourceKey, int]


def expected(entries: Entries, key: ResourceKey, rid: int, allot: Allot) -> Expected:
    """What the store must hold for the live resource `key` in row `rid`."""
    rows: Rows = {table: [] for table in MADE_TABLES}
    contained = {}
    add_rows(rows, entries, key, rid, allot)
    number = allot.type(key.type)
    rows["compartment"] += [(allot.known(owner), number, rid) for owner in entries.compartments]
    for (kind, local), inner in entries.contained.items():
        inside = ResourceKey(kind, f"{key.id}#{local}")
        contained[inside] = allot.known(inside)
        add_rows(rows, inner, inside, contained[inside], allot, sign=-1)
    return Expected({table: set(found) for table, found in rows.items()}, contained)


def rows_between(connection: sqlite3.Connection, low: int, high: int) -> dict[int, RowSets]:
    """The rows of all resources with `low` < rid <= `high`, by row number; absent: none."""
    found: dict[int, RowSets] = defaultdict(_none)
    for table in MADE_TABLES:
        at = _RID[table]
        for row in connection.execute(_BETWEEN[table], (low, high)):
            found[row[at]][table].add(row)
    return found


def rows_of(connection: sqlite3.Connection, rids: Iterable[int]) -> RowSets:
    """The rows of these resources together."""
    found = _none()
    for rid in rids:
        for table in MADE_TABLES:
            found[table].update(connection.execute(_OF[table], (rid,)))
    return found


def unnamed(prints: bytes, rows: RowSets) -> frozenset[str]:
    """The tables with rows of a resource that its prints do not name: an update would not remove these."""
    return frozenset(table for table, found in rows.items() if found) - kinds_of(prints) if prints else frozenset()


def contained_in(connection: sqlite3.Connection, rid: int) -> frozenset[int]:
    """The row numbers of what the resource in row `rid` contains, as the store has it."""
    sql = "SELECT rid FROM resource INDEXED BY contained WHERE container = ?"
    return frozenset(row[0] for row in connection.execute(sql, (rid,)))


def _none() -> RowSets:
    return {table: set() for table in MADE_TABLES}


_RID: Final = {table: columns.index("rid") for table, columns in KEY_COLUMNS.items()}
_BETWEEN: Final = {
    table: f"SELECT * FROM {table} INDEXED BY {table}_rid WHERE rid > ? AND rid <= ?"  # noqa: S608  (no value in it)
    for table in MADE_TABLES
}
_OF: Final = {
    table: f"SELECT * FROM {table} INDEXED BY {table}_rid WHERE rid = ?"  # noqa: S608  (no value in it)
    for table in MADE_TABLES
}
