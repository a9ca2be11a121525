"""Expunging: versions, and whole deleted resources, are removed from the tables for good, as if they had never been written.

Rules.
1. What is current and live is never touched. Superseded versions go from the oldest on, so what is left has no gap; how far they went is kept (follow_up, kind
   `expunged`), so that `check` can tell an expunged version from a lost one. A deleted resource goes when all its versions may.
2. The row of a removed resource stays, as one that is known by its id alone (state 0): references to it still point at the same number, which every
   process may have remembered. A resource that comes back begins at version 1.
3. The texts beside codes that only what was removed had (a patient's name in a reference's display) go too, and writers forget the numbers of texts.
4. The work is found in a snapshot and done in short transactions, each of which looks again.

Freed pages of the file keep old bytes until SQLite uses them anew or the file is rewritten (VACUUM, or a restored backup).
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from fhir_server.storage.port import Expunge
from fhir_server.storage.sqlite.catalog import Catalog
from resources.json_format import decode
from resources.model import ResourceKey
from search.dialects.sqlite.layout import DELETED, OF_REFERENCE, UNKNOWN
from search.values import fold

KIND: Final = "expunged"
AT_ONCE: Final = 200
"""Versions that one transaction removes at most."""
_OPAQUE: Final = frozenset({"data", "div"})
"""Members whose strings are no text beside a code, and long."""
_KEEP_FIRST: Final = "INSERT OR REPLACE INTO follow_up VALUES (?, ?, ?)"
_FORGET_FIRST: Final = "DELETE FROM follow_up WHERE kind = ? AND key = ?"
_GONE: Final = f"UPDATE resource SET version = 0, updated = 0, state = {UNKNOWN}, method = 0, released = 1, body = x'' WHERE rid = ?"  # noqa: S608
_PRESENT: Final = (
    "WITH RECURSIVE present(param) AS (SELECT min(param) FROM {0} UNION ALL"
    " SELECT (SELECT min(t.param) FROM {0} t WHERE t.param > present.param) FROM present WHERE present.param IS NOT NULL)"
    " SELECT 1 FROM present CROSS JOIN {0} t ON t.param = present.param AND t.{1} = ? AND t.wording = ? LIMIT 1"
)
_BESIDE_CODE: Final = _PRESENT.format("token", "code")
_BESIDE_REFERENCE: Final = _PRESENT.format("reference", "target")


class _Version(NamedTuple):
    rid: int
    version: int
    body: bytes


def deleted(catalog: Catalog, what: Expunge) -> list[int]:
    """The row numbers of deleted resources, at most as many as versions may go."""
    where, values = _scope(catalog, what)
    sql = f"SELECT rid FROM resource WHERE {where} AND version > 0 AND state = {DELETED} LIMIT ?"  # noqa: S608
    return [rid for (rid,) in catalog.connection.execute(sql, (*values, what.limit))]


def remove_deleted(connection: sqlite3.Connection, rids: Sequence[int], most: int) -> int:
    """Remove the resources that are still deleted, at most `most` versions; how many versions went. In a transaction of the caller."""
    gone: list[_Version] = []
    whole = 0
    for rid in rids:
        if connection.execute("SELECT 1 FROM resource WHERE rid = ? AND state = ?", (rid, DELETED)).fetchone() is None:
            continue
        left = most - len(gone) - whole
        if left <= 0:
            break
        past = _versions(connection, "rid = ? ORDER BY version", (rid,), left)
        gone += past
        _remove(connection, past)
        if len(past) < left:
            connection.execute(_GONE, (rid,))
            connection.execute(_FORGET_FIRST, (KIND, str(rid)))
            whole += 1
    _forget_texts(connection, gone)
    return len(gone) + whole


def remove_previous(connection: sqlite3.Connection, catalog: Catalog, what: Expunge, most: int) -> int:
    """Remove superseded versions, the oldest first, at most `most`; how many went. In a transaction of the caller."""
    where, values = _scope(catalog, what)
    order = "version" if what.id is not None else "updated"
    gone = _versions(connection, f"{where} ORDER BY {order}", values, most)
    _remove(connection, gone)
    _forget_texts(connection, gone)
    return len(gone)


def first_version(connection: sqlite3.Connection, rid: int) -> int:
    """The oldest version that was not expunged."""
    row = connection.execute("SELECT data FROM follow_up WHERE kind = ? AND key = ?", (KIND, str(rid))).fetchone()
    return 1 if row is None else int(json.loads(row[0])["first"])


def _scope(catalog: Catalog, what: Expunge) -> tuple[str, tuple[object, ...]]:
    """The condition of one resource, a type or the whole store."""
    if what.type is None:
        return "1", ()
    if what.id is None:
        return "type = ?", (catalog.type(what.type),)
    return "rid = ?", (catalog.rid(ResourceKey(what.type, what.id)),)


def _versions(connection: sqlite3.Connection, where: str, values: tuple[Any, ...], most: int) -> list[_Version]:
    sql = f"SELECT rid, version, body FROM history WHERE {where} LIMIT ?"  # noqa: S608  (no value in it)
    return [_Version(*row) for row in connection.execute(sql, (*values, most))]


def _remove(connection: sqlite3.Connection, gone: Sequence[_Version]) -> None:
    connection.executemany("DELETE FROM history WHERE rid = ? AND version = ?", [row[:2] for row in gone])
    last: dict[int, int] = {}
    for row in gone:
        last[row.rid] = max(row.version, last.get(row.rid, 0))
    kept = [(KIND, str(rid), json.dumps({"first": version + 1})) for rid, version in last.items()]
    connection.executemany(_KEEP_FIRST, kept)


# ---- texts beside codes


def _forget_texts(connection: sqlite3.Connection, gone: Iterable[_Version]) -> None:
    """Remove the wordings whose every line is a text of a removed body, and that no row uses any more."""
    lines = {line for row in gone if row.body for text in _strings(decode(row.body)) if (line := fold(text))}
    candidates: set[tuple[int, str, int, str]] = set()
    for word in {max(line.split(), key=len) for line in lines}:
        sql = "SELECT w.number, w.code, w.system, w.text FROM wording_word x JOIN wording w ON w.number = x.wording WHERE x.word = ?"
        candidates.update(connection.execute(sql, (word,)))
    unused = [
        (number, text)
        for number, code, system, text in candidates
        if lines.issuperset(text[1:].split("\n ")) and not _used(connection, number, code, system)
    ]
    connection.executemany("DELETE FROM wording WHERE number = ?", [(number,) for number, _ in unused])
    words = {(word, number) for number, text in unused for word in text.split()}
    connection.executemany("DELETE FROM wording_word WHERE word = ? AND wording = ?", words)
    if unused:
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES ('wordings', 1 + coalesce((SELECT value FROM meta WHERE key = 'wordings'), 0))"
        )


def _used(connection: sqlite3.Connection, number: int, code: str, system: int) -> bool:
    if system == OF_REFERENCE:
        return connection.execute(_BESIDE_REFERENCE, (int(code), number)).fetchone() is not None
    return connection.execute(_BESIDE_CODE, (code, number)).fetchone() is not None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            if name not in _OPAQUE:
                yield from _strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from _strings(member)
