"""What a patch may cost: whoever can patch must not be able to make a small request do endless work.

Specification: https://www.rfc-editor.org/rfc/rfc6902#section-8
"""

from dataclasses import dataclass
from typing import Any

from resources.errors import FhirError
from resources.json_format import DEPTH, encode, too_deep
from resources.model import Resource


@dataclass(frozen=True, slots=True)
class PatchLimits:
    """`operations` of one patch; `size` in bytes of JSON and `depth` in levels of what it makes."""

    operations: int = 1000
    size: int = 64 * 1024 * 1024
    depth: int = DEPTH

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
