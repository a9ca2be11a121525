# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""The read verbs as functions of one connection: each is run inline or on a reader thread, always inside one snapshot.

Rules: a row outside the narrowing is answered as one that does not exist; deleted resources have no entries, so with a narrowing
they are outside it. Matches, total and includes of a page come from the same snapshot.

Specification: https://hl7.org/fhir/R4/http.html#read, #vread, #history, #search
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fhir_server.storage.port import HistoryPage, HistoryQuery, Page, Row, Stored
from fhir_server.storage.sqlite.batch import METHODS
from fhir_server.storage.sqlite.catalog import Catalog
from resources.errors import FhirError
from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.dialects.sqlite.layout import DELETED
from search.narrowing import Narrowing
from search.query import All, Query

_READ = "SELECT rid, version, updated, state, method, body FROM resource WHERE type = ? AND id = ?"
_VERSION = "SELECT version, updated, deleted, method, body FROM history WHERE rid = ? AND version = ?"


def read(catalog: Catalog, key: ResourceKey, narrowing: Narrowing) -> Stored | None:
    """The current version, maybe a deletion."""
    row = catalog.connection.execute(_READ, (catalog.type(key.type), key.id)).fetchone()
    if row is None:
        return None
    rid, version, updated, state, method, body = row
    if version == 0 or not _visible(catalog, key.type, rid, narrowing):
        return None
    return Stored(key, version, updated, state == DELETED, METHODS[method], body)


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


def _visible(catalog: Catalog, type_: str, rid: int, narrowing: Narrowing) -> bool:
    node = narrowing.of(type_)
    if isinstance(node, All):
        return True
    statement = dialect.visible(node, type_, rid, catalog)
    return bool(catalog.count(statement.sql, statement.values))


# ---- history


def history(catalog: Catalog, query: HistoryQuery, narrowing: Narrowing) -> HistoryPage:
    """A page of versions, newest first."""
    fixed, fixed_values, index = _history_scope(catalog, query)
    access, access_values = _history_access(catalog, query, narrowing)
    where, values = f"{fixed} AND {access}", fixed_values + access_values
    for column, bound in (("updated >= ?", query.since), ("updated <= ?", query.until)):
        if bound is not None:
            where, values = f"{where} AND r.{column}", (*values, bound)
    page, page_values = where, values
    if query.before is not None:
        page, page_values = f"{where} AND r.updated < ?", (*values, query.before)
    limit = query.count + 1
    columns = "r.type, r.rid, r.version, r.updated, r.method"
    sql = (
        f"SELECT * FROM (SELECT {columns}, r.id, r.state = {DELETED}, r.body FROM resource r {index[0]}"
        f" WHERE r.version > 0 AND {page} ORDER BY r.updated DESC LIMIT ?)"
        f" UNION ALL SELECT * FROM (SELECT {columns}, NULL, r.deleted, r.body FROM history r {index[1]}"
        f" WHERE {page} ORDER BY r.updated DESC LIMIT ?) ORDER BY 4 DESC LIMIT ?"
    )
    rows = catalog.connection.execute(sql, (*page_values, limit, *page_values, limit, limit)).fetchall()
    total = None
    if query.total:
        counts = (
            f"SELECT (SELECT count(*) FROM resource r {index[0]} WHERE r.version > 0 AND {where})"
            f" + (SELECT count(*) FROM history r {index[1]} WHERE {where})"
        )
        total = catalog.count(counts, values + values)
    versions = tuple(_version(catalog, row) for row in rows[: query.count])
    return HistoryPage(versions, total, len(rows) > query.count)


def _history_scope(catalog: Catalog, query: HistoryQuery) -> tuple[str, tuple[object, ...], tuple[str, str]]:
    """The condition of one resource, a type or the system, and the indexes that serve it."""
    if query.type is None:
        return "1", (), ("INDEXED BY resource_updated", "INDEXED BY history_updated")
    if query.id is None:
        indexes = ("INDEXED BY resource_type_updated", "INDEXED BY history_type_updated")
        return "r.type = ?", (catalog.type(query.type),), indexes
    return "r.rid = ?", (catalog.rid(ResourceKey(query.type, query.id)),), ("", "")


def _history_access(catalog: Catalog, query: HistoryQuery, narrowing: Narrowing) -> tuple[str, tuple[object, ...]]:
    """The narrowing as a condition on `r`."""
    names = (
        [query.type]
        if query.type is not None
        else [name for (name,) in catalog.connection.execute("SELECT name FROM type ORDER BY number")]
    )
    nodes = [(name, narrowing.of(name)) for name in names]
    if all(isinstance(node, All) for _, node in nodes):
        return "1", ()
    parts: list[str] = []
    values: tuple[object, ...] = ()
    for name, node in nodes:
        sql, bound = dialect.holds(node, "r.rid", name, catalog)
        parts.append(f"(r.type = ? AND {sql})")
        values += (catalog.type(name), *bound)
    return f"({' OR '.join(parts)})", values


