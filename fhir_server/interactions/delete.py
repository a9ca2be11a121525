"""delete: 204, also when repeated or never known; If-Match; the history is kept.

Specification: https://hl7.org/fhir/R4/http.html#delete
"""

from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse, etag
from fhir_server.interactions.conditions import current_version, precondition_failed
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Conflict, Delete, UnitOfWork
from resources.model import ResourceKey


async def delete(service: Service, request: FhirRequest) -> FhirResponse:
    """`DELETE [base]/Type/id`: 412 when If-Match names another version than the current one."""
    refuse_parameters(request, "delete")
    kind, name = request.segments
    key = ResourceKey(kind, name)
    expected = await current_version(service, key, request.headers.get("if-match"), request.narrowing)
    try:
        (written,) = await service.store.commit(UnitOfWork((Delete(key, expected),)))
    except Conflict:
        raise precondition_failed(key) from None
    return FhirResponse(204, headers=(("ETag", etag(written.version)),) if written.version else ())
