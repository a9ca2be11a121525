"""The layers around every answer, each a plain ASGI function: request id, observation, CORS, body limit, gzip.

Rules: only HTTP requests come here. No layer parses a resource; what a layer answers on its own under the FHIR base is an OperationOutcome. A layer that has
nothing to do with a request gives it on without a coroutine of its own: reads are so cheap that a dozen would show.

Specification: https://asgi.readthedocs.io/en/latest/specs/www.html, https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import asyncio
import os
import re
import time
import zlib
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir_server.http.errors import error_response
from fhir_server.http.rendering import told
from fhir_server.http.response import FhirResponse
from resources.errors import FhirError

Observe = Callable[[Scope, int, float], None]
"""Is told of each answer: its scope, its status (499: the client went away), its seconds."""

_CLIENT_GONE = 499

_REQUEST_ID = re.compile(rb"[A-Za-z0-9\-.:_]{1,128}")
_COMPRESS_FROM = 1400
_COMPRESS_APART = 256 * 1024
_EXPOSED = (
    b"ETag, Location, Content-Disposition, Content-Location, Last-Modified, Retry-After, WWW-Authenticate, X-Request-Id, "
    b"X-Security-Context"
)
_ALLOWED = (
    b"Authorization, Content-Type, Accept, Prefer, If-Match, If-None-Match, If-Modified-Since, If-None-Exist, "
    b"Cache-Control, X-Request-Id, X-Security-Context"
)
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def send_response(response: FhirResponse, send: Send, *, head: bool = False) -> None:
    """Send a finished answer; for HEAD without its body but with its length."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    if response.body:
        headers.append((b"content-type", response.content_type.encode("latin-1")))
    if response.body or response.status == 304:  # noqa: PLR2004
        headers.append((b"vary", b"Accept"))
    if response.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


async def send_error(error: FhirError, scope: Scope, send: Send) -> None:
    """Answer a request that went no further with its OperationOutcome."""
    await send_response(await told(error_response(error), scope), send, head=scope["method"] == "HEAD")


def request_id(app: ASGIApp) -> ASGIApp:
    """Give every request an id: the client's X-Request-Id when it is well formed, else a new one; answer it back."""
    numbers = count(int.from_bytes(os.urandom(7)))

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        given = header(scope, b"x-request-id")
        name = given if given is not None and _REQUEST_ID.fullmatch(given) else b"%016x" % next(numbers)
        scope["request_id"] = name.decode("ascii")

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", name))
            await send(message)

        return app(scope, receive, send_named)

    return layer


def observed(app: ASGIApp, observe: Observe) -> ASGIApp:
    """Tell `observe` of every answer; the layers inside find the status of an answer that has begun as `status` in the scope."""

    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()

        async def send_seen(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["status"] = message["status"]
            await send(message)

        try:
            await app(scope, receive, send_seen)
        except BaseException:
            scope.setdefault("status", 500)
            raise
        finally:
            observe(scope, scope.get("status", _CLIENT_GONE), time.perf_counter() - begun)

    return layer


def cors(app: ASGIApp, prefixes: tuple[str, ...]) -> ASGIApp:
    """Any origin may call the paths that begin with one of `prefixes`, without credentials; Authorization is listed by name."""

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if header(scope, b"origin") is None or not scope["path"].startswith(prefixes):
            return app(scope, receive, send)
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            return _preflight(send)

        async def send_open(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"access-control-allow-origin", b"*"))
                message["headers"].append((b"access-control-expose-headers", _EXPOSED))
            await send(message)

        return app(scope, receive, send_open)

    return layer


async def _preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _ALLOWED),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def too_large(limit: int) -> FhirError:
    """The refusal of a body beyond `limit` bytes."""
    return FhirError(413, "too-long", f"the body is larger than the {limit} bytes this server accepts")


def body_limit(app: ASGIApp, limit: int) -> ASGIApp:
    """Refuse bodies beyond `limit` bytes: by Content-Length before reading, otherwise while reading (raises FhirError 413)."""

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["method"] in ("GET", "HEAD"):
            return app(scope, receive, send)
        declared = header(scope, b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            return send_error(too_large(limit), scope, send)
        seen = 0

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large(limit)
            return message

        return app(scope, receive_counted, send)

    return layer


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush()


def gzip(app: ASGIApp) -> ASGIApp:
    """Compress whole bodies of 1,400 bytes and more when the client accepts gzip; very large ones off the event loop."""

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        accepted = header(scope, b"accept-encoding")
        if accepted is None or not _accepts_gzip(accepted):
            return app(scope, receive, send)
        start: dict[str, Any] | None = None

        async def send_packed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = dict(message)
                return
            if start is not None:
                body = message.get("body", b"")
                if len(body) >= _COMPRESS_FROM and not message.get("more_body", False):
                    # zlib lets other threads run while it works
                    packed = _gzip(body) if len(body) < _COMPRESS_APART else await asyncio.to_thread(_gzip, body)
                    kept = [item for item in start["headers"] if item[0].lower() != b"content-length"]
                    length = (b"content-length", b"%d" % len(packed))
                    start["headers"] = [*kept, (b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding"), length]
                    message = {**message, "body": packed}
                await send(start)
                start = None
            await send(message)

        return app(scope, receive, send_packed)

    return layer


def _accepts_gzip(accepted: bytes) -> bool:
    for part in accepted.lower().split(b","):
        name, _, weight = part.strip().partition(b";")
        if name.strip() in (b"gzip", b"*"):
            return weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
