"""The resource that a request carries: decoded losslessly, of the type its URL names.

Rules: JSON is decoded by the interaction that wants it; XML, which takes longer, before it, with pauses (`read_resource`).

Specification: https://hl7.org/fhir/R4/http.html#create, #update
"""

from fhir_server.http.negotiation import require_fhir_body, sent_format
from fhir_server.http.request import FhirRequest
from fhir_server.interactions.pace import pacer
from fhir_server.interactions.service import Service
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import Resource, is_id
from resources.validation import raise_for
from resources.xml_format import Reading


async def read_resource(service: Service, body: bytes, content_type: str) -> Resource:
    """The resource in a body of a FHIR format. Faults of XML are told together with those of what it says: FhirError 400."""
    require_fhir_body(content_type)
    if sent_format(content_type) == "json":
        return decode(body, limit_depth=service.options.nesting_limit)
    reading = Reading(body, service.options.nesting_limit)
    pace = pacer()
    while reading.step():
        await pace()
    if reading.faults:
        # the entries of a Bundle are judged one by one, with pauses, by what carries it out
        judged = reading.resource["resourceType"] != "Bundle"
        raise_for([*reading.faults, *(service.preparer.validator.validate(reading.resource) if judged else ())])
    return reading.resource


def any_resource_of(service: Service, request: FhirRequest, wanted: str = "a resource") -> Resource:
    """The body as a resource of any type, or something that calls itself one; 415, or 400 for what cannot be read."""
    if not isinstance(request.payload, bytes):
        return request.payload
    require_fhir_body(request.headers.get("content-type"))
    if not request.payload:
        raise FhirError(400, "required", f"the body is empty; {wanted} is required")
    return decode(request.payload, limit_depth=service.options.nesting_limit)


def resource_of(service: Service, request: FhirRequest, kind: str) -> Resource:
    """The body as a resource of type `kind`; 415, or 400 for anything that is no resource of that type."""
    resource = any_resource_of(service, request, f"a {kind} resource")
    given = resource.get("resourceType")
    if given != kind:
        shown = repr(given) if isinstance(given, str) and is_id(given) else "something else"
        raise FhirError(
            400, "invalid", f"the body's resourceType is {shown}, the URL names {kind}", expression="resourceType"
        )
    return resource
