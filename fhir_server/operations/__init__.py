"""FHIR's operations, one module each; `OPERATIONS` is the table of those there are.

Specification: https://hl7.org/fhir/R4/operations.html
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.service import Service
from fhir_server.operations.everything import everything
from fhir_server.operations.reindex import reindex
from resources.errors import FhirError

OPERATIONS: Final[Mapping[tuple[str, str], Callable[[Service, FhirRequest], Awaitable[FhirResponse]]]] = {
    ("Encounter", "$everything"): everything,
    ("Patient", "$everything"): everything,
    ("SearchParameter", "$reindex"): reindex,
}
"""(resource type, name) -> the operation on one resource of that type."""


async def instance_operation(service: Service, request: FhirRequest) -> FhirResponse:
    """`[base]/Type/id/$name`; 404 naming an operation that there is not."""
    kind, _, name = request.segments
    found = OPERATIONS.get((kind, name))
    if found is None:
        raise FhirError(404, "not-supported", f"the operation {name} is not supported yet")
    return await found(service, request)
