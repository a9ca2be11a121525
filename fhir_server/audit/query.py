"""Searches of the ledger: the nodes of a search of AuditEvent as SQL over it.

Rules.
1. A patient may not even ask whether a record is about somebody else, too: such conditions match nothing.
2. What the caller asks for and cannot be answered from the ledger is refused by name (400). What an access rule says and is not understood
   here lets nothing through.
3. Newest first unless `_sort=date`. A page goes on behind the time and number of its last row.

Specification: https://hl7.org/fhir/R4/auditevent.html#search
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from fhir_server.audit.record import Record, decode, decode_about
from resources.errors import FhirError
from search.query import (
    All,
    And,
    DateTest,
    HasId,
    InCompartment,
    InCompartments,
    LastUpdated,
    Match,
    Node,
    Not,
    Nothing,
    Or,
    OwnedBy,
    Query,
    ReferenceTest,
    Released,
    StringTest,
    TokenTest,
)

PARAMETERS = ("_id", "_lastUpdated", "action", "agent", "agent-name", "date", "entity", "outcome", "patient", "subtype")
"""What a search may ask for."""
_COLUMNS = {"outcome": "outcome", "action": "action", "subtype": "code"}
_LABELS = frozenset({"_security", "_tag"})
_SORTS = frozenset({"date", "_lastUpdated"})


class Found(NamedTuple):
    """A record of the ledger. `patients`: ids of those it concerns."""

    seq: int
    record: Record
    patients: tuple[str, ...]


@dataclass(slots=True)
class _Sql:
    """A predicate under construction: its values in the order of its question marks.

    `only`: the patients of whom the caller may learn that a record is about them; None: all.
    """

    values: list[Any] = field(default_factory=list)
    only: frozenset[str] | None = None

    def of(self, values: Sequence[Any]) -> str:
        self.values.extend(values)
        return ", ".join("?" * len(values))


def select(connection: sqlite3.Connection, query: Query, allowed: Node) -> list[Found]:
    """One row more than a page holds; `query.after` is (time, seq) of the row before it."""
    ascending = _ascending(query)
    sql = _Sql(only=patients_of(allowed))
    where = _where(query, allowed, sql)
    if query.after is not None:
        where += f" AND (time, seq) {'>' if ascending else '<'} (?, ?)"
        sql.values += query.after
    order = "time, seq" if ascending else "time DESC, seq DESC"
    text = f"SELECT seq, body, about FROM record WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608  (no value in it)
    rows = connection.execute(text, (*sql.values, query.count + 1)).fetchall()
    return [_found(*row) for row in rows]


def _found(seq: int, body: bytes, told: str) -> Found:
    return Found(seq, decode(body), decode_about(told).patients)


def everything(connection: sqlite3.Connection, since: int) -> Iterator[Found]:
    """All that is shown behind record `since`, the oldest first."""
    text = "SELECT seq, body, about FROM record WHERE shown = 1 AND seq > ? ORDER BY seq"
    for seq, body, told in connection.execute(text, (since,)):
        yield _found(seq, body, told)


def total(connection: sqlite3.Connection, query: Query, allowed: Node) -> int:
    """How many records match."""
    sql = _Sql(only=patients_of(allowed))
    where = _where(query, allowed, sql)
    return int(connection.execute(f"SELECT count(*) FROM record WHERE {where}", sql.values).fetchone()[0])  # noqa: S608


def patients_of(allowed: Node) -> frozenset[str] | None:
    """The patients as whom somebody reads under this access rule; None: as somebody who may know of all."""
    owners = list(_owners(allowed))
    return frozenset(owners) if owners else None


def _owners(node: Node) -> Iterator[str]:
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _owners(part)
        case InCompartment(owner) if owner.type == "Patient":
            yield owner.id
        case InCompartments(owners) if owners.type == "Patient":
            yield from owners.ids
            yield ""


def _where(query: Query, allowed: Node, sql: _Sql) -> str:
    if query.includes or query.contained != "no":
        raise _not_supported("_include, _revinclude and _contained")
    asked = _asked(query.where, sql)
    return f"shown = 1 AND {asked} AND {_permitted(allowed, sql)}"


def _ascending(query: Query) -> bool:
    if not query.sort:
        return False
    key = query.sort[0]
    if len(query.sort) > 1 or key.field not in _SORTS:
        raise _not_supported("_sort by anything but date")
    return not key.descending


def _asked(node: Node, sql: _Sql) -> str:
    match node:
        case All():
            return "1"
        case Nothing():
            return "0"
        case And(parts):
            return f"({' AND '.join([_asked(part, sql) for part in parts])})"
        case Or(parts):
            return f"({' OR '.join([_asked(part, sql) for part in parts])})"
        case Not(part):
            return f"NOT ({_asked(part, sql)})"
        case HasId(ids):
            return f"seq IN ({sql.of([int(one) for one in ids if one.isdecimal() and len(one) < 19])})"  # noqa: PLR2004
        case LastUpdated(test):
            return _moment(test, sql)
        case InCompartment(owner) if owner.type == "Patient":
            return _of_patients([owner.id] if sql.only is None or owner.id in sql.only else [], sql)
        case Match():
            return _match(node, sql)
    raise _not_supported("such a condition")


def _match(node: Match, sql: _Sql) -> str:
    code, test = node.parameter.code, node.test
    match code, test:
        case "date", DateTest():
            return _moment(test, sql)
        case "agent" | "entity" | "patient", ReferenceTest() if not node.identifier and test.version is None:
            return _named(code, test, sql)
        case "agent-name", StringTest(mode="starts", text=text):
            sql.values += (f"@{text}", f"@{text}{chr(0x10FFFF)}")
            return _listed("party", "BETWEEN ? AND ?")
        case (("outcome" | "action" | "subtype"), TokenTest(codes=codes)) if codes is not None:
            column = _COLUMNS[code]
            return f"{column} COLLATE NOCASE IN ({sql.of(codes)})"
    raise _not_supported(f"{code} in this form")


def _named(code: str, test: ReferenceTest, sql: _Sql) -> str:
    """Records by the one who asked, by what they are about, or by the patient."""
    names = [str(key) for key in test.keys]
    patients = [key.id for key in test.keys if key.type == "Patient" and (sql.only is None or key.id in sql.only)]
    if code == "agent":
        return _listed("party", f"IN ({sql.of(names)})")
    if code == "patient" or sql.only is not None:
        return _of_patients(patients, sql)
    return f"({_listed('entity', f'IN ({sql.of(names)})')} OR {_of_patients(patients, sql)})"


def _of_patients(names: Collection[str], sql: _Sql) -> str:
    sql.values.append(msgspec.json.encode(sorted(names)).decode())
    return _listed("patient", "IN (SELECT value FROM json_each(?))")


def _listed(table: str, names: str) -> str:
    """Records in which one of the names stands (`ledger`, rule 3)."""
    return (
        f"seq IN (SELECT one.value FROM {table} CROSS JOIN json_each({table}.seqs) AS one WHERE {table}.name {names})"  # noqa: S608
    )


def _moment(test: DateTest, sql: _Sql) -> str:
    """`recorded` is a point in time."""
    low, high = test.low, test.high
    match test.prefix:
        case "eq" | "co" | "ap":
            return f"time BETWEEN {sql.of([low])} AND {sql.of([high])}"
        case "ne":
            return f"time NOT BETWEEN {sql.of([low])} AND {sql.of([high])}"
        case "gt" | "sa":
            return f"time > {sql.of([high])}"
        case "ge":
            return f"time >= {sql.of([low])}"
        case "lt" | "eb":
            return f"time < {sql.of([low])}"
        case "le":
            return f"time <= {sql.of([high])}"


def _permitted(node: Node, sql: _Sql) -> str:
    """An access rule. A record is an organization's when it is about no other, too. What the rule says of release is not about records; what is not understood is not permitted."""
    match node:
        case All() | Released():
            return "1"
        case And(parts):
            return f"({' AND '.join([_permitted(part, sql) for part in parts])})"
        case Or(parts):
            return f"({' OR '.join([_permitted(part, sql) for part in parts])})"
        case InCompartment(owner) if owner.type == "Patient":
            return _of_patients((owner.id,), sql)
        case InCompartments(owners) if owners.type == "Patient":
            return _of_patients(owners.ids, sql)
        case Not(Match(parameter=parameter)) if parameter.code in _LABELS:
            return "1"  # records bear no labels
        case OwnedBy(organizations, unowned):
            names = sql.of([str(key) for key in organizations])
            foreign = f"EXISTS (SELECT 1 FROM json_each(about, '$[1]') WHERE value NOT IN ({names}))"  # noqa: S608
            some = "" if unowned else " AND json_array_length(about, '$[1]') > 0"
            return f"(NOT {foreign}{some})"
    return "0"


def _not_supported(what: str) -> FhirError:
    listed = ", ".join(PARAMETERS)
    said = (
        f"{what} is not supported on AuditEvent, which this server makes of its audit trail; it is searched by {listed}"
    )
    return FhirError(400, "not-supported", said)
