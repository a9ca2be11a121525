"""Where an app may be sent back to: what may be registered, and whether a request names what was registered.

Rules.
1. What is asked for equals what is registered, character for character. A public native client registered with a loopback address
   (http://127.0.0.1/callback) may use any port of it (RFC 8252, 7.3).
2. Registered is https; plain http to loopback alone; an own scheme with a dot in it (com.example.app:/callback) for public clients.
   No fragment, no user name, no wildcard, no white space, no `.` or `..` in the path.

Specification: https://www.rfc-editor.org/rfc/rfc6749#section-3.1.2, https://www.rfc-editor.org/rfc/rfc8252#section-7
"""

import re
from urllib.parse import SplitResult, unquote, urlsplit

from smart_auth.model import Client, ClientKind

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LONGEST = 2000
_TEXT = re.compile(r"[\x21\x23-\x29\x2B-\x3B\x3D\x3F-\x5B\x5D\x5F\x61-\x7A\x7E]+")
"""What a URI consists of, less the wildcard and quotes that none needs."""
_PORT = re.compile(r":\d{1,5}$")


def check(uri: str, kind: ClientKind) -> None:
    """Raise ValueError, saying why, when such a client must not be registered with this redirect URI."""
    if not _TEXT.fullmatch(uri) or len(uri) > _LONGEST:
        raise ValueError(f"redirect URI {uri[:80]!r} has characters that a registered URI cannot have, or is too long")
    parts = _split(uri)
    if parts.fragment or "#" in uri:
        raise ValueError(f"redirect URI {uri}: it has a fragment")
    if "@" in parts.netloc:
        raise ValueError(f"redirect URI {uri}: it has a user name")
    if {".", ".."} & set(unquote(parts.path).split("/")):
        raise ValueError(f"redirect URI {uri}: its path has . or ..")
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise ValueError(f"redirect URI {uri}: it names no host")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"redirect URI {uri}: plain http is for loopback addresses alone")
    elif kind != "public" or "." not in parts.scheme:
        raise ValueError(
            f"redirect URI {uri}: it is neither https nor, for a public client, a scheme of its own with a dot"
        )


def matches(client: Client, uri: str) -> bool:
    """Whether the client may be sent back to `uri`."""
    if uri in client.redirect_uris:
        return True
    if client.kind != "public" or not _TEXT.fullmatch(uri):
        return False
    asked = _without_port(uri)
    return asked is not None and any(asked == _without_port(known) for known in client.redirect_uris)


def _without_port(uri: str) -> tuple[str, str] | None:
    """Of a loopback URI over http: the authority without its port, and all that follows it; else None."""
    scheme, separator, rest = uri.partition("://")
    if scheme != "http" or not separator:
        return None
    end = next((place for place, letter in enumerate(rest) if letter in "/?#"), len(rest))
    authority = _PORT.sub("", rest[:end])
    return (authority, rest[end:]) if authority in ("localhost", "127.0.0.1", "[::1]") else None


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise ValueError(f"redirect URI {uri}: it cannot be read") from None
    if not parts.scheme or parts.scheme != uri.partition(":")[0]:
        raise ValueError(f"redirect URI {uri}: it is not absolute, or its scheme is not in lower case")
    return parts
