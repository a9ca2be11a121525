"""Where a request is from, behind proxies too.

Rules: X-Forwarded-For is believed only when the connection is from a trusted proxy; of its addresses the last that is no trusted proxy counts, since
everything before it may be the client's own invention. Forwarded, X-Forwarded-Host and X-Forwarded-Proto are never read: how clients reach the
server is the setting `public_url`.

Specification: https://www.rfc-editor.org/rfc/rfc7239#section-8.1
"""

import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache

from starlette.types import Scope

_HEADER = b"x-forwarded-for"
_LOCAL = "local"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(trusted: Sequence[Network]) -> Callable[[Scope], str]:
    """The function that tells a request's address; `local` for a connection that has none (a Unix socket)."""

    def direct(scope: Scope) -> str:
        client = scope.get("client")
        return client[0] if client else _LOCAL

    @lru_cache(maxsize=4096)
    def resolved(peer: str, forwarded: bytes) -> str:
        if not _within(peer, trusted):
            return peer
        found = peer
        for part in reversed(forwarded.decode("latin-1").split(",")):
            text = part.strip()
            if _parsed(text) is None:
                return found
            found = text
            if not _within(text, trusted):
                return found
        return found

    def behind(scope: Scope) -> str:
        forwarded = [value for name, value in scope["headers"] if name == _HEADER]
        return resolved(direct(scope), b",".join(forwarded)) if forwarded else direct(scope)

    return behind if trusted else direct


def _within(text: str, trusted: Sequence[Network]) -> bool:
    address = _parsed(text)
    return address is not None and any(address in network for network in trusted)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
