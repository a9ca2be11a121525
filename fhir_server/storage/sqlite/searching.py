"""The search verb as a function of one connection: pages of one type or several, their totals, includes and warnings.

Rules. A page over several types merges the pages of each by the sort keys. Over the cap of includes a page has fewer matches; only one
match with more includes than the cap is shown in parts, its page saying where it breaks off. All comes from one snapshot.

Specification: https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any, Final, NamedTuple, cast

from fhir_server.storage.port import Page, Row, Stored
from fhir_server.storage.sqlite.ambiguity import refuse_ambiguous
from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.includes import Item, gather, rows_of
from fhir_server.storage.sqlite.reading import page_rows, stored_row
from resources.errors import FhirError
from resources.json_format import decode, encode
from search.dialects import sqlite as dialect
from search.narrowing import Narrowing
from search.query import All, And, Nothing, Query
from search.versions import WARNING, over_versions

_CLOSURE: Final = 20
"""One match may include so many times the cap of a page."""
_SAMPLE: Final = 2000
"""An estimated total is exact up to so many matches."""


class Match(NamedTuple):
    """A match before it is shown: its sort values, row number, type, and resource (of what contains it: `contained`)."""

    keys: tuple[Any, ...]
    rid: int
    type: str
    stored: Stored
    contained: str = ""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The queries of a page with the statements of each that is not of contained resources."""

    parts: tuple[tuple[Query, dialect.PageStatements | None], ...]
    shape: str

    def before(self, at: int) -> tuple[Query, ...]:
        """The queries before that of number `at`, whose matches are none of its own."""
        return tuple(one for one, _ in self.parts[:at])


def compiled(query: Query, catalog: Catalog) -> Compiled:
    """The query and its `others`, compiled, types left out that never occurred; `shape` names what may be slow about them."""
    catalog.even = not isinstance(query.narrowing, All)
    queries = [query]
    if query.others:
        queries = [one for one in (query, *query.others) if catalog.type(one.type) > 0] or queries
    catalog.seen = {}
    try:
        parts = tuple([(one, None if one.contained != "no" else dialect.page(one, catalog)) for one in queries])
    finally:
        catalog.seen = None
    first = parts[0][1]
    shape = first.statements[0].sql if first is not None else "contained"
    return Compiled(parts, f"{shape}{query.total}{len(parts)}")


def search(catalog: Catalog, found: Compiled, narrowing: Narrowing, include_limit: int) -> Page:
    """A page of matches with their includes."""
    query = found.parts[0][0]
    for one, _ in found.parts:
        refuse_ambiguous(one.where, narrowing, catalog)
    total = None
    if query.continued is not None:
        return _continued(catalog, found, narrowing, include_limit)
    if query.total != "none" or query.count == 0:
        total = sum(_total(catalog, one, narrowing, found.before(at)) for at, (one, _) in enumerate(found.parts))
    if query.count == 0:
        return Page((), total, more=False)
    matches = _matches(catalog, found, narrowing, query.count + 1)
    more = len(matches) > query.count
    matches = matches[: query.count]
    rest: Item | None = None
    included: list[Row] = []
    if query.includes and matches:
        matches, included, rest, cut = _with_includes(catalog, query, narrowing, matches, include_limit)
        more = more or cut
    warned = _warnings(catalog, found, matches)
    if query.backward:
        matches = matches[::-1]
    return Page((*_rows(matches), *included), total, more, warned, rest)


def _rows(matches: Sequence[Match]) -> list[Row]:
    rows = [Row(match.stored, "match") for match in matches]
    for at in (0, -1) if rows else ():
        rows[at] = rows[at]._replace(position=dialect.position(matches[at].keys, matches[at].rid))
    return rows


# ---- matches


def _matches(catalog: Catalog, found: Compiled, narrowing: Narrowing, limit: int) -> list[Match]:
    matches: list[Match] = []
    for at, (query, statements) in enumerate(found.parts):
        if statements is None:
            matches += _contained(catalog, query, narrowing, found.before(at), limit)
            continue
        for row in page_rows(catalog, statements, limit):
            keys = statements.keys
            matches.append(Match(row[:keys], row[keys], query.type, stored_row(query.type, row)))
    if len(found.parts) == 1:
        return matches
    first = found.parts[0][0]

    def order(one: Match, other: Match) -> int:
        return _compared(first, one, other)

    matches.sort(key=cmp_to_key(order))
    return matches[:limit]


def _compared(query: Query, one: Match, other: Match) -> int:
    """The order of two matches of a page: by the sort keys, what is missing last, then by row number."""
    turn = -1 if query.backward else 1
    for key, a, b in zip(query.sort, one.keys, other.keys, strict=True):
        if a == b:
            continue
        if a is None or b is None:
            return turn if a is None else -turn
        smaller = (a < b) != key.descending
        return -turn if smaller else turn
    down = bool(query.sort) and query.sort[0].descending
    return turn if (one.rid > other.rid) != down else -turn if one.rid != other.rid else 0


