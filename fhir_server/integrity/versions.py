"""What the columns, the body and the history of one resource must agree on.

Rules: versions are 1..n without a gap, the last in `resource`, the others in `history`, less the oldest ones that were expunged; `updated` rises with them; a body names its
type, id, version and time; a deletion has no body.

Specification: https://hl7.org/fhir/R4/resource.html#Meta, https://hl7.org/fhir/R4/http.html#history
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from fhir_server.storage.sqlite.batch import METHODS
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import Resource, ResourceKey, instant
from search.dialects.sqlite.layout import CONTAINED, DELETED, LIVE, UNKNOWN

Fault = tuple[str, str]
"""The rule that is broken, and how."""

DELETE = METHODS.index("DELETE")


class Current(NamedTuple):
    """A row of `resource`."""

    rid: int
    type: int
    id: str
    version: int
    updated: int
    state: int
    method: int
    released: int
    container: int | None
    body: bytes
    prints: bytes


class Past(NamedTuple):
    """A row of `history`."""

    rid: int
    version: int
    type: int
    updated: int
    method: int
    deleted: int
    body: bytes


def state_faults(row: Current) -> Iterator[Fault]:
    """Columns that contradict each other."""
    if row.state not in (UNKNOWN, LIVE, DELETED, CONTAINED):
        yield "state", f"state {row.state} does not exist"
    elif (row.version > 0) != (row.state in (LIVE, DELETED)):
        yield "state", f"version {row.version} in state {row.state}"
    elif (row.container is not None) != (row.state == CONTAINED):
        yield "state", f"a container in state {row.state}" if row.state != CONTAINED else "contained in nothing"
    elif bool(row.body) != (row.state == LIVE):
        yield "state", "a live resource without a body" if row.state == LIVE else f"a body in state {row.state}"
    elif row.version > 0 and (row.method == DELETE) != (row.state == DELETED):
        yield "state", f"method {row.method} in state {row.state}"


def history_faults(row: Current, past: Sequence[Past], first: int = 1) -> Iterator[Fault]:
    """Gaps, times that do not rise, and rows that contradict themselves; `past` by version, `first`: the oldest that was not expunged."""
    versions, wanted = [old.version for old in past], range(first, max(row.version, first))
    if versions != list(wanted):
        missing = sorted(set(wanted) - set(versions))
        beyond = sorted(set(versions) - set(wanted))
        said = [f"without {_few(missing)}"] * bool(missing) + [f"with {_few(beyond)} too many"] * bool(beyond)
        yield "history-gap", f"current version {row.version}, history {' and '.join(said)}"
    times = [old.updated for old in past] + ([row.updated] if row.version else [])
    if any(later <= earlier for earlier, later in pairwise(times)):
        yield "history-order", "the times of its versions do not rise"
    for old in past:
        if old.type != row.type or bool(old.body) == bool(old.deleted) or (old.method == DELETE) != bool(old.deleted):
            yield "history-row", f"version {old.version}: type, method, deletion and body do not fit together"


def read_body(key: ResourceKey, version: int, updated: int, body: bytes) -> tuple[Resource | None, list[Fault]]:
    """The resource in a stored body and what is wrong with it; None when it cannot be read."""
    try:
        resource = decode(body)
    except FhirError as error:
        return None, [("body", f"version {version} cannot be read: {error}")]
    faults = []
    if (resource.get("resourceType"), resource.get("id")) != key:
        faults.append(("body-identity", f"the body of version {version} names another type or id"))
    meta = resource.get("meta")
    told = (meta.get("versionId"), meta.get("lastUpdated")) if isinstance(meta, dict) else (None, None)
    if told[0] != str(version):
        faults.append(("body-version", f"the body of version {version} has another versionId"))
    if told[1] != instant(updated):
        faults.append(("body-time", f"the body of version {version} has another lastUpdated"))
    return (None if resource.get("resourceType") != key.type else resource), faults


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")  # noqa: PLR2004  (enough to see)
