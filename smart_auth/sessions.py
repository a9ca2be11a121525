"""Sessions of browsers: the cookie, how long it holds, how it is replaced.

Rules.
1. The cookie is a handle; the store has its hash. It is HttpOnly and SameSite=Lax; when the public URL is https it is Secure and named
   `__Host-`, so that no sibling host and no plain connection can set it.
2. A session gets a new handle when its person signs in and at each further step of it, so that a handle known before is worth nothing.
3. It ends after `idle_seconds` without a request and `session_seconds` after it began; one that still lacks a step (`pending`), after
   `STEP_SECONDS`. A user who is disabled has none.

Specification: https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from starlette.responses import Response

from smart_auth.model import Session, User, handle, hashed
from smart_auth.options import SmartOptions
from smart_auth.parts import AuthParts
from smart_auth.scopes import parse

STEP_SECONDS = 600
_NOTED = 60
"""Seconds after which it is noted again that a session is in use."""


def is_secure(public: str) -> bool:
    """Whether browsers reach the server over https alone."""
    return public.startswith("https:")


def cookie_name(public: str, what: str) -> str:
    """The name of a cookie: `__Host-fhir-session`, or `fhir-session` where the server is reached over plain http."""
    return f"__Host-fhir-{what}" if is_secure(public) else f"fhir-{what}"


def set_cookie(response: Response, public: str, what: str, value: str) -> None:
    """Give the browser a cookie that lasts until it is closed."""
    response.set_cookie(
        cookie_name(public, what), value, path="/", secure=is_secure(public), httponly=True, samesite="lax"
    )


def drop_cookie(response: Response, public: str, what: str) -> None:
    """Take the cookie away."""
    response.delete_cookie(cookie_name(public, what), path="/", secure=is_secure(public), httponly=True, samesite="lax")


def usable(session: Session, options: SmartOptions, now: int) -> bool:
    """Whether the session still holds."""
    longest = STEP_SECONDS if session.pending else options.session_seconds
    return now < session.created + longest and now < session.seen + options.idle_seconds


def current(parts: AuthParts, cookies: Mapping[str, str]) -> tuple[str, Session, User] | None:
    """The cookie, session and user of a browser; None when it has no session that holds. Notes that it is in use."""
    cookie = cookies.get(cookie_name(parts.public, "session"), "")
    session = parts.store.session(cookie) if cookie else None
    now = parts.now()
    if session is None or not usable(session, parts.options, now):
        return None
    user = parts.store.user(session.user)
    if user is None or user.disabled:
        return None
    if now - session.seen >= _NOTED:
        session = replace(session, seen=now)
        parts.store.put_session(cookie, session)
    return cookie, session, user


def begin(parts: AuthParts, user: User, device: str, pending: str) -> tuple[str, Session]:
    """A new session of a person who has just shown their password; `pending` is what is still missing."""
    now, cookie = parts.now(), handle()
    session = Session(user.name, now, now, device, handle(), now, pending)
    parts.store.put_session(cookie, session)
    return cookie, session


def advance(parts: AuthParts, cookie: str, session: Session, pending: str) -> tuple[str, Session]:
    """The session under a new handle, with what is missing now; the old handle is gone."""
    fresh, moved = handle(), replace(session, csrf=handle(), pending=pending)
    parts.store.put_session(fresh, moved)
    parts.store.end_sessions([hashed(cookie)])
    return fresh, moved


def end(parts: AuthParts, ended: Iterable[tuple[str, Session]]) -> None:
    """End sessions (hash and session), and with each the grants of `online_access` that were made in it."""
    for name, session in ended:
        parts.store.end_sessions([name])
        made_in_it = [
            grant.id
            for grant in parts.store.grants(session.user)
            if grant.auth_time == session.auth_time and parse(grant.scope).has("online_access")
        ]
        if made_in_it:
            parts.store.revoke(made_in_it)


def path_of(public: str, page: str) -> str:
    """The path of a page as browsers see it: `/auth/login`, below the path of the public URL."""
    return f"{urlsplit(public).path}/auth/{page}"
