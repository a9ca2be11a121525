"""$reindex: makes the index of a custom SearchParameter for what was stored before it; it is usable when that is verified.

Rules. POST enqueues the work (202; once, however often it is asked for) and GET tells how far it is. The work begins two seconds later, when every
process makes rows for what it writes. Both answer Parameters: `state` (`ready`, `waiting`, `indexing`, `unused`) and `reason`.

Specification: https://hl7.org/fhir/R4/operations.html
"""

import json
from typing import Any

from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse, encoded
from fhir_server.interactions.service import Service
from fhir_server.jobs.reindex import job_key, new_job
from fhir_server.storage.port import Custom, FollowUp, UnitOfWork
from fhir_server.storage.sqlite.custom import RESOURCE
from resources.errors import FhirError
from resources.model import ResourceKey

SETTLING = 2_000_000
"""Microseconds until every process knows the parameter."""


async def reindex(service: Service, request: FhirRequest) -> FhirResponse:
    """`POST` or `GET [base]/SearchParameter/id/$reindex`."""
    refuse_parameters(request, "$reindex")
    name = request.segments[1]
    stored = await service.store.read(ResourceKey(RESOURCE, name), request.narrowing)
    if stored is None:
        raise FhirError(404, "not-found", f"{RESOURCE}/{name} is not known")
    if stored.deleted:
        raise FhirError(410, "deleted", f"{RESOURCE}/{name} is deleted")
    row = service.store.custom_parameter(name)
    if row is None:
        raise FhirError(
            422, "business-rule", f"{RESOURCE}/{name} is not active: it defines nothing that could be indexed"
        )
    key = job_key(None, row.definition.code)
    job = service.store.follow_up_sync("job", key)
    under_way = job is not None and json.loads(job)["due"] is not None
    if request.method != "POST":
        return FhirResponse(200, _told(row, under_way=under_way))
    if row.state == "unused":
        raise FhirError(422, "business-rule", f"{RESOURCE}/{name} defines nothing here: {row.reason}")
    if not under_way:
        data = new_job(None, row.definition.code, service.now() + SETTLING)
        await service.store.commit(UnitOfWork((), follow_ups=(FollowUp("job", key, data),)))
    headers = (("Content-Location", f"{service.base}/{RESOURCE}/{name}/$reindex"),)
    return FhirResponse(202, _told(row, under_way=True), headers)


def _told(row: Custom, *, under_way: bool) -> bytes:
    state = "indexing" if under_way and row.state != "ready" else row.state
    parameter: list[dict[str, Any]] = [{"name": "state", "valueCode": state}]
    if row.reason:
        parameter.append({"name": "reason", "valueString": row.reason})
    return encoded({"resourceType": "Parameters", "parameter": parameter})
