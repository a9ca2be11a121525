"""What `fhir-server info` says about a store: figures that cost no walk over the data, unless they are asked to be exact."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fhir_server.backup import REPORT, counts
from resources.model import instant
from search.dialects.sqlite.layout import INDEX_TABLES

_TIMES = """SELECT
    min((SELECT min(updated) FROM resource INDEXED BY resource_updated WHERE version > 0),
        coalesce((SELECT min(updated) FROM history INDEXED BY history_updated), 9e18)),
    (SELECT max(updated) FROM resource INDEXED BY resource_updated WHERE version > 0)"""


def facts(connection: sqlite3.Connection, database: Path, *, exact: bool) -> dict[str, Any]:
    """Sizes in bytes, times as instants. Index rows are estimates of the last statistics unless `exact`."""
    connection.execute("BEGIN")
    resources, versions = counts(connection)
    first, last = connection.execute(_TIMES).fetchone()
    wal = database.with_name(f"{database.name}-wal")
    backup = connection.execute("SELECT data FROM follow_up WHERE kind = ? AND key = ?", REPORT).fetchone()
    kinds = dict(connection.execute("SELECT kind, count(*) FROM follow_up GROUP BY kind").fetchall())
    found = {
        "file": str(database),
        "store_version": _pragma(connection, "user_version"),
        "bytes": database.stat().st_size,
        "wal_bytes": wal.stat().st_size if wal.exists() else 0,
        "free_bytes": _pragma(connection, "freelist_count") * _pragma(connection, "page_size"),
        "first_write": None if first is None else instant(int(first)),
        "last_write": None if last is None else instant(last),
        "resources": resources,
        "versions": versions,
        "index_rows": _index_rows(connection, exact=exact),
        "index_rows_exact": exact,
        "follow_ups": kinds,
        "last_backup": None if backup is None else _backup(json.loads(backup[0])),
    }
    connection.execute("ROLLBACK")
    return found


def shown(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for people, a line each."""
    about = "" if found["index_rows_exact"] else "about "
    yield f"store         {found['file']}, version {found['store_version']}"
    yield f"size          {_size(found['bytes'])}, {_size(found['free_bytes'])} of it free; WAL {_size(found['wal_bytes'])}"
    yield f"written       {found['first_write'] or 'never'} to {found['last_write'] or 'never'}"
    last = found["last_backup"]
    yield f"last backup   {'none' if last is None else '{taken}, {file}, sha256 {sha256}'.format(**last)}"
    yield f"resources     {sum(found['resources'].values()):,}, {found['versions']:,} versions"
    yield from (f"  {name:<32}{number:>12,}" for name, number in found["resources"].items())
    yield "index rows"
    for table, number in found["index_rows"].items():
        yield f"  {table:<32}{'unknown' if number is None else f'{about}{number:,}':>18}"
    yield "other rows"
    yield from (f"  {kind:<32}{number:>12,}" for kind, number in found["follow_ups"].items())


def _index_rows(connection: sqlite3.Connection, *, exact: bool) -> dict[str, int | None]:
    if exact:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table} INDEXED BY {table}_rid").fetchone()[0]  # noqa: S608
            for table in INDEX_TABLES
        }
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").fetchone() is None:
        return dict.fromkeys(INDEX_TABLES)
    estimates = connection.execute("SELECT tbl, max(cast(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl").fetchall()
    return {table: dict(estimates).get(table, 0) for table in INDEX_TABLES}


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    number: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return number


def _backup(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "taken": instant(data["taken"])}


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"
