"""Breaking the glass: a person of care opens the record of a patient who is not theirs, for a reason, for some hours at most.

Rules.
1. Who has a role of `roles.BREAKING_GLASS` may.
2. What is opened is kept as `break-glass/{user}/{time}-{patient}` and never deleted: an administrator reviews it. It works with the token
   that the person has, in every process within a second, until its time is over.

Specification: https://terminology.hl7.org/CodeSystem-v3-ActReason.html (BTG)
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from smart_auth.ports import AuthStore

MOST_MINUTES: Final = 240
PURPOSE: Final = "BTG"
_PREFIX: Final = "break-glass/"


def open_record(store: AuthStore, user: str, patient: str, reason: str, client: str, now: int, minutes: int) -> int:
    """Open the record of a patient (an id) for the user; until when, in seconds since 1970."""
    until = now + 60 * minutes
    row = {"user": user, "patient": patient, "reason": reason, "client": client, "given": now, "until": until}
    store.put_setting(f"{_prefix(user)}{now}-{patient}", row)
    return until


def opened(store: AuthStore, user: str, now: int) -> frozenset[str]:
    """The ids of the patients whose records the user has opened and whose time is not over."""
    rows = store.settings(_prefix(user)).values()
    return frozenset(row["patient"] for row in rows if row["until"] > now)


def reviewed(store: AuthStore) -> list[Mapping[str, Any]]:
    """All that was ever opened, oldest first: `user`, `patient`, `reason`, `client`, `given` and `until` (seconds)."""
    return sorted(store.settings(_PREFIX).values(), key=lambda row: (row["given"], row["user"], row["patient"]))


def _prefix(user: str) -> str:
    return f"{_PREFIX}{quote(user.casefold(), safe='')}/"
