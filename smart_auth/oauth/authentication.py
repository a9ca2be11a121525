"""Who calls the token endpoint and its siblings: client authentication in exactly one way.

Rules.
1. Each kind of client has one way: symmetric by HTTP Basic, asymmetric and backend by a client assertion, public by its client_id alone.
   Two ways in one request, a secret in the form, or a client_id that contradicts are refused.
2. Of the user and password of Basic the decoded form is taken (RFC 6749, 2.3.1) or, for the many clients that do not encode, the literal one.
3. An unknown client, a disabled one and a wrong secret look alike and take the same work.
4. A public client may refresh without client_id: the refresh token says whose it is.

Specification: https://www.rfc-editor.org/rfc/rfc6749#section-2.3, https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-symmetric.html
"""

import hmac
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote_plus

from smart_auth.model import Client, hashed
from smart_auth.oauth import assertions
from smart_auth.oauth.answers import fault
from smart_auth.oauth.client_keys import ClientKeys
from smart_auth.ports import AuthStore

Method = Literal["client_secret_basic", "private_key_jwt", "none"]


@dataclass(frozen=True, slots=True)
class MachineRequest:
    """A request of a machine. `authorization`: the headers of that name; `form`: its parameters, none repeated.

    `audit` is what the audit is told of it, written as it becomes known: `client`, `user`, `note`, `keys`.
    """

    authorization: Sequence[str]
    form: Mapping[str, str]
    audit: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Authentication:
    """What client authentication needs. `token_url` is what assertions are addressed to; `now` gives seconds since 1970."""

    store: AuthStore
    keys: ClientKeys
    token_url: str
    now: Callable[[], int]

    def __call__(self, request: MachineRequest) -> tuple[Client, Method]:
        """The client and how it has shown who it is. Raises OAuth2Error."""
        client, method = self._authenticated(request)
        request.audit["client"] = client.id
        return client, method

    def _authenticated(self, request: MachineRequest) -> tuple[Client, Method]:
        form = request.form
        basic = bool(request.authorization)
        assertion = "client_assertion" in form or "client_assertion_type" in form
        if len(request.authorization) > 1 or (basic and assertion):
            raise fault("invalid_request", "there is more than one client authentication")
        if "client_secret" in form:
            raise fault("invalid_client", "a client secret is sent by HTTP Basic")
        if not basic and not assertion:
            return self._by_id(form), "none"
        client = self._by_secret(request.authorization[0]) if basic else self._by_assertion(form)
        if form.get("client_id", client.id) != client.id:
            raise fault("invalid_client", "client_id is not that of the authenticated client", 401 if basic else 400)
        return client, "client_secret_basic" if basic else "private_key_jwt"

    def _by_secret(self, authorization: str) -> Client:
        for name, secret in _credentials(authorization):
            client = self.store.client(name)
            known = client is not None and client.kind == "symmetric" and not client.disabled and bool(client.secret)
            expected = client.secret if client is not None and known else hashed("")
            if hmac.compare_digest(hashed(secret), expected) and client is not None and known:
                return client
        raise fault("invalid_client", "client authentication failed", 401)

    def _by_assertion(self, form: Mapping[str, str]) -> Client:
        if form.get("client_assertion_type") != assertions.TYPE:
            raise fault("invalid_client", f"client_assertion_type is to be {assertions.TYPE}")
        if "client_assertion" not in form:
            raise fault("invalid_client", "client_assertion is missing")
        return assertions.client_of(self.store, self.keys, self.token_url, self.now, form["client_assertion"])

    def _by_id(self, form: Mapping[str, str]) -> Client:
        name = form.get("client_id")
        if name is None and form.get("grant_type") == "refresh_token" and "refresh_token" in form:
            row = self.store.refresh(form["refresh_token"])
            if row is None:
                raise fault("invalid_grant", "the refresh token is not valid")
            name = row.client
        client = self.store.client(name) if name is not None else None
        if client is None or client.disabled or client.kind != "public":
            raise fault("invalid_client", "client authentication failed")
        return client


def _credentials(authorization: str) -> list[tuple[str, str]]:
    """The (client, secret) that the header may mean."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        text = b64decode(encoded.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        text = ""
    name, colon, secret = text.partition(":")
    if not colon or not text.isprintable():
        raise fault("invalid_client", "the Authorization header is not HTTP Basic with client_id and secret", 401)
    return list(dict.fromkeys(((unquote_plus(name), unquote_plus(secret)), (name, secret))))
