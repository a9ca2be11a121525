"""Backups: a consistent copy of a store that goes on serving, in one file, and the way back.

Rules.
1. A backup is an archive (`archive.py`) of the store and, where there is one, of the store of users, with their hashes, sizes and versions. It holds
   password hashes and the private signing keys, so its mode is 0600.
2. Each file is copied in one snapshot, that of the users last; writers go on meanwhile, and the WAL grows by what they write.
3. A file appears under its name when it is whole, and never before.
4. Restoring verifies hash, soundness and counts of what came out of the archive before it takes its place, and never replaces a
   store that is in use. All grants and sessions of restored users are ended: what was revoked after the backup must not live again.

Specification: https://www.sqlite.org/backup.html, https://www.sqlite.org/lockingv3.html
"""

import fcntl
import glob
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fhir_server.archive import FORMAT, PRIVATE, CannotBackUp, Manifest, Packed, pack, unpack
from fhir_server.interactions.assembly import DATABASE, now
from fhir_server.settings import FILE_NAME
from fhir_server.storage.sqlite.auth import AUTH_DATABASE
from fhir_server.storage.sqlite.auth_migrations import AUTH_MIGRATIONS, end_everything
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect
from fhir_server.storage.sqlite.migrations import MIGRATIONS

PAGES: Final = 4096
_RESTORED: Final = ".restored"
REPORT: Final = ("report", "backup")
SHARED_LOCK: Final = (510, 0x40000002)
"""Length and place of the bytes of the database file that every SQLite connection in WAL mode keeps locked."""


Progress = Callable[[int, int], None]
"""Told the pages or bytes done, and how many there are."""


def counts(connection: sqlite3.Connection) -> tuple[dict[str, int], int]:
    """Live resources by type, and all versions."""
    sql = """SELECT name, count(*) FROM resource INDEXED BY live JOIN type ON type.number = resource.type
        WHERE state = 1 GROUP BY name ORDER BY name"""
    current = connection.execute(
        "SELECT count(*) FROM resource INDEXED BY resource_updated WHERE version > 0"
    ).fetchone()
    past = connection.execute("SELECT count(*) FROM history INDEXED BY history_updated").fetchone()
    return dict(connection.execute(sql).fetchall()), current[0] + past[0]


def back_up(
    database: Path, out: Path, options: SqliteOptions, progress: Progress = lambda _done, _all: None
) -> Manifest:
    """Copy the store into the archive `out`, which must not exist. Raises CannotBackUp."""
    if out.exists():
        raise CannotBackUp(f"{out} exists already")
    try:
        with _scratch(out, ".copy") as copy, _scratch(out, ".users") as users, _scratch(out, ".part") as part:
            resources, versions, store_version = _copy(database, copy, options, progress)
            files = {DATABASE: copy} | ({AUTH_DATABASE: users} if _copy_users(database.parent, users, options) else {})

            def described(packed: Packed) -> Manifest:
                size, sha256 = packed[DATABASE]
                software = version("fhir-server")
                return Manifest(
                    FORMAT, software, store_version, now(), size, sha256, resources, versions, packed.get(AUTH_DATABASE)
                )

            manifest = pack(files, part, described, gzipped=out.suffix == ".gz", time=now() // 1_000_000)
            _link(part, out)
    except OSError as error:
        raise CannotBackUp(f"cannot write {out}: {error.strerror or error}") from None
    except sqlite3.Error as error:
        raise CannotBackUp(f"cannot copy the store: {error}") from None
    return manifest


def remember(database: Path, options: SqliteOptions, manifest: Manifest, out: Path) -> None:
    """Note in the store that this backup was made, for `info`. Raises sqlite3.Error."""
    data = {"taken": manifest.taken, "bytes": manifest.bytes, "sha256": manifest.sha256, "file": out.name}
    with closing(connect(database, options)) as connection, closing(FileLock(database)) as lock, lock.held():
        connection.execute("INSERT OR REPLACE INTO follow_up VALUES (?, ?, ?)", (*REPORT, json.dumps(data)))


def restore(source: Path, folder: Path, *, force: bool = False) -> Manifest:
    """Put the stores of the archive into `folder`. Raises CannotBackUp, having changed nothing."""
    database, users = folder / DATABASE, folder / AUTH_DATABASE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in folder.iterdir() if not _is_ours(path.name))
        if others and not force:
            raise CannotBackUp(f"{folder} is not empty ({', '.join(others[:3])}); --force replaces the store in it")
        _require_idle(folder)
        with _scratch(database, _RESTORED) as copy, _scratch(users, _RESTORED) as copied_users:
            manifest = unpack(source, {DATABASE: copy, AUTH_DATABASE: copied_users}, len(MIGRATIONS))
            _verify(copy, manifest)
            if manifest.users is not None:
                _settle_users(copied_users)
            _require_idle(folder)
            if manifest.users is not None:
                _put(copied_users, users)
            _put(copy, database)
            _sync(folder)
    except OSError as error:
        raise CannotBackUp(f"cannot restore into {folder}: {error.strerror or error}") from None
    return manifest


