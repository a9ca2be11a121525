"""Tests -> conditions on rows of one index table, and the index ranges that find such rows.

Rules. A condition names its row `{a}` and binds values in the order of its text, so the text depends on the test's shape only.
A `Condition` holds for a row that is already found (probe). A `Range` is how to find rows from a value (drive): the condition
again, with a bound on the first column where the index can use one. A range test on the upper end needs two ranges: rows
of ordinary width by their lower end, and the few wide ones by the index on their upper end.

Specification: https://hl7.org/fhir/R4/search.html#prefix, #string, #token, #reference, #uri, #quantity
"""

import json
from dataclasses import dataclass
from typing import Final, Protocol

from resources.model import ResourceKey
from search.dialects.sqlite import numbers
from search.dialects.sqlite.layout import CANONICAL, WIDE_DATE
from search.parameters import Parameter
from search.query import (
    CompositeTest,
    DateTest,
    NumberTest,
    QuantityTest,
    ReferenceTest,
    StringTest,
    Test,
    TokenTest,
    UriTest,
)
from search.values import fold

Values = tuple[object, ...]
_LAST: Final = "\U0010ffff"
"""Sorts after every continuation of a text."""


class Catalog(Protocol):
    """What the dialect asks of a store while it compiles: numbers of names (a number without rows for unknown ones), counts."""

    def type(self, name: str) -> int:
        """The number of a resource type."""

    def parameter(self, base: str, code: str) -> int:
        """The number of a parameter."""

    def term(self, text: str) -> int:
        """The number of a system or unit."""

    def rid(self, key: ResourceKey) -> int:
        """The row number of a resource."""

    def count(self, sql: str, parameters: Values) -> int:
        """The number a counting statement gives."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Rows of `table` for which `sql` holds. `rows` is appended to the parameter's code (composite components: `/1`)."""

    table: str
    sql: str
    values: Values


@dataclass(frozen=True, slots=True)
class Range(Condition):
    """Rows found through `index`; `ordered`: for one parameter number they come in row order."""

    index: str
    ordered: bool = False


def storage_codes(parameter: Parameter) -> tuple[str, ...]:
    """The codes under which the parameter's entries are stored."""
    return parameter.rows or (parameter.code,)


def primary(table: str) -> str:
    """The name of a clustered table's own index."""
    return f"sqlite_autoindex_{table}_1"


def conditions(test: Test, parameter: Parameter, catalog: Catalog) -> tuple[Condition, ...]:
    """One of these holds for an entry that satisfies the test (a CompositeTest is the planner's business)."""
    match test:
        case TokenTest():
            return (Condition("token", *_token(test, catalog)),)
        case StringTest():
            return (Condition("string", *_string(test)),)
        case DateTest():
            return (Condition("date", *date_condition(test)),)
        case NumberTest():
            return (Condition("number", *_number(test)),)
        case QuantityTest():
            return tuple(Condition("quantity", *both) for both in _quantity(test, catalog))
        case ReferenceTest():
            return tuple(Condition(table, *both) for table, *both in _reference(test, parameter, catalog))  # type: ignore[misc]
        case UriTest():
            return (Condition("uri", *_uri(test)),)
        case CompositeTest():
            raise TypeError("a composite has no condition of its own")


def ranges(test: Test, parameter: Parameter, catalog: Catalog) -> tuple[Range, ...]:
    """The index ranges whose union is the rows that satisfy the test."""
    match test:
        case DateTest():
            return tuple(_spans("date", date_condition(test), test.prefix, test.low, test.high, WIDE_DATE))
        case NumberTest():
            low, high = numbers.key(test.low), numbers.key(test.high)
            return tuple(_spans("number", _number(test), test.prefix, low, high, 0))
        case QuantityTest():
            found: list[Range] = []
            written, *canonical = _quantity(test, catalog)
            pairs = [(test.number, written), *(((test.canonical[0], canonical[0]),) if test.canonical else ())]
            for number, both in pairs:
                low, high = numbers.key(number.low), numbers.key(number.high)
                found += _spans("quantity", both, number.prefix, low, high, 0)
            return tuple(found)
        case _:
            return tuple(
                Range(c.table, c.sql, c.values, primary(c.table), ordered=_is_point(test))
                for c in conditions(test, parameter, catalog)
            )


