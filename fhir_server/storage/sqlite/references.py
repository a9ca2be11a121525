"""Referential integrity: whether a unit leaves a reference to what is not there.

Rules. A reference counts when a search parameter finds it, also inside contained resources, and when it names a resource of this server; a version that it names must
have been written. What counts is how the unit leaves the store: what it writes may be referred to, what it deletes or writes anew refers to nothing else. The rows
of a target are found by (parameter, target), which is the table's key, one probe for each parameter that has any rows.

Specification: https://hl7.org/fhir/R4/references.html#integrity
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from fhir_server.storage.port import Conflict, Delete, Put, UnitOfWork
from resources.model import ResourceKey

_REFERRERS: Final = (
    "WITH RECURSIVE present(param) AS (SELECT min(param) FROM reference UNION ALL"
    " SELECT (SELECT min(r.param) FROM reference r WHERE r.param > present.param) FROM present WHERE present.param IS NOT NULL)"
    " SELECT coalesce(o.container, o.rid) FROM present CROSS JOIN reference r ON r.param = present.param AND r.target = ?"
    " CROSS JOIN resource o ON o.rid = r.rid"
)


class Current(Protocol):
    """A resource as it is before the unit."""

    @property
    def rid(self) -> int:
        """Its row number; 0 when it has none."""

    @property
    def version(self) -> int:
        """Its newest version, maybe a deletion."""

    @property
    def live(self) -> bool:
        """Whether it is there."""


def require_targets(unit: UnitOfWork, current: Callable[[ResourceKey], Current]) -> None:
    """Raise Conflict "target" naming the first resource that the unit refers to and that is not there afterwards."""
    final = {write.key: write for write in unit.writes}
    written = Counter(write.key for write in unit.writes)
    for write in final.values():
        if not isinstance(write, Put):
            continue
        for target, version in write.entries.targets():
            before = current(target)
            there = isinstance(final[target], Put) if target in final else before.live
            if not there or not _is_version(version, before.version + written[target]):
                raise Conflict("target", target)


def require_unreferred(
    unit: UnitOfWork, current: Callable[[ResourceKey], Current], connection: sqlite3.Connection
) -> None:
    """Raise Conflict "referred" naming the first resource that the unit deletes and that another still refers to.

    The tables hold everything that was written before the unit.
    """
    final = {write.key: write for write in unit.writes}
    touched = {current(key).rid for key in final}
    for key, write in final.items():
        before = current(key)
        if (
            isinstance(write, Delete)
            and before.live
            and any(rid not in touched for rid in referrers(connection, before.rid))
        ):
            raise Conflict("referred", key)


def referrers(connection: sqlite3.Connection, rid: int) -> Iterator[int]:
    """The row numbers of the resources that refer to this one, in no order and perhaps repeated."""
    return (row[0] for row in connection.execute(_REFERRERS, (rid,)))


def _is_version(named: str, newest: int) -> bool:
    return not named or (named.isascii() and named.isdigit() and 1 <= int(named) <= newest)
