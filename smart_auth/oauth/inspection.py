"""Tokens looked at and given back: introspection, revocation, and who the person is (userinfo).

Rules.
1. An app sees and revokes its own tokens. A client registered to introspect, or the operator, sees all; by client authentication or by an
   access token of its own. A public client has nothing to prove itself with, so it may revoke but not introspect.
2. What is not good is `{"active": false}` and nothing else, whatever the reason.
3. Revoking any token ends its grant: the whole family of refresh tokens and every access token.

Specification: https://www.rfc-editor.org/rfc/rfc7662, https://www.rfc-editor.org/rfc/rfc7009,
https://hl7.org/fhir/smart-app-launch/STU2.2/token-introspection.html, https://openid.net/specs/openid-connect-core-1_0.html#UserInfo
"""

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from smart_auth.model import Grant, Principal, User
from smart_auth.oauth.answers import answered, fault
from smart_auth.oauth.authentication import Authentication, MachineRequest
from smart_auth.oauth.grants import end
from smart_auth.oauth.issuing import fhir_user_url
from smart_auth.parts import AuthParts
from smart_auth.scopes import parse
from smart_auth.tokens import TokenFault


@dataclass(frozen=True, slots=True)
class Inspection:
    """The three endpoints; each takes a request that was read and raises OAuth2Error."""

    parts: AuthParts
    authentication: Authentication

    def introspect(self, request: MachineRequest) -> Response:
        """RFC 7662: whether the token is good, and for what."""
        of_any, client = self._caller(request)
        found = self._found(_token(request))
        if found is None or not (of_any or found["client_id"] == client):
            return answered({"active": False})
        return answered({"active": True} | found)

    def revoke(self, request: MachineRequest) -> Response:
        """RFC 7009: end the grant of the token. A token that is not good is no error."""
        client, _ = self.authentication(request)
        token = _token(request)
        row = self.parts.store.refresh(token)
        if row is not None:
            named = row.grant
        else:
            try:
                named = self.parts.tokens.verify(token).grant
            except TokenFault:
                return answered({})
        grant = self.parts.store.grant(named)
        if grant is None or grant.client != client.id:
            raise fault("invalid_grant", "the token was not given to this client")
        request.audit["user"] = grant.user
        end(self.parts, grant)
        return answered({})

    def userinfo(self, request: MachineRequest) -> Response:
        """OpenID Connect: who the person of the access token is."""
        principal = bearer(self.parts, request)
        scopes = parse(principal.scope)
        user = self.parts.store.user(principal.user) if principal.user else None
        if user is None or not scopes.has("openid"):
            raise fault("insufficient_scope", "the access token was not granted openid", 403)
        return answered({"sub": user.name} | _fhir_user(self.parts, principal.scope, user))

    def _caller(self, request: MachineRequest) -> tuple[bool, str]:
        """Whether the caller may see the tokens of all clients, and which client it is."""
        scheme = request.authorization[0].partition(" ")[0].lower() if len(request.authorization) == 1 else ""
        if scheme != "bearer":
            client, method = self.authentication(request)
            if method == "none":
                raise fault("invalid_client", "introspection needs client authentication", 401)
            return client.introspect, client.id
        principal = bearer(self.parts, request)
        known = self.parts.store.client(principal.client)
        return principal.operator or (known is not None and known.introspect), principal.client

    def _found(self, token: str) -> dict[str, Any] | None:
        """What is told of a good token."""
        store = self.parts.store
        row = store.refresh(token)
        if row is not None:
            grant = store.grant(row.grant)
            user = store.user(grant.user) if grant is not None and not grant.revoked else None
            if row.rotated or row.expires <= self.parts.now() or grant is None or user is None or user.disabled:
                return None
            return _of_grant(grant, row.expires) | {"iss": self.parts.base}
        try:
            principal = self.parts.tokens.verify(token)
        except TokenFault:
            return None
        return self._of_access(principal)

    def _of_access(self, principal: Principal) -> dict[str, Any]:
        user = self.parts.store.user(principal.user) if principal.user else None
        told = {
            "client_id": principal.client,
            "scope": principal.scope,
            "exp": principal.expires,
            "iss": self.parts.base,
            "aud": self.parts.base,
            "sub": principal.user or principal.client or principal.id,
            "token_type": "Bearer",
        }
        context = {"patient": principal.patient, "encounter": principal.encounter}
        return told | {k: v for k, v in context.items() if v} | _fhir_user(self.parts, principal.scope, user)


def bearer(parts: AuthParts, request: MachineRequest) -> Principal:
    """Who the access token of the request speaks for. Raises OAuth2Error `invalid_token`."""
    scheme, _, token = request.authorization[0].partition(" ") if len(request.authorization) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise fault("invalid_token", "one access token is needed, as Authorization: Bearer", 401)
    try:
        return parts.tokens.verify(token.strip())
    except TokenFault as error:
        raise fault("invalid_token", f"the access token is {error.reason}", 401) from None


def _token(request: MachineRequest) -> str:
    if "token" not in request.form:
        raise fault("invalid_request", "token is missing")
    return request.form["token"]


def _of_grant(grant: Grant, expires: int) -> dict[str, Any]:
    return {"client_id": grant.client, "scope": grant.scope, "exp": expires, "sub": grant.user}


def _fhir_user(parts: AuthParts, scope: str, user: User | None) -> dict[str, str]:
    url = fhir_user_url(parts, user, parse(scope)) if user is not None else ""
    return {"fhirUser": url} if url else {}
