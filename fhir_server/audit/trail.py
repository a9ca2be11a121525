"""The audit trail of one serving process: which requests are recorded, and what their records say.

Rules.
1. Every request to the FHIR API is recorded when its answer begins, before a byte of it leaves: reads, searches (one record), writes, refusals.
   So is what changes something at `/auth/...`, what is refused there, and the pages that show patients. Public documents (capabilities, discovery, keys) are not; these
   are told by their whole path, for a part of one may be an id.
2. A write is recorded before it is carried out, too (`begun`): when the process dies between the commit and the answer, that record remains.
3. What cannot be recorded is not answered: 503.
4. Who asks is `principal` in the scope (`smart_auth.model.Principal`, put there when the token was checked). Pages tell who signs in
   by `scope["audit"] = {"user": ..., "client": ..., "note": ..., "keys": "Patient/1 Patient/2"}`. `scope["purpose"]` is a code of
   PurposeOfUse; whoever has broken the glass for some patients (`Facts.broken`) is known by it, and each record about one of them then tells it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir_server.audit import line
from fhir_server.audit.journal import Journal
from fhir_server.audit.ledger import register_journal
from fhir_server.audit.options import AuditOptions
from fhir_server.audit.record import Kind
from fhir_server.http.middleware import send_error
from fhir_server.http.observer import METHODS, pairs_of, type_of
from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.observability.exposition import CodeOf
from fhir_server.observability.slow import shape_of
from resources.errors import FhirError
from resources.model import is_id

PAGES = "/auth"
_DOCUMENTS = ("/.well-known/smart-configuration", "/.well-known/openid-configuration")
"""Below the prefix of the FHIR API."""
_REFUSED = 400
_KEPT = 10_000
_SUBJECTS = frozenset({"patient", "subject", "patient:Patient", "subject:Patient"})
_NOBODY: Mapping[str, str] = {}

_log = structlog.get_logger()


class Trail:
    """`address` tells where a request is from; `words` may be shown of a query; `prefix` is that of the FHIR API (`/fhir`)."""

    def __init__(
        self,
        options: AuditOptions,
        folder: Path,
        *,
        prefix: str,
        code_of: CodeOf,
        address: Callable[[Scope], str],
        words: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._options = options
        self._folder = folder
        self._prefix = prefix
        self._documents = frozenset(f"{prefix}{name}" for name in _DOCUMENTS)
        self._code_of = code_of
        self._address = address
        self._words = words
        self._people = line.People()
        self._exchange = lru_cache(maxsize=_KEPT)(self._exchanged)
        self._journal: Journal | None = None

    def open(self) -> None:
        """Begin a journal, in the serving process. Raises OSError, FhirError 503."""
        if self._options.enabled:
            role = structlog.contextvars.get_contextvars().get("process", "")
            limit = int(self._options.journal_mib * (1 << 20))
            self._journal = Journal(self._folder, lambda: register_journal(self._folder, role), limit)

    def close(self) -> None:
        """End the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def begin(self, scope: Scope) -> None:
        """Record a write that is about to be carried out. Raises FhirError 503 when that cannot be."""
        if self._journal is None or scope["route_shape"].endswith("/_search"):
            return
        try:
            scope["begun"] = self._append("begun", scope, 0)
        except OSError as error:
            raise _refusal(error) from error

    def concerns(self, scope: Scope) -> bool:
        """Whether the request is one to record."""
        path: str = scope["path"]
        return self._journal is not None and path.startswith((self._prefix, PAGES)) and path not in self._documents

    def answered(self, scope: Scope, status: int) -> None:
        """Record a request by the status of its answer. Raises OSError."""
        if self._journal is not None and _worth(scope, status):
            self._append("request", scope, status)

    def _append(self, kind: Kind, scope: Scope, status: int) -> str:
        assert self._journal is not None
        shape: str = scope.get("route_shape", "")
        said: Mapping[str, str] = scope.get("audit", _NOBODY)
        principal = scope.get("principal")
        pairs = pairs_of(scope)
        exchange = self._exchange(scope["method"], shape, type_of(shape, scope))
        who = line.told(said) if principal is None else self._people.of(principal)
        keys = _read(scope, pairs, said) or line.listed(list(dict.fromkeys(_keys(scope, shape, pairs, said))))
        names = line.listed(shape_of(pairs, self._words())) if pairs else line.NONE
        begun = scope.get("begun", "") if status else ""
        # by hand: a request's own id was checked to need no escape, and all else is encoded
        return self._journal.write(
            f'"{kind}",{time.time_ns() // 1000},"{scope["request_id"]}",{exchange},{status},{who},'
            f'{line.text(self._address(scope), scope.get("purpose", ""))},{keys},{names},"{begun}",'
            f"{line.text(said.get('note', ''))},{_broken(scope)}"
        )

    def _exchanged(self, method: str, shape: str, kind: str) -> str:
        """The fields `method` to `type`."""
        code = shape.rpartition("/")[2] if shape.startswith(PAGES) else self._code_of(shape, method)
        return line.exchange(method if method in METHODS else "?", shape, code, kind)


