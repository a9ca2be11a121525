"""$everything: what there is about one patient or one encounter: its compartment and what the members refer to.

Rules. GET with parameters in the URL, POST with Parameters (or both). Pages are linked by signed cursors: what is there throughout and keeps its place comes exactly
once, whoever else writes. Members of the compartment are matches, what they refer to are includes; `_type` and `_since` say what is
answered with, `start` and `end` (dates of care) which members count. Another patient's data never comes.

Specification: https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html
"""

import re
from collections.abc import Mapping
from typing import Final

from fhir_server.http.request import FhirRequest, Pairs
from fhir_server.http.response import FhirResponse, validators
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Collected
from resources.errors import FhirError
from resources.model import ResourceKey
from search.bundle import Cursor, Entry, links, scope, searchset
from search.everything import EverythingQuery, Place, care_dates
from search.results import CURSOR
from search.values import time_range

_ENCOUNTER: Final[Mapping[str, tuple[str, ...]]] = {
    "_since": ("valueInstant", "valueDateTime", "valueString"),
    "_type": ("valueCode", "valueString"),
    "_count": ("valueInteger", "valuePositiveInt", "valueUnsignedInt", "valueString"),
    CURSOR: ("valueString",),
}
"""What the operation of Encounter has: parameter -> the elements of Parameters that may hold it."""
_DATES: Final = ("valueDate", "valueDateTime", "valueString")
PARAMETERS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "Encounter": _ENCOUNTER,
    "Patient": {"start": _DATES, "end": _DATES, **_ENCOUNTER},
}
"""The operation's parameters by type."""
PAGE: Final = 100
"""Resources of a page when `_count` is absent."""


async def everything(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET` or `POST [base]/Patient/id/$everything` and `[base]/Encounter/id/$everything`."""
    kind, name, _ = request.segments
    pairs = request.query
    if request.method == "POST" and request.payload:
        pairs = (*pairs, *_posted(service, request, kind))
    asked = _asked(request, kind, pairs)
    path = "/".join(request.segments)
    bound = scope(request.narrowing.principal, path, asked)
    query, here = _query(service, ResourceKey(kind, name), asked, bound)
    page = await service.store.everything(query, request.narrowing)
    if page.owner is None:
        raise FhirError(404, "not-found", f"{kind}/{name} is not known")
    if page.owner.deleted:
        raise FhirError(410, "deleted", f"{kind}/{name} was deleted", headers=dict(validators(page.owner)))
    following = service.cursors.seal(_behind(page), bound) if page.more else None
    used = [pair for pair in asked if pair[0] != CURSOR]
    body = searchset(
        service.base,
        [Entry(str(stored.key), stored.body, mode) for stored, mode, _ in page.rows],
        links(f"{service.base}/{path}", used, here, None, following),
        total=len(page.rows) if here is None and not page.more else None,
    )
    return FhirResponse(200, body)


def _behind(page: Collected) -> Cursor:
    position = page.rows[-1].position
    assert position is not None
    return Cursor(tuple(position), backward=False, now=0)


def _posted(service: Service, request: FhirRequest, kind: str) -> Pairs:
    """The parameters of the body, as a URL would have them."""
    known = PARAMETERS[kind]
    found: list[tuple[str, str]] = []
    given = resource_of(service, request, "Parameters").get("parameter", [])
    for at, one in enumerate(given if isinstance(given, list) else [given]):
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise FhirError(400, "invalid", "a parameter has no name", expression=f"Parameters.parameter[{at}]")
        holders = known.get(name)
        if holders is None:
            found.append((name, ""))
            continue
        value = next((one[holder] for holder in holders if holder in one), None)
        if isinstance(value, bool) or not isinstance(value, str | int):
            wanted = " or ".join(holders)
            raise FhirError(
                400,
                "invalid",
                f"the parameter {name} needs a {wanted}",
                expression=f"Parameters.parameter[{at}]",
            )
        found.append((name, str(value)))
    return tuple(found)


def _asked(request: FhirRequest, kind: str, pairs: Pairs) -> Pairs:
    """The parameters that have values; 400 for an unknown one, unless handling is lenient, and for one given twice."""
    known, seen = PARAMETERS[kind], set()
    kept: list[tuple[str, str]] = []
    for name, value in pairs:
        if name not in known:
            if request.prefer.lenient:
                continue
            raise FhirError(400, "not-supported", f"the parameter {name} is not supported on {kind}/$everything")
        if name in seen and name != "_type":
            raise FhirError(400, "invalid", f"{name} is given twice")
        seen.add(name)
        if value:
            kept.append((name, value))
    return tuple(kept)


def _query(service: Service, owner: ResourceKey, asked: Pairs, bound: bytes) -> tuple[EverythingQuery, str | None]:
    """The page that is asked for, and the cursor it was asked by."""
    given = dict(asked)
    here = given.get(CURSOR)
    after = None if here is None else Place(*service.cursors.open(here, bound).position)  # type: ignore[arg-type]
    start = _edge("start", given["start"], 0) if "start" in given else None
    end = _edge("end", given["end"], 1) if "end" in given else None
    if start is not None and end is not None and end < start:
        raise FhirError(400, "invalid", f"start={given['start']} is after end={given['end']}")
    return (
        EverythingQuery(
            owner,
            _count(service, given.get("_count")),
            _types(service, asked),
            _edge("_since", given["_since"], 0) if "_since" in given else None,
            start,
            end,
            care_dates(service.registry) if start is not None or end is not None else (),
            after,
        ),
        here,
    )


def _count(service: Service, text: str | None) -> int:
    if text is None:
        return min(PAGE, service.limits.page_limit)
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise FhirError(400, "invalid", f"_count={text} is no number of resources of a page")
    return min(int(text), service.limits.page_limit)


def _types(service: Service, asked: Pairs) -> tuple[str, ...] | None:
    """The types that `_type` names, in all its values together."""
    named = [one for name, value in asked if name == "_type" for one in value.split(",")]
    for one in named:
        if one not in service.types:
            raise FhirError(400, "invalid", f"_type={one} is not a resource type")
    return tuple(sorted(set(named))) if named else None


def _edge(name: str, text: str, at: int) -> int:
    """The earliest (0) or latest (1) moment of a date, in microseconds."""
    found = time_range(text)
    if found is None:
        raise FhirError(400, "invalid", f"{name}={text} is no date or instant (a + must be sent as %2B)")
    return found[at]
