"""The public keys of clients: those registered with them, or those behind their JWKS URL, kept for as long as that URL allows.

Rules. kid and kty select exactly one key, or none is used. A kid that is not among the kept keys has them fetched once more, at most once a
second; a fetch that failed is not tried again for a second, and takes no key away that is kept. One thread fetches from a URL at a time and a few
wait for it: who asks meanwhile is refused, so that a slow URL does not hold every thread.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html#signature-verification
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock, Semaphore
from typing import Any, Final

from smart_auth.keys import KeyFault, client_keys
from smart_auth.model import Client
from smart_auth.oauth.fetching import Fetched, FetchFault

_AGAIN: Final = 1
"""Seconds between two fetches from one URL for a key that is not there, and after one that failed."""
_AT_ONCE: Final = 12
"""Threads that fetch from one URL, or wait for who does."""


@dataclass(slots=True)
class _Kept:
    lock: Lock = field(default_factory=Lock)
    places: Semaphore = field(default_factory=lambda: Semaphore(_AT_ONCE))
    rows: Sequence[Any] = ()
    fetched: int = -_AGAIN
    failed: int = 0
    until: int = 0

    def lacks(self, kid: str, now: int) -> bool:
        """Whether the rows are to be fetched for the key."""
        if now < self.failed:
            return False
        unknown = not any(isinstance(row, dict) and row.get("kid") == kid for row in self.rows)
        return now >= self.until or (unknown and now - self.fetched > _AGAIN)


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
        kept, now = self._kept.setdefault(client.jwks_url, _Kept()), self._now()
        if not kept.lacks(kid, now):
            return _one(kept.rows if now < kept.until else (), kid, kty)
        if not kept.places.acquire(blocking=False):
            raise FetchFault("the JWKS URL is slow to answer")
        try:
            with kept.lock:
                if kept.lacks(kid, self._now()):
                    self._refresh(client.jwks_url, kept)
                return _one(kept.rows, kid, kty)
        finally:
            kept.places.release()

    def _refresh(self, url: str, kept: _Kept) -> None:
        """Fetch the rows."""
        now = kept.fetched = self._now()
        if now >= kept.until:
            kept.rows = ()
        try:
            fetched = self._fetch(url)
            rows = _rows(fetched.document)
        except FetchFault:
            kept.fetched = self._now()
            kept.failed = kept.fetched + _AGAIN
            raise
        kept.rows, kept.until = rows, now + fetched.seconds


def _rows(document: Any) -> Sequence[Any]:
    rows = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise FetchFault("the JWKS URL answered with something else than a JWKS")
    return rows


def _one(rows: Sequence[Any], kid: str, kty: str) -> Mapping[str, Any]:
    found = [row for row in rows if isinstance(row, dict) and row.get("kid") == kid and row.get("kty") == kty]
    if len(found) != 1:
        raise KeyFault("the client has no such key, or several")
    row: Mapping[str, Any] = client_keys({"keys": found})["keys"][0]
    return row
