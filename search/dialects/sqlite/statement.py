"""Statements as values: text that depends on the query's shape alone, and what to bind."""

from dataclasses import dataclass
from typing import Final

from search.dialects.sqlite.conditions import Values

COLUMNS: Final = "r.rid, r.id, r.version, r.updated, r.method, r.body"
"""What a page says of a resource, from table `resource r`."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text that depends on the query's shape alone, and the values to bind."""

    sql: str
    values: Values


@dataclass(frozen=True, slots=True)
class PageStatements:
    """The statements of a page; `keys` sort values lead each row. Rows come reversed when the query pages backward."""

    statements: tuple[Statement, ...]
    keys: int
