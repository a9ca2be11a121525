"""Tests -> conditions on rows of one index table, and the index ranges that find such rows.

Rules. A condition names its row `{a}` and binds values in the order of its text, so the text depends on the test's shape only.
A `Condition` holds for a row that is already found (probe). A `Range` is how to find rows from a value (drive): the condition
again, with a bound on the first column where the index can use one. A range test on the upper end needs two ranges: rows
of ordinary width by their lower end, and the few wide ones by the index on their upper end.

Specification: https://hl7.org/fhir/R4/search.html#prefix, #string, #token, #reference, #uri, #quantity
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol, TypeVar

from resources.model import ResourceKey
from search.dialects.sqlite import meanings, numbers
from search.dialects.sqlite.layout import WIDE_DATE, canonical_code
from search.parameters import Parameter
from search.query import (
    CompositeTest,
    DateTest,
    HierarchyTest,
    MemberTest,
    MimeTest,
    NearTest,
    NumberTest,
    Owners,
    Prefix,
    QuantityTest,
    ReferenceTest,
    StringTest,
    SubsumptionTest,
    Test,
    TextTest,
    TokenTest,
    UnlikeTest,
    UriTest,
    WordsTest,
)
from search.types.concepts import MIME_SYSTEM
from search.types.uri import below
from search.values import elsewhere_type, fold

Values = tuple[object, ...]
Sql = tuple[str, Values]
_Bound = TypeVar("_Bound", int, bytes)
_LAST: Final = "\U0010ffff"
"""Sorts after every continuation of a text."""


UNKNOWN: Final = -(1 << 62)
"""The number of what has none: no row has it, nor its negative (entries of contained resources)."""


class Catalog(Protocol):
    """What the dialect asks of a store while it compiles: numbers of names (UNKNOWN for unknown ones), counts.

    `compiled`: what nodes that stay compile to, by the number of the node (which is kept with it) and the type.
    """

    compiled: dict[tuple[int, str], Any]

    def type(self, name: str) -> int:
        """The number of a resource type."""

    def types(self) -> list[str]:
        """The resource types that occur."""

    def parameter(self, base: str, code: str) -> int:
        """The number of a parameter."""

    def term(self, text: str) -> int:
        """The number of a system or unit."""

    def rid(self, key: ResourceKey) -> int:
        """The row number of a resource."""

    def rids(self, owners: Owners) -> str:
        """The row numbers of those that exist, as a JSON array."""

    def code_system(self, url: str | None) -> int | None:
        """The number of a system whose concepts the store has, None for all systems; FhirError 400 for one that it has not."""

    def value_set(self, url: str, version: str | None) -> tuple[int, bool]:
        """The number of a value set, and whether it holds whole systems; FhirError 400 naming one whose codes are not known."""

    def count(self, sql: str, parameters: Values) -> int:
        """The number a counting statement gives."""

    def estimate(self, sql: str, parameters: Values) -> int:
        """The number a counting statement gave some seconds ago at most: good for choosing a plan, for nothing else."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Rows of `table` for which `sql` holds; `unit`: of the parameter's rows in that canonical unit."""

    table: str
    sql: str
    values: Values
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Range(Condition):
    """Rows found through `index`; `ordered`: for one parameter number they come in row order."""

    index: str = ""
    ordered: bool = False


def storage_codes(parameter: Parameter, unit: str | None = None) -> tuple[str, ...]:
    """The codes under which the parameter's entries are stored; `unit`: its quantities in that canonical unit."""
    codes = parameter.rows or (parameter.code,)
    return codes if unit is None else tuple(canonical_code(code, unit) for code in codes)


def primary(table: str) -> str:
    """The name of a clustered table's own index."""
    return f"sqlite_autoindex_{table}_1"


def conditions(test: Test, parameter: Parameter, catalog: Catalog) -> tuple[Condition, ...]:
    """One of these holds for an entry that satisfies the test (a CompositeTest or HierarchyTest is the planner's business)."""
    match test:
        case UnlikeTest(inner):
            return tuple(_unlike(inner, parameter, catalog))
        case TokenTest():
            return (Condition("token", *_token(test, catalog)),)
        case StringTest():
            return (Condition("string", *_string(test)),)
        case DateTest():
            return (Condition("date", *date_condition(test)),)
        case NumberTest():
            return (Condition("number", *_number(test)),)
        case QuantityTest():
            return (Condition("quantity", *_quantity(test, catalog), _unit(test)),)
        case ReferenceTest():
            return tuple(_reference(test, parameter, catalog))
        case UriTest():
            return (Condition("uri", *_uri(test)),)
        case TextTest():
            return tuple(Condition(table, *meanings.text_probe(test)) for table in _text_tables(parameter))
        case NearTest():
            return (Condition("position", *meanings.place(test)),)
        case WordsTest():
            return (Condition("word", *meanings.word(test)),)
        case MimeTest():
            return (Condition("token", *meanings.mime(test, catalog.term(MIME_SYSTEM))),)
        case MemberTest():
            return (Condition("token", *meanings.member_probe(*catalog.value_set(test.url, test.version))),)
        case SubsumptionTest():
            return (Condition("token", *meanings.subsumption_probe(test, _system(test, catalog))),)
        case CompositeTest() | HierarchyTest():
            raise TypeError(f"{type(test).__name__} is the planner's business")


