# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""`$everything` -> SQL: the members of a compartment, and what they refer to.

Rules. The compartment table drives, in its own order; references are followed one step, from the members' own entries (not from
those of contained resources). Another patient's data never comes: no other Patient, nothing that is in the compartments of others alone
and, of what is in nobody's, nothing that refers to another patient or to what is another's alone; a Binary, which does not say whose it is, comes
only by members that nobody shares. Access is a condition of every member that is shown or
followed and of everything referred to.

Columns of a statement: type number, then rid, id, version, updated, method, body. Its last value, the limit, is bound by the adapter.

Specification: https://hl7.org/fhir/R4/patient-operation-everything.html
"""

import json

from search.dialects.sqlite.access import of_types
from search.dialects.sqlite.conditions import Catalog, Sql, storage_codes
from search.dialects.sqlite.layout import LIVE
from search.dialects.sqlite.plan import Planner
from search.dialects.sqlite.sources import TRUE, values_of
from search.dialects.sqlite.statement import COLUMNS, Statement
from search.everything import EverythingQuery
from search.narrowing import EVERYTHING, Narrowing
from search.query import All

_OTHERS = (
    "NOT EXISTS (SELECT 1 FROM compartment o INDEXED BY compartment_rid CROSS JOIN resource p"
    " WHERE o.rid = {rid} AND o.owner <> ? AND p.rid = o.owner AND p.type = ?)"
)
"""The row is in no other patient's compartment. Values: the patient, the number of the type Patient."""
_OWN = "EXISTS (SELECT 1 FROM compartment o WHERE o.owner = ? AND o.type = {type} AND o.rid = {rid})"


def patient_of(rid: int, catalog: Catalog) -> Statement:
    """The statement that gives the row number of the patient in whose compartment a row is."""
    return Statement(
        "SELECT o.owner FROM compartment o INDEXED BY compartment_rid CROSS JOIN resource p"
        " WHERE o.rid = ? AND p.rid = o.owner AND p.type = ? ORDER BY 1 LIMIT 1",
        (rid, catalog.type("Patient")),
    )


def members(query: EverythingQuery, patient: int, narrowing: Narrowing, catalog: Catalog) -> Statement:
    """The members of the compartment behind `query.after`, without the owner; `patient`: the row number of whose data may come."""
    parts: list[Sql] = [("c.owner = ?", (catalog.rid(query.owner),))]
    if query.after is not None:
        parts.append(("(c.type, c.rid) > (?, ?)", query.after[1:]))
    parts += [
        ("c.rid <> ?", (catalog.rid(query.owner),)),
        ("c.type <> ?", (catalog.type("Patient"),)),
        *_member(query, patient, narrowing, catalog),
        ("r.rid = c.rid", ()),
        *_shown(query, "c.type", catalog),
    ]
    where, values = _all(parts)
    sql = f"SELECT c.type, {COLUMNS} FROM compartment c CROSS JOIN resource r WHERE {where} ORDER BY c.type, c.rid LIMIT ?"
    return Statement(sql, values)


def referred(query: EverythingQuery, patient: int, narrowing: Narrowing, catalog: Catalog) -> Statement:
    """What the members refer to and is no member, from behind `query.after`; rows may come in any order."""
    owner, patients = catalog.rid(query.owner), catalog.type("Patient")
    after = query.after.rid if query.after is not None and query.after.part else 0
    followed = _all(
        [
            ("c.owner = ?", (owner,)),
            ("(c.type <> ? OR c.rid = c.owner)", (patients,)),
            *_member(query, patient, narrowing, catalog),
            ("x.rid = c.rid AND x.param > 0 AND x.target <> c.owner AND x.target > ?", (after,)),
            (f"(x.kind <> ? OR {_OTHERS.format(rid='c.rid')})", (catalog.type("Binary"), patient, patients)),
        ]
    )
    wanted = _all(
        [
            (f"r.rid = t.rid AND r.state = {LIVE}", ()),
            (f"NOT {_OWN.format(type='r.type', rid='r.rid')}", (owner,)),
            _fit(patient, patients),
            *_shown(query, "r.type", catalog),
            _cared(query, "r.rid", catalog),
            _visible(narrowing, "r.rid", "r.type", catalog),
        ]
    )
    sql = (
        f"SELECT r.type, {COLUMNS} FROM (SELECT t.rid FROM (SELECT DISTINCT x.target AS rid FROM compartment c CROSS JOIN"
        f" reference x INDEXED BY reference_rid WHERE {followed[0]}) t CROSS JOIN resource r WHERE {wanted[0]}"
        " ORDER BY t.rid LIMIT ?) s CROSS JOIN resource r WHERE r.rid = s.rid"
    )
    return Statement(sql, followed[1] + wanted[1])


