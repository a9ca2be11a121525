"""The public keys of clients: those registered with them, or those behind their JWKS URL, kept for as long as that URL allows.

Rules. kid and kty select exactly one key, or none is used. A kid that is not among the kept keys has them fetched once more, at most once a
second; a fetch that failed is not tried again within that second. One thread fetches from a URL at a time.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html#signature-verification
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from smart_auth.keys import KeyFault, client_keys
from smart_auth.model import Client
from smart_auth.oauth.fetching import Fetched, FetchFault

_AGAIN = 1
"""Seconds between two fetches from one URL for a key that is not there."""


@dataclass(slots=True)
class _Kept:
    lock: Lock = field(default_factory=Lock)
    rows: Sequence[Any] = ()
    fetched: int = -_AGAIN
    until: int = 0


class ClientKeys:
    """`fetch` gets the document of a URL (FetchFault: it cannot); `now` gives seconds since 1970."""

    def __init__(self, fetch: Callable[[str], Fetched], now: Callable[[], int]) -> None:
        self._fetch = fetch
        self._now = now
        self._kept: dict[str, _Kept] = {}

    def key(self, client: Client, kid: str, kty: str) -> Mapping[str, Any]:
        """The one public key (a JWK). Raises KeyFault or FetchFault when there is none, or more than one."""
        if not client.jwks_url:
            return _one(client.jwks.get("keys", ()), kid, kty)
        kept = self._kept.setdefault(client.jwks_url, _Kept())
        with kept.lock:
            now = self._now()
            stale = now >= kept.until
            unknown = not any(isinstance(row, dict) and row.get("kid") == kid for row in kept.rows)
            if stale or (unknown and now - kept.fetched > _AGAIN):
                self._refresh(client.jwks_url, kept, now)
            return _one(kept.rows, kid, kty)

    def _refresh(self, url: str, kept: _Kept, now: int) -> None:
        """Fetch the rows; they are used for a second at least when there are none, so that a URL that fails is left alone."""
        kept.rows, kept.fetched, kept.until = (), now, now + _AGAIN
        fetched = self._fetch(url)
        rows = fetched.document.get("keys") if isinstance(fetched.document, dict) else None
        if not isinstance(rows, list):
            raise FetchFault("the JWKS URL answered with something else than a JWKS")
        kept.rows, kept.until = rows, now + fetched.seconds


def _one(rows: Sequence[Any], kid: str, kty: str) -> Mapping[str, Any]:
    found = [row for row in rows if isinstance(row, dict) and row.get("kid") == kid and row.get("kty") == kty]
    if len(found) != 1:
        raise KeyFault("the client has no such key, or several")
    row: Mapping[str, Any] = client_keys({"keys": found})["keys"][0]
    return row
