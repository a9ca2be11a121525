"""Labelled parts of resources, as one principal is shown and may find them; and which labels of parts a write may have.

Rules.
1. A part is judged as the whole resource would be if it bore the part's label: by the same node, with the label among its entries.
2. What is read is shown without the parts that are withheld. A search by what they may say, and care dates of `$everything`, pass over what has
   labelled parts; so do references from them (includes), and what `$everything` would add for their sake alone.
3. A resource with labelled parts is marked (meta.security PROCESSINLINELABEL): the index finds it by that. Labels stand on no part that says whom
   it is about, its status, category or date, or meta: those decide about the whole, and are labelled with it. Else 422.

Specification: https://hl7.org/fhir/uv/security-label-ds4p/STU1.1/inline_security_labels.html
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fhir_server.interactions.deciding import Deciding
from fhir_server.storage.port import Collected, ResourceStore, Row, Stored
from resources.json_format import decode, encode
from resources.model import ResourceKey
from search.everything import EverythingQuery, Place
from search.narrowing import Narrowing
from search.query import (
    All,
    And,
    Chain,
    HierarchyTest,
    InCompartment,
    Match,
    Node,
    Not,
    Or,
    Present,
    Query,
    Reverse,
    leaves,
)
from search.rewrite import rewrite
from smart_auth.access.facts import PATIENT
from smart_auth.access.redaction import subsetted
from smart_auth.access.sections import PLAIN, cautious, marked, without

Shown = Callable[[tuple[Row, ...], Narrowing], Awaitable[tuple[Row, ...]]]
"""The rows that may be shown, as they are shown."""

_KEPT: Final = 20
_REFERRED: Final = Place(1, 0, 0)
"""Before the first of what members refer to."""


@dataclass(frozen=True, slots=True)
class Sections:
    """`deciding` judges for one principal."""

    deciding: Deciding
    _cautious: dict[int, tuple[Narrowing, Narrowing]] = field(default_factory=dict)

    async def shown(self, stored: Stored, narrowing: Narrowing) -> Stored:
        """The row without the parts that are withheld: the same when there are none."""
        hidden = await self.deciding.withheld(stored, narrowing.of(stored.key.type))
        if not hidden:
            return stored
        return stored._replace(body=encode(subsetted(without(decode(stored.body), hidden))))

    def searched(self, query: Query, narrowing: Narrowing) -> tuple[Query, Narrowing]:
        """The search as it may be made, with its narrowing: the same where nothing withheld could be told by it."""
        careful = self._careful(narrowing)
        simple = query.contained == "no" and not (query.others or query.includes) and _looks_at_itself(query.where)
        if simple and careful.of(query.type) is narrowing.of(query.type):
            return query, narrowing
        looked_at = [one for each in (query, *query.others) for one in _told_by(each)]
        if not looked_at:
            return query, narrowing
        if simple:
            return replace(query, narrowing=careful.of(query.type)), careful
        kinds = {query.type, *(one.type for one in query.others), *looked_at}
        if "" not in kinds and all(careful.of(kind) is narrowing.of(kind) for kind in kinds):
            return query, narrowing
        if query.others:
            query = replace(query, others=tuple(_narrowed(one, careful) for one in query.others))
        return _narrowed(query, careful), careful

    async def everything(
        self, inner: ResourceStore, query: EverythingQuery, narrowing: Narrowing, shown: Shown
    ) -> Collected:
        """A page of `$everything`, its rows as `shown` shows them. A page of which nothing is left gives way to the next."""
        while True:
            found = await self._collected(inner, query, narrowing)
            rows = await shown(found.rows, narrowing)
            page = await self._without_hints(found, rows, narrowing)
            if page.rows or not page.more or not rows:
                return page
            assert isinstance(rows[-1].position, Place)
            query = replace(query, after=rows[-1].position)

    async def _collected(self, inner: ResourceStore, query: EverythingQuery, narrowing: Narrowing) -> Collected:
        """A page of `$everything`: where more refers to a row than the page shows, and by dates of care, labelled parts do not count."""
        careful = self._about(query.owner, narrowing)
        if query.dates or (query.after is not None and query.after.part):
            return await inner.everything(query, careful)
        found = await inner.everything(query, narrowing)
        members = tuple(row for row in found.rows if row.mode == "match")
        alone = query.after is None and query.types is None and query.since is None
        kinds = self.deciding.access.rules.types
        if alone or len(members) == len(found.rows) or all(careful.of(kind) is narrowing.of(kind) for kind in kinds):
            return found
        rest = await inner.everything(replace(query, count=query.count - len(members), after=_REFERRED), careful)
        return replace(rest, rows=members + rest.rows)

    async def _without_hints(self, found: Collected, shown: tuple[Row, ...], narrowing: Narrowing) -> Collected:
        """The page with its rows as they are shown, without those that only withheld parts refer to."""
        if found.owner is None or found.owner.deleted or not shown:
            return replace(found, rows=shown)
        owner = await self.shown(found.owner, narrowing)
        known = {row.stored.key: row.stored for row in found.rows} | {owner.key: found.owner}
        seen = [owner, *(row.stored for row in shown)]
        changed = [known[one.key] for one in seen if one is not known[one.key]]
        if not changed:
            return replace(found, rows=shown)
        lost = self._targets(changed) - self._targets(seen)
        kept = [row for row in shown if row.mode != "include" or row.stored.key not in lost]
        if kept:
            kept[-1] = kept[-1]._replace(position=shown[-1].position)  # where the next page begins
        return replace(found, rows=tuple(kept))

    def _about(self, owner: ResourceKey, narrowing: Narrowing) -> Narrowing:
        """The careful narrowing, but of the type of whom `$everything` is about."""
        careful = self._careful(narrowing)
        of = lambda kind: (narrowing if kind == owner.type else careful).of(kind)  # noqa: E731
        return Narrowing(narrowing.principal, of)

    def _targets(self, rows: Sequence[Stored]) -> set[ResourceKey]:
        return {target for one in rows for target, _ in self.deciding.content(one).entries.targets()}

    def _careful(self, narrowing: Narrowing) -> Narrowing:
        """The narrowing for searches that could tell of withheld parts."""
        found = self._cautious.get(id(narrowing))
        if found is None:
            if len(self._cautious) >= _KEPT:
                self._cautious.clear()
            nodes: dict[str, Node] = {}

            def of(kind: str) -> Node:
                node = nodes.get(kind)
                if node is None:
                    known = narrowing.of(kind)
                    access = self.deciding.access
                    node = cautious(known, marked(access.rules, kind, access.facts.now))
                    if node is not known:
                        node = _simplified(kind, node)
                    nodes[kind] = node
                return node

            found = self._cautious[id(narrowing)] = narrowing, Narrowing(narrowing.principal, of)
        return found[1]


def _simplified(kind: str, node: Node) -> Node:
    return rewrite(Query(kind, All()), Narrowing("", lambda _: node)).narrowing


def _narrowed(query: Query, careful: Narrowing) -> Query:
    """The search with another narrowing; where it looks through references, there too."""
    return (
        replace(query, narrowing=careful.of(query.type)) if _looks_at_itself(query.where) else rewrite(query, careful)
    )


def _looks_at_itself(node: Node) -> bool:
    """Whether the node looks at the resource alone."""
    match node:
        case And(parts) | Or(parts):
            return all(_looks_at_itself(part) for part in parts)
        case Not(part):
            return _looks_at_itself(part)
        case Match(_, test):
            return not isinstance(test, HierarchyTest)
    return not isinstance(node, Chain | Reverse)


def _told_by(query: Query) -> Iterator[str]:
    """The types ("": any) of which the search looks at what labelled parts may say."""
    if query.contained != "no":
        yield ""
    for key in query.sort:
        if key.field not in PLAIN:
            yield query.type
    for include in query.includes:
        if include.parameter is None or include.parameter.code not in PLAIN:
            yield include.source if include.parameter is not None and not include.iterate else ""
    yield from _looked_at(query.where, query.type)


def _looked_at(node: Node, kind: str) -> Iterator[str]:
    for leaf in leaves(node):
        match leaf:
            case Match(parameter) | Present(parameter) if parameter.code not in PLAIN:
                yield kind
            case InCompartment(owner) if owner.type != PATIENT:
                yield kind
            case Chain(parameter, target, where):
                if parameter.code not in PLAIN:
                    yield kind
                yield from _looked_at(where, target)
            case Reverse(source, parameter, where):
                if parameter.code not in PLAIN:
                    yield source
                yield from _looked_at(where, source)
