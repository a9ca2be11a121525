"""A serving process: uvicorn on uvloop and httptools over a socket that all workers share."""

import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from fhir_server.family import CannotServe, Work
from fhir_server.http.transmission import Protocol
from fhir_server.interactions.assembly import DATABASE
from fhir_server.observability.board import Board
from fhir_server.observability.tracing import NotInstalled, require_installed
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import FileLock, connect
from fhir_server.storage.sqlite.migrations import migrate
from fhir_server.tls import TlsFault, server_context
from resources.errors import FhirError

KEEP_ALIVE = 75


class _Server(uvicorn.Server):
    """uvicorn, ended by SIGTERM or by the supervisor's death, saying when it serves; uvicorn offers no other way in."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], lifeline: int) -> None:
        super().__init__(config)
        self._ready = ready
        self._lifeline = lifeline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        loop.add_reader(self._lifeline, self._orphaned)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def _leave(self) -> None:
        self.should_exit = True

    def _orphaned(self) -> None:
        asyncio.get_running_loop().remove_reader(self._lifeline)
        self.should_exit = True


def database_path(settings: Settings) -> Path:
    """The database file."""
    return settings.data_dir / DATABASE


def prepare_folder(settings: Settings) -> None:
    """Make the data folder, for its user alone. Raises CannotServe, naming it."""
    folder = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(f"cannot make the data folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotServe(f"the data folder {folder} is not writable")


def prepare_data(settings: Settings) -> None:
    """Make the folder and the store, or bring it to this version. Raises CannotServe, naming what cannot be used."""
    prepare_folder(settings)
    database = database_path(settings)
    try:
        with (
            contextlib.closing(connect(database, settings.store)) as connection,
            contextlib.closing(FileLock(database)) as lock,
        ):
            migrate(connection, lock)
    except (FhirError, OSError, sqlite3.Error) as error:
        raise CannotServe(f"cannot use the store {database}: {error}") from None


def serve_requests(settings: Settings, listener: socket.socket, board: Board) -> Work:
    """Compose the application now; the result serves it in the process that calls it. CannotServe when it cannot be composed."""
    from fhir_server.app import create_app  # noqa: PLC0415  (the benchmark serves another application)

    try:
        require_installed(settings.otel)
    except NotInstalled as error:
        raise CannotServe(str(error)) from None
    return serve_application(create_app(settings, board), listener, settings)


def serve_application(app: ASGIApp, listener: socket.socket, settings: Settings) -> Work:
    """Serve `app` in the process that calls the result. CannotServe when its certificate cannot be used."""
    try:
        tls = server_context(settings.tls_cert, settings.tls_key)
    except TlsFault as error:
        raise CannotServe(str(error)) from None
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )

    def work(ready: Callable[[], None], lifeline: int) -> None:
        faulthandler.enable()
        server = _Server(config, ready, lifeline)
        server.run(sockets=[listener])
        if not server.started:
            sys.exit(1)

    return work
