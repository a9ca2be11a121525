"""The verb of `$everything` as a function of one connection: a page from one snapshot.

Rules: the owner comes first, then the members of its compartment in the order of the table, then what they refer to in row order; a page that
members fill does not look at references.

Specification: https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from dataclasses import replace
from typing import Literal

from fhir_server.storage.port import Collected, Row
from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.reading import read, stored_row
from search.dialects.sqlite import everything as dialect
from search.dialects.sqlite.statement import Statement
from search.everything import EverythingQuery, Place
from search.narrowing import Narrowing

_NOBODY = -(1 << 61)
"""A row number that no patient has."""


def everything(catalog: Catalog, query: EverythingQuery, narrowing: Narrowing) -> Collected:
    """A page of what there is about the owner."""
    owner = read(catalog, query.owner, narrowing)
    if owner is None or owner.deleted:
        return Collected(owner, (), more=False)
    patient = _patient(catalog, query)
    rows: list[Row] = []
    if query.after is None:
        named = query.types is None or query.owner.type in query.types
        if named and (query.since is None or owner.updated >= query.since):
            rows.append(Row(owner, "match", Place(0, -1, -1)))
    limit = query.count + 1
    if query.after is None or query.after.part == 0:
        rows += _rows(catalog, dialect.members(query, patient, narrowing, catalog), limit - len(rows), 0)
        query = replace(query, after=None)
    if len(rows) < limit:
        found = _rows(catalog, dialect.referred(query, patient, narrowing, catalog), limit - len(rows), 1)
        rows += sorted(found, key=lambda row: row.position or ())
    return Collected(owner, tuple(rows[: query.count]), len(rows) > query.count)


def _patient(catalog: Catalog, query: EverythingQuery) -> int:
    """The row number of the patient whose data may come."""
    rid = catalog.rid(query.owner)
    if query.owner.type == "Patient":
        return rid
    statement = dialect.patient_of(rid, catalog)
    found = catalog.connection.execute(statement.sql, statement.values).fetchone()
    return _NOBODY if found is None else int(found[0])


def _rows(catalog: Catalog, statement: Statement, limit: int, part: int) -> list[Row]:
    found = catalog.connection.execute(statement.sql, (*statement.values, limit)).fetchall()
    mode: Literal["match", "include"] = "include" if part else "match"
    name = catalog.type_name
    return [Row(stored_row(name(row[0]), row), mode, Place(part, 0 if part else row[0], row[1])) for row in found]
