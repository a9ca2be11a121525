"""Ends a serving process whose event loop no longer turns, so that the supervisor starts another.

Rules.
1. Each serving process shows a heartbeat on the board once a second, from its event loop. A heartbeat that stays the same for the set time is a hang:
   a loop in C code, a deadlock, a regular expression without end.
2. The process is told by SIGABRT first: faulthandler writes where each of its threads is into the log (places, no values). What is still there
   two seconds later is killed.
3. A process that has not shown a heartbeat yet has the time of a start. When the supervisor itself was asleep (the machine was suspended), the
   watch begins anew.

Specification: https://docs.python.org/3/library/faulthandler.html
"""

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

LOOK_EVERY = 1.0
ABORT_GRACE = 2.0
ASLEEP = 10.0
STARTING = 60.0

_log = structlog.get_logger()


@dataclass(slots=True)
class _Heard:
    """The last heartbeat of a process, since when it is the same, when the process was aborted (0: not)."""

    beat: int
    since: float
    first: bool = True
    aborted: float = 0.0


class Watchdog:
    """`beat_of` gives the heartbeat shown under a role; `seconds`: how long it may stay the same."""

    def __init__(self, beat_of: Callable[[str], int], seconds: float) -> None:
        self._beat_of = beat_of
        self._seconds = seconds
        self._heard: dict[int, _Heard] = {}
        self._looked = float("-inf")

    def look(self, running: Iterable[tuple[str, int]], now: float) -> None:
        """Look at the serving processes (role, process id); call it every second or so. `now` in monotonic seconds."""
        slept = now - self._looked > ASLEEP
        self._looked = now
        before, self._heard = self._heard, {}
        for role, pid in running:
            beat, heard = self._beat_of(role), before.get(pid)
            if heard is None:
                heard = _Heard(beat, now)
            elif beat != heard.beat:
                heard = _Heard(beat, now, first=False)
            elif slept:
                heard.since = now
            self._heard[pid] = heard
            self._judge(role, pid, heard, now)

    def _judge(self, role: str, pid: int, heard: _Heard, now: float) -> None:
        late = now - heard.since
        if heard.aborted:
            if now - heard.aborted > ABORT_GRACE:
                os.kill(pid, signal.SIGKILL)
        elif late > (max(self._seconds, STARTING) if heard.first else self._seconds):
            _log.error("process_hung", process=role, pid=pid, seconds=round(late, 1))
            heard.aborted = now
            os.kill(pid, signal.SIGABRT)
