"""Rounds of the writer: on the event loop when they are light, on the thread when they are not, never lost, never twice."""

import asyncio
import fcntl
import threading

import pytest

from fhir_server.storage.port import Put, UnitOfWork
from fhir_server.storage.sqlite import writer as module
from fhir_server.storage.sqlite.store import SqliteStore
from resources.errors import FhirError
from resources.json_format import template
from resources.model import ResourceKey
from search.entries import Entries
from search.narrowing import EVERYTHING

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path):
    opened = SqliteStore.open(tmp_path / "store.db")
    yield opened
    opened.close_sync()


@pytest.fixture
def places(store, monkeypatch):
    """The thread in which the statements of each round ran."""
    seen = []
    real = module.Writer._statements

    def statements(self, units):
        seen.append((threading.current_thread() is threading.main_thread(), len(units)))
        return real(self, units)

    monkeypatch.setattr(module.Writer, "_statements", statements)
    return seen


def write(name, size=0):
    key = ResourceKey("Basic", name)
    body = template({"resourceType": "Basic", "id": name, "language": "x" * size}, key)
    return UnitOfWork((Put(key, body, Entries(), "PUT"),))


async def names(store, *wanted):
    found = [await store.read(ResourceKey("Basic", name), EVERYTHING) for name in wanted]
    return [None if one is None else one.version for one in found]


async def test_a_light_round_runs_on_the_event_loop(store, places):
    await asyncio.gather(*(store.commit(write(f"n{number}")) for number in range(5)))
    assert places == [(True, 5)]


async def test_a_round_takes_at_most_32_units_there(store, places):
    await asyncio.gather(*(store.commit(write(f"n{number}")) for number in range(40)))
    assert places == [(True, 32), (True, 8)]


async def test_a_heavy_unit_runs_on_the_thread(store, places):
    await store.commit(write("heavy", 300_000))
    assert places == [(False, 1)]


async def test_a_round_before_a_heavy_unit_stays_light(store, places):
    await asyncio.gather(store.commit(write("light")), store.commit(write("heavy", 300_000)))
    assert places == [(True, 1), (False, 1)]
    assert await names(store, "light", "heavy") == [1, 1]


async def test_a_round_that_exceeds_its_budget_is_done_again_on_the_thread_and_so_are_the_next(
    store, places, monkeypatch
):
    monkeypatch.setattr(module, "_BUDGET", -1.0)
    monkeypatch.setattr(module, "_STEPS", 1)
    done = await asyncio.gather(*(store.commit(write(f"n{number}")) for number in range(3)))
    assert [written.version for (written,) in done] == [1, 1, 1]
    await store.commit(write("next"))
    assert places == [(True, 3), (False, 3), (False, 1)]
    assert await names(store, "n0", "n1", "n2", "next") == [1, 1, 1, 1]


async def test_the_event_loop_goes_on_while_another_process_writes(store, places, tmp_path):
    with (tmp_path / "store.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        first = asyncio.create_task(store.commit(write("first")))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not first.done()
        second = asyncio.create_task(store.commit(write("second")))
        await asyncio.sleep(0.005)
    await asyncio.gather(first, second)
    assert places == [(True, 2)], "what came while others wrote goes into one commit"


async def test_a_unit_that_nobody_waits_for_any_more_is_not_written(store, tmp_path):
    with (tmp_path / "store.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        gone = asyncio.create_task(store.commit(write("gone")))
        stays = asyncio.create_task(store.commit(write("stays")))
        await asyncio.sleep(0.005)
        gone.cancel()
        await asyncio.sleep(0.005)
    await stays
    assert await names(store, "gone", "stays") == [None, 1]


async def test_what_waits_when_the_store_closes_is_committed(tmp_path):
    store = SqliteStore.open(tmp_path / "store.db")
    tasks = [asyncio.create_task(store.commit(write(f"n{number}"))) for number in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert [written.version for (written,) in await asyncio.gather(*tasks)] == [1] * 100
    with pytest.raises(FhirError) as refused:
        await store.commit(write("late"))
    assert refused.value.status == 503


async def test_a_store_that_closes_on_the_event_loop_while_another_process_writes_answers_all(tmp_path):
    store = SqliteStore.open(tmp_path / "store.db")
    with (tmp_path / "store.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tasks = [asyncio.create_task(store.commit(write(f"n{number}"))) for number in range(3)]
        await asyncio.sleep(0.005)
        asyncio.get_running_loop().run_in_executor(None, _unlock_soon, lock.fileno())
        store.close_sync()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(outcome, "status", 201) for outcome in outcomes] == [503, 503, 503]


def _unlock_soon(descriptor):
    threading.Event().wait(0.05)
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def test_a_store_serves_one_event_loop_after_another(tmp_path):
    store = SqliteStore.open(tmp_path / "store.db")
    for number in range(3):
        (written,) = asyncio.run(store.commit(write("same", number)))
        assert written.version == number + 1
    store.close_sync()
