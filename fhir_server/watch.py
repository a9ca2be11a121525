"""The part of the composition that watches: who counts, who logs, who looks for late requests, what the probes ask.

Everything is made before the fork and begins in the serving process, with the store.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import structlog

from fhir_server.audit.ledger import FOLDER
from fhir_server.audit.trail import Trail
from fhir_server.http.access_log import AccessLog
from fhir_server.http.address import address_of
from fhir_server.http.health import Faults, Watched
from fhir_server.http.limits import LOOK_EVERY, Admission
from fhir_server.http.observer import Observer
from fhir_server.http.routes import Route
from fhir_server.http.table import ROUTES
from fhir_server.interactions.assembly import DATABASE, Composed
from fhir_server.interactions.service import Service
from fhir_server.observability.board import Board
from fhir_server.observability.exposition import StoreFacts, exposition
from fhir_server.observability.logs import as_text
from fhir_server.observability.metrics import Counts, Recorder
from fhir_server.observability.slow import vocabulary
from fhir_server.observability.tracing import start_tracing
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.state import disk_fault, files, jobs, schema_fault
from fhir_server.storage.sqlite.store import SqliteStore

LOOKS_PER_PUBLISH = 4

_NAMED = {
    "/metadata": "capabilities",
    "/_search": "search-system",
    "/{type}/_search": "search-type",
    "/{type}/{id}/{member}": "search-compartment",
    "/{type}/{id}/{member}/_search": "search-compartment",
}
_CONDITIONAL = {"PUT": "update", "PATCH": "patch", "DELETE": "delete"}
"""The interactions by criteria, which the CapabilityStatement does not list by codes of their own."""

_log = structlog.get_logger()


@dataclass(slots=True)
class Watch:
    """What watches one application. `watched` is there while it serves."""

    settings: Settings
    board: Board
    recorder: Recorder
    guard: Admission
    log: AccessLog | None
    observer: Observer
    trail: Trail
    watched: Watched | None = None


def compose_watch(settings: Settings, parts: Composed, board: Board, prefix: str) -> Watch:
    """Put together what watches the application under `prefix`."""
    recorder = Recorder()
    wanted = settings.rest.access_log
    log = AccessLog(level=settings.log_level, text=as_text(settings.log_format)) if wanted else None

    @cache
    def words() -> Collection[str]:
        kinds = parts.definitions.resource_types
        return vocabulary((found.code for kind in kinds for found in parts.registry.searchable(kind)), kinds)

    observer = Observer(recorder, log, prefix=prefix, code_of=code_of, slow=settings.observability.slow, words=words)
    trail = Trail(
        replace(settings.audit, enabled=settings.recorded),
        settings.data_dir / FOLDER,
        prefix=prefix,
        code_of=code_of,
        address=address_of(settings.trusted_proxies),
        words=words,
    )
    return Watch(settings, board, recorder, Admission(settings.limits, recorder), log, observer, trail)


def code_of(shape: str, method: str) -> str:
    """The code of http://hl7.org/fhir/restful-interaction, or the name of what has none; `unknown` for a path without route."""
    return _codes().get((shape, method), "operation" if "$" in shape else "unknown")


@cache
def _codes() -> dict[tuple[str, str], str]:
    return {(route.shape, method): _code(route) for route in ROUTES for method in route.methods}


def _code(route: Route) -> str:
    if route.shape == "/":
        return "batch/transaction" if "POST" in route.methods else "search-system"
    if "$" in route.shape:
        return "operation"
    return _NAMED.get(route.shape) or (route.codes[0] if route.codes else _CONDITIONAL[route.methods[0]])


@contextlib.asynccontextmanager
async def watching(watch: Watch, service: Service) -> AsyncIterator[None]:
    """Watch while the application serves."""
    store = service.store
    assert isinstance(store, SqliteStore)
    database = watch.settings.data_dir / DATABASE

    def store_counts() -> Counts:
        return counts_of(store)

    sources = (watch.recorder.counts, watch.guard.counts, store_counts)
    for source in sources:
        watch.board.contribute(source)

    async def scrape() -> bytes:
        watch.board.publish()
        return exposition(watch.board.shown(), await _facts(store, database), code_of)

    async def faults() -> Faults:
        return await faults_of(store, watch.settings.data_dir, watch.settings.observability.disk_reserve << 20)

    beat = asyncio.create_task(_beat(watch))
    beat.add_done_callback(_tell_end)
    with _traced(watch):
        watch.watched = Watched(faults, scrape if watch.settings.observability.metrics else None)
        try:
            yield
        finally:
            watch.watched = None
            beat.cancel()
            for source in sources:
                watch.board.withdraw(source)
            watch.board.publish()
            if watch.log is not None:
                watch.log.flush()


async def _beat(watch: Watch) -> None:
    """Look for late requests, and show the counts now and then."""
    while True:
        watch.board.beat()
        watch.board.publish()
        for _ in range(LOOKS_PER_PUBLISH):
            await asyncio.sleep(LOOK_EVERY)
            watch.guard.look()


def _tell_end(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        _log.error("watch_ended", exc_info=task.exception())


@contextlib.contextmanager
def _traced(watch: Watch) -> Iterator[None]:
    if not watch.settings.otel.endpoint:
        yield
        return
    process = structlog.contextvars.get_contextvars().get("process", "")
    watch.observer.trace, end = start_tracing(watch.settings.otel, process)
    try:
        yield
    finally:
        watch.observer.trace = None
        end()


def counts_of(store: SqliteStore) -> Counts:
    """What the store of this process counted."""
    reader, writer = store.reader, store.writer
    sizes, seconds = writer.sizes, writer.seconds
    return Counts(
        counters={"reader_hops": reader.hops, "inline_interrupts": reader.interrupts},
        histograms={
            "commit_units": (list(sizes.bounds), list(sizes.counts), sizes.total),
            "commit_seconds": (list(seconds.bounds), list(seconds.counts), seconds.total),
        },
        levels={"writer_waiting": writer.waiting},
    )


async def faults_of(store: SqliteStore, folder: Path, reserve: int) -> Faults:
    """What keeps the server from its work, by part; None for what is well."""
    return {
        "store": await schema_fault(store),
        "writer": None if store.writer.alive else "the writer has ended",
        "disk": await asyncio.to_thread(disk_fault, folder, reserve),
    }


async def _facts(store: SqliteStore, database: Path) -> StoreFacts:
    sizes = files(database)
    return StoreFacts({"database": sizes.database, "wal": sizes.wal, "free": sizes.free}, await jobs(store))
