"""What people look after themselves: the apps they have allowed, and where they are signed in.

Rules: only one's own; taking an app's access back ends its tokens in every process within a second; ending a session ends it at its next request.
"""

from datetime import UTC, datetime

from starlette.responses import Response

from smart_auth import sessions
from smart_auth.model import Session, User, hashed
from smart_auth.pages.flow import go, place_of
from smart_auth.pages.visit import STALE, Visit


def apps(visit: Visit) -> Response:
    """`/auth/apps`: the apps with access, each with a button that takes it back."""
    signed_in = account(visit)
    if isinstance(signed_in, Response):
        return signed_in
    _, _, user = signed_in
    store = visit.parts.store
    if visit.posted:
        if visit.text("action") != "revoke":
            raise STALE
        visit.told.update(client=visit.text("client")[:200], note="revoke")
        store.revoke([grant.id for grant in store.grants(user.name, visit.text("client"))])
        return visit.redirect(visit.path("apps"))
    found: dict[str, list[str]] = {}
    since: dict[str, int] = {}
    for grant in store.grants(user.name):
        found.setdefault(grant.client, []).extend(grant.scope.split())
        since[grant.client] = max(since.get(grant.client, 0), grant.created)
    rows = [
        {
            "id": name,
            "name": client.name if (client := store.client(name)) else name,
            "scopes": list(dict.fromkeys(scopes)),
            "since": _day(since[name]),
        }
        for name, scopes in found.items()
    ]
    return visit.page("apps", username=user.name, apps=rows)


def devices(visit: Visit) -> Response:
    """`/auth/sessions`: where the person is signed in, each with a button that ends it."""
    signed_in = account(visit)
    if isinstance(signed_in, Response):
        return signed_in
    cookie, _, user = signed_in
    store, now, mine = visit.parts.store, visit.parts.now(), hashed(cookie)
    held = [(name, row) for name, row in store.sessions(user.name) if sessions.usable(row, visit.parts.options, now)]
    if not visit.posted:
        rows = [
            {"id": name, "device": row.device, "since": _day(row.created), "seen": _day(row.seen), "mine": name == mine}
            for name, row in held
        ]
        return visit.page("sessions", username=user.name, sessions=rows)
    match visit.text("action"):
        case "end":
            ended = [(name, row) for name, row in held if name == visit.text("session")]
        case "end-others":
            ended = [(name, row) for name, row in held if name != mine]
        case _:
            raise STALE
    visit.told["note"] = "sign-out"
    sessions.end(visit.parts, ended)
    if mine not in {name for name, _ in ended}:
        return visit.redirect(visit.path("sessions"))
    answer = visit.redirect(visit.path("login"))
    sessions.drop_cookie(answer, visit.parts.public, "session")
    return answer


def account(visit: Visit) -> tuple[str, Session, User] | Response:
    """Who is signed in, or the way to sign in. A request under way plays no part here."""
    place = place_of(visit)
    if place.stop in ("login", "otp", "password"):
        return go(visit, place)
    assert visit.signed_in is not None
    return visit.signed_in


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
