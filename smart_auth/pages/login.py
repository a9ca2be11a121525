"""Signing in: password, second factor, a password that must change, and changing it later.

Rules.
1. A wrong name and a wrong password are answered alike and cost the same; who failed too often waits (`attempts`), and is told how long, in words and by
   Retry-After.
2. A second factor is good once; so is a recovery code.
3. A changed password ends the other sessions of its person. Who has not finished signing in may let somebody else do it.

Specification: https://pages.nist.gov/800-63-3/sp800-63b.html
"""

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from smart_auth import attempts, passwords, sessions
from smart_auth.model import Session, User, hashed
from smart_auth.pages.flow import Place, go, place_of
from smart_auth.pages.visit import Visit

MESSAGES = {
    "bad_credentials": "The user name or the password is not right.",
    "bad_code": "This code is not right, or it was used already.",
    "locked": "Too many failed attempts. Wait {wait} seconds, then try again.",
    "rate_limited": "Too many failed attempts from your network. Wait {wait} seconds, then try again.",
}


def login(visit: Visit) -> Response:
    """`/auth/login`."""
    place = place_of(visit)
    if place.stop != "login":
        return go(visit, place)
    return _sign_in(visit, place) if visit.posted else visit.page("login", request=place.request, username=_hint(place))


def otp(visit: Visit) -> Response:
    """`/auth/otp`."""
    place = place_of(visit)
    if place.stop != "otp":
        return go(visit, place)
    if not visit.posted:
        return visit.page("otp", request=place.request)
    assert visit.signed_in is not None
    if visit.text("action") == "cancel":
        return _cancelled(visit, place)
    cookie, session, user = visit.signed_in
    store, now, who = visit.parts.store, visit.parts.now(), attempts.subject("otp", user.name)
    if not attempts.admitted(store, who, visit.parts.options.login_limit, now):
        return _waits(visit, "otp", place, "locked", left(visit, who))
    code, recovery = "".join(visit.text("otp").split()), visit.text("recovery").strip()
    if not (passwords.use_totp(store, user, code, now) or passwords.use_recovery(store, user, recovery or code, now)):
        return _refused(visit, "otp", place, "bad_credentials", MESSAGES["bad_code"])
    attempts.succeeded(store, who, now)
    visit.told["note"] = "second-factor"
    moved = sessions.advance(visit.parts, cookie, session, "change" if user.must_change else "")
    return _onward(visit, *moved, user, was=cookie)


def password(visit: Visit) -> Response:
    """`/auth/password`: for who must change it on the way, and for who wants to."""
    place = place_of(visit)
    if place.stop in ("login", "otp"):
        return go(visit, place)
    assert visit.signed_in is not None
    cookie, session, user = visit.signed_in
    shown: dict[str, Any] = {
        "username": user.name,
        "must": bool(session.pending),
        "least": visit.parts.options.password_length,
    }
    if not visit.posted:
        return visit.page("password", request=place.request, **shown)
    if session.pending and visit.text("action") == "cancel":
        return _cancelled(visit, place)
    error, message = _change(visit, user)
    if error == "locked":
        return _waits(visit, "password", place, error, left(visit, attempts.subject("user", user.name)), **shown)
    if error:
        return visit.page("password", 400, place.request, error=error, message=message, **shown)
    visit.told["note"] = "password-changed"
    held = visit.parts.store.sessions(user.name)
    sessions.end(visit.parts, [(name, row) for name, row in held if name != hashed(cookie)])
    return _onward(visit, *sessions.advance(visit.parts, cookie, session, ""), user, was=cookie)


def proved(visit: Visit, user: User) -> str:
    """Whether the form has the user's present password (`current`): "", or `locked` or `bad_credentials`."""
    store, now, who = visit.parts.store, visit.parts.now(), attempts.subject("user", user.name)
    if not attempts.admitted(store, who, visit.parts.options.login_limit, now):
        return "locked"
    if not passwords.matches(user, visit.text("current")):
        return "bad_credentials"
    attempts.succeeded(store, who, now)
    return ""


