"""One request to a page, read: who it is from, what it says, and the answers it may get.

Rules.
1. A handler is a function of a `Visit`, run in a worker thread. It answers or raises `PageFault`, which becomes the error page.
2. A form is urlencoded, of at most `LONGEST` bytes. It carries `csrf`, made from a secret of the session, or before there is one from that
   of the cookie `login`; it differs from page to page, so that compression tells nothing of the secret.
3. `tx` names the authorization request under way. It belongs to the first session it meets.
4. No answer is stored, framed or sniffed; no script runs; forms lead to this server and to where the app wants the browser sent back to,
   because Chromium asks that of the whole chain of redirects.

Specification: https://www.w3.org/TR/CSP3/#directive-form-action, https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from smart_auth import sessions
from smart_auth.model import Session, User, handle, hashed
from smart_auth.oauth.authorization import Asked, Refused, asked
from smart_auth.parts import AuthParts

if TYPE_CHECKING:
    from jinja2 import Environment

LONGEST = 512 * 1024
_FIELDS = 5000
_HANDLE = re.compile(r"[A-Za-z0-9_-]{43}")
_AUTHORITY = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

Fields = Mapping[str, tuple[str, ...]]


class PageFault(Exception):  # noqa: N818  (the visitor's mistake, shown as the error page)
    """An error page: its status, the code of `data-error`, a sentence for the person."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message


EXPIRED = PageFault(
    400, "expired_tx", "This sign-in has expired or was finished already. Go back to the app and start again."
)
STALE = PageFault(
    403, "csrf", "This form is not from this browser, or too old. Go back, load the page again and repeat."
)


@dataclass(frozen=True, slots=True)
class Visit:
    """`signed_in`: cookie, session and user; a session may still lack a step. `early`: the secret of forms before there is a session.

    `tx` "" when no authorization request is under way; `query` and `form` have the values of each name in order. `told`: what the audit is
    told (`user`, `client`, `note`: what was done or why not).
    """

    parts: AuthParts
    posted: bool
    query: Fields
    form: Fields
    address: str
    device: str
    early: str
    signed_in: tuple[str, Session, User] | None
    told: dict[str, str] = field(default_factory=dict)

    @property
    def tx(self) -> str:
        """The handle of the authorization request under way."""
        return self.text("tx")

    def text(self, name: str) -> str:
        """The one value of a field of the form, or of the query of a GET; "" when there is none or more than one."""
        values = (self.form if self.posted else self.query).get(name, ())
        return values[0] if len(values) == 1 else ""

    def request_under_way(self) -> Asked | None:
        """What the app asks for, None when no app sent the visitor. Raises PageFault when that has expired."""
        if not self.tx:
            return None
        try:
            request = asked(self.parts, self.tx)
        except Refused as refused:
            raise refusal(refused) from None
        self.told["client"] = request.client.id
        return request

    def bound(self, request: Asked, cookie: str, was: str = "") -> Asked:
        """The request, bound to the session of `cookie`; until now to none or, with `was`, to that one. Raises PageFault if to another's."""
        mine = hashed(cookie)
        if request.session not in ("", mine, hashed(was)):
            raise EXPIRED
        if request.session != mine:
            self.keep(session=mine)
        return replace(request, session=mine)

    def keep(self, **changed: Any) -> None:
        """Change fields of the request under way where it is kept (`Pending`)."""
        pending = self.parts.store.pending(self.tx)
        if pending is None:
            raise EXPIRED
        self.parts.store.put_pending(self.tx, replace(pending, **changed))

    def path(self, page: str) -> str:
        """The path of a page, with the request under way."""
        path = sessions.path_of(self.parts.public, page)
        return f"{path}?{urlencode({'tx': self.tx})}" if self.tx else path

    def redirect(self, url: str) -> Response:
        """303 to a page or back to the app."""
        return RedirectResponse(url, 303, headers=HEADERS)

    def secret(self, page: str) -> str:
        """What the forms of a page are bound to: the session, or on the login page the browser."""
        return self.early if page == "login" or self.signed_in is None else self.signed_in[1].csrf

    def page(self, name: str, status: int = 200, request: Asked | None = None, **shown: Any) -> Response:
        """A page from its template. `request`: whose app the forms may lead back to."""
        secret = self.secret(name)
        shown = {
            "page": name,
            "csrf": csrf_of(secret),
            "tx": self.tx,
            "error": "",
            "message": "",
            "root": sessions.path_of(self.parts.public, ""),
            **shown,
        }
        text = _environment().get_template(f"{name}.html").render(shown)
        if shown["error"]:
            self.told["note"] = shown["error"]
        target = _source(request.redirect_uri) if request else ""
        answer = HTMLResponse(text, status, headers={**HEADERS, **_page_headers(target)})
        if name == "login":
            sessions.set_cookie(answer, self.parts.public, "login", self.early)
        return answer


HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer."""


async def read(parts: AuthParts, request: Request) -> Visit:
    """Read a request. Raises PageFault when its form cannot be read."""
    posted = request.method == "POST"
    early = request.cookies.get(sessions.cookie_name(parts.public, "login"), "")
    return Visit(
        parts,
        posted,
        _fields(request.url.query),
        await _form(request) if posted else {},
        parts.address(request.scope),
        device_of(request.headers.get("user-agent", "")),
        early if _HANDLE.fullmatch(early) else handle(),
        None,
    )


def csrf_of(secret: str) -> str:
    """A value for the field `csrf`; another one each time."""
    salt = secrets.token_hex(8)
    return f"{salt}.{hashed(f'csrf {salt} {secret}')}"


def is_csrf(value: str, secret: str) -> bool:
    """Whether the value was made by `csrf_of` from this secret."""
    salt, _, given = value.partition(".")
    return hmac.compare_digest(given.encode(), hashed(f"csrf {salt} {secret}").encode())


def refusal(refused: Refused) -> PageFault:
    """The error page of an authorization request that cannot go back to its app."""
    return PageFault(400, refused.reason, str(refused))


def device_of(agent: str) -> str:
    """What a session is shown as: the browser and system of a User-Agent header."""
    browser = next((name for mark, name in _BROWSERS if mark in agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return f"{browser} on {system}" if browser and system else browser or system or agent[:60] or "unknown device"


_BROWSERS = (
    ("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl"),
)  # fmt: skip
_SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"), ("Linux", "Linux"),
)  # fmt: skip


def _page_headers(target: str) -> dict[str, str]:
    policy = (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self'{' ' if target else ''}{target}"
    )
    return {"Content-Security-Policy": policy, "X-Frame-Options": "DENY"}


def _source(redirect_uri: str) -> str:
    """Origin or scheme of a redirect URI as a source of a content security policy."""
    parts = urlsplit(redirect_uri)
    if not _SCHEME.fullmatch(parts.scheme):
        return ""
    if parts.scheme in ("http", "https") and _AUTHORITY.fullmatch(parts.netloc):
        return f"{parts.scheme}://{parts.netloc}"
    return f"{parts.scheme}:"


def _fields(text: str) -> Fields:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        raise PageFault(400, "invalid_request", "The request could not be read.") from None
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        found[name] = (*found.get(name, ()), value)
    return found


async def _form(request: Request) -> Fields:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise PageFault(415, "invalid_request", "The form was sent in a way this server does not read.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LONGEST:
            raise PageFault(413, "invalid_request", "The form is too long.")
    try:
        return _fields(body.decode("ascii"))
    except UnicodeDecodeError:
        raise PageFault(400, "invalid_request", "The form could not be read.") from None


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  (only who shows a page needs it)

    return Environment(
        loader=PackageLoader("smart_auth.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
