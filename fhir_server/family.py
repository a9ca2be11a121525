"""A family of processes: children that are forked from one, kept alive by it, and ended together.

Rules.
1. What can go wrong for everybody goes wrong before the first fork, as one sentence.
2. A child that dies is started again, later and later while it keeps dying. One that dies before it ever served ends the start.
3. Every child holds the reading end of a pipe whose writing end only the parent has: when the parent dies, by whatever cause, the children read the end of
   file, finish the requests in flight and leave.
4. A serving process that hangs is ended (`watchdog.py`) and started again.
5. SIGTERM, SIGINT, SIGHUP: no new connections, requests in flight get `grace` seconds, then everything ends. Exit code 0.
"""

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog

from fhir_server.settings import Settings
from fhir_server.watchdog import LOOK_EVERY, Watchdog

BACKLOG = 2048
STABLE_AFTER = 30.0
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
AFTER_GRACE = 5.0
START_LIMIT = 60.0
BACKGROUND = "background"
"""The role of the child that serves no requests, so that nothing watches whether it answers."""

log = structlog.get_logger()

Work = Callable[[Callable[[], None], int], None]
"""What a child does: `work(ready, lifeline)` calls `ready` when it serves and ends soon after `lifeline` reads end of file."""


Announce = Callable[[], Iterator[str]]
"""Lines to tell when the server listens."""


def nothing_more() -> Iterator[str]:
    """No line."""
    return iter(())


class CannotServe(Exception):  # noqa: N818  (a sentence for the user)
    """The server cannot start; the message says why and names the thing concerned."""


@dataclass(slots=True)
class Child:
    """A process the supervisor keeps alive. `pid` 0: not running, to be started at `due` (monotonic seconds)."""

    role: str
    work: Work
    pid: int = 0
    ready: int = -1
    began: float = 0.0
    due: float = 0.0
    failures: int = 0
    served: bool = False


@dataclass(slots=True)
class Family:
    """The supervisor's state."""

    children: list[Child]
    lifeline: tuple[int, int]
    grace: float
    signals: list[int] = field(default_factory=list)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises CannotServe when the address is not there or the port is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CannotServe(f"cannot listen on {host}: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "the port is taken by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise CannotServe(f"cannot listen on {host} port {port}: {reason}") from None
    listener.setblocking(False)
    return listener


def run_family(
    children: list[Child],
    listener: socket.socket,
    settings: Settings,
    announce: Announce = nothing_more,
    watchdog: Watchdog | None = None,
) -> int:
    """Start `children`, announce the address and what `announce` gives, keep them alive until a signal comes, end them; the exit code."""
    host, port = listener.getsockname()[:2]
    family = Family(children, os.pipe(), settings.grace)
    gc.collect()
    gc.freeze()
    with _pid_file(settings.pid_file), _signals(family) as wakeup:
        try:
            _start(family, wakeup)
            if not family.signals:
                sys.stdout.write(f"Listening on {settings.scheme}://{f'[{host}]' if ':' in host else host}:{port}\n")
                sys.stdout.writelines(f"{line}\n" for line in announce())
                sys.stdout.flush()
                log.info("serving", port=port, processes=len(children))
                _watch(family, wakeup, watchdog)
        finally:
            listener.close()
            _stop(family, wakeup)
    return 0


def _start(family: Family, wakeup: int) -> None:
    """Start every child and wait until each is ready. Raises CannotServe when one ends before."""
    for child in family.children:
        _fork(family, child)
    limit = time.monotonic() + START_LIMIT
    waiting = {child.ready: child for child in family.children}
    while waiting and not family.signals:
        readable, _, _ = select.select([*waiting, wakeup], [], [], max(0.0, limit - time.monotonic()))
        if not readable:
            raise CannotServe(
                f"{', '.join(child.role for child in waiting.values())} did not start in {START_LIMIT:.0f} s"
            )
        for descriptor in readable:
            if descriptor == wakeup:
                _drain(wakeup)
            elif os.read(descriptor, 1):
                waiting.pop(descriptor).served = True
            else:
                raise CannotServe(f"the {waiting[descriptor].role} process failed to start; its log is above")


def _watch(family: Family, wakeup: int, watchdog: Watchdog | None) -> None:
    """Keep the children alive until a signal comes; serving ones are watched, too."""
    while not family.signals:
        _reap(family)
        now = time.monotonic()
        if watchdog is not None:
            serving = [child for child in family.children if child.pid and child.role != BACKGROUND]
            watchdog.look([(child.role, child.pid) for child in serving], now)
        for child in family.children:
            if not child.pid and child.due <= now:
                _fork(family, child)
        pending = [child.due - now for child in family.children if not child.pid]
        pending += [] if watchdog is None else [LOOK_EVERY]
        if select.select([wakeup], [], [], max(0.0, min(pending)) if pending else None)[0]:
            _drain(wakeup)


def _reap(family: Family) -> None:
    for child in family.children:
        if not child.pid:
            continue
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if not pid:
            continue
        os.close(child.ready)
        lived = time.monotonic() - child.began
        child.failures = 0 if lived > STABLE_AFTER else child.failures + 1
        delay = min(FIRST_DELAY * 2**child.failures, LONGEST_DELAY)
        child.pid, child.ready, child.due = 0, -1, time.monotonic() + delay
        if not family.signals:
            log.error("process_ended", process=child.role, status=os.waitstatus_to_exitcode(status), again_in=delay)


def _stop(family: Family, wakeup: int) -> None:
    """Ask every child to finish, wait for the grace, then end what is left."""
    family.signals.append(signal.SIGTERM)
    for number, limit in ((signal.SIGTERM, family.grace + AFTER_GRACE), (signal.SIGKILL, AFTER_GRACE)):
        for child in family.children:
            if child.pid:
                os.kill(child.pid, number)
        end = time.monotonic() + limit
        while any(child.pid for child in family.children) and (rest := end - time.monotonic()) > 0:
            _reap(family)
            if any(child.pid for child in family.children) and select.select([wakeup], [], [], min(rest, 1.0))[0]:
                _drain(wakeup)
    log.info("stopped")


def _fork(family: Family, child: Child) -> None:
    reading, writing = os.pipe()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _live(family, child, writing)
    os.close(writing)
    child.pid, child.ready, child.began = pid, reading, time.monotonic()


def _live(family: Family, child: Child, ready: int) -> NoReturn:
    """The life of a child: never returns into the supervisor's code."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.close(family.lifeline[1])
        structlog.contextvars.bind_contextvars(process=child.role)
        child.work(lambda: (os.write(ready, b"1"), None)[1], family.lifeline[0])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # the process ends here whatever it was, and its log is all that remains of it
        log.exception("process_failed")
    finally:
        sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def _signals(family: Family) -> Iterator[int]:
    """Note signals in `family.signals`; gives a descriptor that becomes readable when one came."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)

    def note(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            family.signals.append(number)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = {number: signal.signal(number, note) for number in numbers}
    former = signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(former)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _drain(wakeup: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(wakeup, 4096):
            pass


@contextlib.contextmanager
def _pid_file(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    try:
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        raise CannotServe(f"cannot write the pid file {path}: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
