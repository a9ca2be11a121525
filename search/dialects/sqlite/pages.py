# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Query -> the statements of one page: matches in order, the number of all matches.

Rules. Paging is by keyset: the sort values of the last row and its row number say where the next page begins (`sorting.py`).
The page is served either from the rows that match, sorted (few), or by walking the sort order and probing each row (many).

Columns of a page statement: the sort values, then rid, id, version, updated, method, body. Its last value, the limit, is bound by
the adapter. Several statements of one page are run in order until the page is full.

Specification: https://hl7.org/fhir/R4/search.html#sort, #paging, #include
"""

from collections.abc import Iterable

from search.dialects.sqlite import access, sorting
from search.dialects.sqlite.conditions import Catalog, Sql, Values, primary, storage_codes
from search.dialects.sqlite.layout import LARGEST, LIVE, SMALLEST
from search.dialects.sqlite.plan import Planner
from search.dialects.sqlite.sources import ENOUGH, TRUE, Branch, Source
from search.dialects.sqlite.statement import COLUMNS, PageStatements, Statement
from search.query import All, And, Node, Query, SortKey


def restricted(query: Query) -> Node:
    """What a row of the query's type must satisfy, access first: where few rows may be seen, no others are looked at."""
    parts = tuple(part for part in (query.narrowing, query.where) if not isinstance(part, All))
    if len(parts) == 1:
        return parts[0]
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, And) else (part,)))
    return And(flat) if flat else All()


def page(query: Query, catalog: Catalog) -> PageStatements:
    """The statements that give the rows of a page."""
    planner = Planner(catalog, settled=query.narrowing)
    node = restricted(query)
    source = planner.source(node, query.type)
    if not query.sort:
        return _by_row(query, planner, node, source)
    many = source is None or planner.counted(source) >= ENOUGH
    if many and len(query.sort) == 1 and _walkable(query.sort[0]):
        return _walk(query, planner, node)
    return _sorted(query, planner, source)


def sizes(query: Query, catalog: Catalog) -> list[str]:
    """How many rows each condition finds, counted up to the planner's limit, and what drives."""
    planner = Planner(catalog)
    node = restricted(query)
    told = []
    for part in node.parts if isinstance(node, And) else (node,):
        source = planner.source(part, query.type)
        size = "probed row by row" if source is None else f"{planner.counted(source)} rows"
        told.append(
            f"{type(part).__name__}: {size}{'' if source is None or planner.counted(source) < ENOUGH else ' or more'}"
        )
    driver = planner.source(node, query.type)
    told.append(
        "driven by a walk of the type" if driver is None else f"driven by {len(driver.branches)} index range(s)"
    )
    return told


def estimate(query: Query, catalog: Catalog, most: int) -> Statement | None:
    """The statement that gives the number of matches up to `most` and the last one's row number; None where it would not be cheaper.

    Matches that come in row order stand for all: of those up to a row number there are as many, in proportion, as beyond.
    """
    planner = Planner(catalog)
    source = planner.source(restricted(query), query.type)
    if source is not None and not source.ordered:
        return None
    sql, values = _union(_branches(query, planner, source))
    return Statement(f"SELECT count(*), max(rid) FROM ({sql} ORDER BY rid LIMIT ?)", (*values, most))


def total(query: Query, catalog: Catalog) -> Statement:
    """The statement that counts all matches."""
    planner = Planner(catalog)
    source = planner.source(restricted(query), query.type)
    sql, values = _union(_branches(query, planner, source))
    return Statement(f"SELECT count(*) FROM ({sql})", values)


def visible(node: Node, type_: str, rid: int, catalog: Catalog) -> Statement:
    """The statement that gives 1 when the live resource of number `rid` satisfies `node`, else 0."""
    sql, values = Planner(catalog).holds(node, "t.rid", type_)
    return Statement(f"SELECT count(*) FROM (SELECT ? AS rid) t WHERE {sql}", (rid, *values))


# ---- rows in the order of their numbers


