# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Where rows are found: statements that give row numbers, as values that the planner combines.

Specification: https://www.sqlite.org/lang_select.html
"""

from typing import Final, NamedTuple

from search.dialects.sqlite.conditions import Sql, Values
from search.query import Node

FEW: Final = 64
"""A source with fewer rows than this drives at once."""
ENOUGH: Final = 1500
"""Sources are counted up to here."""
TRUE: Final[Sql] = ("1", ())
FALSE: Final[Sql] = ("0", ())


class Branch(NamedTuple):
    """`SELECT rid FROM tables WHERE where`; `ordered`: rows come in row order; `unique`: each once."""

    rid: str
    tables: Sql
    where: Sql
    ordered: bool = False
    unique: bool = False

    def select(self, more: Sql = TRUE, columns: str = "") -> Sql:
        """The distinct rows for which `more` holds too."""
        word = "" if self.unique else "DISTINCT "
        sql = f"SELECT {word}{self.rid} AS rid{columns} FROM {self.tables[0]} WHERE {self.where[0]}"
        return (sql if more is TRUE else f"{sql} AND {more[0]}"), self.tables[1] + self.where[1] + more[1]


class Source(NamedTuple):
    """The union of branches; `rank` is the order in which sources are tried, `rest` what its rows must still satisfy.

    `size`: how many rows there are without `rest`, at most, where that is known.
    """

    branches: tuple[Branch, ...]
    rank: int
    rest: tuple[Node, ...] = ()
    size: int | None = None

    @property
    def ordered(self) -> bool:
        """Whether the rows come in row order, so that a page can stop early."""
        return len(self.branches) == 1 and self.branches[0].ordered


def values_of(parts: list[Sql]) -> Values:
    """The values of several conditions in the order of their text."""
    return tuple(value for _, values in parts for value in values)


def joined(parts: list[Sql], word: str) -> Sql:
    """Conditions joined by AND or OR; without any: what holds always, or never. What never holds is left out of an OR."""
    if word == "OR":
        parts = [part for part in parts if part[0] != "0"]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return FALSE if word == "OR" else TRUE
    return f"({f' {word} '.join(sql for sql, _ in parts)})", values_of(parts)
