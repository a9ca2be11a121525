"""The verb of `$everything` as a function of one connection: a page from one snapshot.

Rules: the owner comes first, then the members of its compartment in the order of the table, then what they refer to in row order; a page that
members fill does not look at references.

Specification: https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Literal

from fhir_server.storage.port import Collected, Row
from fhir_server.storage.sqlite.catalog import Catalog
from fhir_server.storage.sqlite.reading import read, stored_row
from search.dialects.sqlite import everything as dialect
from search.dialects.sqlite.statement import Statement
from search.everything import EverythingQuery, Place
from search.narrowing import EVERYTHING, Narrowing

Columns = tuple[Any, ...]
"""Type number, rid, id, version, updated, method, body."""
_NOBODY = -(1 << 61)
"""A row number that no patient has."""


def everything(catalog: Catalog, query: EverythingQuery, narrowing: Narrowing) -> Collected:
    """A page of what there is about the owner."""
    catalog.even = narrowing is not EVERYTHING
    owner = read(catalog, query.owner, narrowing)
    if owner is None or owner.deleted:
        return Collected(owner, (), more=False)
    patient = _patient(catalog, query)
    rows: list[Row] = []
    if query.after is None:
        named = query.types is None or query.owner.type in query.types
        if named and (query.since is None or owner.updated >= query.since):
            rows.append(Row(owner, "match", Place(0, -1, -1)))
    limit = query.count + 1 - len(rows)
    members: list[Columns] = []
    if query.after is None or query.after.part == 0:
        members = _found(catalog, dialect.members(query, patient, narrowing, catalog), limit)
        query = replace(query, after=None)
    referred: list[Columns] = []
    if len(members) < limit:
        referred = _found(catalog, dialect.referred(query, patient, narrowing, catalog), limit - len(members))
        referred.sort(key=itemgetter(1))
    more = len(members) + len(referred) == limit
    for part in (referred, members):
        if more and part:
            part.pop()
            break
    rows += _rows(catalog, members, 0)
    rows += _rows(catalog, referred, 1)
    return Collected(owner, tuple(rows), more)


def _patient(catalog: Catalog, query: EverythingQuery) -> int:
    """The row number of the patient whose data may come."""
    rid = catalog.rid(query.owner)
    if query.owner.type == "Patient":
        return rid
    statement = dialect.patient_of(rid, catalog)
    found = catalog.connection.execute(statement.sql, statement.values).fetchone()
    return _NOBODY if found is None else int(found[0])


def _found(catalog: Catalog, statement: Statement, limit: int) -> list[Columns]:
    return catalog.connection.execute(statement.sql, (*statement.values, limit)).fetchall()


def _rows(catalog: Catalog, found: Sequence[Columns], part: int) -> list[Row]:
    """The resources found; the last one knows its place."""
    if not found:
        return []
    mode: Literal["match", "include"] = "include" if part else "match"
    rows = [Row(stored_row(catalog.type_name(columns[0]), columns), mode) for columns in found]
    kind, rid, *_ = found[-1]
    rows[-1] = rows[-1]._replace(position=Place(part, 0 if part else kind, rid))
    return rows
