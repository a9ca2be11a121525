"""create: a new resource under an id the server gives; If-None-Exist makes it conditional.

Rules: an id in the body is ignored. With If-None-Exist one match answers 200 with that resource, several answer 412; the
criterion is checked again inside the commit, so parallel conditional creates make one resource.

Specification: https://hl7.org/fhir/R4/http.html#create, #ccreate
"""

from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.apart import checked_apart, put_apart
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.commit import commit
from fhir_server.interactions.conditions import retried
from fhir_server.interactions.criteria import criteria_pairs, find
from fhir_server.interactions.links import require_literal
from fhir_server.interactions.service import Service
from fhir_server.interactions.written import answer
from fhir_server.storage.port import UnitOfWork
from resources.model import ResourceKey


async def create(service: Service, request: FhirRequest) -> FhirResponse:
    """`POST [base]/Type`."""
    refuse_parameters(request, "create")
    (kind,) = request.segments
    resource = resource_of(service, request, kind)
    await checked_apart(service.preparer, resource)
    require_literal(service, request, resource)
    criteria = request.headers.get("if-none-exist")
    if criteria is None:
        written = await put_apart(
            service.preparer, resource, ResourceKey(kind, service.new_id()), "POST", expected=0, fresh=True
        )
        (done,) = await commit(service, UnitOfWork((written,)), request.narrowing)
        return answer(service, request, done, 201)
    pairs = criteria_pairs(service, kind, criteria, "If-None-Exist")

    async def attempt() -> FhirResponse:
        found = await find(service, kind, pairs, request.narrowing, "If-None-Exist")
        if found.match is not None:
            return answer(service, request, found.match, 200)
        new = await put_apart(
            service.preparer, resource, ResourceKey(kind, service.new_id()), "POST", expected=0, fresh=True
        )
        (done,) = await commit(service, UnitOfWork((new,), (found.guard,)), request.narrowing)
        return answer(service, request, done, 201)

    return await retried(attempt)
