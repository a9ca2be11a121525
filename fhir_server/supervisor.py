"""`serve`: one supervisor, N serving workers that share a listening socket, one background process (see `family.py`).

Rules.
1. The port, the folder and the store's version are looked at before the first fork.
2. The application is imported and composed once and then forked, so that workers start fast and share memory. Files, threads and
   event loops belong to a worker alone: the application opens them in its lifespan.
"""

import contextlib
import fcntl
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from fhir_server.family import AFTER_GRACE, BACKGROUND, Announce, CannotServe, Child, Work, listen, run_family
from fhir_server.observability import configure_logging
from fhir_server.observability.board import Board
from fhir_server.settings import Settings
from fhir_server.watchdog import Watchdog

SWITCH_INTERVAL = 0.0005


def supervise(settings: Settings) -> int:
    """Serve until a signal ends it; the exit code. Raises CannotServe."""
    configure_logging(settings.log_level, settings.log_format)
    structlog.contextvars.bind_contextvars(process="supervisor")
    sys.setswitchinterval(SWITCH_INTERVAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold records in the clear
    listener = listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    from fhir_server.jobs.background import run_jobs  # noqa: PLC0415  (a taken port needs no imports)
    from fhir_server.worker import prepare_data, prepare_folder, serve_requests  # noqa: PLC0415

    prepare_folder(settings)
    with _sole_server(settings.data_dir):
        prepare_data(settings)
        announce = _prepared(settings)
        roles = [*(f"worker-{number}" for number in range(1, settings.workers + 1)), BACKGROUND]
        board = Board(roles)
        serve, background = serve_requests(settings, listener, board), run_jobs(settings)
        children = [Child(role, _shown(board, role, serve)) for role in roles[:-1]]
        children.append(Child(BACKGROUND, _shown(board, BACKGROUND, background)))
        watchdog = Watchdog(board.beat_of, settings.watchdog_seconds) if settings.watchdog_seconds else None
        return run_family(children, listener, settings, announce, watchdog)


def _prepared(settings: Settings) -> Announce:
    """Load what `--demo` shows and make what access control needs."""
    from fhir_server.first_start import prepare_auth  # noqa: PLC0415

    if settings.demo:
        from fhir_server.loading import CannotLoad, load_demo  # noqa: PLC0415

        try:
            load_demo(settings)
        except CannotLoad as error:
            raise CannotServe(str(error)) from None
    return prepare_auth(settings, int(time.time()))


@contextlib.contextmanager
def _sole_server(folder: Path) -> Iterator[None]:
    """Hold the folder for this server: two would tell apps different addresses. Raises CannotServe when another one has it.

    Children hold the lock with their supervisor, so a server that starts behind one that was killed waits for them to end.
    """
    descriptor = os.open(folder / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + AFTER_GRACE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise CannotServe(f"the data folder {folder} is served by another server") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _shown(board: Board, role: str, work: Work) -> Work:
    """`work` in a process that shows its counts under `role`."""

    def run(ready: Callable[[], None], lifeline: int) -> None:
        board.take(role)
        work(ready, lifeline)

    return run