def _is_point(test: Test) -> bool:
    """Whether the test fixes the value column, so that its rows come in row order."""
    match test:
        case TokenTest(codes=codes):
            return codes is not None and len(codes) == 1
        case StringTest(mode=mode):
            return mode == "exact"
        case ReferenceTest(keys=keys, url=url):
            return len(keys) == 1 and url is None
        case UriTest(mode=mode):
            return mode == "exact"
        case _:
            return False


def _placeholders(count: int) -> str:
    return ", ".join("?" * count)


def _among(column: str, values: Values) -> str:
    return f"{{a}}.{column} = ?" if len(values) == 1 else f"{{a}}.{column} IN ({_placeholders(len(values))})"


def _token(test: TokenTest, catalog: Catalog) -> tuple[str, Values]:
    parts: list[str] = []
    values: Values = ()
    if test.codes is not None:
        parts.append(_among("code", test.codes))
        values += test.codes
    if test.system is not None:
        parts.append("{a}.system = ?")
        values += (catalog.term(test.system),)
    return " AND ".join(parts) or "1", values


def _string(test: StringTest) -> tuple[str, Values]:
    match test.mode:
        case "starts":
            return "{a}.folded >= ? AND {a}.folded < ?", (test.text, test.text + _LAST)
        case "contains":
            return "instr({a}.folded, ?) > 0", (test.text,)
        case "exact":
            return "{a}.folded = ? AND {a}.exact = ?", (fold(test.text), test.text)


def date_condition(test: DateTest) -> tuple[str, Values]:
    """The test on the columns `{a}.low` and `{a}.high`."""
    low, high = test.low, test.high
    match test.prefix:
        case "eq":
            return "{a}.low >= ? AND {a}.high <= ?", (low, high)
        case "ne":
            return "({a}.low < ? OR {a}.high > ?)", (low, high)
        case "gt":
            return "{a}.high > ?", (high,)
        case "lt":
            return "{a}.low < ?", (low,)
        case "ge":
            return "({a}.high > ? OR {a}.low >= ?)", (high, low)
        case "le":
            return "({a}.low < ? OR {a}.high <= ?)", (low, high)
        case "sa":
            return "{a}.low > ?", (high,)
        case "eb":
            return "{a}.high < ?", (low,)
        case "ap":
            return "{a}.low <= ? AND {a}.high >= ?", (high, low)


def _number(test: NumberTest) -> tuple[str, Values]:
    low, high = numbers.key(test.low), numbers.key(test.high)
    below = "<=" if low == high else "<"
    match test.prefix:
        case "eq":
            return f"{{a}}.low >= ? AND {{a}}.high {below} ?", (low, high)
        case "ne":
            return f"NOT ({{a}}.low >= ? AND {{a}}.high {below} ?)", (low, high)
        case "gt":
            return "{a}.high > ?", (high,)
        case "lt":
            return "{a}.low < ?", (low,)
        case "ge":
            return "{a}.high >= ?", (low,)
        case "le":
            return "{a}.low <= ?", (high,)
        case "sa":
            return "{a}.low > ?", (high,)
        case "eb":
            return "{a}.high < ?", (low,)
        case "ap":
            return f"{{a}}.low {below} ? AND {{a}}.high >= ?", (high, low)


