"""Reads of single resources and versions, as functions of one connection.

Rule: a row outside the narrowing is answered as one that does not exist; so is a deleted one under a narrowing, for it has no entries.

Specification: https://hl7.org/fhir/R4/http.html#read, #vread
"""

from collections.abc import Sequence
from typing import Any, Final

from fhir_server.storage.port import Stored
from fhir_server.storage.sqlite.batch import METHODS
from fhir_server.storage.sqlite.catalog import MISSING, Catalog
from fhir_server.storage.sqlite.references import referrers
from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.dialects.sqlite.layout import DELETED, LIVE
from search.narrowing import Narrowing
from search.query import All, Node

_READ: Final = "SELECT r.version, r.updated, r.state, r.method, r.body FROM resource r WHERE r.type = ? AND r.id = ?"
_KEPT: Final = 10_000
_MOST_REFERRERS: Final = 10_000
_VERSION = "SELECT version, updated, deleted, method, body FROM history WHERE rid = ? AND version = ?"


def read(catalog: Catalog, key: ResourceKey, narrowing: Narrowing) -> Stored | None:
    """The current version, maybe a deletion. Under a narrowing one statement too, whether the resource is hidden or not there."""
    node = narrowing.of(key.type)
    sql, values = (_READ, ()) if isinstance(node, All) else _narrowed(catalog, node, key.type)
    row = catalog.connection.execute(sql, (catalog.type(key.type), key.id, *values)).fetchone()
    if row is None or row[0] == 0:
        return None
    version, updated, state, method, body = row
    return Stored(key, version, updated, state == DELETED, METHODS[method], body)


def _narrowed(catalog: Catalog, node: Node, type_: str) -> tuple[str, tuple[object, ...]]:
    """The statement of a read of what satisfies the node; kept for the node, which is decided once for many requests."""
    kept = catalog.numbers.reads
    found = kept.get((id(node), type_))
    if found is not None:
        return found[1], found[2]
    sql, values = dialect.holds(node, "r.rid", type_, catalog)
    sql = f"{_READ} AND r.state = {LIVE} AND {sql}"
    if MISSING not in values:  # what has no number yet may get one
        if len(kept) >= _KEPT:
            kept.clear()
        kept[id(node), type_] = node, sql, values
    return sql, values


def read_version(catalog: Catalog, key: ResourceKey, version: int, narrowing: Narrowing) -> Stored | None:
    """That version, current or not."""
    current = read(catalog, key, narrowing)
    if current is None or current.version == version or version > current.version:
        return current if current is not None and current.version == version else None
    row = catalog.connection.execute(_VERSION, (catalog.rid(key), version)).fetchone()
    if row is None:
        return None
    number, updated, deleted, method, body = row
    return Stored(key, number, updated, bool(deleted), METHODS[method], body)


def referring(catalog: Catalog, key: ResourceKey, narrowing: Narrowing, limit: int) -> tuple[ResourceKey, ...]:
    """The visible resources that refer to `key`, other than itself, at most `limit`, among the first that are found."""
    rid = catalog.rid(key)
    seen = {rid}
    found: list[ResourceKey] = []
    for other in referrers(catalog.connection, rid):
        if other in seen:
            continue
        seen.add(other)
        number, name = catalog.connection.execute("SELECT type, id FROM resource WHERE rid = ?", (other,)).fetchone()
        kind = catalog.type_name(number)
        if _visible(catalog, kind, other, narrowing):
            found.append(ResourceKey(kind, name))
        if len(found) == limit or len(seen) > _MOST_REFERRERS:
            break
    return tuple(found)


def _visible(catalog: Catalog, type_: str, rid: int, narrowing: Narrowing) -> bool:
    """Whether the live resource of row `rid` is inside the narrowing."""
    node = narrowing.of(type_)
    if isinstance(node, All):
        return True
    statement = dialect.visible(node, type_, rid, catalog)
    return bool(catalog.count(statement.sql, statement.values))


def stored_row(type_: str, row: Sequence[Any]) -> Stored:
    """The resource of a row that ends with id, version, updated, method, body."""
    id_, version, updated, method, body = row[-5:]
    return Stored(ResourceKey(type_, id_), version, updated, False, METHODS[method], body)


def page_rows(catalog: Catalog, page: dialect.PageStatements, limit: int) -> list[tuple[Any, ...]]:
    """The rows of a page's statements, at most `limit`."""
    rows: list[tuple[Any, ...]] = []
    for statement in page.statements:
        rows += catalog.connection.execute(statement.sql, (*statement.values, limit - len(rows))).fetchall()
        if len(rows) >= limit:
            break
    return rows
