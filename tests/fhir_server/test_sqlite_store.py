"""What the SQLite store adds to the port: durability of a reply, failures of the file system, migrations, reader threads."""

import asyncio
import fcntl
import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from msgspec.structs import replace

from fhir_server.storage.port import HistoryQuery, Put, UnitOfWork
from fhir_server.storage.sqlite import SqliteOptions, SqliteStore
from fhir_server.storage.sqlite.migrations import MIGRATIONS
from fhir_server.storage.sqlite.reader import _Until
from resources.errors import FhirError
from resources.json_format import Template
from resources.model import ResourceKey
from search.dialects.sqlite import TABLES
from search.entries import Entries, ReferenceEntry, TokenEntry
from search.narrowing import EVERYTHING
from search.parameters import Parameter
from search.query import All, Match, Not, Query, TokenTest

pytestmark = pytest.mark.anyio
CODE = Parameter("Observation", "code", "token", "", None)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
async def store(path, anyio_backend):
    opened = SqliteStore.open(path)
    yield opened
    await opened.close()


def write(name, size=0):
    key = ResourceKey("Observation", name)
    head = json.dumps({"resourceType": "Observation", "id": name, "x": "y" * size}).encode()
    entries = Entries(tokens=[TokenEntry("code", "s", name), TokenEntry("code", "s", "all")])
    return UnitOfWork((Put(key, Template(head[:-1] + b',"meta":{"versionId":', b"}}"), entries, "PUT"),))


async def test_the_live_writer_syncs_fully(store):
    assert store.writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store.writer._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.writer._connection.execute("PRAGMA page_size").fetchone() == (4096,)


class SlowCommit:
    """A connection whose COMMIT waits for a permission."""

    def __init__(self, connection, allowed):
        self.connection, self.allowed, self.reached = connection, allowed, threading.Event()

    def execute(self, sql, *values):
        if sql == "COMMIT":
            self.reached.set()
            self.allowed.wait(10)
        return self.connection.execute(sql, *values)

    def __getattr__(self, name):
        return getattr(self.connection, name)


async def test_no_reply_leaves_before_the_commit_has_returned(store):
    allowed = threading.Event()
    store.writer._connection = slow = SlowCommit(store.writer._connection, allowed)
    waiting = asyncio.create_task(store.commit(write("a")))
    assert await asyncio.to_thread(slow.reached.wait, 10)
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    assert await store.read(ResourceKey("Observation", "a"), EVERYTHING) is None
    allowed.set()
    assert (await waiting)[0].version == 1


