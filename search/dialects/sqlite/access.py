# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""What access rules ask -> SQL: owners, release, compartments of many, targets that are all visible.

Rules. As in plan.py. The nodes are never negated by those who ask, only by the rules themselves; a contained resource satisfies none of
them, for it is as visible as what contains it. A walk of a hierarchy passes through visible resources alone.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from search.dialects.sqlite.conditions import Range, Sql, marks, primary
from search.dialects.sqlite.layout import LIVE
from search.dialects.sqlite.sources import TRUE, Branch, Source, joined
from search.query import All, EveryTarget, HierarchyTest, InCompartments, Node, Nothing, OwnedBy, Owners, Released

if TYPE_CHECKING:
    from search.dialects.sqlite.plan import Planner

_REFERENCES = primary("reference")
_OWNING = frozenset({"Patient", "Encounter", "RelatedPerson", "Practitioner", "Device"})
"""Types of what owns compartments, where InCompartments means something else: https://hl7.org/fhir/R4/compartmentdefinition.html."""


def holds(planner: "Planner", node: OwnedBy | Released | InCompartments | EveryTarget, rid: str, type_: str) -> Sql:
    """The condition that the live resource `rid` of `type_` satisfies the node."""
    match node:
        case OwnedBy():
            return _owned(planner, node, rid, type_)
        case Released():
            a = planner.alias()
            return f"EXISTS (SELECT 1 FROM resource {a} WHERE {a}.rid = {rid} AND {a}.released = 1)", ()
        case InCompartments():
            return _among(planner, node, rid, type_)
        case EveryTarget():
            return _every_target(planner, node, rid)


def source(planner: "Planner", node: OwnedBy | InCompartments, type_: str) -> Source | None:
    """Where its rows are; None where only a scan would tell."""
    if isinstance(node, InCompartments):
        return _members(planner, node, type_)
    if node.unowned:
        return None
    a = planner.alias()
    values = (*(planner.catalog.rid(key) for key in node.organizations), planner.catalog.type(type_))
    where = f"{a}.organization IN ({marks(node.organizations)}) AND {a}.type = ?"
    return Source((Branch(f"{a}.rid", (f"owner {a}", ()), (where, values), len(node.organizations) == 1),), 7)


def _owned(planner: "Planner", node: OwnedBy, rid: str, type_: str) -> Sql:
    found: list[Sql] = []
    if node.organizations:
        a = planner.alias()
        rids = tuple(planner.catalog.rid(key) for key in node.organizations)
        among = f"{a}.organization IN ({marks(rids)}) AND {a}.rid = {rid}"
        if type_:
            sql = f"SELECT 1 FROM owner {a} WHERE {among} AND {a}.type = ?"
            found.append((f"EXISTS ({sql})", (*rids, planner.catalog.type(type_))))
        else:
            found.append((f"EXISTS (SELECT 1 FROM owner {a} INDEXED BY owner_rid WHERE {among})", rids))
    if node.unowned:
        a = planner.alias()
        found.append((f"NOT EXISTS (SELECT 1 FROM owner {a} INDEXED BY owner_rid WHERE {a}.rid = {rid})", ()))
    return joined(found, "OR")


def _among(planner: "Planner", node: InCompartments, rid: str, type_: str) -> Sql:
    if type_ == node.owners.type:
        return _is_one_of(planner, rid, node.owners)
    a = planner.alias()
    sql, values = _is_one_of(planner, f"{a}.owner", node.owners)
    return f"EXISTS (SELECT 1 FROM compartment {a} INDEXED BY compartment_rid WHERE {a}.rid = {rid} AND {sql})", values


def _is_one_of(planner: "Planner", number: str, owners: Owners) -> Sql:
    """The condition that a row number is that of an owner.

    For one row their list is looked through as a text, which takes a tenth of the time to make a table of it. For many the table is made once: the +
    keeps SQLite from going through all of it for each row to look for that row's compartments.
    """
    numbers = planner.catalog.rids(owners)
    if planner.single:
        return f"instr(?, ' ' || {number} || ',')", (f" {numbers[1:-1]},",)
    return f"+{number} IN (SELECT value FROM json_each(?))", (numbers,)


