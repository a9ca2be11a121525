"""search: by GET, by POST _search, inside a compartment, over several types.

Rules: parse -> narrow and rewrite -> one page from the store -> searchset, stored bodies spliced in as they are unless part of them was asked
for. `self` says what was done:
parameters that lenient handling ignored are not in it. Pages are linked by cursors (see search.bundle).

Specification: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from dataclasses import replace

from fhir_server.http.negotiation import is_form
from fhir_server.http.request import FhirRequest, Pairs, query_pairs, split_general
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.criteria import parsed
from fhir_server.interactions.reduction import reduction
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Page
from resources.errors import FhirError, Issue
from resources.model import ResourceKey, is_id
from resources.reduction import Reduction
from search.bundle import Cursor, Entry, Neighbours, links, neighbours, scope, searchset
from search.narrowing import Narrowing
from search.parser import Handling, ParsedSearch
from search.query import And, InCompartment, Query
from search.results import TYPES
from search.rewrite import rewrite


async def search(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Type?...` and `POST [base]/Type/_search`."""
    return await _search(service, request, request.segments[0], None)


async def compartment_search(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Patient/1/Observation?...` and its POST: what of the type, or of every type (`*`), is in the compartment."""
    kind, name, member = request.segments[:3]
    compartment = service.definitions.compartments.get(kind)
    every = member == "*"
    if compartment is None or not is_id(name) or not (every or compartment.members.get(member) or member == kind):
        raise FhirError(404, "not-found", f"{kind} has no compartment with {member} in it")
    owner = ResourceKey(kind, name)
    if not every:
        return await _search(service, request, member, owner)
    members = tuple(sorted({kind, *(one for one, codes in compartment.members.items() if codes)}))
    return await _search(service, request, members, owner)


async def system_search(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]?_type=Patient,Observation&...` and `POST [base]/_search`: several types, or all."""
    return await _search(service, request, tuple(sorted(service.types)), None)


async def _search(
    service: Service, request: FhirRequest, kinds: str | tuple[str, ...], owner: ResourceKey | None
) -> FhirResponse:
    pairs = pairs_sent(request, service.options.parameter_limit)
    if not isinstance(kinds, str):
        kinds = chosen_types(service, kinds, pairs)
    handling: Handling = "lenient" if request.prefer.lenient else "strict"
    now = service.now()
    asked = parsed(service, kinds, pairs, handling, now)
    reduction = _reduction(service, kinds, asked)
    segments = request.segments[:-1] if request.segments[-1:] == ("_search",) else request.segments
    path = "/".join(segments)
    bound = scope(request.narrowing.principal, path, asked.used)
    here: Cursor | None = None
    if asked.cursor is not None:
        here = service.cursors.open(asked.cursor, bound)
        asked = parsed(service, kinds, pairs, handling, here.now)
    query = _placed(asked.query, owner, here)
    rewritten = rewritten_all(query, request.narrowing)
    page = await service.store.search(rewritten, request.narrowing)
    around = _around(page, here, now)
    previous, following = (None if one is None else service.cursors.seal(one, bound) for one in around)
    explained = await _explained(service, request, rewritten) if asked.explain else ()
    body = searchset(
        service.base,
        [
            Entry(str(stored.key), stored.body if reduction is None else reduction.body(stored.body), mode)
            for stored, mode, _, _ in page.rows
        ],
        links(f"{service.base}/{path}" if path else service.base, asked.used, asked.cursor, previous, following),
        total=_total(page, query),
        issues=(*asked.ignored, *page.warnings, *explained),
    )
    return FhirResponse(200, body, shown=tuple(row.stored.key for row in page.rows))


def rewritten_all(query: Query, narrowing: Narrowing) -> Query:
    """The query and its `others`, each narrowed and rewritten for its type."""
    one = rewrite(query, narrowing)
    return replace(one, others=tuple(rewrite(other, narrowing) for other in query.others)) if query.others else one


def chosen_types(service: Service, kinds: tuple[str, ...], pairs: Pairs) -> tuple[str, ...]:
    """Of the types that could be searched those that `_type` names; all without it."""
    named = [value for name, value in pairs if name == TYPES and value]
    if not named:
        return kinds
    wanted = tuple(named[0].split(","))
    for kind in wanted:
        if kind not in service.types:
            raise FhirError(400, "invalid", f"Parameter '{TYPES}': '{kind}' is not a resource type.")
        if kind in service.projected:
            raise FhirError(400, "not-supported", f"Parameter '{TYPES}': {kind} is searched by itself alone.")
        if kind not in kinds:
            raise FhirError(400, "invalid", f"Parameter '{TYPES}': {kind} is not in this compartment.")
    if len(set(wanted)) < len(wanted):
        raise FhirError(400, "invalid", f"Parameter '{TYPES}': '{named[0]}' names a type twice.")
    return wanted


def _around(page: Page, here: Cursor | None, now: int) -> Neighbours:
    """The pages before and behind; the includes of a single match that break off go on in a page of their own."""
    time = now if here is None else here.now
    positions = [row.position for row in page.rows if row.position is not None]
    if here is not None and here.included is not None:
        following = Cursor(here.position, False, time, page.continued) if page.continued or page.more else None
        return Neighbours(Cursor(here.position, True, time), following)
    around = neighbours(here, positions, more=page.more, now=now)
    if page.continued is None:
        return around
    return around._replace(next=Cursor(positions[-1], False, time, page.continued))


async def _explained(service: Service, request: FhirRequest, query: Query) -> tuple[Issue, ...]:
    """How the search is run: for those who may see everything."""
    if not request.narrowing.operates:
        raise FhirError(403, "forbidden", "Parameter '_explain' is for staff.")
    told = await service.store.explain(query, request.narrowing)
    return tuple(Issue("information", "informational", text) for text in told)


def pairs_sent(request: FhirRequest, most: int) -> Pairs:
    """The parameters of the URL and, for POST, of the form."""
    if request.method != "POST":
        return request.query
    if not isinstance(request.payload, bytes) or (request.payload and not is_form(request.headers.get("content-type"))):
        raise FhirError(415, "not-supported", "a search by POST is sent as application/x-www-form-urlencoded")
    form, _, _ = split_general(query_pairs(request.payload, most, "form"))
    return (*request.query, *form)


def _reduction(service: Service, kinds: str | tuple[str, ...], asked: ParsedSearch) -> Reduction | None:
    types = (kinds,) if isinstance(kinds, str) else kinds
    return reduction(service.definitions, types, asked.summary, asked.elements)


def _placed(query: Query, owner: ResourceKey | None, here: Cursor | None) -> Query:
    """The query inside the compartment of `owner`, from the cursor on."""
    if owner is not None:
        query = replace(query, where=And((InCompartment(owner), query.where)))
    if here is not None:
        query = replace(query, after=here.position, backward=here.backward, continued=here.included)
    if query.others:
        query = replace(query, others=tuple(_placed(other, owner, here) for other in query.others))
    return query


def _total(page: Page, query: Query) -> int | None:
    """The total where it was asked for, or is known for nothing: the first page holds all."""
    if page.total is None and query.after is None and not page.more and query.count and not query.continued:
        return sum(row.mode == "match" for row in page.rows)
    return page.total
