"""SqliteStore: the ResourceStore in one SQLite file, for any number of processes on one machine.

Rules: open it in each process after fork. Reads go to `reader`, writes to `writer`; the file is migrated at the first opening.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from fhir_server.storage.port import (
    Collected,
    Custom,
    Expunge,
    HistoryPage,
    HistoryQuery,
    Page,
    Stored,
    UnitOfWork,
    Written,
)
from fhir_server.storage.sqlite import expunge, queries, reading, searching
from fhir_server.storage.sqlite.catalog import Catalog, Numbers, Unloaded
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect, unavailable
from fhir_server.storage.sqlite.custom import Customs, customs, epoch, settle_words, words_settled
from fhir_server.storage.sqlite.everything import everything
from fhir_server.storage.sqlite.history import history
from fhir_server.storage.sqlite.labels import labelled
from fhir_server.storage.sqlite.migrations import migrate
from fhir_server.storage.sqlite.reader import Reader, Slow
from fhir_server.storage.sqlite.writer import Outcome, Writer
from resources.model import ResourceKey
from search.everything import EverythingQuery
from search.narrowing import Narrowing
from search.query import Query

_T = TypeVar("_T")


def _customs(catalog: Catalog) -> Customs:
    return customs(catalog.connection)


_MOST_CONCEPTS: Final = 1000
"""So many value sets and code systems are loaded for one search."""


@dataclass(frozen=True, slots=True)
class SqliteStore:
    """See `fhir_server.storage.port.ResourceStore`."""

    reader: Reader
    writer: Writer
    options: SqliteOptions

    @classmethod
    def open(cls, path: Path, options: SqliteOptions | None = None) -> Self:
        """Open the store, made or migrated where needed; FhirError 503 when it is newer than this software or unusable."""
        options = options or SqliteOptions()
        connection, lock = connect(path, options), FileLock(path)
        try:
            migrate(connection, lock)
        finally:
            connection.close()
            lock.close()
        return cls(Reader(path, options), Writer(path, options), options)

    async def read(self, key: ResourceKey, narrowing: Narrowing) -> Stored | None:
        """See the port."""

        def work(catalog: Catalog) -> Stored | None:
            return reading.read(catalog, key, narrowing)

        return await self.reader.run(work, work, lambda: "read", snapshot=False)

    async def read_version(self, key: ResourceKey, version: int, narrowing: Narrowing) -> Stored | None:
        """See the port."""

        def work(catalog: Catalog) -> Stored | None:
            return reading.read_version(catalog, key, version, narrowing)

        return await self.reader.run(work, work, lambda: "vread", snapshot=True)

    async def history(self, query: HistoryQuery, narrowing: Narrowing) -> HistoryPage:
        """See the port."""
        shape = ("history", query.type is None, query.id is None, query.total, query.at is None, not query.lists)

        def whole(catalog: Catalog) -> HistoryPage:
            return history(catalog, query, narrowing)

        def inline(catalog: Catalog) -> HistoryPage:
            if self.reader.is_slow(shape):
                raise Slow
            return whole(catalog)

        return await self.reader.run(inline, whole, lambda: shape, snapshot=True)

    async def search(self, query: Query, narrowing: Narrowing) -> Page:
        """See the port."""
        query = queries.narrowed(query, narrowing)
        shape = ""

        def whole(catalog: Catalog) -> Page:
            return searching.search(catalog, searching.compiled(query, catalog), narrowing, self.options.include_limit)

        def inline(catalog: Catalog) -> Page:
            nonlocal shape
            found = searching.compiled(query, catalog)
            shape = found.shape
            if self.reader.is_slow(shape):
                raise Slow
            return searching.search(catalog, found, narrowing, self.options.include_limit)

        return await self._informed(lambda: self.reader.run(inline, whole, lambda: shape, snapshot=True))

    async def keys(self, query: Query, narrowing: Narrowing, limit: int) -> frozenset[ResourceKey]:
        """See the port."""
        query = queries.narrowed(query, narrowing)

        def work(catalog: Catalog) -> frozenset[ResourceKey]:
            return queries.matched_keys(catalog, query, limit)

        return await self._informed(lambda: self.reader.run(work, work, lambda: "keys", snapshot=True))

    async def everything(self, query: EverythingQuery, narrowing: Narrowing) -> Collected:
        """See the port."""
        part = 0 if query.after is None else query.after.part
        shape = ("everything", part, query.types is None, query.start is None and query.end is None)

        def whole(catalog: Catalog) -> Collected:
            return everything(catalog, query, narrowing)

        def inline(catalog: Catalog) -> Collected:
            if self.reader.is_slow(shape):
                raise Slow
            return whole(catalog)

        return await self.reader.run(inline, whole, lambda: shape, snapshot=True)

    async def labelled(self, kind: str | None, limit: int, narrowing: Narrowing) -> tuple[Stored, ...]:
        """See the port."""

        def whole(catalog: Catalog) -> tuple[Stored, ...]:
            return labelled(catalog, kind, limit, narrowing)

        def inline(catalog: Catalog) -> tuple[Stored, ...]:
            if self.reader.is_slow("labelled"):
                raise Slow
            return whole(catalog)

        return await self.reader.run(inline, whole, lambda: "labelled", snapshot=True)

    async def _informed(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """What `read` gives, once the concepts that it misses are loaded."""
        for _ in range(_MOST_CONCEPTS):
            try:
                return await read()
            except Unloaded as missing:
                await self.writer.load(missing)
        return await read()

    async def explain(self, query: Query, narrowing: Narrowing) -> tuple[str, ...]:
        """See the port."""
        query = queries.narrowed(query, narrowing)

        def work(catalog: Catalog) -> tuple[str, ...]:
            return searching.explain(catalog, searching.compiled(query, catalog))

        return await self._informed(lambda: self.reader.run(work, work, lambda: "explain", snapshot=True))

    async def commit(self, unit: UnitOfWork) -> tuple[Written, ...]:
        """See the port."""
        return await self.writer.commit(unit)

    async def referring(self, key: ResourceKey, narrowing: Narrowing, limit: int) -> tuple[ResourceKey, ...]:
        """See the port."""

        def work(catalog: Catalog) -> tuple[ResourceKey, ...]:
            return reading.referring(catalog, key, narrowing, limit)

        return await self.reader.run(work, work, lambda: "referring", snapshot=True)

    async def expunge(self, what: Expunge) -> int:
        """See the port."""

        def find(catalog: Catalog) -> list[int]:
            if not what.deleted:
                return []
            return expunge.deleted(catalog, what)

        rids = await self.reader.run(find, find, lambda: "expunge", snapshot=True)
        return await asyncio.to_thread(self._expunge, what, rids)

    def _expunge(self, what: Expunge, rids: list[int]) -> int:
        """Remove in short transactions, so that others write between them."""
        gone, step = 0, 1

        def some(connection: sqlite3.Connection) -> None:
            nonlocal step
            most = min(expunge.AT_ONCE, what.limit - gone)
            step = expunge.remove_deleted(connection, rids, most)
            if not step and what.previous:
                step = expunge.remove_previous(connection, Catalog(connection, Numbers()), what, most)

        while step and gone < what.limit:
            try:
                self.writer.run(some)
            except sqlite3.OperationalError as error:
                raise unavailable(error) from error
            gone += step
        return gone

    def commit_sync(self, units: Sequence[UnitOfWork]) -> list[Outcome]:
        """Commit the units in one transaction and one fsync, in the calling thread; per unit its outcome or its exception."""
        return self.writer.commit_all(units)

    def follow_up_sync(self, kind: str, key: str) -> str | None:
        """The JSON text of a follow-up row, or None."""
        return self.reader.run_sync(lambda catalog: queries.follow_up(catalog, kind, key))

    def custom_parameters(self, known: int) -> Customs | None:
        """The custom search parameters, None when their epoch is still `known`."""

        def work(catalog: Catalog) -> Customs | None:
            return None if epoch(catalog.connection) == known else customs(catalog.connection)

        return self.reader.run_sync(work)

    def custom_parameter(self, name: str) -> Custom | None:
        """What the SearchParameter resource `name` defines, None when it is not active."""
        return next((row for row in self.reader.run_sync(_customs).rows if row.id == name), None)

    def settle_words(self, *, on: bool) -> None:
        """Take over the setting search.full_text."""
        if not self.reader.run_sync(lambda catalog: words_settled(catalog.connection, on=on)):
            self.writer.run(lambda connection: settle_words(connection, on=on))

    async def close(self) -> None:
        """See the port."""
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """Finish what was begun, release files and threads; blocks."""
        self.writer.stop()
        self.reader.close()
