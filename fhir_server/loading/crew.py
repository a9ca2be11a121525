"""Loading processes: forked after the application's tables are in memory, fed with files, heard through pipes.

Rules: a process holds the ends of its own pipes alone, so that it reads end of file when this process dies, and this one when it
does. A pipe that is full makes its process wait: the writer sets the pace.
"""

import contextlib
import fcntl
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from fhir_server.loading import wire
from fhir_server.loading.parts import End, Message
from fhir_server.loading.sources import CannotLoad

PIPE_BYTES = 1 << 20
Life = Callable[[Callable[[], Path | None], Callable[[Message], None]], None]
"""What a process does: `life(next_file, tell)`."""


@dataclass(slots=True)
class _Member:
    pid: int
    orders: Connection
    answers: Connection
    file: Path | None = None


def heard(files: Sequence[Path], processes: int, life: Life) -> Iterator[list[tuple[Path, Message]]]:
    """Run `life` in so many processes over `files`; yields what was told, as much as is there at a time (maybe nothing)."""
    waiting = deque(files)
    crew: list[_Member] = []
    try:
        for _ in range(min(processes, len(files))):
            crew.append(_hire(life, crew))
            _order(crew[-1], waiting)
        busy = {member.answers: member for member in crew}
        while busy:
            ready = [busy[connection] for connection in wait(list(busy), timeout=0)]  # type: ignore[index]
            if not ready:
                yield []
                ready = [busy[connection] for connection in wait(list(busy))]  # type: ignore[index]
            told = []
            for member in ready:
                message = _hear(member)
                assert member.file is not None
                told.append((member.file, message))
                if isinstance(message, End) and not _order(member, waiting):
                    del busy[member.answers]
            yield told
    finally:
        for member in crew:
            member.orders.close()
            member.answers.close()
            os.waitpid(member.pid, 0)


def _order(member: _Member, waiting: deque[Path]) -> bool:
    member.file = waiting.popleft() if waiting else None
    if member.file is not None:
        member.orders.send(member.file)
    return member.file is not None


def _hear(member: _Member) -> Message:
    try:
        return wire.decode(member.answers.recv_bytes())
    except EOFError:
        raise CannotLoad(f"a loading process ended in the middle of {member.file}") from None


def _hire(life: Life, others: Sequence[_Member] = ()) -> _Member:
    orders_out, orders_in = Pipe(duplex=False)
    answers_out, answers_in = Pipe(duplex=False)
    with contextlib.suppress(AttributeError, OSError):  # an optimisation that not every system has or permits
        fcntl.fcntl(answers_in.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    pid = os.fork()
    if pid:
        orders_out.close()
        answers_in.close()
        return _Member(pid, orders_in, answers_out)
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for connection in (orders_in, answers_out, *(end for other in others for end in (other.orders, other.answers))):
            connection.close()
        life(lambda: _next(orders_out), lambda message: answers_in.send_bytes(wire.encode(message)))
        code = 0
    except BrokenPipeError:  # the writer is gone: nobody is left to tell
        code = 0
    except BaseException:  # noqa: BLE001  (the process ends here whatever it was, and this is all that remains of it)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _next(orders: Connection) -> Path | None:
    try:
        file: Path = orders.recv()
    except EOFError:
        return None
    return file
