"""The SQLite dialect: the layout of the tables, and `Query` compiled to statements over it. No database module is imported here.

Rules: SQL text depends on a query's shape alone and every value is bound, so statements are prepared once and nothing a client
sends becomes SQL.

Specification: https://www.sqlite.org/lang_select.html
"""

from search.dialects.sqlite.conditions import Catalog
from search.dialects.sqlite.layout import TABLES
from search.dialects.sqlite.pages import (
    PageStatements,
    Position,
    Statement,
    holds,
    include,
    included,
    page,
    position,
    restricted,
    total,
    visible,
)

__all__ = [
    "TABLES",
    "Catalog",
    "PageStatements",
    "Position",
    "Statement",
    "holds",
    "include",
    "included",
    "page",
    "position",
    "restricted",
    "total",
    "visible",
]
