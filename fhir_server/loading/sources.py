"""The files of a load: which they are, in which order, and their content.

Specification: https://hl7.org/fhir/R4/nd-json.html
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, cast

BUNDLES = (".json", ".json.gz")
LINES = (".ndjson", ".ndjson.gz")
FIRST = ("hospital", "practitioner")
BLOCK = 1 << 20


class CannotLoad(Exception):  # noqa: N818  (a sentence for the user)
    """The load cannot go on; the message says why."""


class Unreadable(Exception):  # noqa: N818  (a fault of one file, reported with it)
    """A file that cannot be read or unpacked."""


def files_of(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files to load: those that others may refer to, then the others. Raises CannotLoad for what is not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.name.endswith(BUNDLES + LINES) and file.is_file())
            if not inside:
                raise CannotLoad(f"{path} has no files named {', '.join(BUNDLES + LINES)}")
            found |= dict.fromkeys(inside)
        elif not path.is_file():
            raise CannotLoad(f"{path} does not exist")
        elif not path.name.endswith(BUNDLES + LINES):
            raise CannotLoad(f"{path} is not named {', '.join(BUNDLES + LINES)}")
        else:
            found[path] = None
    first = [path for path in found if path.name.startswith(FIRST)]
    return first, [path for path in found if not path.name.startswith(FIRST)]


def has_lines(path: Path) -> bool:
    """Whether the file is NDJSON."""
    return path.name.endswith(LINES)


def content(path: Path) -> bytes:
    """The unpacked content. Raises Unreadable."""
    return b"".join(_blocks(path))


def digest(path: Path) -> str:
    """SHA-256 of the unpacked content, so that packing does not matter. Raises Unreadable."""
    state = hashlib.sha256()
    for block in _blocks(path):
        state.update(block)
    return state.hexdigest()


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers from 0. Raises Unreadable."""
    try:
        with _opened(path) as file:
            for number, line in enumerate(file):
                if text := line.strip():
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(_reason(error)) from None


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as file:
            while block := file.read(BLOCK):
                yield block
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(_reason(error)) from None


def _opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"it cannot be unpacked: {error}"
