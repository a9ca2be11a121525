"""Settings of the REST interactions, composed into the server's settings."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RestOptions:
    """`body_limit` in bytes, `entry_limit` entries of a Bundle, counts in entries of a page.

    `nesting_limit`: objects and arrays of a body inside each other; `parameter_limit`: parameters of a URL, a form or a criterion.

    `conditional_delete`: how many resources one may delete, `multiple` meaning at most `conditional_delete_limit`.

    `referential_integrity`: whether references to unknown resources are refused, and deletions of what is referred to.

    `expunge`: whether the operation $expunge may remove what is deleted or superseded for good.

    `invariants`: whether the specification's constraints are checked beside structure and bindings.
    """

    update_as_create: bool = True
    conditional_delete: Literal["single", "multiple"] = "single"
    conditional_delete_limit: int = 100
    referential_integrity: bool = False
    expunge: bool = False
    body_limit: int = 64 * 1024 * 1024
    entry_limit: int = 10_000
    nesting_limit: int = 100
    parameter_limit: int = 1000
    history_count: int = 20
    history_limit: int = 1000
    access_log: bool = True
    invariants: bool = True
