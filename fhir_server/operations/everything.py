"""$everything: what there is about one patient or one encounter: its compartment and what the members refer to.

Rules. GET with parameters in the URL, POST with Parameters (or both). Pages are linked by signed cursors: what is there throughout and keeps its place comes exactly
once, whoever else writes. Members of the compartment are matches, what they refer to are includes; `_type` and `_since` say what is
answered with, `start` and `end` (dates of care) which members count. Another patient's data never comes.

Specification: https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html
"""

from typing import Final

from fhir_server.http.response import FhirResponse, validators
from fhir_server.interactions.service import Service
from fhir_server.operations.model import Arguments, Call
from fhir_server.storage.port import Collected
from resources.errors import FhirError
from resources.model import ResourceKey
from search.bundle import Cursor, Entry, links, scope, searchset
from search.everything import EverythingQuery, Place, care_dates
from search.results import CURSOR
from search.values import time_range

PAGE: Final = 100
"""Resources of a page when `_count` is absent."""


async def everything(service: Service, call: Call) -> FhirResponse:
    """`GET` or `POST [base]/Patient/id/$everything` and `[base]/Encounter/id/$everything`."""
    key, narrowing = call.key, call.request.narrowing
    path = f"{key}/$everything"
    bound = scope(narrowing.principal, path, call.arguments.pairs)
    query = _query(service, key, call.arguments, bound)
    page = await service.store.everything(query, narrowing)
    if page.owner is None:
        raise FhirError(404, "not-found", f"{key} is not known")
    if page.owner.deleted:
        raise FhirError(410, "deleted", f"{key} was deleted", headers=dict(validators(page.owner)))
    here = call.arguments.one(CURSOR)
    following = service.cursors.seal(_behind(page), bound) if page.more else None
    used = [pair for pair in call.arguments.pairs if pair[0] != CURSOR]
    body = searchset(
        service.base,
        [Entry(str(stored.key), stored.body, mode) for stored, mode, _, _ in page.rows],
        links(f"{service.base}/{path}", used, here, None, following),
        total=len(page.rows) if here is None and not page.more else None,
        issues=call.arguments.ignored,
    )
    return FhirResponse(200, body, shown=tuple(row.stored.key for row in page.rows))


def _behind(page: Collected) -> Cursor:
    position = page.rows[-1].position
    assert position is not None
    return Cursor(tuple(position), backward=False, now=0)


def _query(service: Service, owner: ResourceKey, given: Arguments, bound: bytes) -> EverythingQuery:
    """The page that is asked for."""
    here: str | None = given.one(CURSOR)
    after = None if here is None else Place(*service.cursors.open(here, bound).position)  # type: ignore[arg-type]
    start, end = _edge(given.one("start"), 0), _edge(given.one("end"), 1)
    if start is not None and end is not None and end < start:
        raise FhirError(400, "invalid", f"start={given.one('start')} is after end={given.one('end')}")
    dated = start is not None or end is not None
    return EverythingQuery(
        owner,
        _count(service, given.one("_count")),
        _types(service, given),
        _edge(given.one("_since"), 0),
        start,
        end,
        care_dates(service.registry) if dated else (),
        after,
    )


def _count(service: Service, asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise FhirError(400, "invalid", f"_count={asked} is no number of resources of a page")
    return min(asked or PAGE, service.limits.page_limit)


def _types(service: Service, given: Arguments) -> tuple[str, ...] | None:
    """The types that `_type` names, in all its values together."""
    named = [one for value in given.values.get("_type", ()) for one in value.split(",")]
    for one in named:
        if one not in service.types:
            raise FhirError(400, "invalid", f"_type={one} is not a resource type")
    return tuple(sorted(set(named))) if named else None


def _edge(text: str | None, at: int) -> int | None:
    """The earliest (0) or latest (1) moment of a date, in microseconds."""
    found = None if text is None else time_range(text)
    return None if found is None else found[at]
