"""Signing out as an app asks for it (OpenID Connect RP-initiated logout).

Rules. The session ends when the request brings an id_token that this server gave to a client for the person who is signed in; without one
the person is sent to the page on which sessions are ended by a button, for a link alone must not sign anybody out. With the session end the
grants of `online_access` that were made in it. The browser goes on to `post_logout_redirect_uri` only when it is a redirect URI of that client.

Specification: https://openid.net/specs/openid-connect-rpinitiated-1_0.html
"""

from collections.abc import Mapping
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from smart_auth import sessions
from smart_auth.model import Client, hashed
from smart_auth.oauth.answers import NO_STORE
from smart_auth.oauth.hints import claims_of
from smart_auth.oauth.parameters import Parameters
from smart_auth.parts import AuthParts
from smart_auth.redirects import matches


def end_session(parts: AuthParts, parameters: Parameters, cookies: Mapping[str, str]) -> Response:
    """Sign out and go on."""
    values = parameters.values if not parameters.repeated else {}
    claims = claims_of(parts, values.get("id_token_hint", ""))
    client = parts.store.client(str(claims.get("aud", "")))
    if client is None or values.get("client_id", client.id) != client.id:
        return _to(f"{parts.public}/auth/sessions")
    signed_in = sessions.current(parts, cookies)
    if signed_in is None:
        return _to(_next(parts, client, values))
    cookie, session, user = signed_in
    if user.name != claims.get("sub"):
        return _to(f"{parts.public}/auth/sessions")
    sessions.end(parts, [(hashed(cookie), session)])
    answer = _to(_next(parts, client, values))
    sessions.drop_cookie(answer, parts.public, "session")
    return answer


def _next(parts: AuthParts, client: Client, values: Mapping[str, str]) -> str:
    uri = values.get("post_logout_redirect_uri", "")
    if not matches(client, uri):
        return f"{parts.public}/auth/login"
    if "state" not in values:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}state={quote(values['state'].encode('latin-1'), safe='')}"


def _to(url: str) -> Response:
    return RedirectResponse(url, 303, headers=dict(NO_STORE))