def ranges(test: Test, parameter: Parameter, catalog: Catalog) -> tuple[Range, ...]:
    """The index ranges whose union is the rows that satisfy the test."""
    match test:
        case DateTest():
            return tuple(_spans("date", date_condition(test), test.prefix, test.low, test.high, WIDE_DATE))
        case NumberTest():
            low, high = numbers.key(test.low), numbers.key(test.high)
            return tuple(_spans("number", _number(test), test.prefix, low, high, 0))
        case QuantityTest():
            number = test.canonical[0] if test.canonical is not None else test.number
            low, high = numbers.key(number.low), numbers.key(number.high)
            found = _spans("quantity", _quantity(test, catalog), number.prefix, low, high, 0)
            return tuple(replace(span, unit=_unit(test)) for span in found)
        case TextTest():
            return tuple(
                _driven(table, meanings.text_drive(test, table), meanings.text_probe(test))
                for table in _text_tables(parameter)
            )
        case MemberTest():
            value_set, whole = catalog.value_set(test.url, test.version)
            drive = ("1", ()) if whole else meanings.member_drive(value_set)
            return (_driven("token", drive, meanings.member_probe(value_set, whole)),)
        case SubsumptionTest():
            system = _system(test, catalog)
            drive, probe = meanings.subsumption_drive(test, system), meanings.subsumption_probe(test, system)
            return (_driven("token", drive, probe),)
        case _:
            return tuple(
                Range(c.table, c.sql, c.values, index=primary(c.table), ordered=_is_point(test))
                for c in conditions(test, parameter, catalog)
            )


def _driven(table: str, drive: Sql, probe: Sql) -> Range:
    return Range(table, f"{drive[0]} AND {probe[0]}", drive[1] + probe[1], index=primary(table))


def _text_tables(parameter: Parameter) -> tuple[str, ...]:
    return ("reference", "token") if parameter.type == "reference" else ("token",)


def _system(test: SubsumptionTest, catalog: Catalog) -> int | None:
    return catalog.code_system(test.system)


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
        case WordsTest():
            return True
        case _:
            return False


def marks(values: Sequence[object]) -> str:
    """A placeholder for each value."""
    return ", ".join("?" * len(values))


def _among(column: str, values: Values) -> str:
    return f"{{a}}.{column} = ?" if len(values) == 1 else f"{{a}}.{column} IN ({marks(values)})"


def _token(test: TokenTest, catalog: Catalog) -> Sql:
    parts: list[str] = []
    values: Values = ()
    if test.codes is not None:
        parts.append(_among("code", test.codes))
        values += test.codes
    if test.system is not None:
        parts.append("{a}.system = ?")
        values += (catalog.term(test.system),)
    return " AND ".join(parts) or "1", values


def _string(test: StringTest) -> Sql:
    match test.mode:
        case "starts":
            return "{a}.folded >= ? AND {a}.folded < ?", (test.text, test.text + _LAST)
        case "contains":
            return "instr({a}.folded, ?) > 0", (test.text,)
        case "exact":
            return "{a}.folded = ? AND {a}.exact = ?", (fold(test.text), test.text)
        case "equals":
            return "{a}.folded = ? AND {a}.exact <> ''", (test.text,)
        case "begins":
            return "{a}.folded >= ? AND {a}.folded < ? AND {a}.exact <> ''", (test.text, test.text + _LAST)
        case "ends":
            return "substr({a}.folded, ?) = ? AND {a}.exact <> ''", (-len(test.text), test.text)
        case "gt":
            return "{a}.folded >= ? AND {a}.exact <> ''", (chr(ord(test.text) + 1),)
        case "ge":
            return "{a}.folded >= ? AND {a}.exact <> ''", (test.text,)
        case "lt":
            return "{a}.folded < ? AND {a}.exact <> ''", (test.text,)
        case "le":
            return "{a}.folded < ? AND {a}.exact <> ''", (chr(ord(test.text) + 1),)


