"""The archive of a backup: a tar of SQLite files, then `manifest.json`, which tells their hashes; written and read as streams.

Rules.
1. The manifest comes last, because a hash is known when its file has been read; members have mode 0600.
2. Reading compares every hash, and refuses what newer software wrote. Format 1 had the store of resources alone.

Specification: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
PRIVATE: Final = 0o600
COMPRESSION: Final = 3

Packed = dict[str, tuple[int, str]]
"""Size and SHA-256 of each packed file."""


class CannotBackUp(Exception):  # noqa: N818  (a sentence for the user)
    """The backup or restore did not happen; the message says why."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says about itself. `taken` in microseconds since 1970, `bytes` and `sha256` of the store of resources.

    `users`: size and SHA-256 of the store of users, None without one.
    """

    format: int
    software: str
    store_version: int
    taken: int
    bytes: int
    sha256: str
    resources: Mapping[str, int]
    versions: int
    users: tuple[int, str] | None = None


def pack(
    files: Mapping[str, Path], part: Path, described: Callable[[Packed], Manifest], *, gzipped: bool, time: int
) -> Manifest:
    """Write the files under their names to `part`, and the manifest that `described` makes. `time` in seconds."""
    packed: Packed = {}
    with part.open("wb") as raw:
        target: Any = gzip.GzipFile("", "wb", COMPRESSION, raw) if gzipped else raw
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, path in files.items():
                with path.open("rb") as content:
                    size = os.fstat(content.fileno()).st_size
                    hashed = _Hashed(content)  # reading is all that the archive asks of a file
                    archive.addfile(_member(name, size, time), hashed)
                    packed[name] = size, hashed.sum.hexdigest()
            manifest = described(packed)
            text = json.dumps(asdict(manifest), indent=1).encode()
            archive.addfile(_member(MANIFEST, len(text), time), BytesIO(text))
        if gzipped:
            target.close()
        raw.flush()
        os.fsync(raw.fileno())
    return manifest


def unpack(source: Path, copies: Mapping[str, Path], newest: int) -> Manifest:
    """Write the files of the archive to their copies: the first always, the second when the manifest tells of users.

    `newest`: the store version that this software knows. Raises CannotBackUp.
    """
    store, users = copies
    try:
        with tarfile.open(source, "r:*") as archive:
            said = json.loads(_content(archive, MANIFEST).read())
            if said["format"] not in (1, FORMAT) or said["store_version"] > newest:
                raise CannotBackUp(
                    f"{source} was made by other software ({said['software']}, store version {said['store_version']}); "
                    f"this software knows store version {newest}"
                )
            found = Manifest(**{**said, "users": tuple(said["users"]) if said.get("users") else None})
            wanted = {store: found.sha256} | ({users: found.users[1]} if found.users else {})
            damaged = [name for name, sha256 in wanted.items() if _unpacked(archive, name, copies[name]) != sha256]
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, KeyError, TypeError, ValueError) as error:
        raise CannotBackUp(f"{source} is no backup of this server: {error}") from None
    except OSError as error:
        raise CannotBackUp(f"cannot read {source}: {error.strerror or error}") from None
    if damaged:
        raise CannotBackUp(f"{source} is damaged: the SHA-256 of its {damaged[0]} is not that of its manifest")
    return found


def _unpacked(archive: tarfile.TarFile, name: str, copy: Path) -> str:
    """The SHA-256 of a member, which is written to `copy`."""
    hashed = _Hashed(_content(archive, name))
    with copy.open("wb") as file:
        while block := hashed.read(1 << 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return hashed.sum.hexdigest()


def _member(name: str, size: int, time: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, PRIVATE, time
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


def _content(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    content = archive.extractfile(archive.getmember(name))
    if content is None:
        raise KeyError(f"{name} is no file")
    return content
