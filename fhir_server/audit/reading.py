"""AuditEvent as the FHIR API shows it: read and search of the ledger, in front of the store of resources.

Rules.
1. While the audit trail is on, AuditEvent is what this server has recorded: nobody writes one (405), and there is no history of one.
2. Who may read which is what access rules say of AuditEvent: administrators those of their organization, patients those about themselves.
3. Before a search the journals are folded, so it finds what was answered before it began.

Specification: https://hl7.org/fhir/R4/auditevent.html
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from fhir_server.audit.event import event
from fhir_server.audit.keeper import fold_now
from fhir_server.audit.ledger import FOLDER, opened
from fhir_server.audit.query import PARAMETERS, Found, patients_of, select, total
from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse, encoded, etag, http_date
from fhir_server.http.routes import Projected, Route
from fhir_server.interactions.criteria import parsed
from fhir_server.interactions.reduction import PARAMETERS as REDUCING
from fhir_server.interactions.reduction import asked_reduction, reduction
from fhir_server.interactions.search import pairs_sent
from fhir_server.interactions.service import Service
from fhir_server.storage.sqlite.connection import SqliteOptions, unavailable
from resources.errors import FhirError
from resources.model import ResourceKey
from search.bundle import Cursor, Entry, links, scope, searchset
from search.query import And, HasId, InCompartment, Node, Query

TYPE: Final = "AuditEvent"
FOLDING: Final = 2.0
"""Seconds that folding may take before a search; what is left is found by a later one."""
_GET: Final = ("GET", "HEAD")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AuditReader:
    """The interactions on AuditEvent over the ledger beside the store in `data_dir`."""

    data_dir: Path
    store: SqliteOptions

    def projected(self) -> Projected:
        """What answers for AuditEvent instead of the rows for every type."""
        routes = (
            Route(_GET, "/{type}", self.search, ("search-type",)),
            Route(("POST",), "/{type}/_search", self.search, ()),
            Route(_GET, "/{type}/{id}", self.read, ("read",)),
            Route(_GET, "/{type}/{id}/{member}", self.search, ()),
            Route(("POST",), "/{type}/{id}/{member}/_search", self.search, ()),
        )
        return Projected(routes, PARAMETERS)

    async def read(self, service: Service, request: FhirRequest) -> FhirResponse:
        """`GET [base]/AuditEvent/1`."""
        refuse_parameters(request, "read", REDUCING)
        reduced = asked_reduction(service, request, TYPE) if request.query else None
        name = request.segments[1]
        allowed = request.narrowing.of(TYPE)
        query = Query(TYPE, HasId((name,)), count=1)
        found = await self._run(service, lambda connection: select(connection, query, allowed))
        if not found:
            raise FhirError(404, "not-found", f"{TYPE}/{name} is not known")
        body = _body(service, found[0], allowed)
        headers = (("ETag", etag(1)), ("Last-Modified", http_date(found[0].record.time // 1_000_000)))
        return FhirResponse(
            200, body if reduced is None else reduced.body(body), headers, shown=(ResourceKey(TYPE, name),)
        )

    async def search(self, service: Service, request: FhirRequest) -> FhirResponse:
        """`GET [base]/AuditEvent?...`, `POST [base]/AuditEvent/_search`, `GET [base]/Patient/1/AuditEvent?...`."""
        pairs = pairs_sent(request, service.options.parameter_limit)
        now = service.now()
        asked = parsed(service, TYPE, pairs, "lenient" if request.prefer.lenient else "strict", now)
        path = "/".join(request.segments[:-1] if request.segments[-1:] == ("_search",) else request.segments)
        bound = scope(request.narrowing.principal, path, asked.used)
        query = asked.query
        if len(request.segments) > 2 and request.segments[0] != TYPE:  # noqa: PLR2004
            query = replace(query, where=And((InCompartment(ResourceKey(*request.segments[:2])), query.where)))
        if asked.cursor is not None:
            query = replace(query, after=service.cursors.open(asked.cursor, bound).position)
        allowed = request.narrowing.of(TYPE)
        number, rows = await self._run(service, lambda connection: _page(connection, query, allowed))
        page = rows[: query.count]
        following = None
        if len(rows) > query.count and page:
            position = (page[-1].record.time, page[-1].seq)
            following = service.cursors.seal(Cursor(position, backward=False, now=now), bound)
        reduced = reduction(service.definitions, (TYPE,), asked.summary, asked.elements)
        bodies = [(f"{TYPE}/{one.seq}", _body(service, one, allowed)) for one in page]
        body = searchset(
            service.base,
            [Entry(name, one if reduced is None else reduced.body(one), "match") for name, one in bodies],
            links(f"{service.base}/{path}", asked.used, asked.cursor, None, following),
            total=number,
            issues=asked.ignored,
        )
        return FhirResponse(200, body)

    async def _run(self, service: Service, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Fold, then `work` on the ledger, in a thread."""
        return await asyncio.to_thread(self._folded, service, work)

    def _folded(self, service: Service, work: Callable[[sqlite3.Connection], _T]) -> _T:
        until = time.monotonic() + FOLDING
        try:
            fold_now(self.data_dir, self.store, lambda: service.preparer.extractor, lambda: time.monotonic() > until)
            with opened(self.data_dir / FOLDER, read_only=True) as connection:
                return work(connection)
        except sqlite3.Error as error:
            raise unavailable(error) from error


def _page(connection: sqlite3.Connection, query: Query, allowed: Node) -> tuple[int | None, list[Found]]:
    """The total where it is asked for, and the rows: one more than the page holds when there are more."""
    number = total(connection, query, allowed) if query.total != "none" or not query.count else None
    return number, select(connection, query, allowed) if query.count else []


def _body(service: Service, found: Found, allowed: Node) -> bytes:
    return encoded(event(found.seq, found.record, found.patients, service.base, patients_of(allowed)))
