"""The SQLite dialect: the layout of the tables, and `Query` compiled to statements over it. No database module is imported here.

Rules: SQL text depends on a query's shape alone and every value is bound, so statements are prepared once and nothing a client
sends becomes SQL.

Specification: https://www.sqlite.org/lang_select.html
"""

from search.dialects.sqlite import contained
from search.dialects.sqlite.conditions import Catalog
from search.dialects.sqlite.includes import include, included, reachable
from search.dialects.sqlite.layout import TABLES
from search.dialects.sqlite.pages import (
    estimate,
    holds,
    of_types,
    page,
    restricted,
    sizes,
    total,
    visible,
)
from search.dialects.sqlite.sorting import Position, position
from search.dialects.sqlite.statement import PageStatements, Statement

__all__ = [
    "TABLES",
    "Catalog",
    "PageStatements",
    "Position",
    "Statement",
    "contained",
    "estimate",
    "holds",
    "include",
    "included",
    "of_types",
    "page",
    "position",
    "reachable",
    "restricted",
    "sizes",
    "total",
    "visible",
]
