# ruff: noqa: S608  (what is put into the text are names of our own tables and columns; values are bound)
"""Nodes -> SQL: what must hold for a row, and how to find the rows for which it holds.

Rules. Every node has a condition on a row number (`holds`); those that say where their rows are also have a `Source`. Of an And
the source that finds fewest rows drives and the others are probed by the index (row, parameter). Which finds fewest is not guessed from statistics that age: up to
`ENOUGH` rows of each are counted. Every index is named (INDEXED BY) and every join is CROSS, so SQLite's planner has no choice.

Specification: https://www.sqlite.org/optoverview.html#manual_control_of_query_plans_using_cross_join
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Literal

from search.dialects.sqlite import access
from search.dialects.sqlite.conditions import (
    UNKNOWN,
    Catalog,
    Condition,
    Range,
    Sql,
    conditions,
    date_condition,
    marks,
    primary,
    ranges,
    storage_codes,
)
from search.dialects.sqlite.layout import LIVE
from search.dialects.sqlite.links import chain_holds, chain_source, reverse_holds, reverse_source
from search.dialects.sqlite.sources import ENOUGH, FALSE, FEW, TRUE, Branch, Source, joined, values_of
from search.parameters import Parameter
from search.query import (
    All,
    And,
    Chain,
    CompositeTest,
    EveryTarget,
    HasId,
    HierarchyTest,
    InCompartment,
    InCompartments,
    LastUpdated,
    Match,
    Node,
    Not,
    Nothing,
    Or,
    OwnedBy,
    Present,
    ReferenceTest,
    Released,
    Reverse,
    StringTest,
    Test,
    TokenTest,
    leaves,
)

_KEPT: Final = 10_000
_PRESENT_TABLES: Final = {
    "token": ("token",),
    "string": ("string",),
    "date": ("date",),
    "number": ("number",),
    "quantity": ("quantity",),
    "reference": ("reference", "uri", "token"),
    "uri": ("uri",),
    "special": ("position", "word"),
    "composite": (),
}


class Planner:
    """Compiles the nodes of one statement; aliases are numbered in the order of the text, so equal shapes give equal text.

    `single`: the statement is about one row. It is kept, as is what a `prefix` names its aliases by: parameters that have no number yet are
    looked up whenever it runs. `settled`: a node that stays the same for many statements; what its parts compile to is kept by the catalog.
    """

    def __init__(
        self, catalog: Catalog, *, single: bool = False, settled: Node | None = None, prefix: str = ""
    ) -> None:
        self.catalog = catalog
        self.single = single
        self._kept = single or bool(prefix)
        self._prefix = prefix or "t"
        self._aliases = 0
        self._sign = 1
        parts = settled.parts if isinstance(settled, And) else () if settled is None else (settled,)
        self._settled = {id(part): at for at, part in enumerate(parts)}

    def alias(self) -> str:
        """A fresh table alias."""
        self._aliases += 1
        return f"{self._prefix}{self._aliases}"

    @property
    def inside(self) -> bool:
        """Whether conditions are on contained resources now."""
        return self._sign < 0

    @contextmanager
    def side(self, sign: Literal[1, -1]) -> Iterator[None]:
        """Meanwhile conditions are on contained resources (-1), or on live ones (1)."""
        before, self._sign = self._sign, sign
        try:
            yield
        finally:
            self._sign = before

    # ---- what holds for a row

    def holds(self, node: Node, rid: str, type_: str) -> Sql:
        """The condition that the row of number `rid`, a live resource of `type_` ("": of one of several), satisfies `node`."""
        match node:
            case All():
                return TRUE
            case Nothing():
                return "0", ()
            case And(parts):
                return joined([self.holds(part, rid, type_) for part in parts], "AND")
            case Or(parts):
                return joined([self.holds(part, rid, type_) for part in merged(parts)], "OR")
            case Not(part):
                sql, values = self.holds(part, rid, type_)
                return f"NOT ({sql})", values
            case Match(parameter, CompositeTest(parts)):
                return self._tuple_holds(parameter, parts, rid)
            case Match(parameter, HierarchyTest() as test):
                return self._probe(parameter, access.hierarchy(self, test), rid)
            case Match(parameter, test, identifier):
                found = conditions(test, _identified(parameter, identifier), self.catalog)
                return joined([self._probe(parameter, c, rid) for c in found], "OR")
            case Present(parameter):
                return self._present(parameter, rid)
            case HasId() | LastUpdated() | InCompartment() if self.inside:
                return FALSE
            case HasId(ids):
                a = self.alias()
                return f"EXISTS (SELECT 1 FROM resource {a} WHERE {a}.rid = {rid} AND {a}.id IN ({marks(ids)}))", ids
            case LastUpdated(test):
                a = self.alias()
                sql, values = date_condition(test)
                return f"EXISTS (SELECT 1 FROM resource {a} WHERE {a}.rid = {rid} AND {_updated(sql, a)})", values
            case Chain():
                return chain_holds(self, node, rid)
            case Reverse():
                return reverse_holds(self, node, rid, type_)
            case InCompartment(owner):
                a = self.alias()
                if not type_:
                    sql = f"EXISTS (SELECT 1 FROM compartment {a} INDEXED BY compartment_rid WHERE {a}.owner = ? AND {a}.rid = {rid})"
                    return sql, (self.catalog.rid(owner),)
                sql = f"EXISTS (SELECT 1 FROM compartment {a} WHERE {a}.owner = ? AND {a}.type = ? AND {a}.rid = {rid})"
                return sql, (self.catalog.rid(owner), self.catalog.type(type_))
            case OwnedBy() | Released() | InCompartments() | EveryTarget():
                return FALSE if self.inside else access.holds(self, node, rid, type_)

    def live(self, rid: str, type_: str) -> Sql:
        """The condition that a row number is a live resource of a type ("": of any)."""
        a = self.alias()
        if not type_:
            return f"EXISTS (SELECT 1 FROM resource {a} WHERE {a}.rid = {rid} AND {a}.state = {LIVE})", ()
        sql = f"EXISTS (SELECT 1 FROM resource {a} INDEXED BY live WHERE {a}.type = ? AND {a}.state = {LIVE} AND {a}.rid = {rid})"
        return sql, (self.catalog.type(type_),)

    def finds(self, node: Node) -> bool:
        """Whether the node holds only for live resources (or contained ones) of the type its parameters are on."""
        match node:
            case Match() | Present() | Nothing() | InCompartment() | InCompartments() | EveryTarget():
                return True
            case OwnedBy(unowned=unowned):
                return not unowned
            case And(parts):
                return any(self.finds(part) for part in parts)
            case Or(parts):
                return all(self.finds(part) for part in parts)
            case Chain():
                return True
            case _:
                return False

    def parameters(self, parameter: Parameter, alias: str, unit: str | None = None) -> Sql:
        """The condition that a row belongs to the parameter (in that canonical unit)."""
        codes = storage_codes(parameter, unit)
        if self._kept and not self.inside and len(codes) == 1:
            return self._parameter(parameter.base, codes[0], alias)
        found = tuple(self._sign * self.catalog.parameter(parameter.base, code) for code in codes)
        return (f"{alias}.param = ?" if len(found) == 1 else f"{alias}.param IN ({marks(found)})"), found

    def _parameter(self, base: str, code: str, alias: str) -> Sql:
        number = self.catalog.parameter(base, code)
        if number != UNKNOWN:
            return f"{alias}.param = ?", (number,)
        return f"{alias}.param = (SELECT number FROM parameter WHERE type = ? AND code = ?)", (base, code)

    def _probe(self, parameter: Parameter, condition: Condition, rid: str, more: str = "") -> Sql:
        """EXISTS a row of `rid` for which the condition holds; `more` is appended, with `{a}` for the row."""
        a, table = self.alias(), condition.table
        param, numbers = self.parameters(parameter, a, condition.unit)
        sql = f"SELECT 1 FROM {table} {a} INDEXED BY {table}_rid WHERE {a}.rid = {rid} AND {param} AND {condition.sql}{more}"
        return f"EXISTS ({sql.replace('{a}', a)})", (*numbers, *condition.values)

    def _tuple_holds(self, parameter: Parameter, tests: tuple[Test, ...], rid: str) -> Sql:
        first, *others = tests
        component = parameter.components[0]
        found: list[Sql] = []
        for condition in conditions(first, component, self.catalog):
            a = self.alias()
            more, values = self._components_hold(parameter, others, a)
            param, numbers = self.parameters(component, a, condition.unit)
            table = condition.table
            sql = f"SELECT 1 FROM {table} {a} INDEXED BY {table}_rid WHERE {a}.rid = {rid} AND {param} AND {condition.sql.replace('{a}', a)} AND {more}"
            found.append((f"EXISTS ({sql})", (*numbers, *condition.values, *values)))
        return joined(found, "OR")

    def _components_hold(self, parameter: Parameter, tests: list[Test], a: str) -> Sql:
        """The conditions on the second and further components of the tuple whose first component is row `a`."""
        every: list[Sql] = []
        for at, test in enumerate(tests, start=1):
            same = f" AND {{a}}.group_ = {a}.group_"
            component = parameter.components[at]
            found = conditions(test, component, self.catalog)
            probes = [self._probe(component, c, f"{a}.rid", same) for c in found]
            every.append(joined(probes, "OR"))
        return joined(every, "AND")

    def _present(self, parameter: Parameter, rid: str) -> Sql:
        shown = parameter.components[0] if parameter.type == "composite" else parameter
        parts = [self._probe(shown, self._any(shown, table), rid) for table in _PRESENT_TABLES[shown.type]]
        return joined(parts, "OR")

    def _any(self, parameter: Parameter, table: str) -> Condition:
        """Any row of the parameter; where rows are shared with a wider one, those of its target type."""
        only = parameter.only_target
        if only is None:
            return Condition(table, "1", ())
        if table == "reference":
            return Condition(table, "{a}.kind = ?", (self.catalog.type(only),))
        return Condition(table, "{a}.value GLOB ?", (f"*/{only}/*",)) if table == "uri" else Condition(table, "0", ())

    # ---- where rows are found

    def source(self, node: Node, type_: str) -> Source | None:
        """Where the rows of `node` are found, or None when only a scan of the type would tell."""
        match node:
            case (
                HasId() | LastUpdated() | InCompartment() | OwnedBy() | Released() | InCompartments() | EveryTarget()
            ) if self.inside:
                return self.source(Nothing(), type_)
            case All() | Not():
                return None
            case Nothing():
                return Source((Branch("a.rid", ("resource a", ()), ("0", ()), ordered=True),), 0)
            case And(parts):
                return self._cheapest(parts, type_)
            case Or(parts):
                return self._union(merged(parts), type_)
            case Match(parameter, CompositeTest(parts)):
                return Source(tuple(self._tuple_branches(parameter, parts)), 6)
            case Match(parameter, HierarchyTest() as test):
                return Source((self._branch(parameter, access.hierarchy(self, test)),), 6)
            case Match(parameter, test, identifier):
                found = ranges(test, _identified(parameter, identifier), self.catalog)
                if not found:
                    return self.source(Nothing(), type_)
                return Source(tuple(self._branch(parameter, r) for r in found), _rank(parameter, test))
            case Present(parameter):
                return self._present_source(parameter)
            case HasId(ids):
                a = self.alias()
                where = f"{a}.type = ? AND {a}.id IN ({marks(ids)}) AND {a}.state = {LIVE}"
                tables = f"resource {a} INDEXED BY {primary('resource')}"
                return Source(
                    (Branch(f"{a}.rid", (tables, ()), (where, (self.catalog.type(type_), *ids)), len(ids) == 1),), 0
                )
            case LastUpdated(test):
                a = self.alias()
                sql, values = date_condition(test)
                where = f"{a}.version > 0 AND {a}.type = ? AND {a}.state = {LIVE} AND {_updated(sql, a)}"
                tables = f"resource {a} INDEXED BY resource_type_updated"
                return Source((Branch(f"{a}.rid", (tables, ()), (where, (self.catalog.type(type_), *values))),), 8)
            case Chain():
                return chain_source(self, node)
            case Reverse():
                return reverse_source(self, node, type_)
            case InCompartment(owner):
                a = self.alias()
                values = (self.catalog.rid(owner), self.catalog.type(type_))
                return Source(
                    (
                        Branch(
                            f"{a}.rid",
                            (f"compartment {a}", ()),
                            (f"{a}.owner = ? AND {a}.type = ?", values),
                            ordered=True,
                            unique=True,
                        ),
                    ),
                    1,
                )
            case OwnedBy() | InCompartments():
                return access.source(self, node, type_)
            case Released() | EveryTarget():
                return None

    def scan(self, type_: str) -> Branch:
        """All live resources of a type, in row order."""
        a = self.alias()
        where = f"{a}.state = {LIVE} AND {a}.type = ?"
        return Branch(
            f"{a}.rid",
            (f"resource {a} INDEXED BY live", ()),
            (where, (self.catalog.type(type_),)),
            ordered=True,
            unique=True,
        )

    def counted(self, source: Source, limit: int = ENOUGH) -> int:
        """About how many rows the source has (each branch counted on its own, without `rest`), up to `limit`."""
        if source.size is not None:
            return source.size
        total = 0
        for branch in source.branches:
            sql = f"SELECT count(*) FROM (SELECT 1 FROM {branch.tables[0]} WHERE {branch.where[0]} LIMIT ?)"
            total += self.catalog.estimate(sql, (*branch.tables[1], *branch.where[1], limit - total))
            if total >= limit:
                return limit
        return total

    def _branch(self, parameter: Parameter, r: Range) -> Branch:
        a = self.alias()
        param, numbers = self.parameters(parameter, a, r.unit)
        where = f"{param} AND {r.sql.replace('{a}', a)}"
        ordered = r.ordered and len(numbers) == 1
        return Branch(f"{a}.rid", (f"{r.table} {a} INDEXED BY {r.index}", ()), (where, (*numbers, *r.values)), ordered)

    def _tuple_branches(self, parameter: Parameter, tests: tuple[Test, ...]) -> Iterator[Branch]:
        first, *others = tests
        for r in ranges(first, parameter.components[0], self.catalog):
            a = self.alias()
            param, numbers = self.parameters(parameter.components[0], a, r.unit)
            more, values = self._components_hold(parameter, others, a)
            where = f"{param} AND {r.sql.replace('{a}', a)} AND {more}"
            yield Branch(
                f"{a}.rid", (f"{r.table} {a} INDEXED BY {r.index}", ()), (where, (*numbers, *r.values, *values))
            )

    def _present_source(self, parameter: Parameter) -> Source:
        shown = parameter.components[0] if parameter.type == "composite" else parameter
        found = [self._any(shown, table) for table in _PRESENT_TABLES[shown.type]]
        spans = [Range(c.table, c.sql, c.values, index=primary(c.table)) for c in found]
        return Source(tuple(self._branch(shown, r) for r in spans), 9)

    def _union(self, parts: tuple[Node, ...], type_: str) -> Source | None:
        found = [self.source(part, type_) for part in parts]
        branches: list[Branch] = []
        for source in found:
            if source is None:
                return None
            branches += self.finished(source, type_)
        if not branches:
            return self.source(Nothing(), type_)
        return Source(tuple(branches), max((s.rank for s in found if s is not None), default=0))

    def finished(self, source: Source, type_: str) -> tuple[Branch, ...]:
        """The branches with `rest` made part of their condition."""
        if not source.rest:
            return source.branches
        done = []
        for branch in source.branches:
            parts = [branch.where, *[self._part_holds(node, branch.rid, type_) for node in source.rest]]
            done.append(branch._replace(where=(" AND ".join([sql for sql, _ in parts]), values_of(parts))))
        return tuple(done)

    # ---- parts of a node that stays

    def _part_holds(self, node: Node, rid: str, type_: str) -> Sql:
        """As `holds`, for a part of an And."""
        at = self._settled.get(id(node))
        found = None if at is None else self._compiled(node, type_, at)[0]
        return self.holds(node, rid, type_) if found is None else (found[0].replace("{rid}", rid), found[1])

    def _part_source(self, node: Node, type_: str) -> Source | None:
        """As `source`, for a part of an And."""
        at = self._settled.get(id(node))
        found = None if at is None else self._compiled(node, type_, at)
        return self.source(node, type_) if found is None or found[0] is None else found[1]

    def _compiled(self, node: Node, type_: str, at: int) -> tuple[Sql | None, Source | None]:
        """Condition and source of part `at` of the settled node; (None, None) where they may change while the node stays."""
        kept = self.catalog.compiled  # shared by threads
        known: tuple[Node, tuple[Sql | None, Source | None]] | None = kept.get((id(node), type_))
        if known is not None:
            return known[1]
        found: tuple[Sql | None, Source | None] = None, None
        if all(_stays(leaf) for leaf in leaves(node)):
            holds = Planner(self.catalog, prefix=f"h{at}_").holds(node, "{rid}", type_)
            source = Planner(self.catalog, prefix=f"s{at}_").source(node, type_)
            branches = () if source is None else source.branches
            if any(UNKNOWN in values for values in (holds[1], *(one.where[1] for one in branches))):
                return None, None  # what has no number yet may get one
            found = holds, source
        if len(kept) >= _KEPT:
            kept.clear()
        kept[id(node), type_] = node, found  # the node stays, and so does its number
        return found

    def _cheapest(self, parts: tuple[Node, ...], type_: str) -> Source | None:
        found: list[tuple[Source, int]] = []
        for at in sorted(range(len(parts)), key=lambda at: not _is_narrow(parts[at])):
            source = self._part_source(parts[at], type_)
            if source is None:
                continue
            # a patient's rows are few enough even when they are some hundred: looking at all else would cost more
            if source.rank <= 1 and (count := self.counted(source, FEW * 4)) < FEW * 4:
                return _with_rest(source, count, at, parts)
            found.append((source, at))
        if not found:
            return None
        found.sort(key=lambda pair: pair[0].rank)
        if len(found) == 1:
            source, at = found[0]
            return _with_rest(source, source.size, at, parts)
        return _with_rest(*self._fewest(found), parts)

    def _fewest(self, found: list[tuple[Source, int]]) -> tuple[Source, int, int]:
        """The source to drive by, its size, and which one it is."""
        for source, at in found:
            count = self.counted(source, FEW)
            if count < FEW:
                return source, count, at
        best, smallest, which = found[0][0], ENOUGH, found[0][1]
        for source, at in found:
            count = self.counted(source, smallest)
            # many rows of each: one whose rows come in row order can stop early
            earlier = count == ENOUGH and source.ordered and not best.ordered
            if count < smallest or earlier:
                best, smallest, which = source, count, at
        return best, smallest, which


def merged(parts: tuple[Node, ...]) -> tuple[Node, ...]:
    """Alternatives of one parameter and system as one test: `code=a,b` is one index condition."""
    tokens: dict[tuple[Parameter, bool, str | None], list[str]] = {}
    references: dict[Parameter, list[ReferenceTest]] = {}
    others: list[Node] = []
    for part in parts:
        match part:
            case Match(parameter, TokenTest(system, codes), identifier) if codes is not None:
                tokens.setdefault((parameter, identifier, system), []).extend(codes)
            case Match(parameter, ReferenceTest(url=None, version=None) as test, False):
                references.setdefault(parameter, []).append(test)
            case _:
                others.append(part)
    return (
        *(Match(p, TokenTest(s, tuple(dict.fromkeys(codes))), i) for (p, i, s), codes in tokens.items()),
        *(
            Match(p, ReferenceTest(tuple(dict.fromkeys(k for t in tests for k in t.keys)), None))
            for p, tests in references.items()
        ),
        *others,
    )


def _with_rest(source: Source, size: int | None, at: int, parts: tuple[Node, ...]) -> Source:
    """The source of part `at` of an And, with the other parts to be satisfied."""
    rest = tuple([part for number, part in enumerate(parts) if number != at and not isinstance(part, All)])
    return Source(source.branches, source.rank, source.rest + rest, size)


def _stays(leaf: Node) -> bool:
    """Whether what the leaf compiles to stays once everything that it names has a number."""
    match leaf:
        case Match(_, test):
            return isinstance(test, TokenTest | ReferenceTest)
    return isinstance(leaf, HasId | InCompartment | InCompartments | OwnedBy | Released)


def _is_narrow(node: Node) -> bool:
    """Whether the node is of the kinds that mostly find few rows, which are looked at first."""
    return isinstance(node, HasId | InCompartment) or (isinstance(node, Match) and isinstance(node.test, ReferenceTest))


def _identified(parameter: Parameter, identifier: bool) -> Parameter:
    return replace(parameter, only_target=None) if identifier else parameter


def _rank(parameter: Parameter, test: Test) -> int:
    match test:
        case ReferenceTest():
            return 1
        case TokenTest():
            return 1 if parameter.code == "identifier" else 4
        case StringTest(mode="contains"):
            return 7
        case StringTest():
            return 3
        case _:
            return 6


def _updated(sql: str, alias: str) -> str:
    return sql.replace("{a}.low", f"{alias}.updated").replace("{a}.high", f"{alias}.updated")
