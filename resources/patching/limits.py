"""What a patch may cost: whoever can patch must not be able to make a small request do endless work.

Rules. What was sent and what is stored bound what a patch may make of them: copies of copies end soon.

Specification: https://www.rfc-editor.org/rfc/rfc6902#section-8
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from resources.errors import FhirError
from resources.json_format import DEPTH, encode, too_deep
from resources.model import Resource

ROOM: Final = 64 * 1024
"""Bytes that any patch may make."""
_TIMES: Final = 2
"""How many times what is stored may be made again."""


@dataclass(frozen=True, slots=True)
class PatchLimits:
    """`operations` of one patch; `size` in bytes of JSON and `depth` in levels of what it makes."""

    operations: int = 1000
    size: int = 64 * 1024 * 1024
    depth: int = DEPTH

    def within(self, sent: int, stored: int) -> "PatchLimits":
        """These for a patch that brings values of `sent` bytes to a resource of `stored` bytes."""
        return replace(self, size=min(self.size, ROOM + sent + _TIMES * stored))

    def require_few(self, operations: int) -> None:
        """413 for a patch of too many operations."""
        if operations > self.operations:
            said = f"the patch has {operations} operations; this server accepts {self.operations}"
            raise FhirError(413, "too-costly", said)

    def require_bounded(self, made: Resource) -> None:
        """413 for a resource that grew too large, 400 for one that is nested too deeply."""
        try:
            body = encode(made)
        except RecursionError:
            raise self._deep() from None
        if len(body) > self.size:
            raise FhirError(413, "too-costly", f"the patched resource is larger than {self.size} bytes")
        if too_deep(body, made, self.depth):
            raise self._deep()

    def _deep(self) -> FhirError:
        return FhirError(400, "structure", f"the patched resource is nested deeper than {self.depth} levels")


def replica(value: Any) -> Any:
    """A copy of a JSON value that shares no object and no array with it."""
    if value.__class__ is dict:
        return {name: replica(inner) for name, inner in value.items()}
    if value.__class__ is list:
        return [replica(inner) for inner in value]
    return value
