# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Searches for contained resources (`_contained`) -> SQL.

Rules. Conditions are on the contained resource's entries; access is on the resource that contains it. The first entry of a Bundle is
indexed like a contained resource and is none. Rows come in the order of the row numbers of what is shown.

Columns of the page statement: rid, the container's type number, id (the contained one's where that is shown), version, updated,
method, body (the container's).

Specification: https://hl7.org/fhir/R4/search.html#contained
"""

from search.dialects.sqlite.access import of_types
from search.dialects.sqlite.conditions import Catalog, Sql
from search.dialects.sqlite.layout import CONTAINED
from search.dialects.sqlite.plan import Planner
from search.dialects.sqlite.sources import TRUE, Branch, Source
from search.dialects.sqlite.statement import Statement
from search.narrowing import Narrowing
from search.query import All, Query


def page(query: Query, narrowing: Narrowing, catalog: Catalog) -> Statement:
    """The statement of a page; its last value, the limit, is bound by the adapter."""
    shown = "c.rid" if query.contained == "container" else "k.rid"
    identity = "c.id" if query.contained == "container" else "k.id"
    more: Sql = TRUE
    if query.after is not None:
        more = (f"{shown} {'<' if query.backward else '>'} ?", (query.after[-1],))
    sql, values = _rows(query, narrowing, catalog, f"{shown} AS rid, c.rid AS crid, {identity} AS id", more)
    word = "DESC" if query.backward else "ASC"
    text = (
        f"SELECT m.rid, r.type, m.id, r.version, r.updated, r.method, r.body FROM ({sql} ORDER BY 1 {word} LIMIT ?) m"
        " CROSS JOIN resource r ON r.rid = m.crid"
    )
    return Statement(text, values)


def total(query: Query, narrowing: Narrowing, catalog: Catalog) -> Statement:
    """The statement that counts all matches."""
    shown = "c.rid" if query.contained == "container" else "k.rid"
    sql, values = _rows(query, narrowing, catalog, shown, TRUE)
    return Statement(f"SELECT count(*) FROM ({sql})", values)


def _rows(query: Query, narrowing: Narrowing, catalog: Catalog, columns: str, more: Sql) -> Sql:
    planner = Planner(catalog)
    type_ = catalog.type(query.type)
    with planner.side(-1):
        source = planner.source(query.where, query.type)
        if source is None:
            scan = Branch(
                "s.rid", ("resource s INDEXED BY contained", ()), ("s.container IS NOT NULL AND s.type = ?", (type_,))
            )
            source = Source((scan,), 9, () if isinstance(query.where, All) else (query.where,))
        selects = [branch.select() for branch in planner.finished(source, query.type)]
    found = " UNION ".join(sql for sql, _ in selects)
    values = tuple(value for _, bound in selects for value in bound)
    seen = _visible(planner, narrowing, catalog)
    sql = (
        f"SELECT DISTINCT {columns} FROM ({found}) f CROSS JOIN resource k CROSS JOIN resource c WHERE k.rid = f.rid"
        f" AND k.state = {CONTAINED} AND k.type = ? AND c.rid = k.container AND c.type <> ? AND {seen[0]} AND {more[0]}"
    )
    return sql, (*values, type_, catalog.type("Bundle"), *seen[1], *more[1])


def _visible(planner: Planner, narrowing: Narrowing, catalog: Catalog) -> Sql:
    """The condition that the container `c` may be seen."""
    nodes = [(name, narrowing.of(name)) for name in catalog.types()]
    if all(isinstance(node, All) for _, node in nodes):
        return TRUE
    return of_types(planner, nodes, "c.type", "c.rid")
