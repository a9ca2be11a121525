# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Searches for contained resources (`_contained`) -> SQL.

Rules. Conditions are on the contained resource's entries; access is on the resource that contains it. The first entry of a Bundle is
indexed like a contained resource and is none. Sort values are the contained resource's too; a container has those of all its matches,
of which `_sort` takes the smallest or the largest. `_id` and `_lastUpdated` are those of what is shown, and a contained resource was
updated when its container was. A container that several parts of one search find is the match of the first.

Columns of the page statement: the sort values, rid, the container's type number, id (the contained one's where that is shown), version,
updated, method, body (the container's).

Specification: https://hl7.org/fhir/R4/search.html#contained
"""

from collections.abc import Sequence

from search.dialects.sqlite import sorting
from search.dialects.sqlite.access import of_types
from search.dialects.sqlite.conditions import Catalog, Sql
from search.dialects.sqlite.layout import CONTAINED
from search.dialects.sqlite.pages import restricted
from search.dialects.sqlite.plan import Planner
from search.dialects.sqlite.sources import TRUE, Branch, Source, joined, values_of
from search.dialects.sqlite.statement import PageStatements, Statement
from search.narrowing import Narrowing
from search.query import All, Query, SortKey


def page(query: Query, narrowing: Narrowing, catalog: Catalog, earlier: Sequence[Query] = ()) -> PageStatements:
    """The statement of a page, without what the `earlier` parts of the search show."""
    planner = Planner(catalog)
    shown = _shown(query)
    keys = [_value(planner, key, shown) for key in query.sort]
    columns = "".join(f", {text} AS k{at}" for at, (text, _) in enumerate(keys))
    sql, values = _rows(
        query, narrowing, planner, f"{shown}.rid AS rid, c.rid AS crid, {shown}.id AS id{columns}", earlier
    )
    sql, values = sorting.in_order(query, (f"{sql} GROUP BY {shown}.rid", (*values_of(keys), *values)))
    named = "".join(f"m.k{at}, " for at in range(len(keys)))
    text = (
        f"SELECT {named}m.rid, r.type, m.id, r.version, r.updated, r.method, r.body FROM ({sql} LIMIT ?) m"
        " CROSS JOIN resource r ON r.rid = m.crid"
    )
    return PageStatements((Statement(text, values),), len(keys))


def total(query: Query, narrowing: Narrowing, catalog: Catalog, earlier: Sequence[Query] = ()) -> Statement:
    """The statement that counts all matches but those of the `earlier` parts of the search."""
    sql, values = _rows(query, narrowing, Planner(catalog), f"DISTINCT {_shown(query)}.rid", earlier)
    return Statement(f"SELECT count(*) FROM ({sql})", values)


def container(query: Query, narrowing: Narrowing, catalog: Catalog, rid: int) -> Statement:
    """The statement that gives a row when the resource of number `rid` contains a match."""
    sql, values = _rows(query, narrowing, Planner(catalog), "c.rid AS rid", ())
    return Statement(f"SELECT 1 FROM ({sql}) WHERE rid = ? LIMIT 1", (*values, rid))


def _shown(query: Query) -> str:
    """The alias of what is shown: the container `c` or the contained resource `k`."""
    return "c" if query.contained == "container" else "k"


def _value(planner: Planner, key: SortKey, shown: str) -> Sql:
    """The sort value of what is shown, among all rows of one group."""
    if key.parameter is None:
        return f"{shown}.id" if key.field == "_id" else "c.updated", ()
    with planner.side(-1):
        sql, values = sorting.value(planner, key, "k.rid")
    return f"{sorting.chosen(key)}({sql})", values


def _rows(query: Query, narrowing: Narrowing, planner: Planner, columns: str, earlier: Sequence[Query]) -> Sql:
    catalog = planner.catalog
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
    more = joined([_visible(planner, narrowing, catalog), *_unless(planner, query, earlier)], "AND")
    sql = (
        f"SELECT {columns} FROM ({found}) f CROSS JOIN resource k CROSS JOIN resource c WHERE k.rid = f.rid"
        f" AND k.state = {CONTAINED} AND k.type = ? AND c.rid = k.container AND c.type <> ? AND {more[0]}"
    )
    return sql, (*values, type_, catalog.type("Bundle"), *more[1])


def _visible(planner: Planner, narrowing: Narrowing, catalog: Catalog) -> Sql:
    """The condition that the container `c` may be seen."""
    nodes = [(name, narrowing.of(name)) for name in catalog.types()]
    if all(isinstance(node, All) for _, node in nodes):
        return TRUE
    return of_types(planner, nodes, "c.type", "c.rid")


def _unless(planner: Planner, query: Query, earlier: Sequence[Query]) -> list[Sql]:
    """The conditions that no earlier part of the search shows the container `c`."""
    found: list[Sql] = []
    for other in earlier if query.contained == "container" else ():
        type_ = planner.catalog.type(other.type)
        if other.contained == "no":
            sql, values = planner.holds(restricted(other), "c.rid", other.type)
            found.append((f"NOT (c.type = ? AND {sql})", (type_, *values)))
            continue
        a = planner.alias()
        with planner.side(-1):
            sql, values = planner.holds(other.where, f"{a}.rid", other.type)
        inside = f"SELECT 1 FROM resource {a} INDEXED BY contained WHERE {a}.container = c.rid AND {a}.state = {CONTAINED} AND {a}.type = ?"
        found.append((f"NOT EXISTS ({inside} AND {sql})", (type_, *values)))
    return found
