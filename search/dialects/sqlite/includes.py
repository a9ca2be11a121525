# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Includes -> SQL: what rows refer to, and who refers to them, by literal reference and by canonical URL.

Rules. A reference that names a superseded version gives that version, every other one the current resource. A canonical with a
version means resources of that business version, one without means every resource of its URL; because a versioned canonical has an entry
without version too, such an entry counts only where no versioned one stands beside it.

Specification: https://hl7.org/fhir/R4/search.html#include, #revinclude, https://hl7.org/fhir/R4/references.html#canonical
"""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from search.dialects.sqlite.conditions import Catalog, Sql, Values, primary
from search.dialects.sqlite.layout import LIVE
from search.dialects.sqlite.plan import Planner
from search.dialects.sqlite.statement import COLUMNS, Statement
from search.query import Include, Node

_REFERENCES: Final = primary("reference")
_URIS: Final = primary("uri")
_UNVERSIONED: Final = (
    "instr(x.value, '|') = 0 AND NOT EXISTS (SELECT 1 FROM uri y INDEXED BY uri_rid WHERE y.rid = x.rid"
    " AND y.param = x.param AND y.value > x.value || '|' AND y.value < x.value || '}')"
)
"""The canonical `x` was written without version."""


def include(found: Include, rids: Sequence[int], target_types: Sequence[str], catalog: Catalog) -> Iterator[Statement]:
    """The statements that give (type number, row number, superseded version or '') of what an include adds to these rows.

    `target_types`: the types whose resources canonicals may name: those of the rows for a reverse include. The last value of a
    statement, the limit, is bound by the adapter.
    """
    rows = json.dumps(rids)
    yield (_referring if found.reverse else _referred)(found, rows, catalog)
    if found.canonical:
        for name in target_types:
            if found.reverse:
                yield from _referring_by_url(found, rows, name, catalog)
            else:
                yield _referred_by_url(found, rows, name, catalog)


def _param(found: Include, alias: str, catalog: Catalog) -> tuple[str, Sql]:
    """What joins the dictionary of parameters, where the include is of all of them, and the condition on the row's parameter."""
    if found.parameter is not None:
        return "", Planner(catalog).parameters(found.parameter, alias)
    if not found.source:
        return " CROSS JOIN parameter p", (f"{alias}.param = p.number", ())
    return " CROSS JOIN parameter p", (f"p.type = ? AND {alias}.param = p.number", (found.source,))


def _referred(found: Include, rows: str, catalog: Catalog) -> Statement:
    if found.parameter is None:
        param: Sql = ("x.param > 0", ())
        only = None
    else:
        param = Planner(catalog).parameters(found.parameter, "x")
        only = found.parameter.only_target
    sql = (
        "SELECT DISTINCT x.kind, x.target, CASE WHEN x.version = '' OR EXISTS (SELECT 1 FROM resource r WHERE r.rid = x.target"
        " AND r.version = x.version) THEN '' ELSE x.version END FROM json_each(?) j CROSS JOIN reference x INDEXED BY reference_rid"
        f" WHERE x.rid = j.value AND {param[0]}"
    )
    values: Values = (rows, *param[1])
    kind = found.target or only
    if kind is not None:
        sql, values = f"{sql} AND x.kind = ?", (*values, catalog.type(kind))
    return Statement(f"{sql} LIMIT ?", values)


def _referring(found: Include, rows: str, catalog: Catalog) -> Statement:
    join, param = _param(found, "x", catalog)
    sql = (
        f"SELECT DISTINCT s.type, x.rid, '' FROM json_each(?) j{join} CROSS JOIN reference x INDEXED BY {_REFERENCES}"
        f" CROSS JOIN resource s WHERE {param[0]} AND x.target = j.value AND s.rid = x.rid AND s.state = {LIVE} LIMIT ?"
    )
    return Statement(sql, (rows, *param[1]))


def _referred_by_url(found: Include, rows: str, name: str, catalog: Catalog) -> Statement:
    """Resources of type `name` that the rows name by canonical URL."""
    param = ("x.param > 0", ()) if found.parameter is None else Planner(catalog).parameters(found.parameter, "x")
    sql = (
        "SELECT DISTINCT ?, u.rid, '' FROM json_each(?) j CROSS JOIN uri x INDEXED BY uri_rid"
        f" CROSS JOIN uri u INDEXED BY {_URIS} WHERE x.rid = j.value AND {param[0]} AND u.param = ?"
        " AND u.value = CASE WHEN instr(x.value, '|') > 0 THEN substr(x.value, 1, instr(x.value, '|') - 1) ELSE x.value END"
        f" AND CASE WHEN instr(x.value, '|') = 0 THEN {_UNVERSIONED} ELSE EXISTS (SELECT 1 FROM token v INDEXED BY token_rid"
        " WHERE v.rid = u.rid AND v.param = ? AND v.code = lower(substr(x.value, instr(x.value, '|') + 1))) END LIMIT ?"
    )
    url, version = catalog.parameter(name, "url"), catalog.parameter(name, "version")
    return Statement(sql, (catalog.type(name), rows, *param[1], url, version))


def _referring_by_url(found: Include, rows: str, name: str, catalog: Catalog) -> Iterator[Statement]:
    """Who names rows of type `name` by canonical URL, without and with version."""
    join, param = _param(found, "x", catalog)
    url, version = catalog.parameter(name, "url"), catalog.parameter(name, "version")
    start = f"SELECT DISTINCT s.type, x.rid, '' FROM json_each(?) j CROSS JOIN uri u INDEXED BY uri_rid{join}"
    end = f" AND s.rid = x.rid AND s.state = {LIVE} LIMIT ?"
    yield Statement(
        f"{start} CROSS JOIN uri x INDEXED BY {_URIS} CROSS JOIN resource s WHERE u.rid = j.value AND u.param = ?"
        f" AND {param[0]} AND x.value = u.value AND {_UNVERSIONED}{end}",
        (rows, url, *param[1]),
    )
    yield Statement(
        f"{start} CROSS JOIN token v INDEXED BY token_rid CROSS JOIN uri x INDEXED BY {_URIS} CROSS JOIN resource s"
        f" WHERE u.rid = j.value AND u.param = ? AND v.rid = u.rid AND v.param = ? AND {param[0]}"
        " AND x.value > u.value || '|' AND x.value < u.value || '}'"
        f" AND lower(substr(x.value, length(u.value) + 2)) = v.code{end}",
        (rows, url, version, *param[1]),
    )


def reachable(node: Node, type_: str, rids: Sequence[int], catalog: Catalog) -> Statement:
    """The statement that gives the row numbers of the live, visible resources among `rids`."""
    return _among("r.rid", node, type_, rids, catalog)


def included(node: Node, type_: str, rids: Sequence[int], catalog: Catalog) -> Statement:
    """The statement that gives the live, visible resources among `rids`: rid, id, version, updated, method, body."""
    return _among(COLUMNS, node, type_, rids, catalog)


def _among(columns: str, node: Node, type_: str, rids: Sequence[int], catalog: Catalog) -> Statement:
    sql, values = Planner(catalog).holds(node, "r.rid", type_)
    text = (
        f"SELECT {columns} FROM json_each(?) j CROSS JOIN resource r"
        f" WHERE r.rid = j.value AND r.state = {LIVE} AND r.type = ? AND {sql} ORDER BY r.rid"
    )
    return Statement(text, (json.dumps(rids), catalog.type(type_), *values))