def _contained(
    catalog: Catalog, query: Query, narrowing: Narrowing, earlier: Sequence[Query], limit: int
) -> list[Match]:
    """Matches among contained resources, shown as what contains them or as themselves."""
    page = dialect.contained.page(query, narrowing, catalog, earlier)
    found: list[Match] = []
    for row in page_rows(catalog, page, limit):
        rid, kind = row[page.keys : page.keys + 2]
        name = catalog.type_name(kind)
        stored = stored_row(name, row)
        if query.contained == "contained":
            stored = stored._replace(body=_inner(stored))
        inside = stored.key.id if query.contained == "contained" else ""
        found.append(Match(row[: page.keys], rid, name, stored, inside))
    return found


def _inner(stored: Stored) -> bytes:
    """The body of the contained resource that the key names (`container#local`)."""
    local = stored.key.id.partition("#")[2]
    return next(encode(one) for one in decode(stored.body)["contained"] if one.get("id") == local)


def _total(catalog: Catalog, query: Query, narrowing: Narrowing, earlier: Sequence[Query]) -> int:
    if query.contained != "no":
        statement = dialect.contained.total(query, narrowing, catalog, earlier)
        return catalog.count(statement.sql, statement.values)
    if query.total == "estimate" and query.count:
        sampled = dialect.estimate(query, catalog, _SAMPLE)
        if sampled is not None:
            count, last = catalog.connection.execute(sampled.sql, sampled.values).fetchone()
            if count < _SAMPLE:
                return int(count)
            most = catalog.count("SELECT max(rid) FROM resource", ())
            return round(int(count) * most / int(last))
    statement = dialect.total(query, catalog)
    return catalog.count(statement.sql, statement.values)


# ---- includes


def _with_includes(
    catalog: Catalog, query: Query, narrowing: Narrowing, matches: list[Match], limit: int
) -> tuple[list[Match], list[Row], Item | None, bool]:
    """As many matches as fit with all they include; their includes; where those of a single match break off; whether some were left."""
    cut = False
    while True:
        matched = {match.rid: catalog.type(match.type) for match in matches if not match.contained}
        alone = len(matches) == 1
        found = gather(catalog, query.includes, narrowing, matched, limit * _CLOSURE if alone else limit)
        if not found.full or alone:
            break
        matches, cut = matches[: len(matches) // 2], True
    if found.full:
        said = f"One match includes more than {limit * _CLOSURE} resources; ask for fewer kinds of them."
        raise FhirError(403, "too-costly", said)
    items = found.ordered(None)
    rest = items[limit - 1] if len(items) > limit else None
    return matches, rows_of(catalog, narrowing, found, items[:limit]), rest, cut


def _continued(catalog: Catalog, compiled_: Compiled, narrowing: Narrowing, limit: int) -> Page:
    """More includes of the match at `after`, and none when it is no match any longer; `more`: matches follow it."""
    query = compiled_.parts[0][0]
    assert query.after is not None
    assert query.continued is not None
    rid = cast("int", query.after[-1])
    (kind,) = catalog.connection.execute("SELECT type FROM resource WHERE rid = ?", (rid,)).fetchone()
    shown = any(_shows(catalog, one, narrowing, rid, catalog.type_name(kind)) for one, _ in compiled_.parts)
    matched = {rid: kind} if shown else {}
    found = gather(catalog, query.includes, narrowing, matched, limit * _CLOSURE)
    items = found.ordered(query.continued)
    rest = items[limit - 1] if len(items) > limit else None
    more = bool(_matches(catalog, compiled_, narrowing, 1))
    return Page(tuple(rows_of(catalog, narrowing, found, items[:limit])), None, more, continued=rest)


def _shows(catalog: Catalog, query: Query, narrowing: Narrowing, rid: int, kind: str) -> bool:
    """Whether the live resource is a match, itself or for what it contains."""
    if query.contained == "container":
        statement = dialect.contained.container(query, narrowing, catalog, rid)
    elif query.contained == "no" and query.type == kind:
        statement = dialect.reachable(And((query.where, query.narrowing)), kind, [rid], catalog)
    else:
        return False
    return catalog.connection.execute(statement.sql, statement.values).fetchone() is not None


# ---- warnings


def _warnings(catalog: Catalog, found: Compiled, matches: Sequence[Match]) -> tuple[Any, ...]:
    for query, statements in found.parts:
        node = over_versions(query.where) if statements is not None and matches else Nothing()
        if isinstance(node, Nothing):
            continue
        rids = [match.rid for match in matches if match.type == query.type]
        statement = dialect.reachable(node, query.type, rids, catalog)
        if catalog.connection.execute(statement.sql, statement.values).fetchone() is not None:
            return (WARNING,)
    return ()


# ---- how a search is run


def explain(catalog: Catalog, found: Compiled) -> tuple[str, ...]:
    """The statements, without values, each with SQLite's plan for it."""
    told: list[str] = []
    for query, page in found.parts:
        if page is None:
            told.append(f"{query.type}: contained resources")
            continue
        told += [f"{query.type}: {text}" for text in dialect.sizes(query, catalog)]
        for statement in page.statements:
            plan = catalog.connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (*statement.values, 1))
            steps = "; ".join(row[3] for row in plan)
            told.append(f"{query.type}: {statement.sql} -- {steps}")
    return tuple(told)
