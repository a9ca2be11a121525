"""search: by GET, by POST _search, and inside a compartment.

Rules: parse -> narrow and rewrite -> one page from the store -> searchset, stored bodies spliced in. `self` says what was done:
parameters that lenient handling ignored are not in it. Pages are linked by cursors (see search.bundle).

Specification: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from dataclasses import replace

from fhir_server.http.errors import not_supported
from fhir_server.http.negotiation import is_form
from fhir_server.http.request import FhirRequest, Pairs, query_pairs, split_general
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.criteria import parsed
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Page
from resources.errors import FhirError
from resources.model import ResourceKey, is_id
from search.bundle import Cursor, Entry, links, neighbours, scope, searchset
from search.parser import Handling, ParsedSearch
from search.query import And, InCompartment, Query
from search.rewrite import rewrite


async def search(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Type?...` and `POST [base]/Type/_search`."""
    return await _search(service, request, request.segments[0], None)


async def compartment_search(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Patient/1/Observation?...` and its POST: what of the type is in the compartment."""
    kind, name, member = request.segments[:3]
    if member == "*":
        raise not_supported("a search over all types of a compartment", 400)
    compartment = service.definitions.compartments.get(kind)
    if compartment is None or not is_id(name) or not (compartment.members.get(member) or member == kind):
        raise FhirError(404, "not-found", f"{kind} has no compartment with {member} in it")
    return await _search(service, request, member, ResourceKey(kind, name))


async def system_search(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]?_type=...` is refused by name."""
    del service, request
    raise not_supported("a search over several types", 400)


async def _search(service: Service, request: FhirRequest, kind: str, owner: ResourceKey | None) -> FhirResponse:
    pairs = _pairs(request, service.options.parameter_limit)
    handling: Handling = "lenient" if request.prefer.lenient else "strict"
    now = service.now()
    asked = parsed(service, kind, pairs, handling, now)
    _refuse_reduction(asked)
    segments = request.segments[:-1] if request.segments[-1] == "_search" else request.segments
    path = "/".join(segments)
    bound = scope(request.narrowing.principal, path, asked.used)
    here: Cursor | None = None
    if asked.cursor is not None:
        here = service.cursors.open(asked.cursor, bound)
        asked = parsed(service, kind, pairs, handling, here.now)
    query = _placed(asked.query, owner, here)
    page = await service.store.search(rewrite(query, request.narrowing), request.narrowing)
    around = neighbours(here, [row.position for row in page.rows if row.position is not None], more=page.more, now=now)
    previous, following = (None if one is None else service.cursors.seal(one, bound) for one in around)
    body = searchset(
        service.base,
        [Entry(str(stored.key), stored.body, mode) for stored, mode, _ in page.rows],
        links(f"{service.base}/{path}", asked.used, asked.cursor, previous, following),
        total=_total(page, query),
        issues=asked.ignored,
    )
    return FhirResponse(200, body)


def _pairs(request: FhirRequest, most: int) -> Pairs:
    """The parameters of the URL and, for POST, of the form."""
    if request.method != "POST":
        return request.query
    if not isinstance(request.payload, bytes) or (request.payload and not is_form(request.headers.get("content-type"))):
        raise FhirError(415, "not-supported", "a search by POST is sent as application/x-www-form-urlencoded")
    form, _, _ = split_general(query_pairs(request.payload, most, "form"))
    return (*request.query, *form)


def _refuse_reduction(asked: ParsedSearch) -> None:
    if asked.elements:
        raise not_supported("_elements", 400)
    if asked.summary not in (None, "count", "false"):
        raise not_supported(f"_summary={asked.summary}", 400)


def _placed(query: Query, owner: ResourceKey | None, here: Cursor | None) -> Query:
    """The query inside the compartment of `owner`, from the cursor on."""
    if owner is not None:
        query = replace(query, where=And((InCompartment(owner), query.where)))
    if here is not None:
        query = replace(query, after=here.position, backward=here.backward)
    return query


def _total(page: Page, query: Query) -> int | None:
    """The total where it was asked for, or is known for nothing: the first page holds all."""
    if page.total is None and query.after is None and not page.more and query.count:
        return sum(row.mode == "match" for row in page.rows)
    return page.total
