"""What the OpenAPI documents say of access control: how tokens are had, where they are asked for, how they are refused.

Rules. Without access control nothing is said. Scopes are those worth knowing; any of SMART's grammar may be asked for. The CapabilityStatement needs none.

Specification: https://spec.openapis.org/oas/v3.1.0#security-scheme-object, https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

REQUIRED: Final[Sequence[Mapping[str, Sequence[str]]]] = ({"oauth2": ()}, {"bearer": ()})
"""A token that was had by either way."""
REFUSALS: Final = (401, 403, 429)
OPEN: Final = frozenset({"/metadata"})
"""Paths that need no token."""
_PEOPLE: Final[Mapping[str, str]] = {
    "launch": "the context of the EHR that launches the app",
    "launch/patient": "a patient, chosen at the sign-in",
    "openid": "an id_token",
    "fhirUser": "who signs in, as a resource",
    "offline_access": "a refresh token that outlives the session",
}


def schemes(endpoints: str, kind: str | None) -> Mapping[str, Any]:
    """The security schemes. `endpoints`: where those of OAuth are (`https://ehr.example.org/auth`); `kind`: whose document it is, None: the system's."""
    about = kind or "*"
    what = f"every {kind}" if kind else "everything"
    people = {
        f"patient/{about}.rs": f"read and search {what} of the patient in context",
        f"user/{about}.cruds": f"do with {what} what the person may",
        **_PEOPLE,
    }
    return {
        "oauth2": {
            "type": "oauth2",
            "description": "SMART App Launch 2.2; PKCE with S256, and `aud` = the FHIR base.",
            "flows": {
                "authorizationCode": {
                    "authorizationUrl": f"{endpoints}/authorize",
                    "tokenUrl": f"{endpoints}/token",
                    "refreshUrl": f"{endpoints}/token",
                    "scopes": people,
                },
                "clientCredentials": {
                    "tokenUrl": f"{endpoints}/token",
                    "scopes": {f"system/{about}.cruds": f"do with {what} what the service may"},
                },
            },
        },
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token."},
    }