def _sign_in(visit: Visit, place: Place) -> Response:
    parts, now = visit.parts, visit.parts.now()
    name, given, limit = visit.text("username").strip(), visit.text("password"), visit.parts.options.login_limit
    address, who = attempts.address_subject(visit.address), attempts.subject("user", name)
    user = parts.store.user(name)
    visit.told["user"] = user.name if user else ""
    waiting = attempts.wait(parts.store, address, limit * attempts.ADDRESS_FACTOR, now)
    if waiting:
        return _waits(visit, "login", place, "rate_limited", waiting)
    if not attempts.admitted(parts.store, who, limit, now):
        attempts.failed(parts.store, address, now)
        return _waits(visit, "login", place, "locked", left(visit, who))
    if not passwords.matches(user, given) or user is None or user.disabled:
        attempts.failed(parts.store, address, now)
        return _refused(visit, "login", place, "bad_credentials")
    attempts.succeeded(parts.store, who, now)
    visit.told["note"] = "password"
    if passwords.outdated(user.password):
        renewed = passwords.hash_password(given)
        parts.store.change_user(user.name, lambda known: replace(known, password=renewed))
    was = ""
    if visit.signed_in is not None:
        was = visit.signed_in[0]
        parts.store.end_sessions([hashed(was)])
    missing = "otp" if user.totp else "change" if user.must_change else ""
    return _onward(visit, *sessions.begin(parts, user, visit.device, missing), user, was=was)


def _onward(visit: Visit, cookie: str, session: Session, user: User, *, was: str) -> Response:
    """Give the browser its new session, which takes over the request under way, and send it on."""
    request = visit.request_under_way()
    if request is not None:
        visit.bound(request, cookie, was)
    user = visit.parts.store.user(user.name) or user
    onward = replace(visit, signed_in=(cookie, session, user))
    answer = go(onward, place_of(onward))
    sessions.set_cookie(answer, visit.parts.public, "session", cookie)
    return answer


def _cancelled(visit: Visit, place: Place) -> Response:
    """End a session that still lacks a step, so that somebody else may sign in for the same request."""
    assert visit.signed_in is not None
    cookie, session, _ = visit.signed_in
    sessions.end(visit.parts, [(hashed(cookie), session)])
    if place.request is not None and place.request.session == hashed(cookie):
        visit.keep(session="")
    answer = visit.redirect(visit.path("login"))
    sessions.drop_cookie(answer, visit.parts.public, "session")
    return answer


def _change(visit: Visit, user: User) -> tuple[str, str]:
    """Change the password as the form says; else the error and its message."""
    fresh, error = visit.text("password"), proved(visit, user)
    if error:
        return error, "The present password is not right."
    if fresh != visit.text("again"):
        return "different", "The two new passwords are not the same."
    if fresh == visit.text("current"):
        return "weak_password", "The new password must be another one."
    fault = passwords.password_fault(fresh, user.name, visit.parts.options.password_length)
    if fault:
        return "weak_password", f"{fault[:1].upper()}{fault[1:]}."
    kept = passwords.hash_password(fresh)
    visit.parts.store.change_user(user.name, lambda known: replace(known, password=kept, must_change=False))
    return "", ""


def _refused(visit: Visit, page: str, place: Place, error: str, message: str = "", **shown: Any) -> Response:
    shown |= {"username": visit.text("username")} if page == "login" else {}
    return visit.page(page, 401, place.request, error=error, message=message or MESSAGES[error], **shown)


def _waits(visit: Visit, page: str, place: Place, error: str, wait: int, **shown: Any) -> Response:
    """Who failed too often is told for how many seconds they wait."""
    answer = _refused(visit, page, place, error, MESSAGES[error].format(wait=wait), **shown)
    answer.headers["Retry-After"] = str(wait)
    return answer


def left(visit: Visit, who: str) -> int:
    """The seconds that a subject still waits, at least one."""
    return max(1, attempts.wait(visit.parts.store, who, visit.parts.options.login_limit, visit.parts.now()))


def _hint(place: Place) -> str:
    return place.request.login_hint if place.request else ""