def _worth(scope: Scope, status: int) -> bool:
    """Documents for everybody, and pages that are only looked at and show no patient, are not recorded."""
    if scope["path"].startswith(PAGES):
        changing = scope["method"] not in ("GET", "HEAD")
        return changing or status >= _REFUSED or "keys" in scope.get("audit", _NOBODY)
    return scope.get("route_shape") != "/metadata"


def _broken(scope: Scope) -> str:
    request = scope.get("fhir_request")
    if not isinstance(request, FhirRequest) or request.access is None or not request.access.facts.broken.ids:
        return line.NONE
    return line.part(sorted(request.access.facts.broken.ids))


def _read(scope: Scope, pairs: Sequence[tuple[str, str]], said: Mapping[str, str]) -> str:
    """The keys of what was asked for by id, found, and is all that is told of: the most frequent request; else empty."""
    response = scope.get("fhir_response")
    if pairs or said or not isinstance(response, FhirResponse) or response.about is None or response.shown:
        return ""
    key = response.about.key
    return f'["{key.type}/{key.id}"]' if key == scope["segments"] else ""  # what the store has needs no escape


def _keys(scope: Scope, shape: str, pairs: Sequence[tuple[str, str]], said: Mapping[str, str]) -> list[str]:
    """What was asked for by id, and what was shown or written."""
    found: list[str] = []
    if shape.startswith("/{type}/{id}") and is_id(scope["segments"][1]):
        found.append("/".join(scope["segments"][:2]))
    for name, value in pairs:
        if name in _SUBJECTS and is_id(bare := value.removeprefix("Patient/")):
            found.append(f"Patient/{bare}")
    if "keys" in said:
        found += said["keys"].split()
    response = scope.get("fhir_response")
    if isinstance(response, FhirResponse):
        if response.about is not None:
            found.append("/".join(response.about.key))
        found += map("/".join, response.shown)
    return found


@asynccontextmanager
async def recording(trail: Trail) -> AsyncIterator[None]:
    """Record while the application serves."""
    await asyncio.to_thread(trail.open)
    try:
        yield
    finally:
        await asyncio.to_thread(trail.close)


def audited(app: ASGIApp, trail: Trail) -> ASGIApp:
    """Record each answer before it leaves."""

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if not trail.concerns(scope):
            return app(scope, receive, send)
        refused = False

        async def send_recorded(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                try:
                    trail.answered(scope, message["status"])
                except OSError as error:
                    refused = True  # nothing of the answer leaves
                    await send_error(_refusal(error), scope, send)
            if not refused:
                await send(message)

        return app(scope, receive, send_recorded)

    return layer


def _refusal(error: OSError) -> FhirError:
    _log.error("audit_failed", reason=error.strerror)
    said = "The audit trail cannot be written, so nothing is answered"
    return FhirError(503, "transient", said, headers={"Retry-After": "5"})
