"""Answers of the endpoints that machines call: JSON that nobody stores, and faults with the code of the protocol.

Rules. A fault is raised once, as Authlib's `OAuth2Error`, and rendered here alone: 400, or 401 with the challenge of the way in which the
caller identified itself. A description has only the characters that RFC 6749 allows, whatever it quotes.

Specification: https://www.rfc-editor.org/rfc/rfc6749#section-5.2, https://www.rfc-editor.org/rfc/rfc6750#section-3
"""

from collections.abc import Mapping
from typing import Any

from authlib.oauth2 import OAuth2Error
from starlette.responses import JSONResponse, Response

from resources.errors import FhirError
from smart_auth.oauth.requested import described

NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGES: Mapping[str, str] = {"invalid_client": "Basic", "invalid_token": "Bearer", "insufficient_scope": "Bearer"}


def fault(error: str, description: str, status: int = 400) -> OAuth2Error:
    """An error of the protocol, to be raised."""
    return OAuth2Error(error=error, description=described(description), status_code=status)


def answered(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] = NO_STORE) -> Response:
    """A JSON answer."""
    return JSONResponse(dict(body), status, headers=dict(headers))


def refused(error: OAuth2Error) -> Response:
    """The answer to a fault."""
    description = described(str(error.get_error_description() or ""))
    headers = dict(NO_STORE)
    challenge = _CHALLENGES.get(error.error) if error.status_code in (401, 403) else None
    if challenge is not None:
        headers["WWW-Authenticate"] = (
            f'{challenge} realm="fhir", error="{error.error}", error_description="{description}"'
        )
    body = {"error": error.error} | ({"error_description": description} if description else {})
    return answered(body, error.status_code, headers)


def unavailable(error: FhirError) -> Response:
    """The answer when the store cannot be used at the moment."""
    headers = {**NO_STORE, **error.headers}
    return answered({"error": "temporarily_unavailable"}, error.status, headers)
