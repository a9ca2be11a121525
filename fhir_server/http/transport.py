"""The headers that keep a browser from doing more with an answer than it is for.

Rules: nothing is sniffed; nothing but pages (which say so themselves) may run, load or frame anything; no address of a record goes to another site as a
Referer; answers to somebody with a token are not kept; with an https public URL a browser never asks in the clear again. What an answer says itself
stays.

Specification: https://www.w3.org/TR/CSP3/, https://www.rfc-editor.org/rfc/rfc6797, https://owasp.org/www-project-secure-headers/
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_STRICT = (b"strict-transport-security", b"max-age=31536000")
_PRIVATE = (b"cache-control", b"no-store")


def secured(app: ASGIApp, https: bool) -> ASGIApp:
    """Add the headers to every answer; `https`: whether the public URL is."""
    usual = (*_ALWAYS, _STRICT) if https else _ALWAYS
    names = frozenset(name for name, _ in usual)

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                said = {name for name, _ in headers}
                headers.extend(usual if said.isdisjoint(names) else [pair for pair in usual if pair[0] not in said])
                if "principal" in scope and _PRIVATE[0] not in said:
                    headers.append(_PRIVATE)
            await send(message)

        return app(scope, receive, send_secured)

    return layer
