"""The store as one principal may use it: every read narrowed, every row asserted once more, every write decided, before anything is done.

Rules.
1. Interactions narrow what they ask for. What comes without a narrowing is given the principal's own, so that nothing is read past it.
2. What comes out is of a type that the narrowing allows and, where all is about one patient, names that patient: anything else is a fault of this
   server, and no answer. Private details of a directory are left out of it, and parts whose labels withhold them (`sections.py`).
3. A superseded version is shown to whom it would be shown were it current: it is judged by its own content. What is not shown is not counted; the
   total of a history that would have to be walked for it is not told.
4. Writes are decided in `deciding.py`, on what is current, and commit only if that still is current.

Specification: https://hl7.org/fhir/R4/http.html#Status-Codes, https://hl7.org/fhir/R4/security.html
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from msgspec import structs

from fhir_server.interactions.attachments import BINARY, attached
from fhir_server.interactions.conditions import RETRIES, contended
from fhir_server.interactions.deciding import Deciding, forbidden
from fhir_server.interactions.directory import containing, public
from fhir_server.interactions.prepare import Preparer
from fhir_server.interactions.sections import Sections
from fhir_server.storage.port import (
    Collected,
    Conflict,
    Custom,
    Expunge,
    Guard,
    HistoryPage,
    HistoryQuery,
    Page,
    ResourceStore,
    Row,
    Stored,
    UnitOfWork,
    Written,
)
from resources.json_format import decode, encode
from resources.model import ResourceKey
from search.everything import EverythingQuery
from search.narrowing import EVERYTHING, Narrowing
from search.query import (
    All,
    And,
    HasId,
    InCompartment,
    Node,
    Nothing,
    OwnedBy,
    Query,
    leaves,
)
from smart_auth.access.decisions import Access
from smart_auth.access.redaction import redacted
from smart_auth.access.sections import has_sections
from smart_auth.access.writes import satisfies

_COUNTED: Final = 1000
"""The longest history whose total is counted by looking at each version."""
_KEPT: Final = 1000


class Look(NamedTuple):
    """What is looked at of each row of a type that comes out by a node.

    `nothing`: none may; `owner`: the one patient whom all is about, where there is one, and `traces`, one of which stands in each body that refers to
    them (all encoders write a slash as it is); `redacts`: parts may be left out. `node` is kept here, so that no other takes its number.
    """

    node: Node
    nothing: bool
    redacts: bool
    owner: ResourceKey | None
    traces: tuple[bytes, bytes, bytes]

    def passes(self, stored: Stored) -> bool:
        """Whether the row may be shown as it is, labelled parts aside."""
        return not (self.nothing or self.redacts) and (self.owner is None or stored.deleted or self.is_own(stored))

    def is_own(self, stored: Stored) -> bool:
        """Whether the row is the owner, or its body names them."""
        body, traces = stored.body, self.traces
        return traces[0] in body or stored.key == self.owner or traces[1] in body or traces[2] in body


@dataclass(frozen=True, slots=True)
class GuardedStore:
    """See `fhir_server.storage.port.ResourceStore`; `inner` is the store, `access` who uses it. `committed` hears of what was written."""

    inner: ResourceStore
    access: Access
    preparer: Preparer
    committed: Callable[[Iterable[ResourceKey]], None]
    own: Narrowing = field(init=False)
    deciding: Deciding = field(init=False)
    sections: Sections = field(init=False)
    _looks: dict[tuple[int, str], Look] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "own", self.access.writing())
        object.__setattr__(self, "deciding", Deciding(self.inner, self.access, self.preparer))
        object.__setattr__(self, "sections", Sections(self.deciding))

    # ---- reads

    async def read(self, key: ResourceKey, narrowing: Narrowing) -> Stored | None:
        """See the port."""
        narrowing = self._narrowed(narrowing)
        found = await self.inner.read(key, narrowing)
        if found is not None:
            shown = self._shown(found, narrowing)
            return await self.sections.shown(shown, narrowing) if has_sections(shown.body) else shown
        return await attached(self.inner, self.access, key, narrowing) if key.type == BINARY else None

    async def read_version(self, key: ResourceKey, version: int, narrowing: Narrowing) -> Stored | None:
        """See the port."""
        narrowing = self._narrowed(narrowing)
        found = await self.inner.read_version(key, version, narrowing)
        return None if found is None else await self._once(found, narrowing)

    async def history(self, query: HistoryQuery, narrowing: Narrowing) -> HistoryPage:
        """See the port."""
        narrowing = self._narrowed(narrowing)
        kinds = self.access.rules.types if query.type is None else (query.type,)
        if all(_stays(narrowing.of(kind)) for kind in kinds):
            page = await self.inner.history(query, narrowing)
            return replace(page, versions=tuple(self._shown(one, narrowing) for one in page.versions))
        found = await self._walked(query, narrowing, query.count + 1) if query.count else []
        total = None
        if query.total and query.id is not None:
            every = replace(query, count=_COUNTED, before=None)
            total = len(await self._walked(every, narrowing, _COUNTED + 1))
        told = None if total is None or total > _COUNTED else total
        kept, more = found[: query.count], len(found) > query.count
        return HistoryPage(tuple(one for one, _ in kept), told, more, tuple(new for _, new in kept))

    async def _walked(self, query: HistoryQuery, narrowing: Narrowing, most: int) -> list[tuple[Stored, bool]]:
        """So many versions that may be shown, each with whether it created; page by page of what there is."""
        found: list[tuple[Stored, bool]] = []
        asked: HistoryQuery | None = replace(query, total=False)
        while asked is not None and len(found) < most:
            page = await self.inner.history(asked, narrowing)
            for one, new in zip(page.versions, page.created, strict=True):
                shown = await self._once(one, narrowing)
                if shown is not None:
                    found.append((shown, new))
            asked = replace(asked, before=page.versions[-1].updated) if page.more else None
        return found[:most]

    async def _once(self, stored: Stored, narrowing: Narrowing) -> Stored | None:
        """A version that may be superseded as the principal is shown it; None when it is not for them."""
        node = narrowing.of(stored.key.type)
        if not stored.deleted and not _stays(node):
            content = self.deciding.content(stored)
            if not await satisfies(node, content, self.deciding.ask):
                return None
        return await self._parted(self._shown(stored, narrowing), narrowing)

    async def _parted(self, stored: Stored, narrowing: Narrowing) -> Stored:
        """The row without the parts that are withheld."""
        return await self.sections.shown(stored, narrowing) if has_sections(stored.body) else stored

    async def search(self, query: Query, narrowing: Narrowing) -> Page:
        """See the port."""
        narrowing = self._narrowed(narrowing)
        if query.others:
            query = replace(query, others=tuple([public(self.access, one) for one in query.others]))
        query = public(self.access, query)
        query, narrowing = self.sections.searched(query, narrowing)
        page = await self.inner.search(query, containing(self.access, query, narrowing))
        rows = await self._rows(page.rows, narrowing)
        return page if rows is page.rows else replace(page, rows=rows)

    async def keys(self, query: Query, narrowing: Narrowing, limit: int) -> frozenset[ResourceKey]:
        """See the port."""
        query, narrowing = self.sections.searched(public(self.access, query), self._narrowed(narrowing))
        return await self.inner.keys(query, narrowing, limit)

    async def everything(self, query: EverythingQuery, narrowing: Narrowing) -> Collected:
        """See the port."""
        narrowing = self._narrowed(narrowing)
        return await self.sections.everything(self.inner, query, narrowing, self._rows)

    async def labelled(self, kind: str | None, limit: int, narrowing: Narrowing) -> tuple[Stored, ...]:
        """See the port."""
        narrowing = self._narrowed(narrowing)
        found = await self.inner.labelled(kind, limit, narrowing)
        return tuple(self._shown(one, narrowing) for one in found)

    async def explain(self, query: Query, narrowing: Narrowing) -> tuple[str, ...]:
        """See the port."""
        self._require_operator()
        return await self.inner.explain(query, narrowing)

    async def referring(self, key: ResourceKey, narrowing: Narrowing, limit: int) -> tuple[ResourceKey, ...]:
        """See the port: with EVERYTHING it is asked whether there are any, and names no one."""
        return await self.inner.referring(key, narrowing, limit)

    def custom_parameter(self, name: str) -> Custom | None:
        """See the port."""
        return self.inner.custom_parameter(name)

    def follow_up_sync(self, kind: str, key: str) -> str | None:
        """See the port."""
        return self.inner.follow_up_sync(kind, key)

    async def expunge(self, what: Expunge) -> int:
        """See the port."""
        self._require_operator()
        return await self.inner.expunge(what)

    async def close(self) -> None:
        """See the port: the store behind it serves others too."""

    def _narrowed(self, narrowing: Narrowing) -> Narrowing:
        return self.own if narrowing is EVERYTHING else narrowing

    def _require_operator(self) -> None:
        if not self.access.operates:
            raise forbidden("this is for operators")

    async def _rows(self, rows: tuple[Row, ...], narrowing: Narrowing) -> tuple[Row, ...]:
        """The rows as the principal is shown them; the same object where that is as they are."""
        if self._are_plain(rows, narrowing):
            return rows
        shown: list[Row] = []
        changed = False
        for row in rows:
            before = row.stored
            one = await self._once(before, narrowing) if row.versioned else self._shown(before, narrowing)
            if one is not None and has_sections(before.body):
                one = await self._parted(one, narrowing)
            if one is before:
                shown.append(row)
                continue
            changed = True
            if one is not None:
                shown.append(row._replace(stored=one))
        return tuple(shown) if changed else rows

    def _are_plain(self, rows: tuple[Row, ...], narrowing: Narrowing) -> bool:
        """Whether all rows may be shown as they are."""
        kind, look = "", None
        for row in rows:
            stored = row.stored
            if look is None or stored.key.type != kind:
                kind = stored.key.type
                look = self._look(kind, narrowing)
            if row.versioned or has_sections(stored.body) or not look.passes(stored):
                return False
        return True

    def _shown(self, stored: Stored, narrowing: Narrowing) -> Stored:
        """The row as the principal is shown it."""
        look = self._look(stored.key.type, narrowing)
        if look.passes(stored):
            return stored
        if look.nothing:
            raise AssertionError(f"a {stored.key.type} left the store past its narrowing")
        if stored.deleted:
            return stored
        if look.owner is not None and not look.is_own(stored):
            raise AssertionError(f"a {stored.key.type} of another patient left the store")
        if not self.access.redacts(stored.key):
            return stored
        resource = decode(stored.body)
        public = redacted(resource)
        return stored if public is resource else stored._replace(body=encode(public))

    def _look(self, kind: str, narrowing: Narrowing) -> Look:
        """What is looked at of rows of the type; kept for the node, which is decided once for many requests."""
        node = narrowing.of(kind)
        found = self._looks.get((id(node), kind))
        if found is None:
            owner = _owner(node)
            name = str(owner).encode()
            traces = (name + b'"', name + b"/", name + b"|")
            found = Look(node, isinstance(node, Nothing), self.access.redacts(ResourceKey(kind, "")), owner, traces)
            if len(self._looks) >= _KEPT:
                self._looks.clear()
            self._looks[id(node), kind] = found
        return found

    # ---- writes

    async def commit(self, unit: UnitOfWork) -> tuple[Written, ...]:
        """See the port. Raises FhirError 403 and 404 for what the principal may not do."""
        unit = structs.replace(unit, guards=tuple([self._guarded(one) for one in unit.guards]))
        for turn in range(RETRIES):
            decided = await self.deciding.decide(unit)
            if unit.writes and not decided.unit.writes:
                return decided.outcome(())
            try:
                done = await self.inner.commit(decided.unit)
            except Conflict as conflict:
                if conflict.reason not in ("version", "exists") or conflict.key not in decided.pinned:
                    raise
            else:
                self.committed(write.key for write in decided.unit.writes)
                return decided.outcome(done)
            await asyncio.sleep(random.uniform(0, 0.002 * 2**turn))  # noqa: S311  (apart by chance)
        raise contended()

    def _guarded(self, guard: Guard) -> Guard:
        """The guard of a criterion, which is to find in the commit what it has found by a search."""
        query, searched = public(self.access, guard.query), self.access.narrowing("s")
        within = Narrowing(
            searched.principal, lambda kind: query.narrowing if kind == query.type else searched.of(kind)
        )
        query, _ = self.sections.searched(query, within)
        return guard if query is guard.query else replace(guard, query=query)


def _stays(node: Node) -> bool:
    """Whether a resource satisfies the node in all its versions, or in none."""
    return all(isinstance(leaf, All | Nothing | HasId | OwnedBy) for leaf in leaves(node))


def _owner(node: Node) -> ResourceKey | None:
    """The one patient in whose compartment all is that satisfies the node, where there is one."""
    match node:
        case InCompartment(owner):
            return owner
        case And(parts):
            return next((found for part in parts if (found := _owner(part)) is not None), None)
    return None