def _by_row(query: Query, planner: Planner, node: Node, source: Source | None) -> PageStatements:
    if source is not None and not source.ordered and planner.counted(source) >= ENOUGH:
        source = _ordered_part(planner, node, query.type)
    branches = _branches(query, planner, source, node if source is None else None)
    more: Sql = TRUE
    word = "DESC" if query.backward else "ASC"
    if query.after is not None:
        more = (f"{{rid}} {'<' if query.backward else '>'} ?", (query.after[-1],))
    sql, values = _union(branches, more)
    return PageStatements((_with_bodies(f"{sql} ORDER BY rid {word}", values, 0),), 0)


def _ordered_part(planner: Planner, node: Node, type_: str) -> Source | None:
    """A part of an And whose rows come in row order, to walk with early stop; None: walk the type."""
    parts = node.parts if isinstance(node, And) else ()
    for at, part in enumerate(parts):
        source = planner.source(part, type_)
        if source is not None and source.ordered:
            rest = tuple(other for number, other in enumerate(parts) if number != at)
            return Source(source.branches, source.rank, rest)
    return None


def _branches(query: Query, planner: Planner, source: Source | None, node: Node | None = None) -> tuple[Branch, ...]:
    if source is not None:
        return planner.finished(source, query.type)
    rest = (node if node is not None else restricted(query),)
    return planner.finished(
        Source((planner.scan(query.type),), 9, rest if not isinstance(rest[0], All) else ()), query.type
    )


def _union(branches: tuple[Branch, ...], more: Sql = TRUE) -> Sql:
    if len(branches) == 1:
        return branches[0].select(_placed(more, branches[0].rid))
    selects = [branch.select(_placed(more, branch.rid)) for branch in branches]
    return " UNION ".join(sql for sql, _ in selects), tuple(value for _, values in selects for value in values)


def _placed(more: Sql, rid: str) -> Sql:
    return more if more is TRUE else (more[0].replace("{rid}", rid), more[1])


def _with_bodies(sql: str, values: Values, keys: int) -> Statement:
    columns = "".join(f"m.k{at}, " for at in range(keys))
    return Statement(f"SELECT {columns}{COLUMNS} FROM ({sql} LIMIT ?) m CROSS JOIN resource r ON r.rid = m.rid", values)


# ---- few rows, sorted


def _sorted(query: Query, planner: Planner, source: Source | None) -> PageStatements:
    sql, values = _union(_branches(query, planner, source))
    keys = [sorting.value(planner, key, "s.rid") for key in query.sort]
    columns = "".join(f", {text} AS k{at}" for at, (text, _) in enumerate(keys))
    key_values = tuple(value for _, bound in keys for value in bound)
    rows = f"SELECT s.rid AS rid{columns} FROM ({sql}) s", key_values + values
    sql, values = sorting.in_order(query, rows)
    return PageStatements((_with_bodies(sql, values, len(keys)),), len(keys))


# ---- many rows, walked in sort order


def _walkable(key: SortKey) -> bool:
    """Whether one index holds the sort order: one set of rows whose marks speak of this parameter."""
    if key.parameter is None:
        return True
    return (
        len(storage_codes(key.parameter)) == 1
        and key.parameter.only_target is None
        and key.parameter.type in sorting.TABLES
    )


def _walk(query: Query, planner: Planner, node: Node) -> PageStatements:
    key = query.sort[0]
    if key.parameter is None:
        return PageStatements((_walk_field(query, planner, node, key),), 1)
    value = sorting.bound(key, query.after[0]) if query.after is not None else None
    rid = query.after[-1] if query.after is not None else None
    statements = []
    at_missing = query.after is not None and value is None
    if not at_missing or query.backward:
        statements.append(_walk_values(query, planner, node, key, None if at_missing else query.after))
    if not query.backward or at_missing or query.after is None:
        statements.append(_walk_missing(query, planner, node, key, rid if at_missing else None))
    if query.backward:
        statements.reverse()
    return PageStatements(tuple(statements), 1)


