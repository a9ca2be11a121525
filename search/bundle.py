"""The searchset Bundle, its links, and the cursors in them.

Rules. Stored bodies are spliced between envelope strings as they are: nothing is parsed or encoded again. A cursor is opaque, is
signed with a secret that the store keeps (so it survives a restart), and is good for the same caller, path and parameters
alone. It holds the position of a row, the direction, and the time of the first page, at which `ap` stays frozen.

Specification: https://hl7.org/fhir/R4/http.html#paging, https://hl7.org/fhir/R4/search.html#return
"""

import binascii
import hmac
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from resources.errors import FhirError, Issue, outcome
from search.results import CURSOR

Position = tuple[object, ...]
"""Sort values (None, int, str, bytes, Decimal) of a row, then what breaks their ties."""

_SIGNATURE: Final = 16
"""Bytes of the signature that are kept: 128 bits, https://www.rfc-editor.org/rfc/rfc2104#section-5."""
_DECIMAL: Final = 1
_BIG_INTEGER: Final = 2
_SAFE: Final = ":/,$"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.\-~:/,$]*").fullmatch
_MODES: Final = {mode: b',"search":{"mode":"%b"}}' % mode.encode() for mode in ("match", "include", "outcome")}


class Entry(NamedTuple):
    """One resource of the Bundle: `Patient/1`, its JSON, why it is there."""

    address: str
    body: bytes
    mode: Literal["match", "include"]


def searchset(
    base: str,
    entries: Iterable[Entry],
    links: Sequence[tuple[str, str]],
    *,
    total: int | None = None,
    issues: Sequence[Issue] = (),
) -> bytes:
    """The Bundle as JSON: `links` are (relation, URL); `issues` become an entry of mode outcome, after the others."""
    head: dict[str, object] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        head["total"] = total
    head["link"] = [{"relation": relation, "url": url} for relation, url in links]
    parts = [msgspec.json.encode(head)[:-1]]
    start = b',{"fullUrl":%b/' % msgspec.json.encode(base)[:-1]
    for address, body, mode in entries:
        parts += (start, address.encode(), b'","resource":', body, _MODES[mode])
    if issues:
        parts += (b',{"resource":', msgspec.json.encode(outcome(issues)), _MODES["outcome"])
    if len(parts) > 1:
        parts[1] = b',"entry":[' + parts[1][1:]
        parts.append(b"]")
    parts.append(b"}")
    return b"".join(parts)


# ---- cursors


class Cursor(NamedTuple):
    """Where a page begins: after the row at `position`, or before it (`backward`). `now` in microseconds: the time of the first page.

    `included`: the page holds what that row includes, from behind this one (row number, version).
    """

    position: Position
    backward: bool
    now: int
    included: tuple[int, str] | None = None


class Neighbours(NamedTuple):
    """The cursors of the pages around one."""

    previous: Cursor | None
    next: Cursor | None


class Cursors:
    """Seals and opens cursors. `secret` is random, at least 32 bytes, the same in all processes and after a restart."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._decoder = msgspec.msgpack.Decoder(
            tuple[tuple[Any, ...], bool, int, tuple[int, str] | None], ext_hook=_restored
        )

    def seal(self, cursor: Cursor, scope: bytes) -> str:
        """The text of the cursor, URL-safe, good in `scope` alone."""
        tagged = tuple(map(_tagged, cursor.position))
        payload = msgspec.msgpack.encode((tagged, cursor.backward, cursor.now, cursor.included))
        return _text(self._sign(payload, scope) + payload)

    def open(self, text: str, scope: bytes) -> Cursor:
        """The cursor. Raises FhirError 400 for a text that was not sealed in this scope."""
        try:
            raw = b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise _not_here() from None
        payload = raw[_SIGNATURE:]
        if _text(raw) != text or not hmac.compare_digest(raw[:_SIGNATURE], self._sign(payload, scope)):
            raise _not_here()
        return Cursor(*self._decoder.decode(payload))

    def _sign(self, payload: bytes, scope: bytes) -> bytes:
        # the length keeps bytes from moving between the two
        return hmac.digest(self._secret, len(payload).to_bytes(4) + payload + scope, "sha256")[:_SIGNATURE]


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def scope(principal: str, path: str, parameters: Iterable[tuple[str, str]]) -> bytes:
    """What a cursor is bound to: caller, path below the base (`Observation`, `Patient/1/Observation`), parameters but `_cursor`."""
    return msgspec.msgpack.encode((principal, path, [pair for pair in parameters if pair[0] != CURSOR and pair[1]]))


def neighbours(here: Cursor | None, positions: Sequence[Position], *, more: bool, now: int) -> Neighbours:
    """The pages around a page with these match positions, in the order shown; `more`: rows remain in the direction of `here`.

    `here` is None on the first page, whose time is `now`. An empty page has no neighbours.
    """
    if not positions:
        return Neighbours(None, None)
    time = now if here is None else here.now
    before, after = Cursor(positions[0], True, time), Cursor(positions[-1], False, time)
    if here is not None and here.backward:
        return Neighbours(before if more else None, after)
    return Neighbours(before if here is not None else None, after if more else None)


def links(
    url: str,
    parameters: Sequence[tuple[str, str]],
    here: str | None = None,
    previous: str | None = None,
    following: str | None = None,
) -> list[tuple[str, str]]:
    """self, first, previous, next of the page at sealed cursor `here` (None: the first). `url` is `[base]/Type`."""
    text = "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in parameters])

    def at(cursor: str | None) -> str:
        parts = [part for part in (text, f"{CURSOR}={cursor}" if cursor is not None else "") if part]
        return f"{url}?{'&'.join(parts)}" if parts else url

    found = [("self", at(here)), ("first", at(None))]
    found += [
        (name, at(cursor)) for name, cursor in (("previous", previous), ("next", following)) if cursor is not None
    ]
    return found


def _quoted(text: str) -> str:
    return text if _PLAIN(text) else quote(text, _SAFE)


def _not_here() -> FhirError:
    return FhirError(
        400,
        "invalid",
        f"Parameter '{CURSOR}' is not a cursor of this search: it is damaged or was given for another search.",
    )


def _tagged(value: object) -> object:
    """MessagePack tells None, int, str and bytes apart by itself; a Decimal keeps its exact digits as text."""
    if isinstance(value, Decimal):
        return msgspec.msgpack.Ext(_DECIMAL, str(value).encode())
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return msgspec.msgpack.Ext(_BIG_INTEGER, str(value).encode())
    return value


def _restored(code: int, data: memoryview) -> object:
    text = bytes(data).decode()
    return Decimal(text) if code == _DECIMAL else int(text)