def _unlike(test: Test, parameter: Parameter, catalog: Catalog) -> Iterator[Condition]:
    """An entry of the kind that the test is for, which does not satisfy it."""
    found = {one.table: one for one in conditions(test, parameter, catalog)}
    if isinstance(test, ReferenceTest):
        only = parameter.only_target
        kind: Sql = ("1", ()) if only is None else ("{a}.kind = ?", (catalog.type(only),))
        found.setdefault("reference", Condition("reference", "0", ()))
        if only is None:
            found.setdefault("uri", Condition("uri", "0", ()))
    else:
        kind = ("{a}.exact <> ''", ()) if isinstance(test, StringTest) else ("1", ())
    for table, one in found.items():
        more = kind if table != "uri" else ("1", ())
        yield Condition(table, f"NOT ({one.sql}) AND {more[0]}", (*one.values, *more[1]), one.unit)


def date_condition(test: DateTest) -> Sql:
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
        case "co":
            return "{a}.low <= ? AND {a}.high >= ?", (low, high)
        case "ap":
            return "{a}.low <= ? AND {a}.high >= ?", (high, low)


def _number(test: NumberTest) -> Sql:
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


def _before(edge: _Bound, width: int) -> _Bound:
    return edge - width if isinstance(edge, int) else edge


def _spans(table: str, both: Sql, prefix: Prefix | Literal["co"], low: _Bound, high: _Bound, width: int) -> list[Range]:
    """The ranges of a test on [low, high]; rows up to `width` wide are found by their lower end."""
    sql: str = both[0]
    values: Values = both[1]
    bound: Sql = ("1", ())
    match prefix:
        case "gt":
            bound = "{a}.low >= ?", (_before(high, width),)
        case "ge":
            bound = "{a}.low >= ?", (min(low, _before(high, width)),)
        case "lt" | "eb":
            bound = "{a}.low < ?", (low,)
        case "eq" | "le" | "co":
            bound = "{a}.low <= ?", (high,)
        case "sa":
            bound = "{a}.low > ?", (high,)
        case "ap":
            bound = "{a}.low >= ? AND {a}.low <= ?", (_before(low, width), high)
        case "ne":
            pass
    narrow = Range(table, f"{bound[0]} AND {sql}", (*bound[1], *values), index=primary(table))
    if prefix not in ("gt", "ge", "ap"):
        return [narrow]
    partial = f"{{a}}.high - {{a}}.low > {WIDE_DATE}" if table == "date" else "{a}.high > {a}.low"
    return [narrow, Range(table, f"{{a}}.high >= ? AND {partial} AND {sql}", (low, *values), index=f"{table}_wide")]


def _quantity(test: QuantityTest, catalog: Catalog) -> Sql:
    """The canonical rows where the search converts, else the rows as written."""
    if test.canonical is not None:
        return _number(test.canonical[0])
    sql, values = _number(test.number)
    parts = [sql]
    if test.system is not None:
        parts.append("{a}.system = ?")
        values += (catalog.term(test.system),)
    if test.code is not None:
        parts.append("({a}.code = ? OR {a}.unit = ?)")
        values += (catalog.term(test.code),) * 2
    return " AND ".join(parts), values


def _unit(test: QuantityTest) -> str | None:
    return None if test.canonical is None else test.canonical[1]


def _reference(test: ReferenceTest, parameter: Parameter, catalog: Catalog) -> Iterator[Condition]:
    if test.keys:
        values: Values = tuple(catalog.rid(key) for key in test.keys)
        sql = _among("target", values)
        if test.version is not None:
            sql, values = f"{sql} AND {{a}}.version = ?", (*values, test.version)
        if parameter.only_target is not None:
            sql, values = f"{sql} AND {{a}}.kind = ?", (*values, catalog.type(parameter.only_target))
        yield Condition("reference", sql, values)
    if test.url is not None and parameter.only_target in (None, elsewhere_type(test.url)):
        yield Condition("uri", "{a}.value = ?", (test.url,))


def _uri(test: UriTest) -> Sql:
    text = test.text
    match test.mode:
        case "exact":
            return "{a}.value = ?", (text,)
        case "below":
            sql = "{a}.value >= ? AND {a}.value < ?"
            if text.endswith("/"):
                return sql, (text, text + _LAST)
            borders = "'/', '#', '?', '|', '.', ''" if "|" in text else "'/', '#', '?', '|', ''"
            return f"{sql} AND substr({{a}}.value, ?, 1) IN ({borders})", (text, text + _LAST, len(text) + 1)
        case "above":
            roots = [text[:end] for end in range(1, len(text) + 1) if below(text, text[:end])]
            return "{a}.value IN (SELECT value FROM json_each(?))", (json.dumps(roots),)
