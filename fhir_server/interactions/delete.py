"""delete: 204, also when repeated or never known; If-Match; the history is kept; by id or by criteria.

Rules: by criteria, no match is 204 too. Several matches are 412, unless the setting rest.conditional_delete is `multiple`: then they are deleted together, at most
rest.conditional_delete_limit (412 beyond it). The criteria are checked again inside the commit.

Specification: https://hl7.org/fhir/R4/http.html#delete, #3.1.0.7.1
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fhir_server.http.request import FhirRequest, Pairs, refuse_parameters
from fhir_server.http.response import FhirResponse, etag
from fhir_server.interactions.commit import commit
from fhir_server.interactions.conditions import current_version, precondition_failed, retried
from fhir_server.interactions.criteria import find
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Conflict, Delete, Guard, UnitOfWork, Written
from resources.errors import FhirError
from resources.model import ResourceKey
from search.narrowing import Narrowing


async def delete(service: Service, request: FhirRequest) -> FhirResponse:
    """`DELETE [base]/Type/id`: 412 when If-Match names another version than the current one."""
    refuse_parameters(request, "delete")
    kind, name = request.segments
    key = ResourceKey(kind, name)
    expected = await current_version(service, key, request.headers.get("if-match"), request.narrowing)
    try:
        (written,) = await commit(service, UnitOfWork((Delete(key, expected),)), request.narrowing)
    except Conflict:
        raise precondition_failed(key) from None
    return deleted(written)


async def conditional_delete(service: Service, request: FhirRequest) -> FhirResponse:
    """`DELETE [base]/Type?criteria`."""
    (kind,) = request.segments

    async def attempt() -> FhirResponse:
        meant = await meaning(service, kind, request.query, request.headers, request.narrowing)
        unit = UnitOfWork(meant.deletes, (meant.guard,))
        return deleted(*(await commit(service, unit, request.narrowing) if meant.deletes else ()))

    return await retried(attempt)


def deleted(*written: Written) -> FhirResponse:
    """The answer to a deletion; of one resource it tells the version."""
    if len(written) != 1 or not written[0].version:
        return FhirResponse(204)
    return FhirResponse(204, headers=(("ETag", etag(written[0].version)),), about=written[0])


@dataclass(frozen=True, slots=True)
class Meant:
    """What a conditional delete deletes, and the guard of its criteria."""

    deletes: tuple[Delete, ...]
    guard: Guard


async def meaning(
    service: Service, kind: str, criteria: Pairs, headers: Mapping[str, str], narrowing: Narrowing
) -> Meant:
    """Look up what a conditional delete is about; FhirError 400 or 412 when it cannot be done."""
    options = service.options
    most = options.conditional_delete_limit if options.conditional_delete == "multiple" else 1
    found = await find(service, kind, criteria, narrowing, "the conditional delete", most)
    if_match = headers.get("if-match")
    if if_match is None:
        return Meant(tuple(Delete(match.key) for match in found.matches), found.guard)
    if len(found.matches) != 1:
        raise FhirError(412, "conflict", f"If-Match is about one resource, and the criteria match {len(found.matches)}")
    key = found.matches[0].key
    return Meant((Delete(key, await current_version(service, key, if_match, narrowing)),), found.guard)
