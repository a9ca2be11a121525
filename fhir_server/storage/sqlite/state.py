"""What an operator asks of the store: whether it works, how large it is, what jobs there are.

Rules: cheap enough to be asked every second; no message here says more than the kind of trouble.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.migrations import MIGRATIONS
from fhir_server.storage.sqlite.store import SqliteStore
from resources.errors import FhirError

_PROBE = bytes(4096)
_JOBS = "SELECT data FROM follow_up WHERE kind = 'job'"


@dataclass(frozen=True, slots=True)
class Files:
    """Sizes in bytes; 0 for a file that is not there. `free`: what the disk has left for us."""

    database: int
    wal: int
    free: int


def files(database: Path) -> Files:
    """The sizes of the store's files."""
    room = os.statvfs(database.parent)
    wal = database.with_name(f"{database.name}-wal")
    return Files(_size(database), _size(wal), room.f_bavail * room.f_frsize)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def disk_fault(folder: Path, reserve: int) -> str | None:
    """Why nothing can be written below `folder` while `reserve` bytes stay free; None when it can. Writes and removes a page."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < reserve:
            return "the disk is nearly full"
        probe.write_bytes(_PROBE)
        probe.unlink()
    except OSError as error:
        return error.strerror or "cannot be written"
    return None


async def schema_fault(store: SqliteStore) -> str | None:
    """Why the store cannot be read as this software understands it; None when it can."""

    def work(catalog: Catalog) -> int:
        return int(catalog.connection.execute("PRAGMA user_version").fetchone()[0])

    try:
        version = await store.reader.run(work, work, lambda: "user_version", snapshot=False)
    except FhirError:
        return "the store cannot be read"
    return None if version == len(MIGRATIONS) else f"the store has version {version}, not {len(MIGRATIONS)}"


async def jobs(store: SqliteStore) -> Mapping[tuple[str, str], int]:
    """Jobs by work and state: `waiting`, `running`, or `failed` for those left to people."""

    def work(catalog: Catalog) -> Mapping[tuple[str, str], int]:
        rows = [msgspec.json.decode(data) for (data,) in catalog.connection.execute(_JOBS)]
        return Counter((row["work"], _state(row)) for row in rows)

    return await store.reader.run(work, work, lambda: "jobs", snapshot=False)


def _state(row: Mapping[str, object]) -> str:
    if row["due"] is None:
        return "failed"
    return "running" if row["token"] else "waiting"