def _spans(table: str, both: tuple[str, Values], prefix: str, low: object, high: object, width: int) -> list[Range]:
    """The ranges of a test on [low, high]; rows up to `width` wide are found by their lower end."""
    sql, values = both
    wide = False
    bound: tuple[str, Values] | None = None
    match prefix:
        case "eq":
            bound = "{a}.low <= ?", (high,)
        case "gt" | "ge":
            edge = min(low, high - width) if isinstance(low, int) and isinstance(high, int) else low
            bound, wide = ("{a}.low >= ?", (edge,)), True
        case "lt" | "eb":
            bound = "{a}.low < ?", (low,)
        case "le":
            bound = "{a}.low <= ?", (high,)
        case "sa":
            bound = "{a}.low > ?", (high,)
        case "ap":
            edge = low - width if isinstance(low, int) else low
            bound, wide = ("{a}.low >= ? AND {a}.low <= ?", (edge, high)), True
        case _:
            bound = None
    if bound is None:
        return [Range(table, sql, values, primary(table))]
    found = [Range(table, f"{bound[0]} AND {sql}", bound[1] + values, primary(table))]
    if wide:
        partial = f"{{a}}.high - {{a}}.low > {WIDE_DATE}" if table == "date" else "{a}.high > {a}.low"
        found.append(Range(table, f"{{a}}.high >= ? AND {partial} AND {sql}", (low, *values), f"{table}_wide"))
    return found


def _quantity(test: QuantityTest, catalog: Catalog) -> list[tuple[str, Values]]:
    """As written, then (if the search converts) the canonical rows."""
    sql, values = _number(test.number)
    parts = [sql, "{a}.system >= 0"]
    if test.system is not None:
        parts.append("{a}.system = ?")
        values += (catalog.term(test.system),)
    if test.code is not None:
        parts.append("({a}.code = ? OR {a}.unit = ?)")
        values += (catalog.term(test.code),) * 2
    found = [(" AND ".join(parts), values)]
    if test.canonical is not None:
        sql, values = _number(test.canonical[0])
        found.append(
            (f"{sql} AND {{a}}.system = {CANONICAL} AND {{a}}.code = ?", (*values, catalog.term(test.canonical[1])))
        )
    return found


def _reference(test: ReferenceTest, parameter: Parameter, catalog: Catalog) -> list[tuple[str, str, Values]]:
    found: list[tuple[str, str, Values]] = []
    if test.keys:
        rids = tuple(catalog.rid(key) for key in test.keys)
        sql, values = _among("target", rids), rids
        if test.version is not None:
            sql, values = f"{sql} AND {{a}}.version = ?", (*values, test.version)
        if parameter.only_target is not None:
            sql, values = f"{sql} AND {{a}}.kind = ?", (*values, catalog.type(parameter.only_target))
        found.append(("reference", sql, values))
    if test.url is not None:
        versioned = f"{test.url}|{test.version}" if test.version is not None else test.url
        if "|" in versioned:
            found.append(("uri", "{a}.value = ?", (versioned,)))
        else:
            sql = "({a}.value = ? OR ({a}.value >= ? AND {a}.value < ?))"
            found.append(("uri", sql, (versioned, f"{versioned}|", f"{versioned}}}")))
    return found


def _uri(test: UriTest) -> tuple[str, Values]:
    text = test.text
    match test.mode:
        case "exact":
            return "{a}.value = ?", (text,)
        case "below":
            # "/" + 1 is "0", "|" + 1 is "}": the texts that go on after a border
            border = text.rstrip("/")
            sql = "({a}.value = ? OR ({a}.value >= ? AND {a}.value < ?) OR ({a}.value >= ? AND {a}.value < ?))"
            return sql, (text, f"{border}/", f"{border}0", f"{border}|", f"{border}}}")
        case "above":
            ends = [at for at, letter in enumerate(text) if letter in "/|" and at]
            prefixes = {text, *(text[:at] for at in ends), *(text[: at + 1] for at in ends)}
            return "{a}.value IN (SELECT value FROM json_each(?))", (json.dumps(sorted(prefixes)),)
