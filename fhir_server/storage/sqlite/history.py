# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""The history verb as a function of one connection: the versions of a resource, a type or the whole store, newest first.

Rules: current versions are in `resource`, superseded ones in `history`; both are walked in the order of `updated`, which numbers all versions. What a
List names is looked up from the List, so that its length is what it costs. A deleted resource has no entries: a narrowing hides it.

Specification: https://hl7.org/fhir/R4/http.html#history
"""

from typing import Any, NamedTuple

from fhir_server.storage.port import HistoryPage, HistoryQuery, Stored
from fhir_server.storage.sqlite.batch import METHODS
from fhir_server.storage.sqlite.catalog import Catalog
from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.dialects.sqlite.layout import DELETED
from search.narrowing import EVERYTHING, Narrowing
from search.query import All

_CREATED = "r.version = 1 OR (SELECT h.deleted FROM history h WHERE h.rid = r.rid AND h.version = r.version - 1)"
_SUPERSEDED = (
    "coalesce((SELECT n.updated FROM history n WHERE n.rid = r.rid AND n.version = r.version + 1),"
    " (SELECT c.updated FROM resource c WHERE c.rid = r.rid))"
)
_BY_ROW = ("NOT INDEXED", "INDEXED BY sqlite_autoindex_history_1")
"""Of a resource whose row number is known: its row, and its versions by their key."""
_COLUMNS = "r.type, r.rid, r.version, r.updated, r.method"


class _Where(NamedTuple):
    """Conditions on `r`, a version, with their values."""

    sql: str
    values: tuple[object, ...] = ()

    def also(self, sql: str, *values: object) -> "_Where":
        return _Where(f"{self.sql} AND {sql}", (*self.values, *values))


def history(catalog: Catalog, query: HistoryQuery, narrowing: Narrowing) -> HistoryPage:
    """A page of versions, newest first."""
    catalog.even = narrowing is not EVERYTHING
    scope, (current_index, past_index) = _scope(catalog, query)
    where = scope.also(*_access(catalog, query, narrowing))
    if query.lists:
        where = _listed(catalog, query, narrowing, where)
        current_index, past_index = _BY_ROW
    for condition, bound in (("r.updated >= ?", query.since), ("r.updated <= ?", query.until)):
        if bound is not None:
            where = where.also(condition, bound)
    past = where
    if query.at is not None:
        where, past = (one.also("r.updated <= ?", query.at[1]) for one in (where, past))
        past = past.also(f"{_SUPERSEDED} > ?", query.at[0])
    current = where.also("r.version > 0")
    total = None
    if query.total:
        counts = (
            f"SELECT (SELECT count(*) FROM resource r {current_index} WHERE {current.sql})"
            f" + (SELECT count(*) FROM history r {past_index} WHERE {past.sql})"
        )
        total = catalog.count(counts, current.values + past.values)
    if query.before is not None:
        current, past = (one.also("r.updated < ?", query.before) for one in (current, past))
    sql = (
        f"SELECT * FROM (SELECT {_COLUMNS}, {_CREATED}, r.id, r.state = {DELETED}, r.body FROM resource r {current_index}"
        f" WHERE {current.sql} ORDER BY r.updated DESC LIMIT ?)"
        f" UNION ALL SELECT * FROM (SELECT {_COLUMNS}, {_CREATED}, NULL, r.deleted, r.body FROM history r {past_index}"
        f" WHERE {past.sql} ORDER BY r.updated DESC LIMIT ?) ORDER BY 4 DESC LIMIT ?"
    )
    limit = query.count + 1
    rows = catalog.connection.execute(sql, (*current.values, limit, *past.values, limit, limit)).fetchall()
    more, rows = len(rows) > query.count, rows[: query.count]
    created = tuple(bool(row[5]) for row in rows)
    return HistoryPage(tuple(_version(catalog, row) for row in rows), total, more, created)


def _scope(catalog: Catalog, query: HistoryQuery) -> tuple[_Where, tuple[str, str]]:
    """The condition of one resource, a type or the system, and the indexes that serve it."""
    if query.type is None:
        return _Where("1"), ("INDEXED BY resource_updated", "INDEXED BY history_updated")
    if query.id is None:
        indexes = ("INDEXED BY resource_type_updated", "INDEXED BY history_type_updated")
        return _Where("r.type = ?", (catalog.type(query.type),)), indexes
    return _Where("r.rid = ?", (catalog.rid(ResourceKey(query.type, query.id)),)), _BY_ROW


def _access(catalog: Catalog, query: HistoryQuery, narrowing: Narrowing) -> tuple[Any, ...]:
    """The narrowing as a condition on `r`, with its values."""
    names = catalog.types() if query.type is None else [query.type]
    nodes = [(name, narrowing.of(name)) for name in names]
    if all(isinstance(node, All) for _, node in nodes):
        return ("1",)
    sql, values = dialect.of_types(nodes, "r.type", "r.rid", catalog)
    return f"({sql})", *values


def _listed(catalog: Catalog, query: HistoryQuery, narrowing: Narrowing, where: _Where) -> _Where:
    """What the Lists refer to: all versions, or the one that is named."""
    rids = [catalog.rid(ResourceKey("List", name)) for name in query.lists]
    visible, values = dialect.holds(narrowing.of("List"), "l.rid", "List", catalog)
    items = (
        "SELECT l.target, l.version FROM reference l INDEXED BY reference_rid"
        f" WHERE l.rid IN ({', '.join('?' * len(rids))}) AND l.param = ? AND {visible}"
    )
    bound = (*rids, catalog.parameter("List", "item"), *values)
    where = where.also(f"r.rid IN (SELECT target FROM ({items}))", *bound)
    named = (
        f"SELECT 1 FROM ({items}) i WHERE i.target = r.rid AND (i.version = '' OR i.version = CAST(r.version AS TEXT))"
    )
    return where.also(f"EXISTS ({named})", *bound)


def _version(catalog: Catalog, row: tuple[Any, ...]) -> Stored:
    number, rid, version, updated, method, _, id_, deleted, body = row
    if id_ is None:
        id_ = catalog.connection.execute("SELECT id FROM resource WHERE rid = ?", (rid,)).fetchone()[0]
    return Stored(ResourceKey(catalog.type_name(number), id_), version, updated, bool(deleted), METHODS[method], body)
