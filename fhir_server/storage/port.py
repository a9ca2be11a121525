"""The storage port: what the product asks of a store. Adapters: `sqlite/`, later `mongo/`; tests/contract runs against all.

Rules.
1. A unit of work commits as a whole: resources, index entries, uniqueness keys and follow-up rows, or nothing.
2. Version, lastUpdated and their order are given inside the commit, strictly increasing over all processes.
3. When `commit` returns, the unit is on disk.
4. Every read verb takes a `Narrowing`; a row outside it is answered exactly as a row that does not exist.
5. A condition that no longer holds at commit time raises `Conflict` and changes nothing.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from resources.definitions.model import SearchParameterDefinition
from resources.errors import Issue
from resources.json_format import Template
from resources.model import ResourceKey
from search.entries import Entries
from search.everything import EverythingQuery
from search.narrowing import Narrowing
from search.query import Query


class Stored(NamedTuple):
    """One version of a resource. `updated` in microseconds; `body` is the JSON that is served, empty for a deletion."""

    key: ResourceKey
    version: int
    updated: int
    deleted: bool
    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    body: bytes


class Conflict(Exception):  # noqa: N818  (a state of affairs to be retried, rendered by its catcher)
    """A condition of the unit did not hold at commit time; `key` says where. The caller looks again or answers 409/412.

    With enforced references, `target`: something refers to `key`, which is not there; `referred`: something refers to `key`, which is to be deleted.
    """

    def __init__(
        self, reason: Literal["version", "exists", "guard", "unique", "target", "referred"], key: ResourceKey | None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.key = key


class Put(Struct, frozen=True):
    """Write a new version. `expected`: the version that must be current (0: never existed or deleted; None: any).

    `body` lacks versionId and lastUpdated, which the commit gives. Identical content to the current version makes no new one.
    `prints` are those of `entries` (search.prints), empty when they are not known. `fresh`: the id is one that the server has just made, so nothing is there under it. `organizations` own the resource from now on, beside those that do already; `released` is False while patients may not see it (status of smart.md).
    """

    key: ResourceKey
    body: Template
    entries: Entries
    method: Literal["POST", "PUT", "PATCH"]
    expected: int | None = None
    organizations: tuple[ResourceKey, ...] = ()
    released: bool = True
    fresh: bool = False
    prints: bytes = b""


class Delete(Struct, frozen=True):
    """Write a deletion. Deleting what is deleted or never was changes nothing. `expected` as in Put."""

    key: ResourceKey
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """The query must, inside the commit, match exactly `keys` (in any order). `unique` is the same for the same criterion."""

    query: Query
    keys: frozenset[ResourceKey]
    unique: Hashable


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A row for other work, committed with the unit: `kind` names its table of use (`ledger`, `job`, later audit, outbox)."""

    kind: str
    key: str
    data: Mapping[str, object]


