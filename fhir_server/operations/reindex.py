"""$reindex: makes the index of a custom SearchParameter for what was stored before it; it is usable when that is verified.

Rules. POST enqueues the work (202; once, however often it is asked for) and GET tells how far it is. The work begins two seconds later, when every
process makes rows for what it writes. Both answer Parameters: `state` (`ready`, `waiting`, `indexing`, `unused`) and `reason`.

Specification: https://hl7.org/fhir/R4/operations.html
"""

import json

from fhir_server.http.response import FhirResponse
from fhir_server.interactions.service import Service
from fhir_server.jobs.reindex import job_key, new_job
from fhir_server.operations.answers import parameters
from fhir_server.operations.model import Call
from fhir_server.storage.port import Custom, FollowUp, UnitOfWork
from fhir_server.storage.sqlite.custom import RESOURCE
from resources.errors import FhirError

SETTLING = 2_000_000
"""Microseconds until every process knows the parameter."""


async def reindex(service: Service, call: Call) -> FhirResponse:
    """`POST` or `GET [base]/SearchParameter/id/$reindex`."""
    name = call.key.id
    stored = await service.store.read(call.key, call.request.narrowing)
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
    if call.request.method != "POST":
        return _told(row, under_way=under_way)
    if row.state == "unused":
        raise FhirError(422, "business-rule", f"{RESOURCE}/{name} defines nothing here: {row.reason}")
    if not under_way:
        data = new_job(None, row.definition.code, service.now() + SETTLING)
        await service.store.commit(UnitOfWork((), follow_ups=(FollowUp("job", key, data),)))
    headers = (("Content-Location", f"{service.base}/{RESOURCE}/{name}/$reindex"),)
    return _told(row, under_way=True, status=202, headers=headers)


def _told(
    row: Custom, *, under_way: bool, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> FhirResponse:
    state = "indexing" if under_way and row.state != "ready" else row.state
    reason = [("reason", "string", row.reason)] if row.reason else []
    return parameters([("state", "code", state), *reason], status, headers)
