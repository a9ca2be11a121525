"""Prints of entries: by them a store knows which kinds of index rows an update leaves as they are, without reading those.

A print is the kind's number (1 byte) and a digest (7 bytes) of all its entries; kinds without entries have none. The digest covers the epoch of the custom search
parameters, so a change of these makes all prints of before worthless. A resource that contains others has no prints: unknown, not nothing.
"""

from hashlib import blake2b
from typing import Final

import msgspec

from search.entries import Entries

KINDS: Final = {
    "token": ("tokens", "texts"),
    "string": ("strings",),
    "date": ("dates",),
    "number": ("numbers",),
    "quantity": ("quantities",),
    "reference": ("references",),
    "uri": ("uris",),
    "position": ("positions",),
    "word": ("words",),
    "compartment": ("compartments",),
}
"""The kinds of rows, each at its number -> the entries of which they are made."""
_NAMES: Final = tuple(KINDS)
_KINDS: Final = tuple((bytes((number,)), names[0], names[1:]) for number, names in enumerate(KINDS.values()))
_SIZE: Final = 8
_ENCODER: Final = msgspec.msgpack.Encoder()
_DIGEST: Final = blake2b(digest_size=_SIZE - 1)
"""A digest of nothing yet; to copy it is quicker than to make one."""


def prints_of(entries: Entries, epoch: int) -> bytes:
    """The prints of a resource's entries, `_SIZE` bytes each, in the order of KINDS; empty when they are not known."""
    if entries.contained:
        return b""
    prints = []
    for number, name, others in _KINDS:
        rows = getattr(entries, name)
        found = [rows] if rows else []
        for other in others:
            rows = getattr(entries, other)
            if rows:
                found.append(rows)
        if found:
            digest = _DIGEST.copy()
            digest.update(_ENCODER.encode((epoch, found)))
            prints.append(number + digest.digest())
    return b"".join(prints)


def kinds_of(prints: bytes) -> frozenset[str]:
    """The kinds that have rows."""
    return frozenset(_NAMES[number] for number in prints[::_SIZE])


def unchanged(before: bytes, after: bytes) -> frozenset[str]:
    """The kinds whose entries are the same, among those that had any."""
    return kinds_of(b"".join(_split(before) & _split(after)))


def without(entries: Entries, kinds: frozenset[str]) -> Entries:
    """The entries that are not of these kinds."""
    names = [name for kind, of_kind in KINDS.items() if kind not in kinds for name in of_kind]
    return Entries(**{name: getattr(entries, name) for name in names}, contained=entries.contained)


def _split(prints: bytes) -> frozenset[bytes]:
    return frozenset(prints[at : at + _SIZE] for at in range(0, len(prints), _SIZE))
