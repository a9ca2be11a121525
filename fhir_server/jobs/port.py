"""The protocol of job queues. The default is `queue.py` over the store's own file; a broker is another adapter.

Rules.
1. A job is a row that was committed, so that it outlives every process. It is enqueued in the unit of work that causes it
   (`FollowUp("job", key, waiting(...))`), or by `add`.
2. A job is run at least once. Who claims it holds a lease and renews it; a lease that ran out may be claimed by another.
3. Long work keeps what it has done (`progress`), and goes on from there after any interruption.
4. What fails is tried again later and later, and after `MOST_ATTEMPTS` is left for people with its error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

LEASE = 60_000_000
MOST_ATTEMPTS = 8
FIRST_DELAY = 2_000_000

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job: its key, the kind of work, what the work needs; `attempt` counts from 1; `every` (us): it recurs."""

    key: str
    work: str
    payload: Payload
    attempt: int
    every: int | None
    token: str


class Interrupted(Exception):  # noqa: N818  (a turn of events)
    """Raised by a handler that leaves its work unfinished because the process has to leave; `payload` says where to go on."""

    def __init__(self, payload: Payload) -> None:
        super().__init__("interrupted")
        self.payload = payload


Handler = Callable[[Job, Callable[[], bool]], Payload]
"""Does the work; its second argument says whether the process has to leave. Gives the payload of the next run (if it recurs).

Raises Interrupted when it leaves before the end."""


class JobQueue(Protocol):
    """Claims and ends jobs. Times are microseconds since 1970; every verb is one short transaction."""

    def add(self, key: str, data: Payload) -> bool:
        """Enqueue `data` (of `waiting`) under `key`; False when that key is there already."""

    def claim(self, works: frozenset[str], now: int) -> Job | None:
        """The job that has waited longest, now leased to the caller, or None."""

    def renew(self, job: Job, now: int) -> bool:
        """Lengthen the lease; False when it was lost."""

    def progress(self, job: Job, payload: Payload, now: int) -> bool:
        """Keep how far the work is: a later claim goes on with `payload`. Renews the lease; False when it was lost."""

    def release(self, job: Job, payload: Payload, now: int) -> None:
        """The work is not done: let anyone go on with `payload` at once."""

    def finish(self, job: Job, payload: Payload, now: int) -> None:
        """The work is done: forget it, or let it wait for its next time."""

    def fail(self, job: Job, error: str, now: int) -> None:
        """The work failed: let it wait, or leave it for people."""

    def next_due(self, works: frozenset[str]) -> int | None:
        """When the next job is due; None when nothing waits."""


def waiting(work: str, payload: Payload, due: int, *, every: int | None = None) -> dict[str, Any]:
    """The data of a new job."""
    return {"work": work, "payload": dict(payload), "due": due, "every": every, "attempt": 0, "token": "", "error": ""}
