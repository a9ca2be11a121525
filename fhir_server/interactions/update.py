"""update: a new version of a resource, or its first under the client's id (update-as-create).

Rules: the body's id is the URL's. If-Match guards the current version, `If-None-Match: *` that there is none (412). Identical content makes no new version. A body
marked SUBSETTED is refused: it would erase what it left out.

Specification: https://hl7.org/fhir/R4/http.html#update, #upsert
"""

from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.conditions import current_version, exists_already, must_be_absent, precondition_failed
from fhir_server.interactions.prepare import checked, put, require_same_id, require_whole
from fhir_server.interactions.service import Service
from fhir_server.interactions.written import answer
from fhir_server.storage.port import Conflict, UnitOfWork
from resources.errors import FhirError
from resources.model import ResourceKey
from search.narrowing import Narrowing


async def update(service: Service, request: FhirRequest) -> FhirResponse:
    """`PUT [base]/Type/id`: 200, or 201 when nothing was current."""
    refuse_parameters(request, "update")
    key = ResourceKey(*request.segments)
    resource = resource_of(service, request, key.type)
    require_same_id(resource, key)
    require_whole(resource)
    checked(service.preparer, resource)
    expected = await current_version(service, key, request.headers.get("if-match"), request.narrowing)
    if_none_match = request.headers.get("if-none-match")
    if if_none_match is not None:
        if expected is not None:
            raise FhirError(400, "invalid", "If-Match and If-None-Match exclude each other")
        expected = await must_be_absent(service, key, if_none_match, request.narrowing)
    if not expected:
        await require_known(service, key, request.narrowing)
    try:
        (done,) = await service.store.commit(
            UnitOfWork((put(service.preparer, resource, key, "PUT", expected=expected),))
        )
    except Conflict:
        raise (exists_already if expected == 0 else precondition_failed)(key) from None
    return answer(service, request, done, 201 if done.created else 200)


async def require_known(service: Service, key: ResourceKey, narrowing: Narrowing) -> None:
    """405 when the resource never was and clients may not choose ids."""
    if not service.options.update_as_create and await service.store.read(key, narrowing) is None:
        raise FhirError(
            405,
            "not-supported",
            f"{key} is not known and clients may not choose ids here",
            headers={"Allow": "GET, HEAD"},
        )
