"""The vocabulary everything shares: what a resource is, what identifies it, how its times are counted.

A resource is a plain dict as decoded from JSON (`resources.json_format`), with non-integer numbers as `Number`.
Times of the server (lastUpdated, paging) are integers: microseconds since 1970-01-01T00:00:00Z.

Specification: https://hl7.org/fhir/R4/resource.html
"""

import os
import random
import re
import threading
import time
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

Resource = dict[str, Any]
"""A FHIR resource as JSON: str, bool, int, Number, list, dict."""

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (in UTC; naive, so that its text has no offset)


class ResourceKey(NamedTuple):
    """What identifies a resource on this server: `Patient/123`."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


def is_id(text: str) -> bool:
    """Whether `text` is a FHIR id: https://hl7.org/fhir/R4/datatypes.html#id."""
    return _ID.fullmatch(text) is not None


def instant(microseconds: int) -> str:
    """A server time as a FHIR instant in UTC: `2026-11-21T10:00:00.000001Z`."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


class IdSource:
    """Time-ordered ids (UUID version 7, RFC 9562), strictly increasing within the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._random = random.Random(os.urandom(32))  # noqa: S311  (unlike, not secret: an id gives no access)

    def __call__(self) -> str:
        """The next id, 36 characters."""
        with self._lock:
            # 48 bits of milliseconds and 12 of the fraction: https://www.rfc-editor.org/rfc/rfc9562#section-6.2 method 3
            now = max((time.time_ns() << 12) // 1_000_000, self._last + 1)
            self._last = now
        value = (now >> 12) << 80 | 7 << 76 | (now & 0xFFF) << 64 | 2 << 62 | self._random.getrandbits(62)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