async def test_a_writer_waits_for_the_lock_of_another_process(store, path):
    with (path.parent / "store.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = asyncio.create_task(store.commit(write("a")))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
    assert (await waiting)[0].version == 1


async def test_units_that_wait_together_share_one_commit(store):
    commits = []
    allowed = threading.Event()
    slow = SlowCommit(store.writer._connection, allowed)
    store.writer._connection = slow
    slow.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    tasks = [asyncio.create_task(store.commit(write(f"o{n}"))) for n in range(20)]
    await asyncio.to_thread(slow.reached.wait, 10)
    allowed.set()
    await asyncio.gather(*tasks)
    assert len(commits) <= 3


async def test_units_of_one_turn_of_the_loop_share_one_commit(store):
    before = sum(store.writer.sizes.counts)
    await asyncio.gather(*(store.commit(write(f"turn{n}")) for n in range(16)))
    assert sum(store.writer.sizes.counts) == before + 1


async def test_a_unit_given_just_before_the_end_is_answered(path):
    store = SqliteStore.open(path)
    await store.commit(write("first"))
    late = asyncio.ensure_future(store.commit(write("late")))
    await asyncio.sleep(0)
    store.writer.stop()
    with pytest.raises(FhirError) as raised:
        await late
    assert raised.value.status == 503
    store.reader.close()


async def test_a_unit_with_a_fault_fails_alone(store):
    class Broken:
        head = tail = b""

        def body(self, version, updated):
            raise RuntimeError("no body")

    bad = UnitOfWork((Put(ResourceKey("Observation", "bad"), Broken(), Entries(), "PUT"),))
    good, broken, other = await asyncio.gather(
        store.commit(write("a")), store.commit(bad), store.commit(write("b")), return_exceptions=True
    )
    assert isinstance(broken, RuntimeError)
    assert (good[0].version, other[0].version) == (1, 1)
    assert await store.read(ResourceKey("Observation", "bad"), EVERYTHING) is None


async def test_a_unit_refers_to_more_resources_than_the_process_keeps_in_mind(store, monkeypatch):
    monkeypatch.setattr("fhir_server.storage.sqlite.catalog._KEPT_RIDS", 3)
    unit = write("group")
    names = [f"p{number}" for number in range(6)]
    entries = Entries(
        references=[ReferenceEntry("member", ResourceKey("Patient", name), "") for name in names],
        compartments=[ResourceKey("Patient", name) for name in names],
    )
    (done,) = await store.commit(UnitOfWork((replace(unit.writes[0], entries=entries),)))
    assert done.created


async def test_a_full_disk_is_503_loses_nothing_and_is_recovered_from(store):
    (first,) = await store.commit(write("a"))
    connection = store.writer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(FhirError) as caught:
        await store.commit(write("big", 500_000))
    assert caught.value.status == 503
    assert await store.read(ResourceKey("Observation", "big"), EVERYTHING) is None
    assert (await store.read(first.key, EVERYTHING)).body == first.body
    connection.execute("PRAGMA max_page_count = 1000000")
    assert (await store.commit(write("big", 500_000)))[0].version == 1
    found = await store.search(
        Query("Observation", Match(CODE, TokenTest("s", ("all",))), total="accurate"), EVERYTHING
    )
    assert found.total == 2


async def test_a_read_only_file_is_503(store):
    store.writer._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(FhirError) as caught:
        await store.commit(write("a"))
    assert caught.value.status == 503
    store.writer._connection.execute("PRAGMA query_only = OFF")
    assert (await store.commit(write("a")))[0].version == 1


async def test_a_store_that_cannot_be_opened_is_503(tmp_path):
    with pytest.raises(FhirError) as caught:
        SqliteStore.open(tmp_path / "nowhere" / "store.db")
    assert caught.value.status == 503


# ---- reader threads


async def test_what_exceeds_the_inline_budget_answers_the_same_from_a_thread(path):
    store = SqliteStore.open(path, SqliteOptions(inline=-1.0, readers=2))
    store.commit_sync([write(f"o{n}") for n in range(500)])
    for session in (store.reader._inline,):
        session.connection.set_progress_handler(session._late, 1)
    query = Query("Observation", Not(Match(CODE, TokenTest(None, ("o3",)))), count=5, total="accurate")
    for _ in range(5):
        page = await store.search(query, EVERYTHING)
        assert ([row.stored.key.id for row in page.rows], page.total, page.more) == (
            ["o0", "o1", "o2", "o4", "o5"],
            499,
            True,
        )
    (shape,) = filter(None, store.reader._late)  # the first time it was late before it had one
    assert store.reader.is_slow(shape)
    assert len((await store.history(HistoryQuery("Observation", None, 7), EVERYTHING)).versions) == 7
    assert (await store.read(ResourceKey("Observation", "o1"), EVERYTHING)).version == 1
    await store.close()


async def test_a_shape_leaves_the_event_loop_while_many_of_its_runs_are_late(path):
    store = SqliteStore.open(path)
    reader, seen = store.reader, []
    for late in (True, False, True, True, *[False] * 9, *[False] * 60):
        reader.note("shape", late=late)
        seen.append(reader.is_slow("shape"))
    assert seen[:4] == [False, False, False, True]
    assert seen[12:] == [False] * 61
    assert not reader._late
    await store.close()


@pytest.mark.parametrize("deadline", [float("inf"), 0.0], ids=["late at its end", "late before it begins"])
async def test_no_late_read_leaves_its_transaction_open(path, deadline):
    """SQLite counts the steps of a cached statement on from run to run, so that any statement may meet the handler."""
    store = SqliteStore.open(path)
    try:
        session = store.reader._inline
        for _ in range(6000):
            with suppress(sqlite3.OperationalError):
                session.run(lambda _: setattr(session.until, "deadline", 0.0), _Until(deadline), snapshot=True)
            assert not session.connection.in_transaction
    finally:
        await store.close()


async def test_an_estimate_may_be_some_seconds_old_and_a_count_is_not(path, monkeypatch):
    store = SqliteStore.open(path)
    catalog, sql, now = store.reader._inline.catalog, "SELECT count(*) FROM resource WHERE version > ?", [100.0]
    monkeypatch.setattr("fhir_server.storage.sqlite.catalog.time.monotonic", lambda: now[0])
    assert (catalog.estimate(sql, (0,)), catalog.count(sql, (0,))) == (0, 0)
    store.commit_sync([write("a")])
    assert (catalog.estimate(sql, (0,)), catalog.count(sql, (0,))) == (0, 1)
    now[0] += 6
    assert catalog.estimate(sql, (0,)) == 1
    await store.close()


async def test_a_search_past_its_deadline_is_503_timeout(path):
    store = SqliteStore.open(path, SqliteOptions(inline=-1.0, deadline=-1.0))
    store.commit_sync([write(f"o{n}") for n in range(3000)])
    with pytest.raises(FhirError) as caught:
        await store.search(Query("Observation", All(), count=0), EVERYTHING)
    assert (caught.value.status, caught.value.issues[0].code) == (503, "timeout")
    await store.close()


# ---- migrations


def layout(connection):
    return {
        name: sql
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        if not name.startswith("sqlite_")
    }


async def test_a_migrated_store_has_the_layout_that_the_dialect_speaks_of(store):
    assert layout(store.writer._connection) == TABLES


async def test_a_newer_store_is_refused(path):
    SqliteStore.open(path).close_sync()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(FhirError, match="store version newer than this software"):
        SqliteStore.open(path)


KILLED = """
import os, sys, pathlib, sqlite3
from fhir_server.storage.sqlite import migrations, connection
class Dying:
    def __init__(self, inner): self.inner = inner
    def execute(self, sql, *values):
        if sql.startswith("CREATE INDEX live"): os._exit(9)
        return self.inner.execute(sql, *values)
path = pathlib.Path(sys.argv[1])
inner = connection.connect(path, connection.SqliteOptions())
migrations.migrate(Dying(inner), connection.FileLock(path))
"""


@pytest.mark.serial
async def test_a_killed_migration_is_done_again(path):
    command = [sys.executable, "-c", KILLED, str(path)]
    killed = await asyncio.to_thread(subprocess.run, command, check=False)
    assert killed.returncode == 9
    store = SqliteStore.open(path)
    assert layout(store.writer._connection) == TABLES
    await store.close()
