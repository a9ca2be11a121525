"""The text of `/metrics`: the sum of what all processes show, and what the store says, in Prometheus' exposition format.

Rules: labels are interaction codes, resource types, classes of status, names of our own processes and jobs; nothing a client chose.

Specification: https://prometheus.io/docs/instrumenting/exposition_formats/, https://prometheus.io/docs/practices/naming/
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from fhir_server.observability.board import Shown
from fhir_server.observability.histogram import SECONDS
from fhir_server.observability.metrics import Counts, add

CONTENT_TYPE = CONTENT_TYPE_LATEST

CodeOf = Callable[[str, str], str]
"""The interaction code of a route shape and a method."""

_COUNTERS = {
    "overloaded": ("requests_overloaded", "Requests refused because too many were under way"),
    "timeouts": ("requests_timed_out", "Requests ended by their deadline"),
    "reader_hops": ("reader_hops", "Reads that went to a reader thread"),
    "inline_interrupts": ("inline_interrupts", "Reads begun on the event loop that took too long for it"),
}
_LEVELS = {
    "in_flight": ("requests_in_flight", "Requests being answered"),
    "writer_waiting": ("writer_waiting_units", "Units of work that no commit has taken yet"),
}
_HISTOGRAMS = {
    "commit_units": "Units of work in one commit",
    "commit_seconds": "Duration of a commit with the wait for the lock",
}


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Sizes in bytes by file; jobs by work and state."""

    sizes: Mapping[str, int]
    jobs: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, eq=False)  # the registry keeps it in a set
class _Collector:
    shown: Sequence[Shown]
    store: StoreFacts
    code_of: CodeOf

    def collect(self) -> Iterator[Metric]:
        total = Counts()
        for one in self.shown:
            add(total, one.counts)
        yield from _requests(total, self.code_of)
        for name, (label, text) in _COUNTERS.items():
            yield CounterMetricFamily(f"fhir_{label}", text, value=total.counters.get(name, 0))
        for name, (label, text) in _LEVELS.items():
            yield GaugeMetricFamily(f"fhir_{label}", text, value=total.levels.get(name, 0))
        for name, text in _HISTOGRAMS.items():
            if name in total.histograms:
                bounds, counts, seconds = total.histograms[name]
                family = HistogramMetricFamily(f"fhir_{name}", text)
                family.add_metric([], _buckets(bounds, counts), seconds)
                yield family
        yield from _store(self.store)
        yield from _processes(self.shown)


def exposition(shown: Sequence[Shown], store: StoreFacts, code_of: CodeOf) -> bytes:
    """The text for a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(shown, store, code_of))
    return generate_latest(registry)


def _requests(total: Counts, code_of: CodeOf) -> Iterator[Metric]:
    by_status: dict[tuple[str, str, str], int] = {}
    by_type: dict[tuple[str, str], list[float]] = {}
    for (shape, method, kind, status), cell in total.requests.items():
        code = code_of(shape, method)
        labels = (code, kind, f"{status}xx")
        by_status[labels] = by_status.get(labels, 0) + int(sum(cell[:-1]))
        known = by_type.get((code, kind))
        by_type[code, kind] = cell if known is None else [a + b for a, b in zip(known, cell, strict=True)]
    requests = CounterMetricFamily("fhir_requests", "Answered requests", labels=("interaction", "type", "status"))
    for labels, number in sorted(by_status.items()):
        requests.add_metric(labels, number)
    yield requests
    seconds = HistogramMetricFamily(
        "fhir_request_seconds",
        "Time from the request's headers to the end of its answer",
        labels=("interaction", "type"),
    )
    for pair, cell in sorted(by_type.items()):
        seconds.add_metric(pair, _buckets(SECONDS, cell[:-1]), cell[-1])
    yield seconds


def _buckets(bounds: Sequence[float], counts: Iterable[float]) -> list[tuple[str, float]]:
    """Cumulative, as the format wants them."""
    sofar, buckets = 0.0, []
    for bound, number in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        sofar += number
        buckets.append((bound, sofar))
    return buckets


def _store(store: StoreFacts) -> Iterator[Metric]:
    sizes = GaugeMetricFamily(
        "fhir_store_bytes", "Size of the store's files, and what the disk has left", labels=("file",)
    )
    for name, size in store.sizes.items():
        sizes.add_metric((name,), size)
    yield sizes
    jobs = GaugeMetricFamily("fhir_jobs", "Persisted jobs", labels=("work", "state"))
    for pair, number in sorted(store.jobs.items()):
        jobs.add_metric(pair, number)
    yield jobs


def _processes(shown: Sequence[Shown]) -> Iterator[Metric]:
    alive = GaugeMetricFamily("fhir_process_up", "Whether the process is there", labels=("process",))
    memory = GaugeMetricFamily("fhir_process_resident_bytes", "Memory of the process", labels=("process",))
    cpu = CounterMetricFamily("fhir_process_cpu_seconds", "Processor time of the process", labels=("process",))
    for one in shown:
        found = _proc(one.pid)
        alive.add_metric((one.role,), 0 if found is None else 1)
        if found is not None:
            cpu.add_metric((one.role,), found[0])
            memory.add_metric((one.role,), found[1])
    yield from (alive, memory, cpu)


def _proc(pid: int) -> tuple[float, float] | None:
    """Processor seconds and resident bytes, where the system tells them."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
