# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Chains and reverse chains -> SQL: probes along a reference, and the rows at its other end.

Rules. A chain's target is a live resource, or one that the referring resource contains, whose entries stand under negative
parameter numbers; or it is named by its canonical URL, whatever version the canonical names. Which version a literal reference
names does not matter: the current one is looked at. Contained resources are not looked at as those who refer.

Specification: https://hl7.org/fhir/R4/search.html#chaining, #has
"""

from typing import TYPE_CHECKING

from search.dialects.sqlite.conditions import Sql, primary
from search.dialects.sqlite.layout import CONTAINED
from search.dialects.sqlite.sources import ENOUGH, FALSE, Branch, Source, joined
from search.query import All, And, Chain, Node, Reverse

if TYPE_CHECKING:
    from search.dialects.sqlite.plan import Planner

_RANK = 5
_REFERENCES = primary("reference")
_URIS = primary("uri")


def chain_holds(planner: "Planner", node: Chain, rid: str) -> Sql:
    """The condition that a reference of row `rid` leads to what the chain asks for."""
    a = planner.alias()
    param, numbers = planner.parameters(node.parameter, a)
    named = f" AND {a}.version <> ''" if node.versioned else ""
    where = _target(planner, node, f"{a}.target")
    sql = f"SELECT 1 FROM reference {a} INDEXED BY reference_rid WHERE {a}.rid = {rid} AND {param} AND {a}.kind = ?{named} AND {where[0]}"
    found: list[Sql] = [(f"EXISTS ({sql})", (*numbers, planner.catalog.type(node.target), *where[1]))]
    if node.canonical and not node.versioned:
        x, u = planner.alias(), planner.alias()
        param, numbers = planner.parameters(node.parameter, x)
        where = _live(planner, node, f"{u}.rid")
        sql = (
            f"SELECT 1 FROM uri {x} INDEXED BY uri_rid CROSS JOIN uri {u} INDEXED BY {_URIS}"
            f" WHERE {x}.rid = {rid} AND {param} AND {u}.param = ? AND {u}.value = {x}.value AND {where[0]}"
        )
        found.append((f"EXISTS ({sql})", (*numbers, planner.catalog.parameter(node.target, "url"), *where[1])))
    return joined(found, "OR")


def _live(planner: "Planner", node: Chain, rid: str) -> Sql:
    """The condition that a row is a live, visible resource of the target type that satisfies the chain."""
    wanted = _wanted(node)
    with planner.side(1):
        where = planner.holds(wanted, rid, node.target)
        return where if planner.finds(wanted) else joined([planner.live(rid, node.target), where], "AND")


def _wanted(node: Chain) -> Node:
    return node.where if isinstance(node.visible, All) else And((node.where, node.visible))


def _target(planner: "Planner", node: Chain, rid: str) -> Sql:
    """The condition that a row of the target type is live or contained and satisfies the chain."""
    live = _live(planner, node, rid)
    with planner.side(-1):
        inner = planner.holds(node.where, rid, node.target)
        if inner != FALSE and not planner.finds(node.where):
            a = planner.alias()
            there = f"EXISTS (SELECT 1 FROM resource {a} WHERE {a}.rid = {rid} AND {a}.state = {CONTAINED})"
            inner = joined([(there, ()), inner], "AND")
    return joined([live, inner], "OR")


def chain_source(planner: "Planner", node: Chain) -> Source:
    """Where the rows are that refer to what the chain asks for."""
    kind = planner.catalog.type(node.target)
    with planner.side(1):
        live = planner.source(_wanted(node), node.target)
        live_branches = () if live is None else planner.finished(live, node.target)
    with planner.side(-1):
        inner = planner.source(node.where, node.target)
        inner_branches = () if inner is None else planner.finished(inner, node.target)
    if live is None or inner is None:
        return Source(tuple(_scanned(planner, node)), _RANK)
    branches = []
    for branch in (*live_branches, *(one for one in inner_branches if one.where != FALSE)):
        s, a = planner.alias(), planner.alias()
        sql, values = branch.select()
        param, numbers = planner.parameters(node.parameter, a)
        tables = f"({sql}) {s} CROSS JOIN reference {a} INDEXED BY {_REFERENCES}"
        where = f"{param} AND {a}.target = {s}.rid AND {a}.kind = ?"
        branches.append(Branch(f"{a}.rid", (tables, values), (where, (*numbers, kind))))
    if node.canonical:
        branches += [_by_url(planner, node, branch) for branch in live_branches]
    return Source(tuple(branches), _RANK)


def _by_url(planner: "Planner", node: Chain, branch: Branch) -> Branch:
    """The rows that name a target of `branch` by its canonical URL."""
    s, u, x = planner.alias(), planner.alias(), planner.alias()
    sql, values = branch.select()
    param, numbers = planner.parameters(node.parameter, x)
    tables = f"({sql}) {s} CROSS JOIN uri {u} INDEXED BY uri_rid CROSS JOIN uri {x} INDEXED BY {_URIS}"
    where = f"{u}.rid = {s}.rid AND {u}.param = ? AND {param} AND {x}.value = {u}.value"
    return Branch(f"{x}.rid", (tables, values), (where, (planner.catalog.parameter(node.target, "url"), *numbers)))


def _scanned(planner: "Planner", node: Chain) -> list[Branch]:
    """All references of the parameter to the type, each target probed: for a condition that does not say where its rows are."""
    a = planner.alias()
    param, numbers = planner.parameters(node.parameter, a)
    where, values = _target(planner, node, f"{a}.target")
    kind = planner.catalog.type(node.target)
    tables = f"reference {a} INDEXED BY {_REFERENCES}"
    found = [Branch(f"{a}.rid", (tables, ()), (f"{param} AND {a}.kind = ? AND {where}", (*numbers, kind, *values)))]
    if node.canonical:
        x, u = planner.alias(), planner.alias()
        param, numbers = planner.parameters(node.parameter, x)
        where, values = _live(planner, node, f"{u}.rid")
        tables = f"uri {x} INDEXED BY {_URIS} CROSS JOIN uri {u} INDEXED BY {_URIS}"
        text = f"{param} AND {u}.param = ? AND {u}.value = {x}.value AND {where}"
        url = planner.catalog.parameter(node.target, "url")
        found.append(Branch(f"{x}.rid", (tables, ()), (text, (*numbers, url, *values))))
    return found


def reverse_holds(planner: "Planner", node: Reverse, rid: str, type_: str) -> Sql:
    """The condition that a resource of the source type refers to row `rid` and satisfies the condition."""
    with planner.side(1):
        a = planner.alias()
        param, numbers = planner.parameters(node.parameter, a)
        where = planner.holds(node.where, f"{a}.rid", node.source)
        sql = (
            f"SELECT 1 FROM reference {a} INDEXED BY {_REFERENCES} WHERE {param} AND {a}.target = {rid} AND {where[0]}"
        )
        found: list[Sql] = [(f"EXISTS ({sql})", (*numbers, *where[1]))]
        if node.canonical:
            x, u = planner.alias(), planner.alias()
            param, numbers = planner.parameters(node.parameter, x)
            where = planner.holds(node.where, f"{x}.rid", node.source)
            sql = (
                f"SELECT 1 FROM uri {u} INDEXED BY uri_rid CROSS JOIN uri {x} INDEXED BY {_URIS}"
                f" WHERE {u}.rid = {rid} AND {u}.param = ? AND {param} AND {x}.value = {u}.value AND {where[0]}"
            )
            found.append((f"EXISTS ({sql})", (planner.catalog.parameter(type_, "url"), *numbers, *where[1])))
        return joined(found, "OR")


def reverse_source(planner: "Planner", node: Reverse, type_: str) -> Source | None:
    """Where the rows are that such resources refer to; None when there are too many of these."""
    if planner.inside:
        return None
    inner = planner.source(node.where, node.source)
    if inner is None or (size := planner.counted(inner)) >= ENOUGH:
        return None
    branches = []
    for branch in planner.finished(inner, node.source):
        s, a = planner.alias(), planner.alias()
        sql, values = branch.select()
        param, numbers = planner.parameters(node.parameter, a)
        tables = f"({sql}) {s} CROSS JOIN reference {a} INDEXED BY reference_rid"
        targets = f"SELECT DISTINCT {a}.target AS rid FROM {tables} WHERE {a}.rid = {s}.rid AND {param}"
        d = planner.alias()
        live = planner.live(f"{d}.rid", type_)
        branches.append(Branch(f"{d}.rid", (f"({targets}) {d}", (*values, *numbers)), live, unique=True))
        if node.canonical:
            branches.append(_named(planner, node, branch, type_))
    return Source(tuple(branches), _RANK, size=size)


def _named(planner: "Planner", node: Reverse, branch: Branch, type_: str) -> Branch:
    """The resources that rows of `branch` name by canonical URL."""
    s, x, u = planner.alias(), planner.alias(), planner.alias()
    sql, values = branch.select()
    param, numbers = planner.parameters(node.parameter, x)
    tables = f"({sql}) {s} CROSS JOIN uri {x} INDEXED BY uri_rid CROSS JOIN uri {u} INDEXED BY {_URIS}"
    where = f"{x}.rid = {s}.rid AND {param} AND {u}.param = ? AND {u}.value = {x}.value"
    return Branch(f"{u}.rid", (tables, values), (where, (*numbers, planner.catalog.parameter(type_, "url"))))
