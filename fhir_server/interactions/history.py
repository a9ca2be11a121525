"""history of a resource, a type or the whole server: every version and deletion, newest first.

Rules: each entry has request and response; a deletion has no resource. A page goes on where the one before ended (by commit
order, so nothing written meanwhile is skipped or repeated). No parameter may be given twice. `_since` keeps what was written from then on, `_at` what
was current at some time of it, `_list` what a List refers to. What lenient handling ignores is told in an entry of its own, behind the others.

Specification: https://hl7.org/fhir/R4/http.html#history
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse, etag
from fhir_server.interactions.service import Service
from fhir_server.storage.port import HistoryPage, HistoryQuery, Stored
from resources.errors import FhirError, Issue, outcome
from resources.model import ResourceKey, instant, is_id
from search.bundle import Cursor, scope
from search.narrowing import Narrowing
from search.results import CURSOR
from search.values import time_range

_AT: Final = "_at"
_KNOWN: Final = frozenset({"_count", "_since", _AT, "_list", CURSOR})
_STATUS: Final = {"POST": "201 Created", "PUT": "200 OK", "PATCH": "200 OK", "DELETE": "204 No Content"}


class _Asked(NamedTuple):
    """The parameters that are used, and what was ignored."""

    given: Mapping[str, str]
    ignored: tuple[Issue, ...]


async def history(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Type/id/_history`, `GET [base]/Type/_history`, `GET [base]/_history`."""
    given, ignored = _parameters(request)
    path = request.segments[:-1]
    kind = path[0] if path else None
    name = path[1] if len(path) > 1 else None
    count = _count(given.get("_count"), service)
    bound = scope(request.narrowing.principal, "/".join(request.segments), sorted(given.items()))
    asked = HistoryQuery(
        kind,
        name,
        max(count, 1),
        since=_range("_since", given["_since"])[0] if "_since" in given else None,
        at=_range(_AT, given[_AT]) if _AT in given else None,
        lists=_lists(given["_list"]) if "_list" in given else (),
        before=_opened(service, given[CURSOR], bound) if CURSOR in given else None,
        total=name is not None or count == 0,
    )
    page = await service.store.history(asked, request.narrowing)
    if kind is not None and name is not None and not page.versions:
        await _require_known(service, ResourceKey(kind, name), request.narrowing)
    url = _url(service, request, given)
    links = [("self", url)]
    if count and page.more:
        following = Cursor((page.versions[-1].updated,), backward=False, now=0)
        after = {**given, CURSOR: service.cursors.seal(following, bound)}
        links.append(("next", _url(service, request, after)))
    shown = page if count else HistoryPage((), page.total, more=False, created=())
    body = history_bundle(service.base, shown, links, ignored)
    return FhirResponse(200, body, shown=tuple(dict.fromkeys(one.key for one in shown.versions)))


async def _require_known(service: Service, key: ResourceKey, narrowing: Narrowing) -> None:
    if await service.store.read(key, narrowing) is None:
        raise FhirError(404, "not-found", f"{key} is not known")


def history_bundle(base: str, page: HistoryPage, links: Sequence[tuple[str, str]], issues: Sequence[Issue]) -> bytes:
    """The history Bundle; the stored bodies are spliced in as they are. `issues` become the last entry, whose request is the first link."""
    head: dict[str, object] = {"resourceType": "Bundle", "type": "history"}
    if page.total is not None:
        head["total"] = page.total
    head["link"] = [{"relation": relation, "url": url} for relation, url in links]
    entries = [_entry(base, *one) for one in zip(page.versions, page.created, strict=True)]
    if issues:
        request = {"method": "GET", "url": links[0][1]}
        told = {"resource": outcome(issues), "request": request, "response": {"status": "200 OK"}}
        entries.append(msgspec.json.encode(told))
    listed = b',"entry":[%b]' % b",".join(entries) if entries else b""
    return b"%b%b}" % (msgspec.json.encode(head)[:-1], listed)


def _entry(base: str, stored: Stored, created: bool) -> bytes:
    url = stored.key.type if stored.method == "POST" else str(stored.key)
    # a PUT where nothing was current created the resource under the client's id, or put a deleted one back
    status = "201 Created" if created and stored.method == "PUT" else _STATUS[stored.method]
    entry = {
        "fullUrl": f"{base}/{stored.key}",
        "request": {"method": stored.method, "url": url},
        "response": {"status": status, "etag": etag(stored.version), "lastModified": instant(stored.updated)},
    }
    told = msgspec.json.encode(entry)
    return told if stored.deleted else b'%b,"resource":%b}' % (told[:-1], stored.body)


def _parameters(request: FhirRequest) -> _Asked:
    given: dict[str, str] = {}
    ignored: list[Issue] = []
    seen: set[str] = set()
    for name, value in request.query:
        if name not in _KNOWN:
            said = f"the parameter {name} is not supported on history"
            if not request.prefer.lenient:
                raise FhirError(400, "not-supported", said)
            ignored.append(Issue("warning", "not-supported", f"{said}; it was ignored"))
            continue
        if name in seen:
            raise FhirError(400, "invalid", f"{name} is given twice")
        seen.add(name)
        if value:
            given[name] = value
    return _Asked(given, tuple(ignored))


def _count(text: str | None, service: Service) -> int:
    if text is None:
        return service.options.history_count
    if not re.fullmatch("[0-9]{1,9}", text):
        raise FhirError(400, "invalid", f"_count={text} is no number of entries")
    return min(int(text), service.options.history_limit)


def _range(name: str, text: str) -> tuple[int, int]:
    """The first and the last moment of a date or instant, in microseconds."""
    found = time_range(text)
    if found is None:
        raise FhirError(400, "invalid", f"{name}={text} is no date or instant (a + must be sent as %2B)")
    return found


def _lists(text: str) -> tuple[str, ...]:
    """The ids of the Lists, several by comma."""
    names = tuple(dict.fromkeys(one.removeprefix("List/") for one in text.split(",")))
    for name in names:
        if name.startswith("$"):
            raise FhirError(400, "not-supported", f"_list={name}: functional lists are not supported")
        if not is_id(name):
            raise FhirError(400, "invalid", f"_list={name} is not the id of a List")
    return names


def _opened(service: Service, text: str, bound: bytes) -> int:
    (updated,) = service.cursors.open(text, bound).position
    assert isinstance(updated, int)
    return updated


def _url(service: Service, request: FhirRequest, given: Mapping[str, str]) -> str:
    path = "/".join((service.base, *request.segments))
    return f"{path}?{urlencode(given)}" if given else path
