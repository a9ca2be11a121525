"""How often one may fail: a subject that failed too often in a row waits, longer each time.

Rules.
1. A subject (`user:jane`, `otp:jane`, `address:192.0.2.1`) waits `FIRST_WAIT` seconds after `limit` failures in a row, twice as long after
   each further one, at most `LONGEST_WAIT`. While it waits nothing is looked at: neither the right nor a wrong answer.
2. An attempt counts as failed before it is judged and is forgiven when it succeeds, so that many at once cannot all be the first.
3. Users that do not exist count like those that do.
4. An address fails for all its users; a success does not clear it (it may be somebody else's), `LONGEST_WAIT` seconds of quiet do.

Specification: https://pages.nist.gov/800-63-3/sp800-63b.html#throttle
"""

import ipaddress
from functools import lru_cache

from smart_auth.model import hashed
from smart_auth.ports import AuthStore

FIRST_WAIT = 30
LONGEST_WAIT = 900
ADDRESS_FACTOR = 20
"""How many times more often than one user an address may fail: a hospital has one address."""
_LONGEST_NAME = 200


def subject(kind: str, name: str) -> str:
    """The subject of a user (without case; long names by their hash)."""
    folded = name.casefold()
    return f"{kind}:{folded if len(folded) <= _LONGEST_NAME else hashed(folded)}"


@lru_cache(maxsize=4096)
def address_subject(address: str) -> str:
    """The subject of an address; those of one IPv6 network of 64 bits are one."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return f"address:{address[:_LONGEST_NAME]}"
    network = ip if ip.version == 4 else ipaddress.IPv6Network((int(ip), 64), strict=False)  # noqa: PLR2004
    return f"address:{network}"


def wait(store: AuthStore, who: str, limit: int, now: int) -> int:
    """Seconds that a subject still waits; 0: it may try."""
    count, last = store.failures(who)
    return _wait(count, last, limit, now)


def admitted(store: AuthStore, who: str, limit: int, now: int) -> bool:
    """Whether a subject may try now; the attempt counts as failed until `succeeded`."""
    before, last = store.failures(who)
    if _wait(before, last, limit, now):
        return False
    store.note_attempt(who, now, failed=True)
    count, _ = store.failures(who)
    return count <= max(limit, before + 1)


def succeeded(store: AuthStore, who: str, now: int) -> None:
    """Forgive the failures of a subject."""
    store.note_attempt(who, now, failed=False)


def failed(store: AuthStore, who: str, now: int) -> None:
    """Count a failure of what no success clears; those before a long quiet are forgotten."""
    count, last = store.failures(who)
    if count and now - last > LONGEST_WAIT:
        store.note_attempt(who, now, failed=False)
    store.note_attempt(who, now, failed=True)


def _wait(count: int, last: int, limit: int, now: int) -> int:
    if count < limit:
        return 0
    return max(0, last + min(FIRST_WAIT << min(count - limit, 10), LONGEST_WAIT) - now)
