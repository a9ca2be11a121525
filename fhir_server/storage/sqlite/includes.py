"""What a page's matches include: gathered round by round, so that `:iterate` ends where nothing new is found.

Rules: only what may be seen is included or walked through; a resource comes once, and not when it is a match; a superseded version
comes when a reference names it, and nothing is reached through it. Gathering stops at a limit, and says so.

Specification: https://hl7.org/fhir/R4/search.html#include
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fhir_server.storage.port import Row, Stored
from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.reading import read_version, stored_row
from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.narrowing import Narrowing
from search.query import Include

Item = tuple[int, str]
"""An included resource: row number, superseded version or ''. Their order is the order of includes."""


@dataclass(slots=True)
class Gathered:
    """What is included: type numbers by item; `full`: gathering stopped at the limit."""

    items: dict[Item, int] = field(default_factory=dict)
    full: bool = False

    def ordered(self, after: Item | None) -> list[Item]:
        """The items in order, from behind `after`."""
        found = sorted(self.items)
        return found if after is None else [item for item in found if item > after]


def gather(
    catalog: Catalog, includes: Sequence[Include], narrowing: Narrowing, matched: Mapping[int, int], most: int
) -> Gathered:
    """What `includes` add to the matched rows (row number -> type number), at most a few more than `most`."""
    found = Gathered()
    frontier, wanted = dict(matched), list(includes)
    while frontier and wanted and not found.full:
        fresh: dict[int, set[int]] = {}
        for one in wanted:
            for kind, rid, version in _reached(catalog, one, frontier, most + 1):
                if version:
                    found.items.setdefault((rid, version), kind)
                elif rid not in matched and (rid, "") not in found.items:
                    fresh.setdefault(kind, set()).add(rid)
        frontier = _seen(catalog, narrowing, fresh)
        found.items.update(((rid, ""), kind) for rid, kind in frontier.items())
        found.full = len(found.items) > most
        wanted = [one for one in includes if one.iterate]
    return found


def _reached(catalog: Catalog, one: Include, rows: Mapping[int, int], limit: int) -> Iterable[tuple[int, int, str]]:
    """(type number, row number, superseded version or '') of what one include reaches from the rows."""
    from_type = (one.target if one.reverse else one.source) or None
    number = None if from_type is None else catalog.type(from_type)
    rids = [rid for rid, kind in rows.items() if number in (None, kind)]
    if not rids:
        return
    for statement in dialect.include(one, rids, _url_types(catalog, one, rows), catalog):
        yield from catalog.connection.execute(statement.sql, (*statement.values, limit))


def _url_types(catalog: Catalog, one: Include, rows: Mapping[int, int]) -> Sequence[str]:
    """The types whose resources the include's canonicals may name."""
    if not one.canonical:
        return ()
    if one.reverse:
        names = [catalog.type_name(kind) for kind in sorted(set(rows.values()))]
        return [name for name in names if one.parameter is None or one.parameter.may_target(name)]
    if one.target is not None:
        return (one.target,)
    if one.parameter is not None and one.parameter.targets and len(one.parameter.targets) < _MANY:
        return one.parameter.targets
    return [name for (name,) in catalog.connection.execute("SELECT type FROM parameter WHERE code = 'url' ORDER BY 1")]


_MANY = 20


def _seen(catalog: Catalog, narrowing: Narrowing, fresh: Mapping[int, set[int]]) -> dict[int, int]:
    seen: dict[int, int] = {}
    for kind, rids in sorted(fresh.items()):
        name = catalog.type_name(kind)
        statement = dialect.reachable(narrowing.of(name), name, sorted(rids), catalog)
        seen.update((rid, kind) for (rid,) in catalog.connection.execute(statement.sql, statement.values))
    return seen


def rows_of(catalog: Catalog, narrowing: Narrowing, found: Gathered, items: Sequence[Item]) -> list[Row]:
    """The resources of these items, by type and in order."""
    kinds: dict[int, list[Item]] = {}
    for item in items:
        kinds.setdefault(found.items[item], []).append(item)
    rows: list[Row] = []
    for kind, among in sorted(kinds.items()):
        name = catalog.type_name(kind)
        current = [rid for rid, version in among if not version]
        if current:
            statement = dialect.included(narrowing.of(name), name, current, catalog)
            stored = catalog.connection.execute(statement.sql, statement.values)
            rows += [Row(stored_row(name, row), "include") for row in stored]
        for rid, version in among:
            old = _version(catalog, narrowing, name, rid, version) if version else None
            if old is not None:
                rows.append(Row(old, "include", versioned=True))
    return rows


def _version(catalog: Catalog, narrowing: Narrowing, name: str, rid: int, version: str) -> Stored | None:
    """The superseded version that a reference names."""
    if not version.isdigit():
        return None
    (identity,) = catalog.connection.execute("SELECT id FROM resource WHERE rid = ?", (rid,)).fetchone()
    stored = read_version(catalog, ResourceKey(name, identity), int(version), narrowing)
    return None if stored is None or stored.deleted else stored
