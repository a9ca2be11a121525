# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""What access rules ask -> SQL: owners, release, compartments of resources that satisfy something, targets that are all visible.

Rules. As in plan.py. The nodes are never negated by those who ask, only by the rules themselves; a contained resource satisfies none of
them, for it is as visible as what contains it. A walk of a hierarchy passes through visible resources alone.
"""

import json
from typing import TYPE_CHECKING

from search.dialects.sqlite.conditions import Range, Sql, marks, primary
from search.dialects.sqlite.sources import ENOUGH, TRUE, Branch, Source, joined
from search.query import All, EveryTarget, HierarchyTest, Node, Nothing, OwnedBy, Released, Within

if TYPE_CHECKING:
    from search.dialects.sqlite.plan import Planner

_REFERENCES = primary("reference")


def holds(planner: "Planner", node: OwnedBy | Released | Within | EveryTarget, rid: str, type_: str) -> Sql:
    """The condition that the live resource `rid` of `type_` satisfies the node."""
    match node:
        case OwnedBy():
            return _owned(planner, node, rid, type_)
        case Released():
            a = planner.alias()
            return f"EXISTS (SELECT 1 FROM resource {a} WHERE {a}.rid = {rid} AND {a}.released = 1)", ()
        case Within():
            return _within(planner, node, rid)
        case EveryTarget():
            return _every_target(planner, node, rid)


def source(planner: "Planner", node: OwnedBy | Within, type_: str) -> Source | None:
    """Where its rows are; None where only a scan would tell."""
    if isinstance(node, Within):
        return _compartments(planner, node, type_)
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
        sql = f"SELECT 1 FROM owner {a} WHERE {a}.organization IN ({marks(rids)}) AND {a}.type = ? AND {a}.rid = {rid}"
        found.append((f"EXISTS ({sql})", (*rids, planner.catalog.type(type_))))
    if node.unowned:
        a = planner.alias()
        found.append((f"NOT EXISTS (SELECT 1 FROM owner {a} INDEXED BY owner_rid WHERE {a}.rid = {rid})", ()))
    return joined(found, "OR")


def _within(planner: "Planner", node: Within, rid: str) -> Sql:
    a = planner.alias()
    where, values = _live(planner, node.where, f"{a}.owner", node.owner)
    sql = f"SELECT 1 FROM compartment {a} INDEXED BY compartment_rid WHERE {a}.rid = {rid} AND {where}"
    return f"EXISTS ({sql})", values


def _compartments(planner: "Planner", node: Within, type_: str) -> Source | None:
    """The members of the compartments of the owners, where these are not too many."""
    owners = planner.source(node.where, node.owner)
    if owners is None or planner.counted(owners) >= ENOUGH:
        return None
    branches = []
    for branch in planner.finished(owners, node.owner):
        s, a = planner.alias(), planner.alias()
        sql, values = branch.select()
        tables = f"({sql}) {s} CROSS JOIN compartment {a}"
        branches.append(
            Branch(
                f"{a}.rid", (tables, values), (f"{a}.owner = {s}.rid AND {a}.type = ?", (planner.catalog.type(type_),))
            )
        )
    return Source(tuple(branches), 5)


def _live(planner: "Planner", node: Node, rid: str, type_: str) -> Sql:
    """The condition that a row, of whatever type, is a live resource of `type_` that satisfies the node."""
    where = planner.holds(node, rid, type_)
    return where if planner.finds(node) else joined([planner.live(rid, type_), where], "AND")


def _every_target(planner: "Planner", node: EveryTarget, rid: str) -> Sql:
    a, u, x = planner.alias(), planner.alias(), planner.alias()
    param, numbers = planner.parameters(node.parameter, a)
    elsewhere, others = planner.parameters(node.parameter, u)
    each, these = planner.parameters(node.parameter, x)
    occurring = set(planner.catalog.types())
    seen: list[Sql] = []
    for name, visible in node.visible:
        if name in occurring and not isinstance(visible, Nothing):
            sql, values = _live(planner, visible, f"{x}.target", name)
            seen.append((f"({x}.kind = ? AND {sql})", (planner.catalog.type(name), *values)))
    wanted = joined(seen, "OR")
    sql = (
        f"EXISTS (SELECT 1 FROM reference {a} INDEXED BY reference_rid WHERE {a}.rid = {rid} AND {param})"
        f" AND NOT EXISTS (SELECT 1 FROM uri {u} INDEXED BY uri_rid WHERE {u}.rid = {rid} AND {elsewhere})"
        f" AND NOT EXISTS (SELECT 1 FROM reference {x} INDEXED BY reference_rid WHERE {x}.rid = {rid} AND {each}"
        f" AND NOT ({wanted[0]}))"
    )
    return f"({sql})", (*numbers, *others, *these, *wanted[1])


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
