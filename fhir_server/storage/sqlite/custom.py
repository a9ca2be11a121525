"""Custom search parameters in the store: what active SearchParameter resources define, and how far their index rows are.

Rules.
1. A row (follow_up, kind `search-parameter`, keyed by the resource's id) is written in the same transaction as the resource. With every change
   the epoch (meta `search_parameters`) rises, by which each process notices within half a second.
2. A parameter is `waiting` from its definition on: rows are made for what is written from now on, searches are refused. `$reindex` makes
   the others; when its sample agrees the parameter is `ready`. A changed expression waits again.
3. `unused`: the resource defines nothing here, for the reason given.
4. When a definition goes its rows go in the same transaction.

Specification: https://hl7.org/fhir/R4/searchparameter.html
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from fhir_server.storage.port import Custom
from resources.definitions import load
from resources.definitions.model import SearchComponent, SearchParameterDefinition
from resources.json_format import decode
from search.custom import definition_of, is_active, obstacle
from search.dialects.sqlite.layout import INDEX_TABLES
from search.parameters import FULL_TEXT, Registry

KIND: Final = "search-parameter"
RESOURCE: Final = "SearchParameter"
WAITING: Final = "its index is not made yet: POST [base]/SearchParameter/{id}/$reindex, or run the command reindex"
_EPOCH: Final = "search_parameters"


class Customs(NamedTuple):
    """All rows at one epoch."""

    epoch: int
    rows: tuple[Custom, ...]

    def give(self, registry: Registry) -> None:
        """Make them the registry's."""
        used = [row for row in self.rows if row.state != "unused"]
        refused = {row.definition.url: row.refusal for row in used if row.refusal}
        registry.replace([row.definition for row in used if row.definition.code not in FULL_TEXT], refused, self.epoch)


def epoch(connection: sqlite3.Connection) -> int:
    """The number of changes so far."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_EPOCH,)).fetchone()
    return 0 if row is None else int(row[0])


def customs(connection: sqlite3.Connection) -> Customs:
    """What is defined now."""
    rows = connection.execute("SELECT key, data FROM follow_up WHERE kind = ? ORDER BY key", (KIND,)).fetchall()
    return Customs(epoch(connection), tuple(_read(key, json.loads(data)) for key, data in rows))


def follow(connection: sqlite3.Connection, changed: Mapping[str, bytes]) -> None:
    """Take over SearchParameter resources that are being written: id -> body, empty for a deletion. In their transaction."""
    known = {row.id: row for row in customs(connection).rows}
    registry = Registry(load())
    before = dict(known)
    for name, body in changed.items():
        known.pop(name, None)
        resource = decode(body) if body else {}
        if is_active(resource):
            known[name] = _placed(name, definition_of(resource), before.get(name), known.values(), registry)
    for name in changed:
        _forget_index(connection, before.get(name), known.get(name))
        connection.execute("DELETE FROM follow_up WHERE kind = ? AND key = ?", (KIND, name))
        if name in known:
            _write(connection, known[name])
    _raise_epoch(connection)


def settle(
    connection: sqlite3.Connection, kind: str | None, parameter: str | None, registry: Registry, fault: str
) -> None:
    """A reindex of these by `registry` has ended; `fault` "" when its sample agreed. In a transaction of the caller."""
    for row in customs(connection).rows:
        if row.state == "unused" or (parameter is not None and row.definition.code != parameter):
            continue
        if registry.by_url(row.definition.url) != row.definition:
            continue
        if not fault and kind is not None and set(row.definition.bases) != {kind}:
            continue
        _write(connection, Custom(row.id, row.definition, "waiting" if fault else "ready", fault))
        _raise_epoch(connection)


def settle_words(connection: sqlite3.Connection, *, on: bool) -> None:
    """Take over the setting search.full_text: `_text` and `_content` wait for their index when it was off before."""
    if words_settled(connection, on=on):
        return
    empty = connection.execute("SELECT 1 FROM resource LIMIT 1").fetchone() is None
    for definition in load().search_parameters:
        if definition.code in FULL_TEXT:
            connection.execute("DELETE FROM follow_up WHERE kind = ? AND key = ?", (KIND, definition.code))
            if on:
                reason = f"its index is not made yet: run the command reindex with --parameter {definition.code}"
                _write(
                    connection,
                    Custom(definition.code, definition, "ready" if empty else "waiting", "" if empty else reason),
                )
    _raise_epoch(connection)


def words_settled(connection: sqlite3.Connection, *, on: bool) -> bool:
    """Whether the setting search.full_text is as it was."""
    return on == any(row.definition.code in FULL_TEXT for row in customs(connection).rows)


def _placed(
    name: str,
    definition: SearchParameterDefinition,
    before: Custom | None,
    others: Iterable[Custom],
    registry: Registry,
) -> Custom:
    reason = obstacle(definition, registry, (one.definition for one in others if one.state != "unused"))
    if reason:
        return Custom(name, definition, "unused", reason)
    if before is not None and before.definition == definition and before.state != "unused":
        return before
    return Custom(name, definition, "waiting", WAITING.replace("{id}", name))


def _forget_index(connection: sqlite3.Connection, before: Custom | None, after: Custom | None) -> None:
    """Drop the index rows of a definition that went or changed, and the work on them."""
    if before is None or before.state == "unused" or (after is not None and after.definition == before.definition):
        return
    code = before.definition.code
    connection.execute("DELETE FROM follow_up WHERE kind = 'job' AND key = ?", (f"reindex/*/{code}",))
    sql = "SELECT number FROM parameter WHERE code = ? OR code GLOB ? OR code GLOB ?"
    numbers = [n for (n,) in connection.execute(sql, (code, f"{code}/*", f"{code}|*"))]
    bases = before.definition.bases
    if not {"Resource", "DomainResource"} & set(bases):
        allowed = {n for n, kind in connection.execute("SELECT number, type FROM parameter") if kind in bases}
        numbers = [n for n in numbers if n in allowed]
    for table in INDEX_TABLES:
        for number in numbers:
            connection.execute(f"DELETE FROM {table} WHERE param IN (?, ?)", (number, -number))  # noqa: S608


def _read(name: str, data: Mapping[str, Any]) -> Custom:
    row = data["definition"]
    definition = SearchParameterDefinition(
        url=row["url"],
        code=row["code"],
        type=row["type"],
        bases=tuple(row["bases"]),
        expression=row["expression"],
        targets=tuple(row["targets"]),
        components=tuple(SearchComponent(**one) for one in row["components"]),
    )
    return Custom(name, definition, data["state"], data["reason"])


def _write(connection: sqlite3.Connection, row: Custom) -> None:
    data = {"definition": asdict(row.definition), "state": row.state, "reason": row.reason}
    connection.execute("INSERT OR REPLACE INTO follow_up VALUES (?, ?, ?)", (KIND, row.id, json.dumps(data)))


def _raise_epoch(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_EPOCH, epoch(connection) + 1))
