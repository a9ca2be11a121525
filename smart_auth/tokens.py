"""Access tokens and id_tokens: signed here, and access tokens checked here, in every process by itself.

Rules.
1. An access token is a JWT of `typ` at+jwt, signed ES256 by a key of the store, for our FHIR base alone. Nothing else is one: no id_token, no
   assertion, no token with another header member.
2. It is good while its grant is not revoked and neither its user nor its client is disabled; roles, organization and fhirUser are those that
   the store has now, not those of the day it was made. The store's epoch is looked at when the second changes, so all of that holds within
   one second in every process.
3. A token that was checked is remembered until the epoch changes. Threads may share a `Tokens`: what one looks up goes into the memory that was
   there before it looked, so nothing that was forgotten comes back.

Specification: https://www.rfc-editor.org/rfc/rfc9068, https://openid.net/specs/openid-connect-core-1_0.html#IDToken
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar

import msgspec

from smart_auth import keys
from smart_auth.model import Client, Grant, Key, Principal, User
from smart_auth.options import SmartOptions
from smart_auth.ports import AuthStore

_T = TypeVar("_T")
Reason = Literal["invalid", "expired", "revoked"]

_TYP: Final = "at+jwt"
_KNOWN: Final = 10_000
"""So many tokens are remembered; then all are forgotten."""
_LONGEST: Final = 65_536
"""Characters of the longest text that is looked at."""
_TEXTS: Final = ("principal", "client_id", "scope", "user", "patient", "encounter", "grant")


class TokenFault(Exception):  # noqa: N818  (what is wrong with what somebody sent)
    """The token is not good: no token of ours, past its time, or no longer allowed."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Tokens:
    """Signs and checks. `issuer` is the FHIR base, `audience` too; `now` gives whole seconds since 1970."""

    def __init__(
        self, store: AuthStore, issuer: str, audience: str, options: SmartOptions, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._audiences = (audience.rstrip("/"), f"{audience.rstrip('/')}/")
        self._options = options
        self.now = now
        self._looked = -1
        self._epoch = -1
        self._known: dict[str, Principal] = {}
        self._keys: dict[str, Any] = {}
        self._users: dict[str, User | None] = {}
        self._clients: dict[str, Client | None] = {}
        self._signers: dict[str, tuple[Key, Any]] = {}
        self._registry: Any = None

    def access(self, principal: Principal, seconds: int) -> str:
        """An access token for the principal, good for so many seconds (at most `keys.LONGEST`)."""
        now = self.now()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": principal.user or principal.client or principal.id,
            "aud": self._audiences[0],
            "exp": now + min(seconds, keys.LONGEST),
            "iat": now,
            "jti": secrets.token_urlsafe(16),
            "client_id": principal.client,
            "scope": principal.scope,
            "principal": principal.id,
            "grant": principal.grant,
        }
        claims |= {
            name: value for name in ("user", "patient", "encounter", "operator") if (value := getattr(principal, name))
        }
        return self._signed("access", claims, _TYP)

    def identity(self, grant: Grant, client: Client, user: User, fhir_user_url: str) -> str:
        """The id_token that tells the client who signed in; `fhir_user_url` absolute, "" leaves the claim out."""
        now = self.now()
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": user.name,
            "aud": client.id,
            "exp": now + self._options.access_seconds,
            "iat": now,
        }
        optional = {"auth_time": grant.auth_time, "nonce": grant.nonce, "fhirUser": fhir_user_url}
        return self._signed("id", claims | {name: value for name, value in optional.items() if value}, "JWT")

    def verify(self, token: str) -> Principal:
        """Whom the access token speaks for. Raises TokenFault."""
        now = self.now()
        if now != self._looked:
            self._look(now)
        known = self._known  # what another thread forgets meanwhile is not remembered again
        principal = known.get(token)
        if principal is None:
            principal = self._checked(token)
            if len(known) >= _KNOWN:
                known.clear()
            known[token] = principal
        if principal.expires <= now:
            raise TokenFault("expired")
        return principal

    def jwks(self) -> dict[str, Any]:
        """The public keys of all that is signed here."""
        return keys.published(self._store.keys(), self.now())

    def _look(self, now: int) -> None:
        """Forget what may have changed since the last look. The time is noted last: a fault leaves the next request to look."""
        epoch = self._store.epoch()
        if epoch != self._epoch:
            self._known, self._keys, self._signers = {}, {}, {}
            self._users, self._clients = {}, {}
            self._epoch = epoch
        self._looked = now

    def _signed(self, use: keys.KeyUse, claims: dict[str, Any], typ: str) -> str:
        from joserfc import jwt  # noqa: PLC0415  (composing the server needs no cryptography)

        now = self.now()
        if now != self._looked:
            self._look(now)
        signers = self._signers
        key, material = signers.get(use) or self._signer(use, signers)
        algorithm = keys.ALGORITHMS[use]
        header = {"alg": algorithm, "typ": typ, "kid": key.kid}
        return jwt.encode(header, claims, material, algorithms=[algorithm])

    def _signer(self, use: keys.KeyUse, signers: dict[str, tuple[Key, Any]]) -> tuple[Key, Any]:
        from joserfc.jwk import import_key  # noqa: PLC0415

        key = keys.signing(self._store.keys(), use)
        if key is None:
            raise keys.KeyFault(f"there is no key to sign {use} tokens with; `keys rotate` makes one")
        signers[use] = key, import_key(dict(key.jwk))
        return signers[use]

    def _checked(self, token: str) -> Principal:
        """The principal of a token that is not remembered."""
        from joserfc import jws  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415

        if len(token) > _LONGEST or not token.isascii():
            raise TokenFault("invalid")
        if self._registry is None:
            self._registry = jws.JWSRegistry(algorithms=[keys.ALGORITHMS["access"]])
        try:
            found = jws.deserialize_compact(token, self._key_of, registry=self._registry)
            claims = msgspec.json.decode(found.payload or b"")
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):  # whatever it is, it is no token of ours
            raise TokenFault("invalid") from None
        return self._allowed(self._own(claims))

    def _key_of(self, guest: Any) -> Any:
        """The key that the header names. KeyError when the header is none of ours."""
        from joserfc.jwk import import_key  # noqa: PLC0415

        header = guest.headers()
        if header.keys() != {"alg", "typ", "kid"} or header["typ"] != _TYP:
            raise KeyError("header")
        kid, known = header["kid"], self._keys
        if kid not in known:
            for key in keys.trusted(self._store.keys(), self.now()):
                if key.use == "access":
                    known[key.kid] = import_key(dict(key.jwk))
        return known[kid]

    def _own(self, claims: Any) -> Mapping[str, Any]:
        """The claims, when they are of our making."""
        if (
            not isinstance(claims, dict)
            or claims.get("iss") != self._issuer
            or claims.get("aud") not in self._audiences
            or type(claims.get("exp")) is not int
            or not all(isinstance(claims.get(name, ""), str) for name in _TEXTS)
        ):
            raise TokenFault("invalid")
        return claims

    def _allowed(self, claims: Mapping[str, Any]) -> Principal:
        """The principal as the store has it now. Raises TokenFault when it may do nothing any more."""
        grant = self._store.grant(claims.get("grant", ""))
        if grant is None or grant.revoked:
            raise TokenFault("revoked")
        user_name, client_id, operator = (
            claims.get("user", ""),
            claims.get("client_id", ""),
            claims.get("operator") is True,
        )
        if client_id:
            client = _kept(self._clients, client_id, self._store.client)
            if client is None or client.disabled:
                raise TokenFault("revoked")
            if not user_name and not operator:
                roles = (client.role,) if client.role else ()
                return _principal(claims, roles, organization=client.organization)
        if user_name:
            user = _kept(self._users, user_name, self._store.user)
            if user is None or user.disabled:
                raise TokenFault("revoked")
            return _principal(claims, user.roles, user.fhir_user, user.organization)
        if not operator and not client_id:
            raise TokenFault("invalid")
        return _principal(claims)


def _kept(known: dict[str, _T | None], name: str, read: Callable[[str], _T | None]) -> _T | None:
    """What the store has under the name, asked once until the epoch changes."""
    if name not in known:
        known[name] = read(name)
    return known[name]


def _principal(
    claims: Mapping[str, Any], roles: tuple[str, ...] = (), fhir_user: str = "", organization: str = ""
) -> Principal:
    """Whom the token means; `roles` and what follows are what the store says of them."""
    return Principal(
        id=claims.get("principal", ""),
        client=claims.get("client_id", ""),
        scope=claims.get("scope", ""),
        user=claims.get("user", ""),
        roles=roles,
        fhir_user=fhir_user,
        organization=organization,
        patient=claims.get("patient", ""),
        encounter=claims.get("encounter", ""),
        grant=claims.get("grant", ""),
        expires=claims["exp"],
        operator=claims.get("operator") is True,
    )
