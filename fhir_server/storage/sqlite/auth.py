"""SqliteAuthStore: users, clients, grants and keys in a file of their own, `auth.sqlite`, beside the store of resources.

Rules.
1. The file, its WAL and its lock have mode 0600: it holds the private signing keys. It is never sent anywhere but into a backup.
2. Values are JSON of the frozen dataclasses of `smart_auth.model`; a column of its own has what is looked for or changed by itself.
3. Any number of threads and processes: one connection reads and one writes in each process, each behind a lock that is held for one
   statement or one transaction. Every change is one transaction, on disk (synchronous=FULL) when the verb returns.
4. What is used up is used up inside the transaction: of fifty that try, one succeeds.
5. Handles are stored by their SHA-256. The successor of a rotated refresh token, kept for a minute, is the one exception: it must be told again.

Specification: https://www.sqlite.org/wal.html, https://www.sqlite.org/lang_transaction.html
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from fhir_server.storage.sqlite.auth_migrations import AUTH_MIGRATIONS
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect, unavailable
from fhir_server.storage.sqlite.migrations import migrate
from smart_auth.model import Client, Code, Grant, Key, Launch, Pending, RefreshToken, Session, User, hashed

AUTH_DATABASE: Final = "auth.sqlite"
KEPT: Final = 31 * 86400
"""Seconds after which what no token can name any more is dropped."""
SUCCESSOR: Final = 60
"""Seconds for which the successor of a refresh token is kept in the clear."""
_OPTIONS: Final = SqliteOptions(cache=4, mmap=0)

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode


class SqliteAuthStore:
    """See `smart_auth.ports.AuthStore`. FhirError 503 when the file cannot be used."""

    def __init__(self, path: Path, reading: sqlite3.Connection, writing: sqlite3.Connection, lock: FileLock) -> None:
        self.path = path
        self._reading, self._writing = reading, writing
        self._read, self._write = threading.Lock(), threading.Lock()
        self._lock = lock

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the store in this process, after any fork; made and migrated where needed."""
        path = folder / AUTH_DATABASE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            lock = FileLock(path)
        except OSError as error:
            raise unavailable(sqlite3.OperationalError(f"{path}: {error.strerror}")) from error
        writing = connect(path, _OPTIONS)
        try:
            migrate(writing, lock, AUTH_MIGRATIONS)
            return cls(path, connect(path, _OPTIONS, read_only=True), writing, lock)
        except BaseException as error:
            writing.close()
            lock.close()
            if isinstance(error, sqlite3.Error):
                raise unavailable(error) from error
            raise

    def close(self) -> None:
        """Release the file."""
        with self._read, self._write:
            self._reading.close()
            self._writing.close()
            self._lock.close()

    def epoch(self) -> int:
        """See the port. Takes some microseconds."""
        number: int = self._row("SELECT number FROM epoch")[0]
        return number

    # users and clients
    def user(self, name: str) -> User | None:
        """See the port."""
        return self._value(User, "SELECT data FROM user WHERE name = ?", name.casefold())

    def users(self) -> Sequence[User]:
        """See the port."""
        return self._values(User, "SELECT data FROM user ORDER BY name")

    def put_user(self, user: User) -> None:
        """See the port."""
        with self._change(epoch=True) as change:
            change.execute("INSERT OR REPLACE INTO user VALUES (?, ?)", (user.name.casefold(), _encode(user)))

    def change_user(self, name: str, change: Callable[[User], User]) -> User | None:
        """See the port."""
        with self._change(epoch=True) as connection:
            row = connection.execute("SELECT data FROM user WHERE name = ?", (name.casefold(),)).fetchone()
            if row is None:
                return None
            user = change(_decoded(User, row[0]))
            connection.execute("UPDATE user SET data = ? WHERE name = ?", (_encode(user), name.casefold()))
            return user

    def client(self, name: str) -> Client | None:
        """See the port."""
        return self._value(Client, "SELECT data FROM client WHERE id = ?", name)

    def clients(self) -> Sequence[Client]:
        """See the port."""
        return self._values(Client, "SELECT data FROM client ORDER BY id")

    def put_client(self, client: Client) -> None:
        """See the port."""
        with self._change(epoch=True) as change:
            change.execute("INSERT OR REPLACE INTO client VALUES (?, ?)", (client.id, _encode(client)))

    # grants and tokens
    def add_grant(self, grant: Grant) -> None:
        """See the port."""
        row = (grant.id, grant.user.casefold(), grant.client, grant.created, grant.revoked, _encode(grant))
        with self._change() as change:
            change.execute("INSERT INTO grant_ VALUES (?, ?, ?, ?, ?, ?)", row)

    def grant(self, name: str) -> Grant | None:
        """See the port."""
        row = self._row("SELECT data, revoked FROM grant_ WHERE id = ?", name)
        return None if row is None else replace(_decoded(Grant, row[0]), revoked=bool(row[1]))

    def grants(self, user: str, client: str | None = None) -> Sequence[Grant]:
        """See the port."""
        sql = (
            "SELECT data FROM grant_ WHERE revoked = 0 AND user = ? AND (? IS NULL OR client = ?) ORDER BY created, id"
        )
        return self._values(Grant, sql, user.casefold(), client, client)

    def revoke(self, grants: Sequence[str]) -> int:
        """See the port."""
        with self._change(epoch=True) as change:
            sql = "UPDATE grant_ SET revoked = 1 WHERE id = ? AND revoked = 0"
            return sum(change.execute(sql, (name,)).rowcount for name in grants)

    def add_code(self, code: str, row: Code) -> None:
        """See the port."""
        with self._change() as change:
            change.execute("INSERT INTO code VALUES (?, ?, ?, ?)", (hashed(code), row.expires, row.used, _encode(row)))

    def use_code(self, code: str) -> Code | None:
        """See the port."""
        with self._change() as change:
            row = change.execute("SELECT data, used FROM code WHERE hash = ?", (hashed(code),)).fetchone()
            change.execute("UPDATE code SET used = 1 WHERE hash = ?", (hashed(code),))
        return None if row is None else replace(_decoded(Code, row[0]), used=bool(row[1]))

    def add_refresh(self, token: str, row: RefreshToken) -> None:
        """See the port."""
        with self._change() as change:
            _add_refresh(change, token, row)

    def refresh(self, token: str) -> RefreshToken | None:
        """See the port."""
        row = self._row("SELECT data, rotated, successor FROM refresh WHERE hash = ?", hashed(token))
        return None if row is None else replace(_decoded(RefreshToken, row[0]), rotated=row[1], successor=row[2])

    def rotate(self, token: str, successor: str, row: RefreshToken, now: int) -> bool:
        """See the port."""
        with self._change() as change:
            sql = "UPDATE refresh SET rotated = ?, successor = ? WHERE hash = ? AND rotated = 0"
            done = change.execute(sql, (now, successor, hashed(token))).rowcount == 1
            if done:
                _add_refresh(change, successor, row)
        return done

    def use_once(self, kind: str, key: str, until: int) -> bool:
        """See the port."""
        with self._change() as change:
            return change.execute("INSERT OR IGNORE INTO used VALUES (?, ?, ?)", (kind, key, until)).rowcount == 1

    # launches, sessions, requests under way
    def add_launch(self, handle: str, row: Launch) -> None:
        """See the port."""
        with self._change() as change:
            values = (hashed(handle), row.client, row.expires, _encode(row))
            change.execute("INSERT INTO launch VALUES (?, ?, ?, ?)", values)

    def use_launch(self, handle: str, client: str, now: int) -> Launch | None:
        """See the port."""
        with self._change() as change:
            sql = "DELETE FROM launch WHERE hash = ? AND client = ? AND expires > ? RETURNING data"
            row = change.execute(sql, (hashed(handle), client, now)).fetchone()
        return None if row is None else _decoded(Launch, row[0])

    def put_session(self, cookie: str, row: Session) -> None:
        """See the port."""
        with self._change() as change:
            values = (hashed(cookie), row.user.casefold(), row.seen, _encode(row))
            change.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?)", values)

    def session(self, cookie: str) -> Session | None:
        """See the port."""
        return self._value(Session, "SELECT data FROM session WHERE hash = ?", hashed(cookie))

    def sessions(self, user: str) -> Sequence[tuple[str, Session]]:
        """See the port."""
        sql = "SELECT hash, data FROM session WHERE user = ? ORDER BY seen DESC, hash"
        return [(name, _decoded(Session, data)) for name, data in self._rows(sql, user.casefold())]

    def end_sessions(self, hashes: Sequence[str]) -> None:
        """See the port."""
        with self._change() as change:
            change.executemany("DELETE FROM session WHERE hash = ?", [(name,) for name in hashes])

    def put_pending(self, tx: str, row: Pending) -> None:
        """See the port."""
        with self._change() as change:
            values = (hashed(tx), row.expires, _encode(row))
            change.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?)", values)

    def pending(self, tx: str) -> Pending | None:
        """See the port."""
        return self._value(Pending, "SELECT data FROM pending WHERE hash = ?", hashed(tx))

    def use_pending(self, tx: str) -> Pending | None:
        """See the port."""
        with self._change() as change:
            row = change.execute("DELETE FROM pending WHERE hash = ? RETURNING data", (hashed(tx),)).fetchone()
        return None if row is None else _decoded(Pending, row[0])

    # keys, failures, settings
    def keys(self) -> Sequence[Key]:
        """See the port."""
        return self._values(Key, "SELECT data FROM signing_key ORDER BY place DESC")

    def put_key(self, key: Key) -> None:
        """See the port."""
        sql = (
            "INSERT INTO signing_key SELECT ?, coalesce(max(place), 0) + 1, ? FROM signing_key WHERE true "
            "ON CONFLICT(kid) DO UPDATE SET data = excluded.data"
        )
        with self._change(epoch=True) as change:
            change.execute(sql, (key.kid, _encode(key)))

    def failures(self, subject: str) -> tuple[int, int]:
        """See the port."""
        row = self._row("SELECT failed, last FROM attempt WHERE subject = ?", subject)
        return (0, 0) if row is None else (row[0], row[1])

    def note_attempt(self, subject: str, now: int, *, failed: bool) -> None:
        """See the port."""
        sql = (
            "INSERT INTO attempt VALUES (?, 1, ?) ON CONFLICT(subject) DO UPDATE SET failed = failed + 1, last = excluded.last"
            if failed
            else "DELETE FROM attempt WHERE subject = ? AND last <= ?"
        )
        with self._change() as change:
            change.execute(sql, (subject, now))

    def setting(self, name: str) -> Any:
        """See the port."""
        row = self._row("SELECT value FROM setting WHERE name = ?", name)
        return None if row is None else msgspec.json.decode(row[0])

    def put_setting(self, name: str, value: Any) -> None:
        """See the port."""
        with self._change(epoch=True) as change:
            if value is None:
                change.execute("DELETE FROM setting WHERE name = ?", (name,))
            else:
                change.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, _encode(value)))

    def settings(self, prefix: str) -> Mapping[str, Any]:
        """See the port."""
        rows = self._rows(
            "SELECT name, value FROM setting WHERE substr(name, 1, length(?)) = ? ORDER BY name", prefix, prefix
        )
        return {name: msgspec.json.decode(value) for name, value in rows}

    def sweep(self, now: int) -> None:
        """See the port. A used code is kept for a day: who brings it again has stolen it, or it was stolen."""
        old = now - KEPT
        with self._change() as change:
            for sql, limit in (
                ("DELETE FROM code WHERE expires < ?", now - 86400),
                ("UPDATE refresh SET successor = '' WHERE successor <> '' AND rotated < ?", now - SUCCESSOR),
                ("DELETE FROM refresh WHERE expires < ?", now),
                ("DELETE FROM used WHERE until < ?", now),
                ("DELETE FROM launch WHERE expires < ?", now),
                ("DELETE FROM pending WHERE expires < ?", now),
                ("DELETE FROM session WHERE seen < ?", old),
                ("DELETE FROM attempt WHERE last < ?", old),
                ("DELETE FROM grant_ WHERE created < ? AND id NOT IN (SELECT grant_ FROM refresh)", old),
            ):
                change.execute(sql, (limit,))

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        try:
            with self._read:
                return self._reading.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(error) from error

    def _row(self, sql: str, *values: Any) -> Any:
        rows = self._rows(sql, *values)
        return rows[0] if rows else None

    def _value(self, kind: type[_T], sql: str, *values: Any) -> _T | None:
        row = self._row(sql, *values)
        return None if row is None else _decoded(kind, row[0])

    def _values(self, kind: type[_T], sql: str, *values: Any) -> list[_T]:
        return [_decoded(kind, row[0]) for row in self._rows(sql, *values)]

    @contextmanager
    def _change(self, *, epoch: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction; `epoch`: one that other processes must notice. Nothing is changed when anything fails."""
        try:
            with self._write, self._lock.held():
                self._writing.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writing
                    if epoch:
                        self._writing.execute("UPDATE epoch SET number = number + 1")
                    self._writing.execute("COMMIT")
                except BaseException:
                    if self._writing.in_transaction:
                        self._writing.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise unavailable(error) from error


def _add_refresh(change: sqlite3.Connection, token: str, row: RefreshToken) -> None:
    values = (hashed(token), row.grant, row.expires, row.rotated, row.successor, _encode(row))
    change.execute("INSERT INTO refresh VALUES (?, ?, ?, ?, ?, ?)", values)


def _decoded(kind: type[_T], data: bytes) -> _T:
    return msgspec.json.decode(data, type=kind)
