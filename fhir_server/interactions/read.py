"""read and vread, with GET and HEAD, conditional by If-None-Match and If-Modified-Since.

Specification: https://hl7.org/fhir/R4/http.html#read, #vread, #cread
"""

import re

from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse, etag, parse_http_date, validators
from fhir_server.interactions.reduction import PARAMETERS, asked_reduction
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Stored
from resources.errors import FhirError
from resources.model import ResourceKey
from resources.reduction import Reduction
from search.values import time_range


async def read(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Type/id`: the current version; 404 when there never was one, 410 when it is deleted."""
    kind, name = request.segments
    reduced = _asked(service, request, kind, "read") if request.query else None
    key = ResourceKey(kind, name)
    stored = await service.store.read(key, request.narrowing) or service.published.get(key)
    if stored is None:
        raise FhirError(404, "not-found", f"{kind}/{name} is not known")
    if stored.deleted:
        raise FhirError(410, "deleted", f"{kind}/{name} was deleted", headers=dict(validators(stored)))
    return _answer(stored, request, reduced)


async def vread(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/Type/id/_history/version`: that version; 404 when there is none, 410 when it is a deletion."""
    kind, name, _, version = request.segments
    reduced = _asked(service, request, kind, "vread") if request.query else None
    stored = None
    if re.fullmatch("[0-9]{1,15}", version):
        stored = await service.store.read_version(ResourceKey(kind, name), int(version), request.narrowing)
    if stored is None:
        raise FhirError(404, "not-found", f"{kind}/{name} has no such version")
    if stored.deleted:
        raise FhirError(410, "deleted", f"version {version} is the deletion of {kind}/{name}")
    return _answer(stored, request, reduced)


def not_modified(stored: Stored, request: FhirRequest) -> bool:
    """Whether the client's copy is current: If-None-Match decides, If-Modified-Since only without it (RFC 9110 13.2.2).

    An entry of a Bundle says ifModifiedSince as a FHIR instant.
    """
    held = request.headers.get("if-none-match")
    if held is not None:
        return held.strip() == "*" or etag(stored.version) in {_weak(tag) for tag in held.split(",")}
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    seconds = parse_http_date(since)
    if seconds is not None:
        return stored.updated // 1_000_000 <= seconds
    moment = time_range(since)
    return moment is not None and stored.updated <= moment[1]


def _weak(tag: str) -> str:
    """Comparison is weak: `"3"` equals `W/"3"`."""
    tag = tag.strip()
    return tag if tag.startswith("W/") else f"W/{tag}"


def _asked(service: Service, request: FhirRequest, kind: str, interaction: str) -> Reduction | None:
    refuse_parameters(request, interaction, PARAMETERS)
    return asked_reduction(service, request, kind)


def _answer(stored: Stored, request: FhirRequest, reduced: Reduction | None) -> FhirResponse:
    if not_modified(stored, request):
        return FhirResponse(304, headers=validators(stored), about=stored)
    body = stored.body if reduced is None else reduced.body(stored.body)
    return FhirResponse(200, body, validators(stored), about=stored)
