"""The history of the layout: numbered migrations, each frozen text run in one transaction that also sets user_version.

Rules: a published migration never changes; it runs under the writers' lock, so two processes that start together migrate once;
a process that is killed in the middle leaves the version before. A store newer than this software is refused.

Specification: https://www.sqlite.org/pragma.html#pragma_user_version
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from fhir_server.storage.sqlite.connection import FileLock
from resources.errors import FhirError

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE type(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        (
            "CREATE TABLE parameter(number INTEGER PRIMARY KEY, type TEXT NOT NULL, code TEXT NOT NULL, "
            "UNIQUE(type, code))"
        ),
        "CREATE TABLE term(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
        (
            "CREATE TABLE resource(rid INTEGER PRIMARY KEY, type INTEGER NOT NULL, id TEXT NOT NULL, version "
            "INTEGER NOT NULL, updated INTEGER NOT NULL, state INTEGER NOT NULL, method INTEGER NOT NULL, "
            "released INTEGER NOT NULL, container INTEGER, body BLOB NOT NULL, UNIQUE(type, id))"
        ),
        (
            "CREATE TABLE history(rid INTEGER NOT NULL, version INTEGER NOT NULL, type INTEGER NOT NULL, "
            "updated INTEGER NOT NULL, method INTEGER NOT NULL, deleted INTEGER NOT NULL, body BLOB NOT NULL, "
            "PRIMARY KEY(rid, version))"
        ),
        (
            "CREATE TABLE token(param INTEGER NOT NULL, code TEXT NOT NULL, rid INTEGER NOT NULL, system "
            "INTEGER NOT NULL, group_ INTEGER NOT NULL, wording INTEGER NOT NULL, mark INTEGER NOT NULL, "
            "PRIMARY KEY(param, code, rid, system, group_, wording)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE string(param INTEGER NOT NULL, folded TEXT NOT NULL, rid INTEGER NOT NULL, exact TEXT"
            " NOT NULL, group_ INTEGER NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, folded, rid, exact, "
            "group_)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE date(param INTEGER NOT NULL, low INTEGER NOT NULL, rid INTEGER NOT NULL, high INTEGER"
            " NOT NULL, group_ INTEGER NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, low, rid, high, "
            "group_)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE number(param INTEGER NOT NULL, low BLOB NOT NULL, rid INTEGER NOT NULL, high BLOB NOT"
            " NULL, group_ INTEGER NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, low, rid, high, group_))"
            " WITHOUT ROWID"
        ),
        (
            "CREATE TABLE quantity(param INTEGER NOT NULL, low BLOB NOT NULL, rid INTEGER NOT NULL, high BLOB "
            "NOT NULL, system INTEGER NOT NULL, code INTEGER NOT NULL, unit INTEGER NOT NULL, group_ INTEGER "
            "NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, low, rid, high, system, code, unit, group_)) "
            "WITHOUT ROWID"
        ),
        (
            "CREATE TABLE reference(param INTEGER NOT NULL, target INTEGER NOT NULL, rid INTEGER NOT NULL, kind"
            " INTEGER NOT NULL, version TEXT NOT NULL, group_ INTEGER NOT NULL, wording INTEGER NOT NULL, mark "
            "INTEGER NOT NULL, PRIMARY KEY(param, target, rid, kind, version, group_, wording)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE uri(param INTEGER NOT NULL, value TEXT NOT NULL, rid INTEGER NOT NULL, group_ INTEGER"
            " NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, value, rid, group_)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE position(param INTEGER NOT NULL, latitude INTEGER NOT NULL, rid INTEGER NOT NULL, "
            "longitude INTEGER NOT NULL, PRIMARY KEY(param, latitude, rid, longitude)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE word(param INTEGER NOT NULL, word TEXT NOT NULL, rid INTEGER NOT NULL, place INTEGER "
            "NOT NULL, PRIMARY KEY(param, word, rid, place)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE wording(number INTEGER PRIMARY KEY, code TEXT NOT NULL, system INTEGER NOT NULL, text"
            " TEXT NOT NULL, UNIQUE(code, system, text))"
        ),
        (
            "CREATE TABLE wording_word(word TEXT NOT NULL, wording INTEGER NOT NULL, PRIMARY KEY(word, "
            "wording)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE concept(system INTEGER NOT NULL, code TEXT NOT NULL, display TEXT NOT NULL, PRIMARY "
            "KEY(system, code)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE subsumption(system INTEGER NOT NULL, ancestor TEXT NOT NULL, code TEXT NOT NULL, "
            "PRIMARY KEY(system, ancestor, code)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE code_system(system INTEGER PRIMARY KEY, version TEXT NOT NULL, source TEXT NOT NULL, "
            "content TEXT NOT NULL)"
        ),
        (
            "CREATE TABLE value_set(number INTEGER PRIMARY KEY, url TEXT NOT NULL, version TEXT NOT NULL, "
            "source TEXT NOT NULL, state TEXT NOT NULL, UNIQUE(url, version))"
        ),
        (
            "CREATE TABLE member(value_set INTEGER NOT NULL, code TEXT NOT NULL, system INTEGER NOT NULL, "
            "PRIMARY KEY(value_set, code, system)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE compartment(owner INTEGER NOT NULL, type INTEGER NOT NULL, rid INTEGER NOT NULL, "
            "PRIMARY KEY(owner, type, rid)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE owner(organization INTEGER NOT NULL, type INTEGER NOT NULL, rid INTEGER NOT NULL, "
            "PRIMARY KEY(organization, type, rid)) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE follow_up(kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, PRIMARY "
            "KEY(kind, key)) WITHOUT ROWID"
        ),
        "CREATE TABLE meta(key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE INDEX live ON resource(type) WHERE state = 1",
        "CREATE INDEX resource_updated ON resource(updated) WHERE version > 0",
        "CREATE INDEX resource_type_updated ON resource(type, updated) WHERE version > 0",
        "CREATE INDEX contained ON resource(container) WHERE container IS NOT NULL",
        "CREATE INDEX history_updated ON history(updated)",
        "CREATE INDEX history_type_updated ON history(type, updated)",
        "CREATE INDEX token_rid ON token(rid, param)",
        "CREATE INDEX string_rid ON string(rid, param)",
        "CREATE INDEX date_rid ON date(rid, param)",
        "CREATE INDEX number_rid ON number(rid, param)",
        "CREATE INDEX quantity_rid ON quantity(rid, param)",
        "CREATE INDEX reference_rid ON reference(rid, param)",
        "CREATE INDEX uri_rid ON uri(rid, param)",
        "CREATE INDEX position_rid ON position(rid, param)",
        "CREATE INDEX word_rid ON word(rid, param)",
        "CREATE INDEX date_wide ON date(param, high) WHERE high - low > 86400000000",
        "CREATE INDEX number_wide ON number(param, high) WHERE high > low",
        "CREATE INDEX quantity_wide ON quantity(param, high) WHERE high > low",
        "CREATE INDEX subsumption_code ON subsumption(system, code)",
        "CREATE INDEX compartment_rid ON compartment(rid)",
        "CREATE INDEX owner_rid ON owner(rid)",
    ),
    ("ALTER TABLE resource ADD COLUMN prints BLOB NOT NULL DEFAULT x''",),
)
"""`MIGRATIONS[n]` takes a store from version n to n + 1."""


def migrate(connection: sqlite3.Connection, lock: FileLock, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the store to the newest version; FhirError 503 when it is newer than this software."""
    if _version(connection) == len(migrations):
        return
    with lock.held():
        version = _version(connection)
        if version > len(migrations):
            raise FhirError(
                503,
                "exception",
                f"store version newer than this software: the store has version {version}, this software knows {len(migrations)}",
            )
        for number in range(version, len(migrations)):
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in migrations[number]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1}")
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
