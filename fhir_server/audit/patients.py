"""Whom a resource is about: the owners of the patient compartments it is in, and the organizations that own it, as the store's index has them.

Of a resource that was deleted, the patients of its last content. What was found is kept for one folding, which makes a `Patients` of its own. Every
index and the order of joins are named: left to choose, SQLite goes through all patients.

Specification: https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

import sqlite3
from collections.abc import Callable
from functools import cache, lru_cache

from resources.json_format import decode
from resources.model import ResourceKey
from search.extract import Extractor

_LIVE, _DELETED = 1, 2
_KEPT = 10_000
_ROW = "SELECT rid, state FROM type CROSS JOIN resource ON resource.type = type.number WHERE name = ? AND id = ?"
_OWNERS = (
    "SELECT owner.id FROM compartment INDEXED BY compartment_rid CROSS JOIN resource AS owner ON owner.rid = compartment.owner "
    "CROSS JOIN type ON type.number = owner.type WHERE compartment.rid = ? AND type.name = 'Patient' ORDER BY owner.id"
)
_ORGANIZATIONS = (
    "SELECT type.name, found.id FROM owner INDEXED BY owner_rid CROSS JOIN resource AS found ON found.rid = owner.organization "
    "CROSS JOIN type ON type.number = found.type WHERE owner.rid = ?"
)
_LAST = "SELECT body FROM history WHERE rid = ? AND deleted = 0 ORDER BY version DESC LIMIT 1"


class Patients:
    """Looks into the store of `connection` (read-only); `extractor` is asked for when a deleted resource is met first."""

    def __init__(self, connection: sqlite3.Connection, extractor: Callable[[], Extractor]) -> None:
        self._connection = connection
        self._extractor = cache(extractor)
        self.of = lru_cache(maxsize=_KEPT)(self._of)
        self.organizations = lru_cache(maxsize=_KEPT)(self._organizations)

    def _of(self, key: str) -> tuple[str, ...]:
        """The ids of the patients that `Type/id` is about; none for what is not known."""
        kind, _, name = key.partition("/")
        if kind == "Patient":
            return (name,)
        row = self._connection.execute(_ROW, (kind, name)).fetchone()
        if row is None:
            return ()
        rid, state = row
        if state == _LIVE:
            return tuple(owner for (owner,) in self._connection.execute(_OWNERS, (rid,)))
        return self._former(ResourceKey(kind, name), rid) if state == _DELETED else ()

    def _organizations(self, key: str) -> tuple[str, ...]:
        """The organizations (`Organization/1`) that own `Type/id`."""
        row = self._connection.execute(_ROW, tuple(key.split("/", 1))).fetchone() if "/" in key else None
        found = self._connection.execute(_ORGANIZATIONS, row[:1]).fetchall() if row is not None else []
        return tuple(f"{kind}/{name}" for kind, name in found)

    def _former(self, key: ResourceKey, rid: int) -> tuple[str, ...]:
        row = self._connection.execute(_LAST, (rid,)).fetchone()
        if row is None:
            return ()
        entries = self._extractor().extract(decode(bytes(row[0])), key)
        return tuple(sorted(owner.id for owner in entries.compartments if owner.type == "Patient"))
