"""Entries of a resource -> rows of the index tables, numbers allotted, smallest and largest values marked.

Rules: rows are tuples in the column order of `search.dialects.sqlite.layout`; the rows of contained resources carry the negative
parameter number, so that an ordinary search never sees them. Words of a string (no `exact`) and canonical quantities are never
sort values, so they carry no mark.
"""

from typing import Any, Protocol

from resources.model import ResourceKey
from search.dialects.sqlite.layout import (
    LARGEST,
    NO_TERM,
    NO_WORDING,
    OF_REFERENCE,
    SMALLEST,
    TEXT_ONLY,
    canonical_code,
)
from search.dialects.sqlite.numbers import high_key, low_key
from search.entries import Entries

_KEY = 100
"""So many characters of a text without code are its code: enough to find it by."""

_ALONE = SMALLEST | LARGEST
"""The mark of the only row of a resource and parameter."""

Rows = dict[str, list[tuple[Any, ...]]]
"""Index table -> rows."""


class Allot(Protocol):
    """Gives numbers to names, making those that are new."""

    def type(self, name: str) -> int:
        """The number of a resource type."""

    def parameter(self, base: str, code: str) -> int:
        """The number of a parameter."""

    def term(self, text: str) -> int:
        """The number of a system or unit."""

    def known(self, key: ResourceKey) -> int:
        """The row number of a resource that is referred to."""

    def wording(self, code: str, system: int, text: str) -> int:
        """The number of a text that stands beside a code."""


def add_rows(rows: Rows, entries: Entries, key: ResourceKey, rid: int, allot: Allot, sign: int = 1) -> None:
    """Append the rows of one resource (without its contained ones) to `rows`; `sign` -1 for a contained resource."""
    base = key.type

    def param(code: str) -> int:
        return sign * allot.parameter(base, code)

    if entries.tokens:
        _add_tokens(rows, entries, rid, allot, base, sign)
    for text in entries.texts:
        # no value, hence no mark: a text is nothing to sort by
        code = TEXT_ONLY + text.text[:_KEY]
        wording = allot.wording(code, NO_TERM, text.text)
        rows["token"].append((param(text.parameter), code, rid, NO_TERM, 0, wording, 0))
    if entries.strings:
        rows["string"] += _marked(
            [
                (param(e.parameter), e.folded, rid, e.exact, e.group, _ALONE)
                for e in entries.strings
                if e.exact is not None
            ]
        )
        rows["string"] += {
            (param(e.parameter), e.folded, rid, "", e.group, 0) for e in entries.strings if e.exact is None
        }
    if entries.dates:
        rows["date"] += _marked([(param(e.parameter), e.low, rid, e.high, e.group, _ALONE) for e in entries.dates])
    if entries.numbers:
        rows["number"] += _marked(
            [(param(e.parameter), low_key(e.low), rid, high_key(e.high), e.group, _ALONE) for e in entries.numbers]
        )
    if entries.quantities:
        _add_quantities(rows, entries, rid, allot, base, sign)
    if entries.references:
        _add_references(rows, entries, rid, allot, base, sign)
    if entries.uris:
        rows["uri"] += _marked([(param(e.parameter), e.value, rid, e.group, _ALONE) for e in entries.uris])
    if entries.positions:
        rows["position"] += {(param(e.parameter), e.latitude, rid, e.longitude) for e in entries.positions}
    if entries.words:
        rows["word"] += {(param(e.parameter), e.word, rid, e.place) for e in entries.words}


def _add_tokens(rows: Rows, entries: Entries, rid: int, allot: Allot, base: str, sign: int) -> None:
    found = []
    for entry in entries.tokens:
        code, text = entry.code, entry.text
        system = allot.term(entry.system)
        wording = allot.wording(code, system, text) if text else NO_WORDING
        param = sign * allot.parameter(base, entry.parameter)
        found.append((param, code, rid, system, entry.group, wording, _ALONE))
    rows["token"] += _marked(found)


def _add_references(rows: Rows, entries: Entries, rid: int, allot: Allot, base: str, sign: int) -> None:
    found = []
    for entry in entries.references:
        target = allot.known(entry.target)
        kind = allot.type(entry.target.type)
        wording = allot.wording(str(target), OF_REFERENCE, entry.text) if entry.text else NO_WORDING
        param = sign * allot.parameter(base, entry.parameter)
        found.append((param, target, rid, kind, entry.version, entry.group, wording, _ALONE))
    rows["reference"] += _marked(found)


def _add_quantities(rows: Rows, entries: Entries, rid: int, allot: Allot, base: str, sign: int) -> None:
    written, canonical = [], set()
    for entry in entries.quantities:
        param = sign * allot.parameter(base, entry.parameter)
        low = low_key(entry.low)
        high = low if entry.high == entry.low is not None else high_key(entry.high)
        system, code, unit = allot.term(entry.system), allot.term(entry.code), allot.term(entry.unit)
        written.append((param, low, rid, high, system, code, unit, entry.group, _ALONE))
        if entry.canonical_unit is not None:
            low = low_key(entry.canonical_low)
            same = entry.canonical_high == entry.canonical_low is not None
            high = low if same else high_key(entry.canonical_high)
            param = sign * allot.parameter(base, canonical_code(entry.parameter, entry.canonical_unit))
            canonical.add((param, low, rid, high, system, code, 0, entry.group, 0))
    rows["quantity"] += _marked(written)
    rows["quantity"] += canonical


def _marked(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows of one resource that bear the mark of the only one of its parameter: none twice, and the marks of those that are not alone."""
    if len(rows) == 1 or len({row[0] for row in rows}) == len(rows):
        return rows
    ordered = sorted(set(rows))
    last = len(ordered) - 1
    return [
        (
            *row[:-1],
            (SMALLEST if at == 0 or ordered[at - 1][0] != row[0] else 0)
            | (LARGEST if at == last or ordered[at + 1][0] != row[0] else 0),
        )
        for at, row in enumerate(ordered)
    ]
