"""What happens when an answer was sent: it is counted, logged, and, where it was slow or traces are wanted, told more of.

Rules: the common way is a counter and a tuple. No id, query value, header or body is given to anyone; a resource type is one the route
table has found to be a type, and a method one that HTTP knows.
"""

import time
from collections.abc import Callable, Collection
from urllib.parse import parse_qsl

import structlog
from starlette.types import Scope

from fhir_server.http.access_log import AccessLog
from fhir_server.http.negotiation import is_form
from fhir_server.http.request import FhirRequest
from fhir_server.observability.exposition import CodeOf
from fhir_server.observability.metrics import Recorder
from fhir_server.observability.slow import shape_of
from fhir_server.observability.tracing import Trace

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
PROBES = frozenset({"/livez", "/readyz", "/metrics", "/health"})
_SERVER_FAULT = 500
_CARRIED = (b"traceparent", b"tracestate")

_log = structlog.get_logger("fhir_server.http")


class Observer:
    """Call it with the scope, the status and the seconds of an answer. `slow` 0: nothing is slow; `words` may be shown of a query."""

    def __init__(
        self,
        recorder: Recorder,
        log: AccessLog | None,
        *,
        prefix: str,
        code_of: CodeOf,
        slow: float = 0.0,
        words: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._recorder = recorder
        self._log = log
        self._prefix = prefix
        self._code_of = code_of
        self._slow = slow or float("inf")
        self._words = words
        self.trace: Trace | None = None

    def __call__(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and tell one answer."""
        shape: str = scope.get("route_shape", "")
        method: str = scope["method"]
        if scope["path"].startswith(self._prefix):
            self._recorder(shape, scope.get("segments", ()), method, status, seconds)
            if seconds > self._slow:
                self._tell_slow(scope, shape, method, status, seconds)
            if self.trace is not None:
                self._tell_trace(self.trace, scope, shape, method, status, seconds)
        elif shape in PROBES and status < _SERVER_FAULT:
            return
        if self._log is not None:
            shown = method if method in METHODS else "?"
            self._log((time.time(), scope["request_id"], shown, shape, status, seconds * 1000))

    def _tell_slow(self, scope: Scope, shape: str, method: str, status: int, seconds: float) -> None:
        _log.warning(
            "slow",
            request_id=scope["request_id"],
            interaction=self._code_of(shape, method),
            type=type_of(shape, scope),
            route=shape,
            parameters=shape_of(pairs_of(scope), self._words()),
            status=status,
            ms=round(seconds * 1000, 2),
        )

    def _tell_trace(self, trace: Trace, scope: Scope, shape: str, method: str, status: int, seconds: float) -> None:
        code, kind = self._code_of(shape, method), type_of(shape, scope)
        attributes = {
            "http.request.method": method if method in METHODS else "_OTHER",
            "http.route": f"{self._prefix}{shape}",
            "http.response.status_code": status,
            "fhir.interaction": code,
            "fhir.resource_type": kind,
            "fhir.request_id": scope["request_id"],
        }
        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIED}
        ended = time.time_ns()
        trace(f"{code} {kind}".strip(), attributes, carrier, ended - int(seconds * 1e9), ended)


def type_of(shape: str, scope: Scope) -> str:
    """The resource type that the route found; empty for none."""
    if not shape.startswith("/{type}"):
        return ""
    segments: tuple[str, ...] = scope["segments"]
    return segments[2] if "{member}" in shape else segments[0]


def pairs_of(scope: Scope) -> list[tuple[str, str]]:
    """The parameters of URL and form, as far as they can be read."""
    request = scope.get("fhir_request")
    if not isinstance(request, FhirRequest):
        return []
    pairs = list(request.query)
    if request.payload and isinstance(request.payload, bytes) and is_form(request.headers.get("content-type")):
        pairs += parse_qsl(request.payload.decode("ascii", "replace"), keep_blank_values=True, errors="replace")
    return pairs
