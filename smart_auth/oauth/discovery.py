"""What this authorization server says about itself, for SMART and for OpenID Connect.

Rules. Every URL is absolute and made from the public URL, never from the request; the issuer is the FHIR base. What is listed is what the
endpoints do: the grant types, methods and algorithms are theirs.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html,
https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata, https://www.rfc-editor.org/rfc/rfc8414
"""

from typing import Any

from smart_auth.oauth.assertions import ALGORITHMS
from smart_auth.oauth.grants import GRANT_TYPES
from smart_auth.pages.consent import CATEGORIES
from smart_auth.parts import AuthParts
from smart_auth.scopes import CONTEXTS, WORDS

CAPABILITIES = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
)

STYLE = {
    "color_background": "#ffffff",
    "color_error": "#b3261e",
    "color_highlight": "#0b57d0",
    "color_modal_backdrop": "",
    "color_success": "#146c2e",
    "color_text": "#1f1f1f",
    "dim_border_radius": "6px",
    "dim_font_size": "16px",
    "dim_spacing_size": "16px",
    "font_family_body": "system-ui, sans-serif",
    "font_family_heading": "system-ui, sans-serif",
}
"""The style that apps are asked to take on (`smart_style_url`)."""


def smart_configuration(parts: AuthParts) -> dict[str, Any]:
    """`[base]/.well-known/smart-configuration`."""
    return _common(parts) | {
        "management_endpoint": f"{parts.public}/auth/apps",
        "capabilities": list(CAPABILITIES),
    }


def capability_security(public: str) -> dict[str, Any]:
    """CapabilityStatement.rest.security, as SMART asked for it before smart-configuration.

    Specification: https://hl7.org/fhir/smart-app-launch/1.0.0/conformance/index.html#declaring-support-for-oauth2-endpoints
    """
    known = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
    ends = ("authorize", "token", "register", "introspect", "revoke")
    urls = {**{name: f"{public}/auth/{name}" for name in ends}, "manage": f"{public}/auth/apps"}
    service = {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}
    return {
        "extension": [{"url": known, "extension": [{"url": name, "valueUri": url} for name, url in urls.items()]}],
        "cors": True,
        "service": [{"coding": [service]}],
        "description": "SMART App Launch 2.2: see .well-known/smart-configuration.",
    }


def openid_configuration(parts: AuthParts) -> dict[str, Any]:
    """`[issuer]/.well-known/openid-configuration`."""
    return _common(parts) | {
        "userinfo_endpoint": f"{parts.public}/auth/userinfo",
        "end_session_endpoint": f"{parts.public}/auth/logout",
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "fhirUser"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "claims_parameter_supported": False,
    }


def _common(parts: AuthParts) -> dict[str, Any]:
    endpoint = f"{parts.public}/auth"
    return {
        "issuer": parts.base,
        "authorization_endpoint": f"{endpoint}/authorize",
        "token_endpoint": f"{endpoint}/token",
        "jwks_uri": f"{endpoint}/jwks",
        "registration_endpoint": f"{endpoint}/register",
        "introspection_endpoint": f"{endpoint}/introspect",
        "revocation_endpoint": f"{endpoint}/revoke",
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "grant_types_supported": sorted(frozenset().union(*GRANT_TYPES.values())),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "scopes_supported": scopes_supported(),
    }


def scopes_supported() -> list[str]:
    """Scopes that are worth knowing; any scope of the grammar may be asked for."""
    categories = [
        f"{context}/{kind}.rs?category={system}|{code}"
        for context in ("patient", "user")
        for kind, rows in CATEGORIES.items()
        for code, system in rows
    ]
    return [*sorted(WORDS), *(f"{context}/*.cruds" for context in CONTEXTS), *_v1(), *categories]


def _v1() -> list[str]:
    return [f"{context}/*.{access}" for context in CONTEXTS for access in ("read", "write")]
