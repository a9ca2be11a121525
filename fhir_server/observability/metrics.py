"""What a process counts, and how the counts of several are summed.

Rules. A request is counted under route shape, method, resource type and class of status: a closed set of names, never one of a client's.
Adding is a dictionary look-up and three additions, without lock (one thread adds). What a process counted is a `Counts`, a plain
value that is sent, kept over the process's restart, and added to others.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fhir_server.observability.histogram import SECONDS

Cell = list[float]
"""Counts per bucket of SECONDS, one more beyond them, and the sum of the seconds."""

RequestKey = tuple[str, str, str, int]
"""Route shape, method, resource type, first digit of the status."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TYPE_AT: Mapping[str, int] = {"/{type}/{id}/{member}": 2, "/{type}/{id}/{member}/_search": 2}


@dataclass(slots=True)
class Counts:
    """What one or several processes counted. `sums`: name -> bounds, counts, total of a histogram; `levels` are of this moment."""

    requests: dict[RequestKey, Cell] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, tuple[list[float], list[int], float]] = field(default_factory=dict)
    levels: dict[str, float] = field(default_factory=dict)


class Recorder:
    """Counts the requests of this process."""

    __slots__ = ("_cells", "overloaded", "timeouts")

    def __init__(self) -> None:
        self._cells: dict[RequestKey, Cell] = {}
        self.overloaded = 0
        self.timeouts = 0

    def __call__(self, shape: str, segments: Sequence[str], method: str, status: int, seconds: float) -> None:
        """Count one answer. `shape` is empty when no route was found; `segments` are those of the path."""
        kind = segments[_TYPE_AT.get(shape, 0)] if shape.startswith("/{type}") else ""
        key = (shape, method, kind, status // 100)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cell(key)
        cell[bisect_left(SECONDS, seconds)] += 1
        cell[-1] += seconds

    def _cell(self, key: RequestKey) -> Cell:
        shape, method, kind, status = key
        fit = (shape, method if method in _METHODS else "", kind, status)
        return self._cells.setdefault(fit, [0] * (len(SECONDS) + 2))

    def counts(self) -> Counts:
        """What was counted until now."""
        requests = {key: list(cell) for key, cell in self._cells.items()}
        return Counts(requests, {"overloaded": self.overloaded, "timeouts": self.timeouts})


def add(into: Counts, other: Counts, *, levels: bool = True) -> None:
    """Add the counts of another process; without `levels` when that process is gone."""
    for key, cell in other.requests.items():
        known = into.requests.get(key)
        into.requests[key] = list(cell) if known is None else [a + b for a, b in zip(known, cell, strict=True)]
    for name, number in other.counters.items():
        into.counters[name] = into.counters.get(name, 0) + number
    for name, (bounds, numbers, total) in other.histograms.items():
        _, before, sum_before = into.histograms.get(name, (bounds, [0] * len(numbers), 0.0))
        into.histograms[name] = (bounds, [a + b for a, b in zip(before, numbers, strict=True)], sum_before + total)
    if levels:
        for name, level in other.levels.items():
            into.levels[name] = into.levels.get(name, 0.0) + level


def without_types(counts: Counts) -> Counts:
    """The same with requests of all types together: what is sent when there is no room for more."""
    small = Counts(counters=counts.counters, histograms=counts.histograms, levels=counts.levels)
    for (shape, method, _, status), cell in counts.requests.items():
        add(small, Counts({(shape, method, "", status): cell}))
    return small


def encode(counts: Counts) -> bytes:
    """As bytes for another process."""
    rows = [[*key, cell] for key, cell in counts.requests.items()]
    return msgspec.json.encode((rows, counts.counters, counts.histograms, counts.levels))


def decode(body: bytes) -> Counts:
    """The reverse of `encode`."""
    rows, counters, histograms, levels = msgspec.json.decode(body, type=tuple[list[Any], Any, Any, Any])
    requests = {(shape, method, kind, status): cell for shape, method, kind, status, cell in rows}
    return Counts(requests, counters, {name: tuple(parts) for name, parts in histograms.items()}, levels)


Source = Callable[[], Counts]
"""Gives what a part of the process counted until now."""
