"""The JWKS of a client, fetched from where it was registered, without becoming a tool against our own network.

Rules.
1. https alone. Plain http and loopback addresses only where the public URL is loopback too, and only when the URL says so itself: a name
   that resolves to a loopback, private or otherwise special address is never followed. The address that was judged is the one that is
   connected to, so that a second look-up cannot change it.
2. No redirect, no compression, no credentials, at most `MOST_BYTES`, at most `SECONDS` from the connection to the last byte.
3. An answer is good for as long as its Cache-Control says, at most `LONGEST` seconds; without one, `USUAL`.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html, https://www.rfc-editor.org/rfc/rfc9111
"""

import http.client
import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Timer
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from smart_auth.redirects import LOOPBACK

MOST_BYTES: Final = 64 * 1024
SECONDS: Final = 5.0
USUAL: Final = 300
LONGEST: Final = 3600
_OK: Final = 200
_MAX_AGE = re.compile(r"max-age\s*=\s*\"?(\d{1,9})")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FetchFault(Exception):  # noqa: N818  (rendered by its catcher as invalid_client)
    """What was asked for could not, or must not, be fetched; the message says why and is ASCII."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A JSON document and for how many seconds it may be used again."""

    document: Any
    seconds: int


def check_url(url: str, *, loopback: bool) -> SplitResult:
    """The parts of a URL that may be fetched from. `loopback`: also from this machine, over http too. Raises FetchFault."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchFault("the JWKS URL cannot be read") from None
    if not url.isascii() or not parts.hostname or "@" in parts.netloc or port == 0:
        raise FetchFault("the JWKS URL names no host, or more than a host")
    local = parts.hostname in LOOPBACK
    if local and not loopback:
        raise FetchFault("a JWKS URL on this machine is for servers that are on this machine themselves")
    if parts.scheme != "https" and not (local and parts.scheme == "http"):
        raise FetchFault("a JWKS URL begins with https://")
    return parts


def fetch(url: str, *, loopback: bool) -> Fetched:
    """The document behind `url`. Raises FetchFault."""
    parts = check_url(url, loopback=loopback)
    try:
        connection = _connected(parts)
        timer = Timer(SECONDS, _cut, (connection,))
        timer.start()
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            return _read(connection, parts)
        finally:
            timer.cancel()
            connection.close()
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise FetchFault(f"the JWKS URL gave no JWKS ({type(error).__name__})") from None


def _connected(parts: SplitResult) -> socket.socket:
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
    if not addresses or not all(_allowed(one, local=parts.hostname in LOOPBACK) for one in addresses):
        raise FetchFault("the JWKS URL leads to an address that is not public")
    connection = _first(addresses, port)
    if parts.scheme == "http":
        return connection
    return ssl.create_default_context().wrap_socket(
        connection, server_hostname=parts.hostname, do_handshake_on_connect=False
    )


def _first(addresses: Sequence[str], port: int) -> socket.socket:
    """A connection to the first address that takes one."""
    for address in addresses[:-1]:
        with suppress(OSError):  # the next one may
            return socket.create_connection((address, port), SECONDS / len(addresses))
    return socket.create_connection((addresses[-1], port), SECONDS / len(addresses))


def _allowed(address: str, *, local: bool) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if local:
        return found.is_loopback
    tunnel = isinstance(found, ipaddress.IPv6Address) and (
        found.ipv4_mapped or found.sixtofour or found.teredo or found in _NAT64
    )
    return found.is_global and not found.is_multicast and not tunnel


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):  # it was closed already
        connection.shutdown(socket.SHUT_RDWR)


def _read(connection: socket.socket, parts: SplitResult) -> Fetched:
    client = http.client.HTTPConnection(parts.netloc)
    client.sock = connection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
    client.request("GET", path, headers=headers)
    answer = client.getresponse()
    if answer.status != _OK:
        raise FetchFault(f"the JWKS URL answered {answer.status}")
    if answer.getheader("Content-Encoding", "identity") != "identity":
        raise FetchFault("the JWKS URL answered with a compressed document")
    body = answer.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise FetchFault(f"the JWKS has more than {MOST_BYTES} bytes")
    return Fetched(json.loads(body), _seconds(answer.getheader("Cache-Control", ""), answer.getheader("Age", "0")))


def _seconds(control: str, age: str) -> int:
    words = control.lower()
    if "no-store" in words or "no-cache" in words:
        return 0
    found = _MAX_AGE.search(words)
    if found is None:
        return USUAL
    return max(0, min(int(found[1]), LONGEST) - (int(age) if age.isdigit() else 0))