def _require_idle(folder: Path) -> None:
    for name in (DATABASE, AUTH_DATABASE):
        if in_use(folder / name):
            raise CannotBackUp(f"the store in {folder} is in use; stop the server first")


def _put(copy: Path, database: Path) -> None:
    """A restored file in the place of another, whose WAL goes with it."""
    for name in ("-wal", "-shm"):
        Path(f"{database}{name}").unlink(missing_ok=True)
    copy.replace(database)


def _is_ours(name: str) -> bool:
    """Whether the file does not make a folder full: the settings, or what a killed restore left."""
    left = name.startswith((f".{DATABASE}.", f".{AUTH_DATABASE}.")) and name.endswith(_RESTORED)
    return left or name == FILE_NAME


def in_use(database: Path) -> bool:
    """Whether any other process has the store open. Not for a process that has it open itself: it would lose its own locks."""
    try:
        descriptor = os.open(database, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, *SHARED_LOCK)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _copy(database: Path, copy: Path, options: SqliteOptions, progress: Progress) -> tuple[dict[str, int], int, int]:
    """The store's pages as of one moment, and what they hold. The transaction keeps the copy from starting again."""
    with closing(connect(database, options, read_only=True)) as source, closing(sqlite3.connect(copy)) as target:
        target.execute("PRAGMA journal_mode = OFF").close()
        target.execute("PRAGMA synchronous = OFF").close()
        source.execute("BEGIN")
        resources, versions = counts(source)
        store_version = source.execute("PRAGMA user_version").fetchone()[0]
        source.backup(target, pages=PAGES, progress=lambda _status, left, total: progress(total - left, total), sleep=0)
        source.execute("ROLLBACK")
    return resources, versions, store_version


def _copy_users(folder: Path, copy: Path, options: SqliteOptions) -> bool:
    """The pages of the store of users as of one moment; whether there is one."""
    if not (folder / AUTH_DATABASE).is_file():
        return False
    with (
        closing(connect(folder / AUTH_DATABASE, options, read_only=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        target.execute("PRAGMA journal_mode = OFF").close()
        source.backup(target)
    return True


def _settle_users(copy: Path) -> None:
    """Raises CannotBackUp unless SQLite finds the copy sound; then ends all grants and sessions in it."""
    try:
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            sound = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            known = connection.execute("PRAGMA user_version").fetchone()[0] <= len(AUTH_MIGRATIONS)
        if sound == "ok" and known:
            end_everything(copy)
            return
    except sqlite3.Error as error:
        sound = str(error)
    raise CannotBackUp(
        f"the restored store of users cannot be used: {sound if sound != 'ok' else 'newer software made it'}"
    )


def _verify(copy: Path, manifest: Manifest) -> None:
    """Raises CannotBackUp unless SQLite finds the copy sound and its counts are the manifest's."""
    with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?immutable=1", uri=True)) as connection:
        try:
            sound = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            same = sound == "ok" and counts(connection) == (dict(manifest.resources), manifest.versions)
        except sqlite3.Error as error:
            sound, same = str(error), False
    if not same:
        reason = "its counts are not those of its manifest" if sound == "ok" else sound
        raise CannotBackUp(f"the restored store is not sound: {reason}")


@contextmanager
def _scratch(beside: Path, ending: str) -> Iterator[Path]:
    """A private file beside another, gone at the end. Those that killed processes left are removed first."""
    for left in beside.absolute().parent.glob(f".{glob.escape(beside.name)}.*{ending}"):
        if not _lives(left.name.removesuffix(ending).rpartition(".")[2]):
            left.unlink(missing_ok=True)
    path = beside.with_name(f".{beside.name}.{os.getpid()}{ending}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _link(part: Path, out: Path) -> None:
    """Give the finished file its name, unless another has it meanwhile."""
    if out.exists():
        raise CannotBackUp(f"{out} exists already")
    part.replace(out)
    _sync(out.absolute().parent)


def _sync(folder: Path) -> None:
    """Make a new name in the folder outlive a power failure, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
