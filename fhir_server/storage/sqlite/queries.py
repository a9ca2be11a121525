# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""The read verbs as functions of one connection: each is run inline or on a reader thread, always inside one snapshot.

Rules: a row outside the narrowing is answered as one that does not exist; deleted resources have no entries, so with a narrowing
they are outside it. Matches, total and includes of a page come from the same snapshot.

Specification: https://hl7.org/fhir/R4/http.html#read, #vread, #history, #search
"""

from dataclasses import replace
from typing import Any

from fhir_server.storage.port import HistoryPage, HistoryQuery, Stored
from fhir_server.storage.sqlite.batch import METHODS
from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.reading import page_rows
from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.dialects.sqlite.layout import DELETED
from search.narrowing import Narrowing
from search.query import All, Query

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
    rows = page_rows(catalog, dialect.page(query, catalog), limit)
    return frozenset(ResourceKey(query.type, row[-5]) for row in rows)


def narrowed(query: Query, narrowing: Narrowing) -> Query:
    """The query, and its `others`, with the narrowing of its type, unless it carries one already."""
    if query.others:
        query = replace(query, others=tuple(narrowed(other, narrowing) for other in query.others))
    if not isinstance(query.narrowing, All):
        return query
    node = narrowing.of(query.type)
    return query if isinstance(node, All) else replace(query, narrowing=node)


def follow_up(catalog: Catalog, kind: str, key: str) -> str | None:
    """The JSON of a follow-up row."""
    row = catalog.connection.execute("SELECT data FROM follow_up WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return None if row is None else row[0]
