"""Whom a resource is about: the owners of the patient compartments it is in, and the organizations that own it, as the store's index has them.

Of a resource that was deleted, the patients of its last content. What was found is kept for one folding, which makes a `Patients` of its own. What is
not known yet of a slice is asked for by one statement. Every index and the order of joins are named: left to choose, SQLite goes through all patients.

Specification: https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Final

import msgspec

from fhir_server.audit.record import About
from resources.json_format import decode
from resources.model import ResourceKey
from search.extract import Extractor

NOBODY: Final = About((), ())
_LIVE, _DELETED = 1, 2
_KEPT = 10_000
_FOUND = (
    "SELECT asked.value, resource.rid, resource.state, "
    "(SELECT json_group_array(owner.id) FROM compartment INDEXED BY compartment_rid "
    "CROSS JOIN resource AS owner ON owner.rid = compartment.owner CROSS JOIN type ON type.number = owner.type "
    "WHERE compartment.rid = resource.rid AND type.name = 'Patient'), "
    "(SELECT json_group_array(type.name || '/' || found.id) FROM owner INDEXED BY owner_rid "
    "CROSS JOIN resource AS found ON found.rid = owner.organization CROSS JOIN type ON type.number = found.type "
    "WHERE owner.rid = resource.rid) "
    "FROM json_each(?) AS asked "
    "CROSS JOIN type AS kind ON kind.name = substr(asked.value, 1, instr(asked.value, '/') - 1) "
    "CROSS JOIN resource ON resource.type = kind.number AND resource.id = substr(asked.value, instr(asked.value, '/') + 1)"
)
_LAST = "SELECT body FROM history WHERE rid = ? AND deleted = 0 ORDER BY version DESC LIMIT 1"

_encode = msgspec.json.Encoder().encode
_names = msgspec.json.Decoder(tuple[str, ...]).decode


class Patients:
    """Looks into the store of `connection` (read-only); `extractor` is asked for when a deleted resource is met first."""

    def __init__(self, connection: sqlite3.Connection, extractor: Callable[[], Extractor]) -> None:
        self._connection = connection
        self._extractor = cache(extractor)
        self._known: dict[str, About] = {}

    def of(self, keys: Collection[str]) -> Mapping[str, About]:
        """Whom each `Type/id` is about, unsorted; of what is not known, nobody. There may be more in it than was asked for."""
        fresh = set(keys) - self._known.keys()
        if fresh and len(self._known) + len(fresh) > _KEPT:
            self._known = {}
            fresh = set(keys)
        for key in fresh:
            kind, _, name = key.partition("/")
            self._known[key] = About((name,), ()) if kind == "Patient" else NOBODY
        if fresh:
            for key, rid, state, owners, organizations in self._connection.execute(
                _FOUND, (_encode(list(fresh)).decode(),)
            ):
                about = self._known.get(key, NOBODY)
                patients = about.patients or self._owners(key, rid, state, owners)
                self._known[key] = About(patients, _names(organizations))
        return self._known

    def _owners(self, key: str, rid: int, state: int, owners: str) -> tuple[str, ...]:
        if state == _LIVE:
            return _names(owners)
        return self._former(ResourceKey(*key.split("/", 1)), rid) if state == _DELETED else ()

    def _former(self, key: ResourceKey, rid: int) -> tuple[str, ...]:
        row = self._connection.execute(_LAST, (rid,)).fetchone()
        if row is None:
            return ()
        entries = self._extractor().extract(decode(bytes(row[0])), key)
        return tuple(sorted(owner.id for owner in entries.compartments if owner.type == "Patient"))