def _version(catalog: Catalog, row: tuple[Any, ...]) -> Stored:
    number, rid, version, updated, method, id_, deleted, body = row
    if id_ is None:
        id_ = catalog.connection.execute("SELECT id FROM resource WHERE rid = ?", (rid,)).fetchone()[0]
    return Stored(ResourceKey(catalog.type_name(number), id_), version, updated, bool(deleted), METHODS[method], body)


# ---- search


def matched_keys(catalog: Catalog, query: Query, limit: int) -> frozenset[ResourceKey]:
    """The keys of the matches, at most `limit`."""
    rows, _ = _matches(catalog, dialect.page(query, catalog), limit)
    return frozenset(ResourceKey(query.type, row[-5]) for row in rows)


def search(
    catalog: Catalog, query: Query, narrowing: Narrowing, page: dialect.PageStatements, include_limit: int
) -> Page:
    """A page of matches with their includes; `page` is the compiled query."""
    total = None
    if query.total == "accurate" or query.count == 0:
        statement = dialect.total(query, catalog)
        total = catalog.count(statement.sql, statement.values)
    if query.count == 0:
        return Page((), total, more=False)
    rows, keys = _matches(catalog, page, query.count + 1)
    more = len(rows) > query.count
    rows = rows[: query.count]
    included: list[Row] = []
    if query.includes and rows:
        included = _includes(catalog, query, narrowing, rows, include_limit)
        while included and len(included) > include_limit and len(rows) > 1:
            rows, more = rows[: len(rows) // 2], True
            included = _includes(catalog, query, narrowing, rows, include_limit)
        if len(included) > include_limit:
            raise FhirError(
                403, "too-costly", f"one match has more than {include_limit} includes; ask for fewer kinds of them"
            )
    if query.backward:
        rows = rows[::-1]
    matches = [Row(_stored(query.type, row), "match") for row in rows]
    for at in (0, -1) if rows else ():
        row = rows[at]
        matches[at] = matches[at]._replace(position=dialect.position(row[:keys], row[keys]))
    return Page((*matches, *included), total, more)


def _matches(catalog: Catalog, page: dialect.PageStatements, limit: int) -> tuple[list[tuple[Any, ...]], int]:
    rows: list[tuple[Any, ...]] = []
    for statement in page.statements:
        rows += catalog.connection.execute(statement.sql, (*statement.values, limit - len(rows))).fetchall()
        if len(rows) >= limit:
            break
    return rows, page.keys


def _stored(type_: str, row: Sequence[Any]) -> Stored:
    id_, version, updated, method, body = row[-5:]
    return Stored(ResourceKey(type_, id_), version, updated, False, METHODS[method], body)


def _includes(
    catalog: Catalog, query: Query, narrowing: Narrowing, rows: list[tuple[Any, ...]], limit: int
) -> list[Row]:
    """The resources that the page's matches include, each once; one more than `limit` when there are more."""
    matched = [row[-6] for row in rows]
    wanted: dict[int, set[int]] = {}
    versions: set[tuple[int, int, str]] = set()
    for found in query.includes:
        if not found.reverse and found.source != query.type:
            continue
        statement = dialect.include(found, matched, catalog)
        for kind, rid, version in catalog.connection.execute(statement.sql, (*statement.values, limit + 1)):
            if version:
                versions.add((kind, rid, version))
            elif rid not in matched:
                wanted.setdefault(kind, set()).add(rid)
    included: list[Row] = []
    for kind, rids in sorted(wanted.items()):
        name = catalog.type_name(kind)
        statement = dialect.included(narrowing.of(name), name, sorted(rids), catalog)
        stored = catalog.connection.execute(statement.sql, statement.values)
        included += [Row(_stored(name, row), "include") for row in stored]
    included += _versions(catalog, narrowing, versions, {row.stored.key: row.stored.version for row in included})
    return included[: limit + 1]


def _versions(
    catalog: Catalog, narrowing: Narrowing, versions: set[tuple[int, int, str]], there: dict[ResourceKey, int]
) -> list[Row]:
    """The versions that versioned references name."""
    found: list[Row] = []
    for kind, rid, version in sorted(versions):
        row = catalog.connection.execute("SELECT id FROM resource WHERE rid = ?", (rid,)).fetchone()
        key = ResourceKey(catalog.type_name(kind), row[0])
        if not version.isdigit() or there.get(key) == int(version):
            continue
        stored = read_version(catalog, key, int(version), narrowing)
        if stored is not None and not stored.deleted:
            found.append(Row(stored, "include"))
    return found


def narrowed(query: Query, narrowing: Narrowing) -> Query:
    """The query with the narrowing of its type, unless it carries one already."""
    if not isinstance(query.narrowing, All):
        return query
    node = narrowing.of(query.type)
    return query if isinstance(node, All) else replace(query, narrowing=node)


def follow_up(catalog: Catalog, kind: str, key: str) -> str | None:
    """The JSON of a follow-up row."""
    row = catalog.connection.execute("SELECT data FROM follow_up WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return None if row is None else row[0]
