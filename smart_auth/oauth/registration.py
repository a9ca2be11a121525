"""Dynamic client registration, for who was invited: an initial access token registers one app.

Rules.
1. Who registers has an invitation (`smart_auth.invitations`), which bounds the scope; a service only comes of one that names its scope. Nothing of
   the metadata raises what an app may: trust, introspection, roles, organizations and the like are given by the operator alone. Unknown members are ignored (RFC 7591, 2).
2. A key set has public keys alone; a JWKS URL is https and not this machine; redirect URIs as `smart_auth.redirects` says.
3. A name is shown to people: printable, without the characters that change how text runs, and not that of another app, also not one that looks
   the same: written in compatibility forms, with marks, or with letters of Greek and Cyrillic that look Latin.

Specification: https://www.rfc-editor.org/rfc/rfc7591, https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html
"""

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authlib.oauth2 import OAuth2Error
from starlette.responses import Response

from smart_auth.invitations import invited, use
from smart_auth.keys import KeyFault, client_keys
from smart_auth.model import Client, ClientKind, handle, hashed
from smart_auth.oauth.answers import answered, fault
from smart_auth.oauth.fetching import FetchFault, check_url
from smart_auth.oauth.grants import GRANT_TYPES
from smart_auth.oauth.requested import Denied, check_scope
from smart_auth.parts import AuthParts
from smart_auth.ports import AuthStore
from smart_auth.redirects import check

_KINDS: Final[Mapping[str, ClientKind]] = {
    "none": "public", "client_secret_basic": "symmetric", "private_key_jwt": "asymmetric",
}  # fmt: skip
_NAME = 100
_ALIKE = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458\u0501\u051b\u051d\u04bb\u04cf"
    "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u0131\u0251\u0261i1|0",
    "abekmhopctyxsljdqwhl" + "abezhlkmnoptyxlagl" + "llo",
)
"""Letters of Cyrillic, Greek and others, in lower case, to the Latin one that they look like, in this case or in capitals."""
_MOST_URIS = 20


@dataclass(frozen=True, slots=True)
class Registration:
    """Call it with the initial access token and the body. Raises OAuth2Error."""

    parts: AuthParts

    def __call__(self, token: str, body: bytes) -> Response:
        """Register the app and answer what was registered."""
        store, now = self.parts.store, self.parts.now()
        invitation = invited(store, token, now)
        if invitation is None:
            raise fault("invalid_token", "the initial access token is not valid", 401)
        metadata = _metadata(body)
        secret = handle()
        client = _client(metadata, invitation.scope, secret, now)
        _check_name(store, client.name)
        if not use(store, invitation):
            raise fault("invalid_token", "the initial access token was used before", 401)
        store.put_client(client)
        return answered(_told(client, secret), 201)


