"""The ledger: all records of all journals in one order and one chain, in `audit/audit.sqlite`, with what is asked for by.

Rules.
1. The hash of a record is chained over its bytes in the journal, a line feed, and what folding found that it is about (JSON): the ids of the patients
   concerned, and the organizations that own the resources (when none does, that of the one who asked).
2. `head` is the last record's number and hash, signed: records cut off at the end are missed. A pruned ledger begins behind a `checkpoint`, signed too.
   The key is Ed25519, in `audit/key`, mode 0600, made with the ledger.
3. `party`, `entity` and `patient` tell in which records a name stands. They are made of the records and can be made again; `verify` compares them. A row
   holds the numbers of all records of one slice (`fold`) in which the name stands: the busier the server, the fewer rows a record needs.
4. All changes are made under the ledger's lock, each a transaction that is on disk when it returns.

Specification: https://www.rfc-editor.org/rfc/rfc8032
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect, unavailable
from fhir_server.storage.sqlite.migrations import migrate

FOLDER: Final = "audit"
DATABASE: Final = "audit.sqlite"
KEY: Final = "key"
_OPTIONS: Final = SqliteOptions(cache=8, mmap=64, checkpoint_pages=0)
"""No commit moves the WAL into the file: the lock would be held meanwhile (see `keeper.Folding`)."""
_LOOK_EVERY: Final = 0.002
T = TypeVar("T")

MIGRATIONS: Final = (
    (
        (
            "CREATE TABLE journal(number INTEGER PRIMARY KEY AUTOINCREMENT, process TEXT NOT NULL, opened INTEGER NOT NULL, "
            "place INTEGER NOT NULL, count INTEGER NOT NULL, hash BLOB NOT NULL, ended INTEGER NOT NULL)"
        ),
        (
            "CREATE TABLE record(seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL, "
            "about TEXT NOT NULL, shown INTEGER NOT NULL, outcome TEXT NOT NULL, action TEXT NOT NULL, code TEXT NOT NULL)"
        ),
        "CREATE INDEX record_time ON record(time)",
        "CREATE INDEX record_refused ON record(outcome, seq) WHERE outcome != '0'",
        "CREATE TABLE party(name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(name, seq)) WITHOUT ROWID",
        "CREATE TABLE entity(name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(name, seq)) WITHOUT ROWID",
        "CREATE TABLE patient(name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(name, seq)) WITHOUT ROWID",
        "CREATE TABLE organization(name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(name, seq)) WITHOUT ROWID",
        "CREATE INDEX organization_seq ON organization(seq, name)",
        (
            "CREATE TABLE begun(journal INTEGER NOT NULL, number INTEGER NOT NULL, seq INTEGER NOT NULL, "
            "PRIMARY KEY(journal, number)) WITHOUT ROWID"
        ),
        "CREATE TABLE head(one INTEGER PRIMARY KEY CHECK(one = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL, signature BLOB NOT NULL)",
        (
            "CREATE TABLE checkpoint(seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, pruned INTEGER NOT NULL, until INTEGER NOT NULL, "
            "signature BLOB NOT NULL)"
        ),
    ),
    (
        "DROP TABLE organization",
        *(
            statement
            for name in ("party", "entity", "patient")
            for statement in (
                f"ALTER TABLE {name} RENAME TO {name}_row",
                (
                    f"CREATE TABLE {name}(name TEXT NOT NULL, first INTEGER NOT NULL, seqs TEXT NOT NULL, "
                    "PRIMARY KEY(name, first)) WITHOUT ROWID"
                ),
                (
                    f"INSERT INTO {name} SELECT name, min(seq), json_group_array(seq) FROM {name}_row "  # noqa: S608
                    "GROUP BY name, seq / 1000"
                ),
                f"DROP TABLE {name}_row",
            )
        ),
    ),
)
"""`journal.place`: bytes folded, `count` and `hash` those of its last folded record; `checkpoint.pruned` (when) and `until` (the records' last
time) in microseconds."""


class Signer:
    """Signs heads and checkpoints with the key of the folder, and checks signatures."""

    def __init__(self, folder: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  (a worker needs none)

        self._key = Ed25519PrivateKey.from_private_bytes((folder / KEY).read_bytes())

    def sign(self, *parts: object) -> bytes:
        """The signature over the parts."""
        return self._key.sign(_signed(parts))

    def good(self, signature: bytes, *parts: object) -> bool:
        """Whether the signature is ours over the parts."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

        try:
            self._key.public_key().verify(signature, _signed(parts))
        except InvalidSignature:
            return False
        return True


def _signed(parts: tuple[object, ...]) -> bytes:
    return " ".join(part.decode() if isinstance(part, bytes) else str(part) for part in parts).encode()


@contextmanager
def opened(folder: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to the ledger in `folder` (`<data folder>/audit`), made and migrated where needed. Raises FhirError 503."""
    path = folder / DATABASE
    try:
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise unavailable(sqlite3.OperationalError(f"{path}: {error.strerror}")) from error
    with closing(connect(path, _OPTIONS, read_only=read_only)) as connection:
        if not read_only:
            with closing(FileLock(path)) as lock:
                migrate(connection, lock, MIGRATIONS)
                _ensure_key(folder, lock)
        yield connection


@contextmanager
def changing(connection: sqlite3.Connection, folder: Path) -> Iterator[None]:
    """One transaction under the ledger's lock."""
    with closing(FileLock(folder / DATABASE)) as lock, lock.held(), _transaction(connection):
        yield


def changed(
    connection: sqlite3.Connection, folder: Path, change: Callable[[], T], leaving: Callable[[], bool]
) -> T | None:
    """What `change` gives, called in one transaction under the ledger's lock; None when it is time to leave before others release the lock."""
    with closing(FileLock(folder / DATABASE)) as lock:
        while not lock.try_acquire():
            if leaving():
                return None
            time.sleep(_LOOK_EVERY)
        with _transaction(connection):  # closing releases the lock
            return change()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def register_journal(folder: Path, process: str) -> int:
    """The number of a new journal."""
    from fhir_server.audit.record import GENESIS  # noqa: PLC0415

    with opened(folder) as connection, changing(connection, folder):
        row = connection.execute(
            "INSERT INTO journal(process, opened, place, count, hash, ended) VALUES (?, ?, 0, 0, ?, 0) RETURNING number",
            (process, time.time_ns() // 1000, GENESIS),
        ).fetchone()
        return int(row[0])


def _ensure_key(folder: Path, lock: FileLock) -> None:
    path = folder / KEY
    if path.exists():
        return
    with lock.held():
        if path.exists():
            return
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, os.urandom(32))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(path)
