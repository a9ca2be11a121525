"""What of a unit of work one principal may commit.

Rules.
1. A write is decided on what is current, and commits only if that still is current.
2. What may not be seen is answered as what is not known, after the same look-ups: 404, and 204 to a deletion. What may be seen but not written so is 403.
3. A new resource belongs to the principal's organization; an update takes it from nobody. Only for whom nothing is hidden, and clients on their
   own, does an update create; only for the first, what was deleted.
4. With enforced references, a reference to what may not be seen is one to what is not there. What is attached must be seen in any case.

Specification: https://hl7.org/fhir/R4/http.html#upsert, https://hl7.org/fhir/R4/security.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from fhir_server.interactions.attachments import attachments, may_attach
from fhir_server.interactions.prepare import Preparer, released
from fhir_server.storage.port import Conflict, Delete, Put, ResourceStore, Stored, UnitOfWork, Written
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import ResourceKey
from search.entries import TokenEntry
from search.narrowing import EVERYTHING
from search.query import All, And, HasId, Node, Query
from search.types.token import key as spelled
from smart_auth.access.decisions import Access
from smart_auth.access.reaches import key_of
from smart_auth.access.sections import UNREADABLE, Label, cautious, has_sections, labels
from smart_auth.access.writes import Content, may_write, satisfies

_LETTERS: Final = {"POST": "u", "PUT": "u", "PATCH": "ru", "DELETE": "d"}
"""What must reach something that is there for it to be written."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A unit that may be committed. `dropped`: writes (by place) that are answered as deletions of what is not known.

    `pinned`: what must be as it was looked at though the caller does not ask for that; `asked`: how many writes the caller gave.
    """

    unit: UnitOfWork
    dropped: Mapping[int, ResourceKey]
    pinned: frozenset[ResourceKey]
    asked: int

    def outcome(self, done: tuple[Written, ...]) -> tuple[Written, ...]:
        """One outcome for each write that was asked for."""
        rest = iter(done)
        return tuple(
            Written(self.dropped[index], 0, 0, created=False, changed=False, body=b"")
            if index in self.dropped
            else next(rest)
            for index in range(self.asked)
        )


@dataclass(frozen=True, slots=True)
class Deciding:
    """`inner` is the store, `access` who writes to it."""

    inner: ResourceStore
    access: Access
    preparer: Preparer

    async def decide(self, unit: UnitOfWork) -> Decided:
        """The unit as it may be committed. Raises FhirError 403 and 404, and Conflict for a reference to what is not seen."""
        writes: list[Put | Delete] = []
        dropped: dict[int, ResourceKey] = {}
        pinned: set[ResourceKey] = set()
        seen: set[ResourceKey] = set()
        made = frozenset(write.key for write in unit.writes if isinstance(write, Put))
        for index, write in enumerate(unit.writes):
            if write.key in seen:
                self._require_unbounded(write.key.type)
                writes.append(write)
                continue
            seen.add(write.key)
            allowed, current = await self._allowed(write, made)
            if allowed is None:
                dropped[index] = write.key
                continue
            if allowed.expected is None:
                pinned.add(write.key)
                allowed = replace(allowed, expected=current)
            writes.append(allowed)
        if unit.enforce_references:
            await self._require_seen(unit)
        return Decided(replace(unit, writes=tuple(writes)), dropped, frozenset(pinned), len(unit.writes))

    async def _allowed(self, write: Put | Delete, made: frozenset[ResourceKey]) -> tuple[Put | Delete | None, int]:
        """The write as it may be made, and the version that it is decided on; None for a deletion that finds nothing."""
        if isinstance(write, Put) and write.fresh:
            return await self._creatable(write, "c", made), 0
        stored = await self.inner.read(write.key, EVERYTHING)
        current = None if stored is None or stored.deleted else stored
        method = write.method if isinstance(write, Put) else "DELETE"
        reached = await self.inner.read(write.key, self.access.narrowing(_LETTERS[method])) is not None
        shown = await self.inner.read(write.key, self.access.writing()) is not None
        if isinstance(write, Delete):
            return await self._deletable(
                write, current, reached=reached, shown=shown
            ), current.version if current else 0
        if current is None:
            hidden = stored is not None and not isinstance(self.access.node(write.key.type, "u"), All)
            if hidden or not self.access.may_choose_ids(write.key.type):  # what is deleted may have been another's
                raise _not_known(write.key)
            return await self._creatable(write, "u", made), 0
        if not reached or self.access.redacts(write.key) or await self._is_part(current):
            raise forbidden(f"{write.key} may not be changed by you") if shown else _not_known(write.key)
        before, after = self.content(current), _after(write, None)
        permitted = await may_write(self.access, "u", before, after, self.ask, made)
        if not permitted or not await self._attaches(before, after, made):
            raise forbidden("the change is not among those that you may make")
        return write, current.version

    async def _creatable(self, write: Put, letter: str, made: frozenset[ResourceKey]) -> Put:
        whose = self.access.principal.organization
        if whose:
            write = replace(write, organizations=(key_of(whose),))
        after = _after(write, write.organizations)
        permitted = await may_write(self.access, letter, None, after, self.ask, made)
        if not permitted or not await self._attaches(None, after, made):
            raise forbidden(f"the {write.key.type} is not among those that you may write")
        return write

    async def _attaches(self, before: Content | None, after: Content, made: frozenset[ResourceKey]) -> bool:
        """Whether what is newly attached may be."""
        wanted = attachments(after.key, after.entries, self.access) - made
        if wanted and before is not None:
            wanted -= attachments(before.key, before.entries, self.access)
        return not wanted or await may_attach(self.inner, self.access, wanted)

    async def _deletable(self, write: Delete, current: Stored | None, *, reached: bool, shown: bool) -> Delete | None:
        if current is None:  # its last version is told to those only for whom nothing is hidden
            return write if isinstance(self.access.node(write.key.type, "d"), All) else None
        if reached and await may_write(self.access, "d", self.content(current), None, self.ask):
            return write
        if shown:
            raise forbidden(f"{write.key} may not be deleted by you")
        return None

    async def _require_seen(self, unit: UnitOfWork) -> None:
        written = {write.key for write in unit.writes}
        for write in unit.writes:
            if isinstance(write, Put):
                for target, _ in write.entries.targets():
                    if target not in written and await self.inner.read(target, self.access.writing()) is None:
                        raise Conflict("target", target)

    def _require_unbounded(self, kind: str) -> None:
        if not all(isinstance(self.access.node(kind, letter), All) for letter in "cud"):
            raise forbidden(f"only who may write every {kind} may write one twice at once")

    async def _is_part(self, stored: Stored) -> bool:
        """Whether the principal is shown less than the whole."""
        nodes = [self.access.node(stored.key.type, letter) for letter in "rs"] if has_sections(stored.body) else ()
        return any([await self.withheld(stored, node) for node in nodes])

    async def withheld(self, stored: Stored, node: Node) -> frozenset[Label]:
        """The labels of parts that are withheld: of a whole resource that bore one, the node would not hold."""
        if not has_sections(stored.body) or cautious(node, All()) is node:
            return frozenset()
        content = self.content(stored)
        found = labels(decode(stored.body))
        return frozenset([label for label in found if not await self._shows(node, content, label)])

    async def _shows(self, node: Node, content: Content, label: Label) -> bool:
        if label == UNREADABLE:
            return False
        system, code = label
        tokens = [*content.entries.tokens, TokenEntry("_security", system, spelled(system, code))]
        plain = replace(content, entries=replace(content.entries, tokens=tokens))
        return await satisfies(node, plain, self.ask)

    def content(self, stored: Stored) -> Content:
        """A version as rules look at it."""
        resource = decode(stored.body)
        entries = self.preparer.extractor.extract(resource, stored.key)
        return Content(stored.key, entries, released(resource), stored.updated)

    async def ask(self, kind: str, node: Node, ids: frozenset[str]) -> frozenset[str]:
        """Which of the ids are live resources that satisfy the node."""
        query = Query(kind, And((HasId(tuple(sorted(ids))), node)), count=len(ids))
        page = await self.inner.search(query, EVERYTHING)
        return frozenset(row.stored.key.id for row in page.rows)


def forbidden(said: str) -> FhirError:
    """403 for what may be seen but not done."""
    return FhirError(403, "forbidden", said)


def _not_known(key: ResourceKey) -> FhirError:
    """What is hidden is told as what is not there."""
    return FhirError(404, "not-found", f"{key} is not known")


def _after(write: Put, organizations: tuple[ResourceKey, ...] | None) -> Content:
    return Content(write.key, write.entries, write.released, 0, organizations)