def _fit(patient: int, patients: int) -> Sql:
    """The row `r` is the patient's own, or nobody's who is another patient."""
    refers = (
        "NOT EXISTS (SELECT 1 FROM reference y INDEXED BY reference_rid WHERE y.rid = r.rid AND y.kind = ? AND y.target <> ?)"
        " AND NOT EXISTS (SELECT 1 FROM resource k INDEXED BY contained CROSS JOIN reference y INDEXED BY reference_rid"
        " WHERE k.container = r.rid AND y.rid = k.rid AND y.kind = ? AND y.target <> ?)"
        " AND NOT EXISTS (SELECT 1 FROM reference y INDEXED BY reference_rid CROSS JOIN compartment o INDEXED BY compartment_rid"
        " CROSS JOIN resource p WHERE y.rid = r.rid AND o.rid = y.target AND o.owner <> ? AND p.rid = o.owner AND p.type = ?"
        " AND NOT EXISTS (SELECT 1 FROM compartment w WHERE w.owner = ? AND w.type = o.type AND w.rid = o.rid))"
    )
    own = _OWN.format(type="r.type", rid="r.rid")
    sql = f"(r.type <> ? OR r.rid = ?) AND ({own} OR ({_OTHERS.format(rid='r.rid')} AND {refers}))"
    seen = (patient, patient, patients, patients, patient, patients, patient, patient, patients, patient)
    return sql, (patients, patient, *seen)


def _member(query: EverythingQuery, patient: int, narrowing: Narrowing, catalog: Catalog) -> list[Sql]:
    """What a member `c` must satisfy to be shown or followed."""
    parts = [_cared(query, "c.rid", catalog), _visible(narrowing, "c.rid", "c.type", catalog)]
    if query.owner.type != "Patient":
        own, others = _OWN.format(type="c.type", rid="c.rid"), _OTHERS.format(rid="c.rid")
        parts.append((f"({own} OR {others})", (patient, patient, catalog.type("Patient"))))
    return parts


def _shown(query: EverythingQuery, kind: str, catalog: Catalog) -> list[Sql]:
    """What a row `r` of the answer must satisfy."""
    parts: list[Sql] = []
    if query.types is not None:
        numbers = [catalog.type(name) for name in query.types]
        parts.append((f"{kind} IN (SELECT value FROM json_each(?))", (json.dumps(numbers),)))
    if query.since is not None:
        parts.append(("r.updated >= ?", (query.since,)))
    return parts


def _cared(query: EverythingQuery, rid: str, catalog: Catalog) -> Sql:
    """The care was within the period asked for, or has no date."""
    bounds = [
        (sql, bound) for sql, bound in (("d.low <= ?", query.end), ("d.high >= ?", query.start)) if bound is not None
    ]
    if not bounds:
        return TRUE
    numbers = json.dumps([catalog.parameter(one.base, code) for one in query.dates for code in storage_codes(one)])
    dated = (
        f"EXISTS (SELECT 1 FROM date d INDEXED BY date_rid WHERE d.rid = {rid}"
        " AND d.param IN (SELECT value FROM json_each(?))"
    )
    within = " AND ".join(f"{dated} AND {sql})" for sql, _ in bounds)
    return f"(NOT {dated}) OR ({within}))", (numbers, *(value for _, bound in bounds for value in (numbers, bound)))


def _visible(narrowing: Narrowing, rid: str, kind: str, catalog: Catalog) -> Sql:
    """A row, of whatever type, is inside the narrowing."""
    if narrowing is EVERYTHING:
        return TRUE
    nodes = [(name, narrowing.of(name)) for name in catalog.types()]
    if all(isinstance(node, All) for _, node in nodes):
        return TRUE
    return of_types(Planner(catalog), nodes, kind, rid)


def _all(parts: list[Sql]) -> Sql:
    kept = [part for part in parts if part is not TRUE]
    return " AND ".join([sql for sql, _ in kept]), values_of(kept)
