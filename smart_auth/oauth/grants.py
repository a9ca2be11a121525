"""The grant types of the token endpoint: Authlib's, told where things are kept and what is given.

Rules.
1. A code is used up by the first request that brings it. Brought in a wrong way, or again, its grant is revoked with all that came of it.
2. A refresh token is replaced at each use. The one before the newest, brought again within `RETRY` seconds, is answered with the newest
   (an answer was lost); brought later, or once the newest was used, the grant is revoked: it has two holders.
3. What is refreshed is a literal part of what was granted; the refresh token keeps all of it.
4. Services get what they are registered for, by client assertion alone.

Authlib's classes are extended where they ask for it; `Any` is what its untyped values are.

Specification: https://www.rfc-editor.org/rfc/rfc6749#section-4, https://www.rfc-editor.org/rfc/rfc9700#section-4.14,
https://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, ClientCredentialsGrant, RefreshTokenGrant
from authlib.oauth2.rfc7636 import CodeChallenge

from smart_auth.model import Client, ClientKind, Code, Grant, RefreshToken, User, handle
from smart_auth.oauth.answers import fault
from smart_auth.oauth.issuing import issued, refresh_row, without_nonce
from smart_auth.oauth.requested import Denied, check_scope
from smart_auth.parts import AuthParts

RETRY: Final = 60
_APPS: Final = frozenset({"authorization_code", "refresh_token"})
GRANT_TYPES: Final[Mapping[ClientKind, frozenset[str]]] = {
    "public": _APPS,
    "symmetric": _APPS,
    "asymmetric": _APPS,
    "backend": frozenset({"client_credentials"}),
}
_METHODS = ("client_secret_basic", "private_key_jwt", "none")


@dataclass(frozen=True, slots=True)
class Registered:
    """A client as Authlib looks at it."""

    client: Client

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether the kind of client may use the grant type."""
        return grant_type in GRANT_TYPES[self.client.kind]


@dataclass(frozen=True, slots=True)
class Presented:
    """A code or refresh token that was presented, with its grant and person, as Authlib looks at it."""

    grant: Grant
    user: User
    row: Code | RefreshToken
    token: str = ""

    def get_redirect_uri(self) -> str:
        """Where the code was sent."""
        assert isinstance(self.row, Code)
        return self.row.redirect_uri

    @property
    def code_challenge(self) -> str:
        """The challenge of PKCE, "" for none."""
        assert isinstance(self.row, Code)
        return self.row.challenge

    def get_scope(self) -> str:
        """What was granted."""
        return self.grant.scope

    def check_client(self, registered: Registered) -> bool:
        """Whether it was given to this client."""
        return self.row.client == registered.client.id


class Challenge(CodeChallenge):  # type: ignore[misc]
    """PKCE with S256 for every client: a code without a challenge was given only to a client that may leave it out."""

    def get_authorization_code_challenge_method(self, _code: Presented) -> str:
        """S256, whatever was asked."""
        return "S256"


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """`authorization_code`."""

    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def query_authorization_code(self, code: str, registered: Registered) -> Presented:
        """Use the code up. Raises OAuth2Error when it is not good, or not this client's."""
        parts: AuthParts = self.server.parts
        row = parts.store.use_code(code)
        grant = parts.store.grant(row.grant) if row is not None else None
        if row is None or grant is None:
            raise fault("invalid_grant", "the code is not valid")
        self.request.spent = grant
        if row.used:
            raise fault("invalid_grant", "the code was used before; what was given for it is revoked")
        if row.client != registered.client.id or row.expires <= parts.now():
            raise fault("invalid_grant", "the code is not valid")
        self.request.about(grant)
        return Presented(grant, person(parts, grant), row)

    def authenticate_user(self, presented: Presented) -> User:
        """The person who granted it."""
        return presented.user

    def generate_token(self, user: User, scope: str, **_: Any) -> dict[str, Any]:
        """The token response."""
        parts: AuthParts = self.server.parts
        grant = self.request.authorization_code.grant
        row = refresh_row(parts.options, grant, parts.now())
        refresh = handle() if row is not None else ""
        if row is not None:
            parts.store.add_refresh(refresh, row)
        return issued(parts, grant, self.request.client.client, user, scope, refresh)

    def delete_authorization_code(self, presented: Presented) -> None:
        """Nothing: it was used up when it was looked for."""


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """`refresh_token`."""

    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def authenticate_refresh_token(self, token: str) -> Presented:
        """The refresh token. Raises OAuth2Error when it is not good."""
        parts: AuthParts = self.server.parts
        row = parts.store.refresh(token)
        grant = parts.store.grant(row.grant) if row is not None else None
        if row is None or grant is None or row.expires <= parts.now():
            raise fault("invalid_grant", "the refresh token is not valid")
        self.request.about(grant)
        return Presented(grant, person(parts, grant), row, token)

    def authenticate_user(self, presented: Presented) -> User:
        """The person who granted it."""
        return presented.user

    def issue_token(self, user: User, presented: Presented) -> dict[str, Any]:
        """The token response with the successor of the refresh token."""
        parts: AuthParts = self.server.parts
        scope = " ".join((self.request.payload.scope or "").split()) or presented.grant.scope
        refresh = _successor(parts, presented)
        return issued(parts, without_nonce(presented.grant), self.request.client.client, user, scope, refresh)

    def revoke_old_credential(self, presented: Presented) -> None:
        """Nothing: it was replaced when the successor was made."""


class ServiceGrant(ClientCredentialsGrant):  # type: ignore[misc]
    """`client_credentials`."""

    TOKEN_ENDPOINT_AUTH_METHODS = _METHODS

    def validate_requested_scope(self) -> None:
        """Raise OAuth2Error `invalid_scope` for what the service is not registered for."""
        try:
            check_scope(self.request.client.client, self.request.payload.scope or "", "system")
        except Denied as denied:
            raise fault(denied.error, denied.description) from None

    def generate_token(self, scope: str, **_: Any) -> dict[str, Any]:
        """The token response."""
        parts: AuthParts = self.server.parts
        client: Client = self.request.client.client
        grant = Grant(handle(), client.id, " ".join(scope.split()), parts.now())
        parts.store.add_grant(grant)
        self.request.about(grant)
        return issued(parts, grant, client, None, grant.scope, "")


def person(parts: AuthParts, grant: Grant) -> User:
    """The person of a grant that holds. Raises OAuth2Error `invalid_grant`."""
    user = parts.store.user(grant.user) if not grant.revoked else None
    if user is None or user.disabled:
        raise fault("invalid_grant", "the grant was revoked")
    return user


def end(parts: AuthParts, grant: Grant) -> None:
    """Revoke a grant that is not revoked yet."""
    if not grant.revoked:
        parts.store.revoke([grant.id])


def _successor(parts: AuthParts, presented: Presented) -> str:
    """The refresh token that follows the presented one. Raises OAuth2Error and revokes the grant when it has two holders."""
    now = parts.now()
    row = refresh_row(parts.options, presented.grant, now)
    if row is None:
        raise fault("invalid_grant", "the refresh token is not valid")
    successor = handle()
    if parts.store.rotate(presented.token, successor, row, now):
        return successor
    former = parts.store.refresh(presented.token)
    if former is not None and former.successor and now - former.rotated <= RETRY:
        newest = parts.store.refresh(former.successor)
        if newest is not None and not newest.rotated:
            return former.successor
    end(parts, presented.grant)
    raise fault("invalid_grant", "the refresh token was used before; what was given for it is revoked")
