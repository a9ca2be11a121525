"""The background process: one per server, beside the serving workers. It runs the persisted jobs and the store's housekeeping.

Work that would hold a serving process's interpreter belongs here. One job runs at a time; a thread renews its lease meanwhile.
"""

import os
import select
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import structlog

from fhir_server.audit.keeper import keeping
from fhir_server.family import Work
from fhir_server.integrity.bases import remember_bases
from fhir_server.jobs.maintenance import checkpoint, statistics_handler
from fhir_server.jobs.port import LEASE, Handler, Interrupted, Job, JobQueue, waiting
from fhir_server.jobs.queue import SqliteJobQueue
from fhir_server.jobs.reindex import reindex_handler
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import FileLock, connect
from fhir_server.worker import database_path

CHECKPOINT_EVERY = 20.0
LOOK_EVERY = 1.0
STATISTICS_EVERY = 600_000_000

log = structlog.get_logger()


def run_jobs(settings: Settings) -> Work:
    """The work of the background process (see `family.Work`)."""

    def work(ready: Callable[[], None], lifeline: int) -> None:
        leaving = Leaving(lifeline)
        database = database_path(settings)
        with (
            _opened(database, settings) as (claims, claims_lock),
            _opened(database, settings) as (connection, lock),
            keeping(settings),
        ):
            queue = SqliteJobQueue(claims, claims_lock)
            handlers = {
                "statistics": statistics_handler(connection, lock),
                "reindex": reindex_handler(connection, lock, settings),
            }
            remember_bases(connection, lock, settings)
            queue.add("statistics", waiting("statistics", {}, _now(), every=STATISTICS_EVERY))
            ready()
            moved = time.monotonic()
            while not leaving.wait(LOOK_EVERY):
                try:
                    if time.monotonic() - moved > CHECKPOINT_EVERY:
                        checkpoint(connection, database)
                        moved = time.monotonic()
                    while not leaving.wait(0) and run_next(queue, handlers, leaving):
                        pass
                except sqlite3.OperationalError as error:  # the disk is full or the file is locked: later it may not be
                    log.error("store_unavailable", reason=str(error))  # noqa: TRY400  (its sentence says all)

    return work


@contextmanager
def _opened(database: Path, settings: Settings) -> Iterator[tuple[sqlite3.Connection, FileLock]]:
    """A connection and a lock of one's own: claims are renewed while the work's transaction is open."""
    with closing(connect(database, settings.store)) as connection, closing(FileLock(database)) as lock:
        yield connection, lock


class Leaving:
    """Whether the process has to end: SIGTERM came, or the supervisor is gone."""

    def __init__(self, lifeline: int) -> None:
        self._reading, writing = os.pipe()
        self._lifeline = lifeline
        self._told = False
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGTERM, lambda *_: None)

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether to leave."""
        if not self._told:
            self._told = bool(select.select([self._reading, self._lifeline], [], [], seconds)[0])
        return self._told


def run_next(queue: JobQueue, handlers: Mapping[str, Handler], leaving: Leaving) -> bool:
    """Run the next due job, if any; whether there was one. Its failure is noted with it and in the log."""
    job = queue.claim(frozenset(handlers), _now())
    if job is None:
        return False
    began = time.monotonic()
    try:
        with _renewed(queue, job):
            payload = handlers[job.work](job, lambda: leaving.wait(0))
    except Interrupted as left:
        queue.release(job, left.payload, _now())
        log.info("job_interrupted", work=job.work)
    except Exception as error:  # the queue's rule: whatever failed is noted with the job and tried again
        queue.fail(job, f"{type(error).__name__}: {error}", _now())
        log.exception("job_failed", work=job.work, attempt=job.attempt)
    else:
        queue.finish(job, payload, _now())
        log.info("job_done", work=job.work, seconds=round(time.monotonic() - began, 3))
    return True


@contextmanager
def _renewed(queue: JobQueue, job: Job) -> Iterator[None]:
    """Renew the lease while the work goes on."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE / 3e6):
            if not queue.renew(job, _now()):
                log.warning("job_lease_lost", work=job.work)
                return

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _now() -> int:
    return time.time_ns() // 1000