def _metadata(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(found, dict):
        raise _bad("the body is not a JSON object")
    return found


def _client(metadata: Mapping[str, Any], bound: str, secret: str, now: int) -> Client:
    kind = _kind(metadata)
    uris = _texts(metadata, "redirect_uris")
    if (kind == "backend") == bool(uris) or len(uris) > _MOST_URIS:
        raise fault("invalid_redirect_uri", f"an app has 1 to {_MOST_URIS} redirect_uris, a service none")
    try:
        for uri in uris:
            check(uri, kind)
    except ValueError as error:
        raise fault("invalid_redirect_uri", str(error)) from None
    jwks, jwks_url = _keys(metadata, kind)
    return Client(
        id=handle(),
        name=_text(metadata, "client_name"),
        kind=kind,
        secret=hashed(secret) if kind == "symmetric" else "",
        redirect_uris=uris,
        launch_uri=_launch_uri(metadata, kind),
        scope=_scope(metadata, kind, bound),
        jwks=jwks,
        jwks_url=jwks_url,
        created=now,
    )


def _kind(metadata: Mapping[str, Any]) -> ClientKind:
    method = metadata.get("token_endpoint_auth_method", "client_secret_basic")
    if not isinstance(method, str) or method not in _KINDS:
        raise _bad(f"token_endpoint_auth_method is one of {', '.join(_KINDS)}")
    asked = frozenset(_texts(metadata, "grant_types")) or {"authorization_code"}
    kind: ClientKind = "backend" if method == "private_key_jwt" and asked == GRANT_TYPES["backend"] else _KINDS[method]
    if not asked <= GRANT_TYPES[kind]:
        raise _bad("grant_types are authorization_code and refresh_token, or client_credentials with private_key_jwt")
    if not set(_texts(metadata, "response_types")) <= {"code"}:
        raise _bad("response_types has code alone")
    return kind


def _keys(metadata: Mapping[str, Any], kind: ClientKind) -> tuple[Mapping[str, Any], str]:
    jwks, url = metadata.get("jwks"), metadata.get("jwks_uri")
    if kind not in ("asymmetric", "backend"):
        if jwks is not None or url is not None:
            raise _bad("only a client of private_key_jwt has keys")
        return {}, ""
    if (jwks is None) == (url is None):
        raise _bad("a client of private_key_jwt has either jwks or jwks_uri")
    try:
        if url is None:
            return client_keys(jwks), ""
        if not isinstance(url, str):
            raise _bad("jwks_uri is a text")
        check_url(url, loopback=False)
    except (KeyFault, FetchFault) as error:
        raise _bad(str(error)) from None
    return {}, url


def _launch_uri(metadata: Mapping[str, Any], kind: ClientKind) -> str:
    uri = _text(metadata, "initiate_login_uri", needed=False)
    try:
        if uri:
            check(uri, kind)
    except ValueError as error:
        raise _bad(str(error)) from None
    return uri


def _scope(metadata: Mapping[str, Any], kind: ClientKind, bound: str) -> str:
    scope = _text(metadata, "scope", needed=False) or bound
    if kind == "backend" and not bound:
        raise _bad("a service is registered with an invitation that names its scope")
    try:
        if scope:
            check_scope(Client("", "", kind, scope=bound), scope, "system" if kind == "backend" else "user")
    except Denied as denied:
        raise _bad(denied.description) from None
    return scope


def _check_name(store: AuthStore, name: str) -> None:
    if len(name) > _NAME or not name.isprintable() or name != name.strip():
        raise _bad(f"client_name is printable and has 1 to {_NAME} characters")
    if any(_seen(name) in (_seen(other.name), _seen(other.id)) for other in store.clients()):
        raise _bad("client_name is that of another app")


def _seen(name: str) -> str:
    """A name as people tell names apart."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(one for one in folded if not unicodedata.combining(one)).translate(_ALIKE).split())


def _text(metadata: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    value = metadata.get(name, "")
    if not isinstance(value, str) or (needed and not value):
        raise _bad(f"{name} is a text")
    return value


def _texts(metadata: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = metadata.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _bad(f"{name} is a list of texts")
    return tuple(dict.fromkeys(value))


def _told(client: Client, secret: str) -> dict[str, Any]:
    method = next((name for name, kind in _KINDS.items() if kind == client.kind), "private_key_jwt")
    told: dict[str, Any] = {
        "client_id": client.id,
        "client_id_issued_at": client.created,
        "client_name": client.name,
        "token_endpoint_auth_method": method,
        "grant_types": sorted(GRANT_TYPES[client.kind]),
    }
    if client.kind == "symmetric":
        told |= {"client_secret": secret, "client_secret_expires_at": 0}
    if client.kind != "backend":
        told |= {"redirect_uris": list(client.redirect_uris), "response_types": ["code"]}
    optional = {
        "scope": client.scope, "jwks": dict(client.jwks), "jwks_uri": client.jwks_url, "initiate_login_uri": client.launch_uri,
    }  # fmt: skip
    return told | {name: value for name, value in optional.items() if value}


def _bad(why: str) -> OAuth2Error:
    return fault("invalid_client_metadata", why)
