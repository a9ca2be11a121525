# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Sort keys -> SQL: the value of a row, the order of rows, what comes after a cursor.

Rules. A value that is missing sorts last in both directions. An ascending sort uses the smallest value of a resource, a descending one
the largest. Ties are broken by the row number, in the direction of the first key. Rows to be sorted have columns `k0`, `k1`, ... (the
sort values, in the order of the keys) and `rid`.

Specification: https://hl7.org/fhir/R4/search.html#sort, #paging
"""

from typing import Final

from search.dialects.sqlite.conditions import Sql, Values
from search.dialects.sqlite.plan import Planner
from search.query import Query, SortKey

Position = tuple[object, ...]
TABLES: Final = {
    "token": ("token", "code", ""),
    "string": ("string", "folded", " AND {a}.exact <> ''"),
    "date": ("date", "low", ""),
    "number": ("number", "low", ""),
    "quantity": ("quantity", "low", ""),
    "reference": ("reference", "target", ""),
    "uri": ("uri", "value", ""),
}
"""Parameter type -> table, sorted column, condition on its rows. References sort by when their targets became known."""


def value(planner: Planner, key: SortKey, rid: str) -> Sql:
    """The sort value of the row whose number is the SQL expression `rid`."""
    a = planner.alias()
    if key.parameter is None:
        column = "id" if key.field == "_id" else "updated"
        return f"(SELECT {a}.{column} FROM resource {a} WHERE {a}.rid = {rid})", ()
    table, column, condition = TABLES[key.parameter.type]
    param, values = planner.parameters(key.parameter, a)
    condition = condition.replace("{a}", a)
    if key.parameter.only_target is not None:
        condition, values = f"{condition} AND {a}.kind = ?", (*values, planner.catalog.type(key.parameter.only_target))
    sql = f"(SELECT {chosen(key)}({a}.{column}) FROM {table} {a} INDEXED BY {table}_rid WHERE {a}.rid = {rid} AND {param}{condition})"
    return sql, values


def chosen(key: SortKey) -> str:
    """The function that chooses among several values."""
    return "max" if key.descending else "min"


def in_order(query: Query, rows: Sql) -> Sql:
    """The rows (a SELECT) that come after the cursor, in the direction of paging and in its order."""
    sql, values = rows
    if query.after is not None:
        after = _after(query)
        sql, values = f"SELECT * FROM ({sql}) WHERE {after[0]}", values + after[1]
    order = [
        f"k{at} {'DESC' if key.descending != query.backward else 'ASC'} NULLS {'FIRST' if query.backward else 'LAST'}"
        for at, key in enumerate(query.sort)
    ]
    order.append(f"rid {'DESC' if _falling(query) else 'ASC'}")
    return f"{sql} ORDER BY {', '.join(order)}", values


def _falling(query: Query) -> bool:
    """Whether row numbers fall among rows of equal sort values."""
    return (bool(query.sort) and query.sort[0].descending) != query.backward


def _after(query: Query) -> Sql:
    """The condition that a row comes after the cursor, in the direction of paging."""
    assert query.after is not None
    *cursor, rid = query.after
    values: Values = (rid,)
    sql = f"rid {'<' if _falling(query) else '>'} ?"
    for at in reversed(range(len(query.sort))):
        key, given = query.sort[at], bound(query.sort[at], cursor[at])
        column = f"k{at}"
        beyond = "<" if key.descending != query.backward else ">"
        if given is None:
            sql = (
                f"({column} IS NOT NULL OR ({column} IS NULL AND {sql}))"
                if query.backward
                else f"({column} IS NULL AND {sql})"
            )
            continue
        past = f"{column} {beyond} ?" if query.backward else f"({column} {beyond} ? OR {column} IS NULL)"
        sql, values = f"({past} OR ({column} = ? AND {sql}))", (given, given, *values)
    return sql, values


def position(values: tuple[object, ...], rid: int) -> Position:
    """The cursor of a row: its sort values (byte keys as hexadecimal text) and its number."""
    return (*(one.hex() if isinstance(one, bytes) else one for one in values), rid)


def bound(key: SortKey, given: object) -> object:
    """The sort value that a cursor gives, as it is bound."""
    if key.parameter is not None and key.parameter.type in ("number", "quantity") and isinstance(given, str):
        return bytes.fromhex(given)
    return given
