"""One place renders faults: FhirError as its OperationOutcome, anything else as a 500 that tells nothing.

Rules: no stack trace, statement text or data of other patients reaches the client; the log gets the exception's type and the
places it passed, never its message (a message may quote a record).

Specification: https://hl7.org/fhir/R4/http.html#Status-Codes, https://hl7.org/fhir/R4/operationoutcome.html
"""

import traceback

import structlog

from fhir_server.http.response import FhirResponse, encoded
from resources.errors import FhirError, Issue, outcome

_log = structlog.get_logger("fhir_server.http")


def error_response(error: FhirError) -> FhirResponse:
    """The answer to a FhirError."""
    return FhirResponse(error.status, encoded(outcome(error.issues)), tuple(error.headers.items()))


def unexpected_response(error: Exception, request_id: str) -> FhirResponse:
    """The answer to a fault of this server, logged under the request's id."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _log.error("unexpected", request_id=request_id, type=type(error).__name__, frames=frames[-12:])
    issue = Issue(
        "fatal", "exception", f"The server failed; the operator finds the cause in the log under {request_id}."
    )
    return FhirResponse(500, encoded(outcome((issue,))))


def not_supported(what: str, status: int = 501) -> FhirError:
    """What this server does not do yet is refused by name."""
    return FhirError(status, "not-supported", f"{what} is not supported yet")
