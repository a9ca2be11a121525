"""The secret that signs cursors: made once per store, kept in it, so that cursors are good in all processes and after a restart."""

import secrets
from contextlib import closing
from pathlib import Path

from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect

_KEY = "cursor_secret"


def cursor_secret(path: Path, options: SqliteOptions) -> bytes:
    """32 random bytes, the same at every call for one store; `path` is a migrated database."""
    with closing(connect(path, options)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
        if row is None:
            with closing(FileLock(path)) as lock, lock.held():
                connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (_KEY, secrets.token_bytes(32)))
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
        return bytes(row[0])
