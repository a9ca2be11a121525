"""Backups: a consistent copy of a store that goes on serving, in one file, and the way back.

Rules.
1. A backup is a tar archive, gzipped when its name ends in `.gz`: the SQLite file, then `manifest.json` with its SHA-256, its size,
   the resources by type and the store's version. It holds the store's secrets, so its mode is 0600.
2. The copy is made in one snapshot; writers go on meanwhile, and the WAL grows by what they write.
3. A file appears under its name when it is whole, and never before.
4. Restoring verifies hash, soundness and counts of what came out of the archive before it takes its place, and never replaces a
   store that is in use.

Specification: https://www.sqlite.org/backup.html, https://www.sqlite.org/lockingv3.html
"""

import fcntl
import glob
import gzip
import hashlib
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from fhir_server.interactions.assembly import DATABASE, now
from fhir_server.settings import FILE_NAME
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect
from fhir_server.storage.sqlite.migrations import MIGRATIONS

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
PRIVATE: Final = 0o600
PAGES: Final = 4096
_RESTORED: Final = ".restored"
COMPRESSION: Final = 3
REPORT: Final = ("report", "backup")
SHARED_LOCK: Final = (510, 0x40000002)
"""Length and place of the bytes of the database file that every SQLite connection in WAL mode keeps locked."""


class CannotBackUp(Exception):  # noqa: N818  (a sentence for the user)
    """The backup or restore did not happen; the message says why."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says about itself. `taken` in microseconds since 1970, `bytes` and `sha256` of the SQLite file."""

    format: int
    software: str
    store_version: int
    taken: int
    bytes: int
    sha256: str
    resources: Mapping[str, int]
    versions: int


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
        with _scratch(out, ".copy") as copy, _scratch(out, ".part") as part:
            resources, versions, store_version = _copy(database, copy, options, progress)
            manifest = _pack(copy, part, gzipped=out.suffix == ".gz", told=(resources, versions, store_version))
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
    """Put the store of the archive into `folder`, as the file DATABASE. Raises CannotBackUp, having changed nothing."""
    database = folder / DATABASE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in folder.iterdir() if not _is_ours(path.name))
        if others and not force:
            raise CannotBackUp(f"{folder} is not empty ({', '.join(others[:3])}); --force replaces the store in it")
        if in_use(database):
            raise CannotBackUp(f"the store in {folder} is in use; stop the server first")
        with _scratch(database, _RESTORED) as copy:
            manifest = _unpack(source, copy)
            _verify(copy, manifest)
            if in_use(database):
                raise CannotBackUp(f"the store in {folder} is in use; stop the server first")
            for name in ("-wal", "-shm"):
                Path(f"{database}{name}").unlink(missing_ok=True)
            copy.replace(database)
            _sync(folder)
    except OSError as error:
        raise CannotBackUp(f"cannot restore into {folder}: {error.strerror or error}") from None
    return manifest


def _is_ours(name: str) -> bool:
    """Whether the file does not make a folder full: the settings, or what a killed restore left."""
    return name == FILE_NAME or (name.startswith(f".{DATABASE}.") and name.endswith(_RESTORED))


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


def _pack(copy: Path, part: Path, *, gzipped: bool, told: tuple[dict[str, int], int, int]) -> Manifest:
    """The archive of the copy; its manifest comes last, because the hash is known when the copy was read."""
    resources, versions, store_version = told
    with part.open("wb") as raw, copy.open("rb") as content:
        size = os.fstat(content.fileno()).st_size
        packed: Any = gzip.GzipFile("", "wb", COMPRESSION, raw) if gzipped else raw
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            hashed = _Hashed(content)  # reading is all that the archive asks of a file
            archive.addfile(_member(DATABASE, size), hashed)
            manifest = Manifest(
                FORMAT, version("fhir-server"), store_version, now(), size, hashed.sum.hexdigest(), resources, versions
            )
            text = json.dumps(asdict(manifest), indent=1).encode()
            archive.addfile(_member(MANIFEST, len(text)), BytesIO(text))
        if gzipped:
            packed.close()
        raw.flush()
        os.fsync(raw.fileno())
    return manifest


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, PRIVATE, now() // 1_000_000
    return member


class _Hashed:
    """A file that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        block = self._file.read(size)
        self.sum.update(block)
        return block


def _unpack(source: Path, copy: Path) -> Manifest:
    """Write the archive's store to `copy` and compare it with the manifest. Raises CannotBackUp."""
    try:
        with tarfile.open(source, "r:*") as archive:
            member, told = archive.getmember(DATABASE), archive.getmember(MANIFEST)
            said = json.loads(_content(archive, told).read())
            if said["format"] != FORMAT or said["store_version"] > len(MIGRATIONS):
                raise CannotBackUp(
                    f"{source} was made by other software ({said['software']}, store version {said['store_version']}); "
                    f"this software knows store version {len(MIGRATIONS)}"
                )
            found = Manifest(**said)
            hashed = _Hashed(_content(archive, member))
            with copy.open("wb") as file:
                while block := hashed.read(1 << 20):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, KeyError, TypeError, ValueError) as error:
        raise CannotBackUp(f"{source} is no backup of this server: {error}") from None
    except OSError as error:
        raise CannotBackUp(f"cannot read {source}: {error.strerror or error}") from None
    if hashed.sum.hexdigest() != found.sha256:
        raise CannotBackUp(f"{source} is damaged: the SHA-256 of its store is not that of its manifest")
    return found


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    if content is None:
        raise KeyError(f"{member.name} is no file")
    return content


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
