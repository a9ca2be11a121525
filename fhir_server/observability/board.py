"""Shared memory in which every process of a server shows its counts, so that any worker can answer `/metrics` for all of them.

The supervisor makes it before the first fork: no file, no disk, no locks. Each process has a slot with two pages; it writes the
page that is not shown and then shows it. The head is not written in one piece, so a page counts when its checksum is right. A process that is started again finds what its
predecessor counted in its slot and goes on from there, so that counters never fall while the server runs.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from fhir_server.observability.metrics import Counts, Source, add, decode, encode, without_types

PAGE = 1 << 20
"""Bytes of one page: about 10,000 kinds of requests. Memory that is not written is not taken."""

_HEAD = struct.Struct("<QQQQ")  # process id, which page (low bit) and how often shown, length and CRC-32 of the page
_BEAT = struct.Struct("=Q")
_BEAT_AT = 64
"""Where in its slot a process keeps its heartbeat: a number that changes while its event loop turns."""
_LOOKS = 10_000
"""How often a reader looks for a whole page: a writer that was killed while it wrote the head leaves none."""
_SLOT = mmap.PAGESIZE + 2 * PAGE


@dataclass(frozen=True, slots=True)
class Shown:
    """What a process shows: its role, its id, its counts."""

    role: str
    pid: int
    counts: Counts


class Board:
    """The slots of all roles. `take` is called in the process that has the role."""

    def __init__(self, roles: Sequence[str]) -> None:
        self._roles = tuple(roles)
        self._memory = mmap.mmap(-1, _SLOT * len(self._roles))
        self._mine = 0
        self._before = Counts()
        self._sources: list[Source] = []

    def take(self, role: str) -> None:
        """Take the slot of `role`, with what its predecessor counted."""
        self._mine = self._roles.index(role)
        self._before = Counts()
        for shown in self.shown():
            if shown.role == role:
                add(self._before, shown.counts, levels=False)
        self._sources = []
        self.publish()

    def contribute(self, source: Source) -> None:
        """Show what `source` counts too, from the next `publish` on."""
        self._sources.append(source)

    def withdraw(self, source: Source) -> None:
        """Keep what `source` counted and ask it no more."""
        self._sources.remove(source)
        add(self._before, source(), levels=False)

    def publish(self) -> None:
        """Show what this process counted until now."""
        counts = Counts()
        add(counts, self._before, levels=False)
        for source in self._sources:
            add(counts, source())
        body = encode(counts)
        if len(body) > PAGE:
            body = encode(without_types(counts))
        start = self._mine * _SLOT
        _, turn, _, _ = _HEAD.unpack_from(self._memory, start)
        page = start + mmap.PAGESIZE + PAGE * ((turn + 1) % 2)
        self._memory[page : page + len(body)] = body
        _HEAD.pack_into(self._memory, start, os.getpid(), turn + 1, len(body), zlib.crc32(body))

    def beat(self) -> None:
        """Show that this process is at work."""
        place = self._mine * _SLOT + _BEAT_AT
        (number,) = _BEAT.unpack_from(self._memory, place)
        _BEAT.pack_into(self._memory, place, number + 1)

    def beat_of(self, role: str) -> int:
        """The heartbeat under `role`: a number that differs from one second to the next."""
        number: int = _BEAT.unpack_from(self._memory, self._roles.index(role) * _SLOT + _BEAT_AT)[0]
        return number

    def shown(self) -> list[Shown]:
        """What all processes show; those that never ran are left out."""
        found = []
        for number, role in enumerate(self._roles):
            start = number * _SLOT
            for _ in range(_LOOKS):
                pid, turn, length, checksum = _HEAD.unpack_from(self._memory, start)
                page = start + mmap.PAGESIZE + PAGE * (turn % 2)
                body = self._memory[page : page + min(length, PAGE)]
                if not pid:
                    break
                if body and zlib.crc32(body) == checksum:
                    found.append(Shown(role, pid, decode(body)))
                    break
        return found
