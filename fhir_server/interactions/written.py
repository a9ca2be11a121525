"""The answer to a write: status, Location, validators, and the body that Prefer asks for.

Specification: https://hl7.org/fhir/R4/http.html#create, #return
"""

from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse, encoded, validators
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Stored, Written
from resources.errors import Issue, outcome


def location(base: str, written: Written | Stored) -> str:
    """`[base]/Type/id/_history/version`."""
    return f"{base}/{written.key.type}/{written.key.id}/_history/{written.version}"


def answer(service: Service, request: FhirRequest, written: Written | Stored, status: int) -> FhirResponse:
    """The answer with `status` to a write whose current version is `written`."""
    headers = (("Location", location(service.base, written)), *validators(written))
    match request.prefer.answer:
        case "minimal":
            body = b""
        case "OperationOutcome":
            said = f"{written.key} is at version {written.version}"
            body = encoded(outcome((Issue("information", "informational", said),)))
        case _:
            body = written.body
    return FhirResponse(status, body, headers, about=written)