class UnitOfWork(Struct, frozen=True):
    """What is committed together, in order.

    `enforce_references`: afterwards every reference of the written resources that search parameters find leads to a resource that is there, and
    nothing refers so to what was deleted; else Conflict.
    """

    writes: tuple[Put | Delete, ...]
    guards: tuple[Guard, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    enforce_references: bool = False


class Written(Struct, frozen=True):
    """The outcome of one write: the version now current. `created`: nothing was current before; `changed` False: no new version."""

    key: ResourceKey
    version: int
    updated: int
    created: bool
    changed: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Expunge:
    """Remove versions for good, of one resource, a type (`id` None) or the whole store (both None); at most `limit`.

    `deleted`: deleted resources with all their versions; `previous`: superseded versions, the oldest first. What is live stays.
    """

    type: str | None
    id: str | None
    limit: int
    deleted: bool = False
    previous: bool = False


class Row(NamedTuple):
    """One resource of a page; `mode` tells matches from includes; the first and the last match know their `position` for cursors.

    `versioned`: it is a version that a reference names.
    """

    stored: Stored
    mode: Literal["match", "include"]
    position: tuple[object, ...] | None = None
    versioned: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a search: matches in order, then their includes. `total` None when not asked. `more`: matches remain beyond.

    `continued`: the includes of the page's one match break off behind this one (`Query.continued` of the page that goes on).
    """

    rows: tuple[Row, ...]
    total: int | None
    more: bool
    warnings: tuple[Issue, ...] = ()
    continued: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """History of one resource (`type`, `id`), a type (`id` None) or the system (both None), newest first.

    `since`, `until` in microseconds; `at`: versions that were current at some time of this closed range; `lists`: what these List resources refer
    to; `before` is the `updated` of the last row of the page before.
    """

    type: str | None
    id: str | None
    count: int
    since: int | None = None
    until: int | None = None
    at: tuple[int, int] | None = None
    lists: tuple[str, ...] = ()
    before: int | None = None
    total: bool = False


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Versions, newest first. `total` None when not asked; `more`: older ones remain; `created`: of each, whether nothing was current before."""

    versions: tuple[Stored, ...]
    total: int | None
    more: bool
    created: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """A page of everything about `owner` (None: not known; maybe a deletion); the last row knows its `position`. `more`: rows remain."""

    owner: Stored | None
    rows: tuple[Row, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Custom:
    """A custom search parameter: the SearchParameter's id, what it defines, its state, and the reason for any state but `ready`.

    `waiting`: its index is not complete; `unused`: the resource defines nothing here.
    """

    id: str
    definition: SearchParameterDefinition
    state: Literal["waiting", "ready", "unused"]
    reason: str

    @property
    def refusal(self) -> str:
        """What a search by it is told; "" when it may be used."""
        return (
            "" if self.state == "ready" else f"Search parameter '{self.definition.code}' cannot be used: {self.reason}."
        )


class ResourceStore(Protocol):
    """A store of resources. Every verb raises FhirError 503 when the store is away or the deadline passed."""

    async def read(self, key: ResourceKey, narrowing: Narrowing) -> Stored | None:
        """The current version (maybe a deletion), or None when there never was one or it is outside the narrowing."""

    async def read_version(self, key: ResourceKey, version: int, narrowing: Narrowing) -> Stored | None:
        """That version, or None. A resource outside the narrowing has no versions."""

    async def history(self, query: HistoryQuery, narrowing: Narrowing) -> HistoryPage:
        """A page of versions."""

    async def search(self, query: Query, narrowing: Narrowing) -> Page:
        """A page of matches (all inside the narrowing, and so are includes, chains and counts)."""

    async def keys(self, query: Query, narrowing: Narrowing, limit: int) -> frozenset[ResourceKey]:
        """The keys of what a search of one type finds, at most `limit` of them, in no order."""

    async def everything(self, query: EverythingQuery, narrowing: Narrowing) -> Collected:
        """A page of the owner's compartment and what its members refer to, without any other patient's data."""

    async def labelled(self, kind: str | None, limit: int, narrowing: Narrowing) -> tuple[Stored, ...]:
        """Live resources of the type (None: of all) that together bear every profile, tag and security label in use, at most `limit`."""

    async def explain(self, query: Query, narrowing: Narrowing) -> tuple[str, ...]:
        """How the store runs the search: statements without values, their plans, sizes. For operators; the texts are the store's own."""

    async def commit(self, unit: UnitOfWork) -> tuple[Written, ...]:
        """Commit the unit; one outcome per write, in order. Raises Conflict, having changed nothing."""

    async def referring(self, key: ResourceKey, narrowing: Narrowing, limit: int) -> tuple[ResourceKey, ...]:
        """The resources that refer to `key`, other than itself, as far as search parameters find it; at most `limit`."""

    async def expunge(self, what: Expunge) -> int:
        """Remove versions, in several commits; how many are gone. References to what is gone stay, as to what is not known."""

    def custom_parameter(self, name: str) -> Custom | None:
        """What the SearchParameter resource of this id defines, None when it is not active."""

    def follow_up_sync(self, kind: str, key: str) -> str | None:
        """The JSON text of a follow-up row, or None."""

    async def close(self) -> None:
        """Finish what was begun, release files and threads."""
