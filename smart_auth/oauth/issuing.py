"""What a client is given: the access token, and beside it the launch context, the id_token and the refresh token.

Rules. `scope` is the granted string byte for byte; `expires_in` a number; patient, encounter and the rest are members of the answer, not
of the token's secret. A refresh token comes with `offline_access`, good for `refresh_days` from its last use, or `online_access`, good
until the session in which it was granted would end. A service gets neither refresh token nor launch context.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#obtain-access-token,
https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#launch-context-arrives-with-your-access_token
"""

from dataclasses import replace
from typing import Any

from smart_auth.model import Client, Grant, LaunchContext, Principal, RefreshToken, User
from smart_auth.options import SmartOptions
from smart_auth.parts import AuthParts
from smart_auth.scopes import Scopes, parse

DAY = 86400


def principal_of(grant: Grant, client: Client, user: User | None, scope: str) -> Principal:
    """Who an access token of this grant speaks for; `user` None: the client itself."""
    roles = user.roles if user is not None else (client.role,) if client.role else ()
    return Principal(
        id=grant.id,
        client=client.id,
        scope=scope,
        user=grant.user,
        roles=roles,
        fhir_user=user.fhir_user if user is not None else "",
        organization=user.organization if user is not None else client.organization,
        patient=grant.context.patient,
        encounter=grant.context.encounter,
        grant=grant.id,
    )


def issued(
    parts: AuthParts, grant: Grant, client: Client, user: User | None, scope: str, refresh: str
) -> dict[str, Any]:
    """The token response. `scope` may be a part of the grant's; `refresh` is the refresh token, "" for none."""
    usual = parts.options.backend_seconds if client.kind == "backend" else parts.options.access_seconds
    seconds = client.access_seconds or usual
    answer: dict[str, Any] = {
        "access_token": parts.tokens.access(principal_of(grant, client, user, scope), seconds),
        "token_type": "Bearer",
        "expires_in": seconds,
        "scope": scope,
    }
    if refresh:
        answer["refresh_token"] = refresh
    if user is None:
        return answer
    scopes = parse(scope)
    if scopes.has("openid"):
        answer["id_token"] = parts.tokens.identity(grant, client, user, fhir_user_url(parts, user, scopes))
    return answer | launch_members(parts, grant.context)


def launch_members(parts: AuthParts, context: LaunchContext) -> dict[str, Any]:
    """The launch context as members of the token response; without any, nothing but the style."""
    members: dict[str, Any] = {"smart_style_url": f"{parts.public}/auth/smart-style.json"}
    if context.patient:
        members |= {"patient": context.patient, "need_patient_banner": context.banner is not False}
    elif context.banner is not None:
        members["need_patient_banner"] = context.banner
    if context.encounter:
        members["encounter"] = context.encounter
    if context.intent:
        members["intent"] = context.intent
    if context.fhir_context:
        members["fhirContext"] = [dict(one) for one in context.fhir_context]
    return members


def fhir_user_url(parts: AuthParts, user: User, scopes: Scopes) -> str:
    """The absolute URL of the person's resource when it was granted to tell it, else ""."""
    return f"{parts.base}/{user.fhir_user}" if user.fhir_user and scopes.has("fhirUser") else ""


def refresh_row(options: SmartOptions, grant: Grant, now: int) -> RefreshToken | None:
    """The refresh token that this grant entitles to now, None for none."""
    scopes = parse(grant.scope)
    if scopes.has("offline_access"):
        return RefreshToken(grant.id, grant.client, now + options.refresh_days * DAY)
    end = (grant.auth_time or grant.created) + options.session_seconds
    if scopes.has("online_access") and end > now:
        return RefreshToken(grant.id, grant.client, end)
    return None


def without_nonce(grant: Grant) -> Grant:
    """The grant as an id_token of a refresh tells it (OpenID Connect Core, 12.2)."""
    return replace(grant, nonce="")
