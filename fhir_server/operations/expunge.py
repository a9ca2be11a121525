"""$expunge: removes deleted resources and superseded versions for good. For operators: off unless the setting rest.expunge is on.

Rules. What is current is never removed, so a resource is deleted first and expunged then; what the call is to remove has to be said. `expungeEverything`
is refused by name. The answer counts versions; when it equals the limit, more may be left. A reference to what is gone stays, and says nothing any more; a
resource that is written again begins at version 1.

Definition: definitions/Resource-expunge.json (parameters as HAPI FHIR has them); the store's side: storage/sqlite/expunge.py
"""

from typing import Final

from fhir_server.http.response import FhirResponse
from fhir_server.interactions.service import Service
from fhir_server.operations.answers import parameters
from fhir_server.operations.model import Call
from fhir_server.storage.port import Expunge
from resources.errors import FhirError
from search.narrowing import EVERYTHING

LIMIT: Final = 1000
"""Versions that one call removes unless it says another number."""


async def expunge(service: Service, call: Call) -> FhirResponse:
    """`POST [base]/$expunge`, `[base]/Type/$expunge`, `[base]/Type/id/$expunge`."""
    if not call.request.narrowing.operates:
        raise FhirError(403, "forbidden", "$expunge is for operators")
    given = call.arguments.one
    if given("expungeEverything"):
        raise FhirError(400, "not-supported", "expungeEverything is not supported: what is current is never expunged")
    what = Expunge(
        call.type,
        call.id,
        given("limit") or LIMIT,
        deleted=given("expungeDeletedResources") is True,
        previous=given("expungePreviousVersions") is True,
    )
    if not (what.deleted or what.previous):
        said = "nothing is said to be removed: give expungeDeletedResources or expungePreviousVersions as true"
        raise FhirError(400, "required", said)
    if call.level == "instance":
        await _require_expungeable(service, call, what)
    return parameters([("count", "integer", await service.store.expunge(what))])


async def _require_expungeable(service: Service, call: Call, what: Expunge) -> None:
    """404 for what is not known, 409 for a live resource that is to go as deleted."""
    stored = await service.store.read(call.key, EVERYTHING)
    if stored is None:
        raise FhirError(404, "not-found", f"{call.key} is not known")
    if what.deleted and not stored.deleted:
        raise FhirError(409, "conflict", f"{call.key} is not deleted: delete it before it is expunged")
