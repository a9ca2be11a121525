"""The tables of `auth.sqlite`, as numbered migrations under the rules of `migrations.py`.

`data` is JSON of a dataclass of `smart_auth.model`; a value that also has a column of its own is read from the column. `hash`: SHA-256 of a
handle. Times are seconds since 1970. `epoch` has one row; it grows with every change that other processes must notice. A signing key's
`place` is the order in which keys were made.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

AUTH_MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE epoch(number INTEGER NOT NULL)",
        "INSERT INTO epoch VALUES (1)",
        "CREATE TABLE user(name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE client(id TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
        (
            "CREATE TABLE grant_(id TEXT PRIMARY KEY, user TEXT NOT NULL, client TEXT NOT NULL, created INTEGER NOT NULL, "
            "revoked INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
        ),
        "CREATE INDEX grant_user ON grant_(user, client) WHERE revoked = 0",
        "CREATE INDEX grant_created ON grant_(created)",
        (
            "CREATE TABLE code(hash TEXT PRIMARY KEY, expires INTEGER NOT NULL, used INTEGER NOT NULL, data BLOB NOT NULL) "
            "WITHOUT ROWID"
        ),
        (
            "CREATE TABLE refresh(hash TEXT PRIMARY KEY, grant_ TEXT NOT NULL, expires INTEGER NOT NULL, "
            "rotated INTEGER NOT NULL, successor TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
        ),
        "CREATE INDEX refresh_grant ON refresh(grant_)",
        "CREATE INDEX refresh_successor ON refresh(rotated) WHERE successor <> ''",
        "CREATE TABLE used(kind TEXT NOT NULL, key TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY(kind, key)) WITHOUT ROWID",
        (
            "CREATE TABLE launch(hash TEXT PRIMARY KEY, client TEXT NOT NULL, expires INTEGER NOT NULL, data BLOB NOT NULL) "
            "WITHOUT ROWID"
        ),
        (
            "CREATE TABLE session(hash TEXT PRIMARY KEY, user TEXT NOT NULL, seen INTEGER NOT NULL, data BLOB NOT NULL) "
            "WITHOUT ROWID"
        ),
        "CREATE INDEX session_user ON session(user)",
        "CREATE TABLE pending(hash TEXT PRIMARY KEY, expires INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE signing_key(kid TEXT PRIMARY KEY, place INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE attempt(subject TEXT PRIMARY KEY, failed INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE setting(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ),
)
"""As `migrations.MIGRATIONS`, of this file."""


def end_everything(path: Path) -> None:
    """In a store that nobody has open: revoke all grants, end sessions and what is under way. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").close()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE grant_ SET revoked = 1")
        for table in ("code", "refresh", "launch", "session", "pending"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608  (names of this file)
        connection.execute("UPDATE epoch SET number = number + 1")
        connection.execute("COMMIT")
