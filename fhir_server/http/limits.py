"""Limits that hold before a request is understood, and its deadline.

Rules.
1. What is too long is refused by its own status: URL 414, header fields 431, body 413 (`middleware.body_limit`).
2. Beyond `concurrency` requests under way in a worker, another is refused at once: 503 with Retry-After. Waiting in line would make
   every request late.
3. A request that is not answered at its deadline is cancelled, with the statement it waits for, and answered 503, code `timeout`. One
   timer looks after all requests of a worker. A write that was cancelled may have been committed: the answer says so.

Specification: https://www.rfc-editor.org/rfc/rfc9110#section-15, https://www.rfc-editor.org/rfc/rfc6585#section-5
"""

import asyncio
import time
from collections.abc import Awaitable
from itertools import chain
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_server.http.middleware import send_error
from fhir_server.http.options import HttpLimits
from fhir_server.observability.metrics import Counts, Recorder
from resources.errors import FhirError

LOOK_EVERY = 0.25
"""Seconds between two looks for requests that are late."""


class Admission:
    """The requests under way in this process. `look` is called every LOOK_EVERY seconds while the application serves."""

    def __init__(self, limits: HttpLimits, recorder: Recorder) -> None:
        self.limits = limits
        self.recorder = recorder
        self.running: dict[asyncio.Task[Any], float] = {}
        self.late: set[asyncio.Task[Any]] = set()

    def look(self) -> None:
        """Cancel what is beyond its deadline. Requests stand in the order of their deadlines."""
        now = time.monotonic()
        for task, until in list(self.running.items()):
            if until > now:
                return
            if task not in self.late:
                self.late.add(task)
                task.cancel()

    def counts(self) -> Counts:
        """How many requests are under way."""
        return Counts(levels={"in_flight": len(self.running)})

    def refusal(self, scope: Scope) -> FhirError | None:
        """Why the request is not let in."""
        limits = self.limits
        if len(self.running) >= limits.concurrency:
            self.recorder.overloaded += 1
            said = "The server has more requests under way than it takes; try again soon"
            return FhirError(503, "throttled", said, headers={"Retry-After": "1"})
        if len(scope["query_string"]) + len(scope["path"]) > limits.url:
            said = f"the URL is longer than the {limits.url} bytes this server accepts; a search can be sent by POST"
            return FhirError(414, "too-long", said)
        if sum(map(len, chain.from_iterable(scope["headers"]))) > limits.headers:
            return FhirError(
                431, "too-long", f"the header is longer than the {limits.headers} bytes this server accepts"
            )
        return None


def admission(app: ASGIApp, guard: Admission, prefix: str) -> ASGIApp:
    """Hold requests under `prefix` to `guard`; others (health, metrics) are always let in."""
    allowed = guard.limits.deadline

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if not scope["path"].startswith(prefix):
            return app(scope, receive, send)
        refusal = guard.refusal(scope)
        return bounded(scope, receive, send) if refusal is None else send_error(refusal, scope, send)

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        guard.running[task] = time.monotonic() + allowed
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if task not in guard.late or "status" in scope:
                raise
            task.uncancel()
            guard.recorder.timeouts += 1
            await send_error(_timeout(scope["method"], allowed), scope, send)
        finally:
            del guard.running[task]
            guard.late.discard(task)

    return layer


def _timeout(method: str, allowed: float) -> FhirError:
    said = f"The request took longer than the {allowed:g} s that this server allows"
    if method not in ("GET", "HEAD"):
        said += "; whether what it writes was written is not known: look before you send it again"
    return FhirError(503, "timeout", said, headers={"Retry-After": "5"})