def _walk_values(
    query: Query, planner: Planner, node: Node, key: SortKey, after: tuple[object, ...] | None
) -> Statement:
    assert key.parameter is not None
    a = planner.alias()
    table, column, _ = sorting.TABLES[key.parameter.type]
    param, values = planner.parameters(key.parameter, a)
    mark = LARGEST if key.descending else SMALLEST
    down = key.descending != query.backward
    sql = f"SELECT {a}.rid AS rid, {a}.{column} AS k0 FROM {table} {a} INDEXED BY {primary(table)} WHERE {param} AND {a}.mark & {mark}"
    if after is not None:
        sql += f" AND ({a}.{column}, {a}.rid) {'<' if down else '>'} (?, ?)"
        values += (sorting.bound(key, after[0]), after[-1])
    where = planner.holds(node, f"{a}.rid", query.type)
    word = "DESC" if down else "ASC"
    sql += f" AND {where[0]} ORDER BY {a}.{column} {word}, {a}.rid {word}"
    return _with_bodies(sql, values + where[1], 1)


def _walk_missing(query: Query, planner: Planner, node: Node, key: SortKey, rid: object) -> Statement:
    """Rows without a sort value; `rid` is the last one of the page before."""
    assert key.parameter is not None
    scan = planner.scan(query.type)
    a = planner.alias()
    table, _, condition = sorting.TABLES[key.parameter.type]
    param, values = planner.parameters(key.parameter, a)
    sql = (
        f"SELECT {scan.rid} AS rid, NULL AS k0 FROM {scan.tables[0]} WHERE {scan.where[0]} AND NOT EXISTS (SELECT 1 FROM {table} {a}"
        f" INDEXED BY {table}_rid WHERE {a}.rid = {scan.rid} AND {param}{condition.replace('{a}', a)})"
    )
    values = scan.where[1] + values
    down = key.descending != query.backward
    if rid is not None:
        sql, values = f"{sql} AND {scan.rid} {'<' if down else '>'} ?", (*values, rid)
    where = planner.holds(node, scan.rid, query.type)
    sql += f" AND {where[0]} ORDER BY {scan.rid} {'DESC' if down else 'ASC'}"
    return _with_bodies(sql, values + where[1], 1)


def _walk_field(query: Query, planner: Planner, node: Node, key: SortKey) -> Statement:
    """`_id` and `_lastUpdated`, which every resource has."""
    a = planner.alias()
    column, index = ("id", primary("resource")) if key.field == "_id" else ("updated", "resource_type_updated")
    down = key.descending != query.backward
    sql = f"SELECT {a}.rid AS rid, {a}.{column} AS k0 FROM resource {a} INDEXED BY {index} WHERE {a}.type = ? AND {a}.version > 0 AND {a}.state = {LIVE}"
    values: Values = (planner.catalog.type(query.type),)
    if query.after is not None:
        # one type has a value once, but what another part of the search shows may have the same
        sql, values = f"{sql} AND ({a}.{column}, {a}.rid) {'<' if down else '>'} (?, ?)", (*values, *query.after)
    where = planner.holds(node, f"{a}.rid", query.type)
    sql += f" AND {where[0]} ORDER BY {a}.{column} {'DESC' if down else 'ASC'}"
    return _with_bodies(sql, values + where[1], 1)


def of_types(nodes: Iterable[tuple[str, Node]], kind: str, rid: str, catalog: Catalog) -> Sql:
    """The condition that `rid` is a live resource, whose type number is the expression `kind`, and satisfies the node of its type."""
    return access.of_types(Planner(catalog), nodes, kind, rid, live=True)


def holds(node: Node, rid: str, type_: str, catalog: Catalog) -> Sql:
    """The condition (with its values) that the one live resource whose number is the SQL expression `rid` satisfies `node`.

    Its text may be kept as long as the node: of what has no number yet, parameters are found when there are some.
    """
    return Planner(catalog, single=True).holds(node, rid, type_)
