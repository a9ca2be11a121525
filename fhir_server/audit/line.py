"""The parts of a record as they stand in its line, encoded once for all requests that share them.

Rules. A part is the JSON of some neighbouring fields of `Record`, without brackets. What is kept is bounded, and depends on nothing but its arguments.

Specification: https://www.rfc-editor.org/rfc/rfc8259
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from fhir_server.audit.record import encode
from smart_auth.model import Principal

NONE: Final = "[]"
_KEPT: Final = 10_000


def part(*values: Any) -> str:
    """Values of neighbouring fields."""
    return encode(values)[1:-1].decode()


def listed(values: list[str]) -> str:
    """One field that is a list."""
    return encode(values).decode() if values else NONE


@lru_cache(maxsize=_KEPT)
def text(*values: str) -> str:
    """Neighbouring fields that are the same in many records, such as address and purpose."""
    return part(*values)


def exchange(method: str, shape: str, code: str, kind: str) -> str:
    """The fields `method` to `type`."""
    return part(method, shape, code, kind)


def told(who: Mapping[str, str]) -> str:
    """The fields `user` to `patient` of somebody without a token, as pages tell."""
    return part(who.get("user", ""), "", (), "", who.get("client", ""), who.get("grant", ""), "")


class People:
    """The fields `user` to `patient` of the bearers of tokens; a principal is known as the object that it is, and stays the same."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Principal, str]] = {}

    def of(self, principal: Principal) -> str:
        """Those of one bearer."""
        known = self._known.get(id(principal))
        if known is not None:  # who is kept here keeps the number
            return known[1]
        found = part(
            principal.user,
            principal.fhir_user,
            principal.roles,
            principal.organization,
            principal.client,
            principal.grant,
            principal.patient,
        )
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[id(principal)] = principal, found
        return found