def _members(planner: "Planner", node: InCompartments, type_: str) -> Source:
    numbers = planner.catalog.rids(node.owners)
    j, a = planner.alias(), planner.alias()
    number = planner.catalog.type(type_)
    size = len(node.owners.ids)
    if type_ == node.owners.type:
        where = f"{a}.rid = {j}.value AND {a}.type = ? AND {a}.state = {LIVE}"
        tables = f"json_each(?) {j} CROSS JOIN resource {a}"
        return Source((Branch(f"{a}.rid", (tables, (numbers,)), (where, (number,)), unique=True),), 1, size=size)
    where = f"{a}.owner = {j}.value AND {a}.type = ?"
    return Source(
        (Branch(f"{a}.rid", (f"json_each(?) {j} CROSS JOIN compartment {a}", (numbers,)), (where, (number,))),), 5
    )


def _live(planner: "Planner", node: Node, rid: str, type_: str) -> Sql:
    """The condition that a row, of whatever type, is a live resource of `type_` that satisfies the node."""
    where = planner.holds(node, rid, type_)
    return where if planner.finds(node) else joined([planner.live(rid, type_), where], "AND")


def of_types(planner: "Planner", nodes: Iterable[tuple[str, Node]], kind: str, rid: str, *, live: bool = False) -> Sql:
    """The condition that the row `rid`, whose type number is `kind`, satisfies the node of its type; `live`: and that it is live.

    Types of one node share its condition: an access rule is the same for most.
    """
    groups: dict[tuple[Node, str], list[str]] = {}
    for name, node in nodes:
        groups.setdefault((node, name if name in _OWNING else ""), []).append(name)
    parts: list[Sql] = []
    for (node, _), names in groups.items():
        if isinstance(node, Nothing):
            continue
        whole = names[0] if len(names) == 1 else ""
        sql, values = _live(planner, node, rid, whole) if live else planner.holds(node, rid, whole)
        numbers = tuple(planner.catalog.type(name) for name in names)
        parts.append((f"({kind} IN ({marks(numbers)}) AND {sql})", (*numbers, *values)))
    return joined(parts, "OR")


def _every_target(planner: "Planner", node: EveryTarget, rid: str) -> Sql:
    a, u, t, x = (planner.alias() for _ in range(4))
    param, numbers = planner.parameters(node.parameter, a)
    elsewhere, others = planner.parameters(node.parameter, u)
    logical, named = planner.parameters(node.parameter, t)
    each, these = planner.parameters(node.parameter, x)
    occurring = set(planner.catalog.types())
    seen = [(name, visible) for name, visible in node.visible if name in occurring]
    wanted = of_types(planner, seen, f"{x}.kind", f"{x}.target", live=True)
    sql = (
        f"EXISTS (SELECT 1 FROM reference {a} INDEXED BY reference_rid WHERE {a}.rid = {rid} AND {param})"
        f" AND NOT EXISTS (SELECT 1 FROM uri {u} INDEXED BY uri_rid WHERE {u}.rid = {rid} AND {elsewhere})"
        f" AND NOT EXISTS (SELECT 1 FROM token {t} INDEXED BY token_rid WHERE {t}.rid = {rid} AND {logical})"
        f" AND NOT EXISTS (SELECT 1 FROM reference {x} INDEXED BY reference_rid WHERE {x}.rid = {rid} AND {each}"
        f" AND NOT ({wanted[0]}))"
    )
    return f"({sql})", (*numbers, *others, *named, *these, *wanted[1])


# ---- hierarchies of resources


def hierarchy(planner: "Planner", test: HierarchyTest) -> Range:
    """The references to one of the test's keys, or to what is under (over) one of them by `parent`, through visible resources."""
    kind = test.keys[0].type
    rids = tuple(planner.catalog.rid(key) for key in test.keys)
    below = test.mode == "below"
    index, column, next_ = (_REFERENCES, "target", "rid") if below else ("reference_rid", "rid", "target")
    h, r = planner.alias(), planner.alias()
    start: Sql = TRUE
    step: Sql = TRUE
    if not isinstance(test.visible, All):
        start = _live(planner, test.visible, "j.value", kind)
        step = _live(planner, test.visible, f"{r}.{next_}", kind)
    sql = (
        f"{{a}}.target IN (WITH RECURSIVE {h}(rid) AS (SELECT j.value FROM json_each(?) j WHERE {start[0]} UNION"
        f" SELECT {r}.{next_} FROM {h} CROSS JOIN reference {r} INDEXED BY {index} WHERE {r}.param = ? AND {r}.{column} = {h}.rid"
        f" AND {step[0]}) SELECT rid FROM {h})"
    )
    parent = planner.catalog.parameter(kind, test.parent)
    return Range("reference", sql, (json.dumps(rids), *start[1], parent, *step[1]), index=_REFERENCES)
