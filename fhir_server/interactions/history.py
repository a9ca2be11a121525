"""history of a resource, a type or the whole server: every version and deletion, newest first.

Rules: each entry has request and response; a deletion has no resource. A page goes on where the one before ended (by commit
order, so nothing written meanwhile is skipped or repeated). No parameter may be given twice.

Specification: https://hl7.org/fhir/R4/http.html#history
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from fhir_server.http.errors import not_supported
from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse, etag
from fhir_server.interactions.service import Service
from fhir_server.storage.port import HistoryQuery, Stored
from resources.errors import FhirError
from resources.model import instant
from search.bundle import Cursor, scope
from search.results import CURSOR
from search.values import time_range

_LATER = frozenset({"_at", "_list"})
_KNOWN = frozenset({"_count", "_since", CURSOR})
_STATUS = {"POST": "201 Created", "PUT": "200 OK", "PATCH": "200 OK", "DELETE": "204 No Content"}


async def history(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Type/id/_history`, `GET [base]/Type/_history`, `GET [base]/_history`."""
    given = _parameters(request)
    path = request.segments[:-1]
    kind = path[0] if path else None
    name = path[1] if len(path) > 1 else None
    count = _count(given.get("_count"), service)
    since = _since(given["_since"]) if "_since" in given else None
    bound = scope(request.narrowing.principal, "/".join(request.segments), sorted(given.items()))
    before = _opened(service, given[CURSOR], bound) if CURSOR in given else None
    asked = HistoryQuery(kind, name, max(count, 1), since=since, before=before, total=name is not None or count == 0)
    page = await service.store.history(asked, request.narrowing)
    if name is not None and not page.versions and before is None and since is None:
        raise FhirError(404, "not-found", f"{kind}/{name} is not known")
    versions = page.versions if count else ()
    links = [("self", _url(service, request, given))]
    if versions and page.more:
        following = Cursor((versions[-1].updated,), backward=False, now=0)
        after = {**given, CURSOR: service.cursors.seal(following, bound)}
        links.append(("next", _url(service, request, after)))
    return FhirResponse(200, history_bundle(service.base, versions, page.total, links))


def history_bundle(base: str, versions: Sequence[Stored], total: int | None, links: Sequence[tuple[str, str]]) -> bytes:
    """The history Bundle; the stored bodies are spliced in as they are."""
    head: dict[str, object] = {"resourceType": "Bundle", "type": "history"}
    if total is not None:
        head["total"] = total
    head["link"] = [{"relation": relation, "url": url} for relation, url in links]
    entries = b",".join([_entry(base, version) for version in versions])
    listed = b',"entry":[%b]' % entries if entries else b""
    return b"%b%b}" % (msgspec.json.encode(head)[:-1], listed)


def _entry(base: str, stored: Stored) -> bytes:
    url = stored.key.type if stored.method == "POST" else str(stored.key)
    # a first version by PUT was created under the client's id
    status = "201 Created" if stored.method == "PUT" and stored.version == 1 else _STATUS[stored.method]
    entry = {
        "fullUrl": f"{base}/{stored.key}",
        "request": {"method": stored.method, "url": url},
        "response": {"status": status, "etag": etag(stored.version), "lastModified": instant(stored.updated)},
    }
    told = msgspec.json.encode(entry)
    return told if stored.deleted else b'%b,"resource":%b}' % (told[:-1], stored.body)


def _parameters(request: FhirRequest) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in request.query:
        if name in _LATER:
            raise not_supported(f"{name} on history", 400)
        if name not in _KNOWN:
            if request.prefer.lenient:
                continue
            raise FhirError(400, "not-supported", f"the parameter {name} is not supported on history")
        if name in given:
            raise FhirError(400, "invalid", f"{name} is given twice")
        if value:
            given[name] = value
    return given


def _count(text: str | None, service: Service) -> int:
    if text is None:
        return service.options.history_count
    if not re.fullmatch("[0-9]{1,9}", text):
        raise FhirError(400, "invalid", f"_count={text} is no number of entries")
    return min(int(text), service.options.history_limit)


def _since(text: str) -> int:
    """The earliest moment of a date or instant, in microseconds."""
    found = time_range(text)
    if found is None:
        raise FhirError(400, "invalid", f"_since={text} is no date or instant (a + must be sent as %2B)")
    return found[0]


def _opened(service: Service, text: str, bound: bytes) -> int:
    (updated,) = service.cursors.open(text, bound).position
    assert isinstance(updated, int)
    return updated


def _url(service: Service, request: FhirRequest, given: Mapping[str, str]) -> str:
    path = "/".join((service.base, *request.segments))
    return f"{path}?{urlencode(given)}" if given else path
