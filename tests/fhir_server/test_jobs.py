"""The job queue on a migrated store, and the background process's way of running one job."""

from contextlib import closing

import pytest

from fhir_server.jobs.background import run_next
from fhir_server.jobs.maintenance import statistics_handler
from fhir_server.jobs.port import LEASE, MOST_ATTEMPTS, waiting
from fhir_server.jobs.queue import SqliteJobQueue
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect
from fhir_server.storage.sqlite.migrations import migrate

WORKS = frozenset({"count"})


@pytest.fixture
def opened(tmp_path):
    path = tmp_path / "store.sqlite"
    with closing(connect(path, SqliteOptions())) as connection, closing(FileLock(path)) as lock:
        migrate(connection, lock)
        yield connection, lock


@pytest.fixture
def queue(opened):
    return SqliteJobQueue(*opened)


class Staying:
    def wait(self, _seconds):
        return False


def test_a_key_is_enqueued_once(queue):
    assert queue.add("a", waiting("count", {}, 0))
    assert not queue.add("a", waiting("count", {}, 5))


def test_the_job_that_is_due_first_is_claimed_and_hidden_while_its_lease_lasts(queue):
    queue.add("late", waiting("count", {}, 20))
    queue.add("early", waiting("count", {"n": 1}, 10))
    queue.add("foreign", waiting("other", {}, 0))
    job = queue.claim(WORKS, 10)
    assert (job.key, job.payload, job.attempt) == ("early", {"n": 1}, 1)
    assert queue.claim(WORKS, 10) is None
    assert queue.claim(WORKS, 20).key == "late"
    assert queue.claim(WORKS, 10 + LEASE).key == "early"


def test_a_lease_that_was_taken_over_cannot_be_renewed_nor_the_job_ended(queue):
    queue.add("a", waiting("count", {}, 0))
    first = queue.claim(WORKS, 0)
    assert queue.renew(first, 5)
    second = queue.claim(WORKS, 5 + LEASE)
    assert second.attempt == 2
    assert not queue.renew(first, 6 + LEASE)
    queue.finish(first, {}, 7 + LEASE)
    assert queue.renew(second, 8 + LEASE)


def test_a_finished_job_is_gone_and_a_recurring_one_waits_for_its_next_time(queue):
    queue.add("once", waiting("count", {}, 0))
    queue.finish(queue.claim(WORKS, 0), {}, 0)
    assert queue.next_due(WORKS) is None
    queue.add("often", waiting("count", {}, 0, every=100))
    queue.finish(queue.claim(WORKS, 0), {"seen": 1}, 7)
    assert queue.next_due(WORKS) == 107
    assert queue.claim(WORKS, 107).payload == {"seen": 1}


def test_a_failing_job_waits_longer_each_time_and_is_left_for_people_at_last(queue, opened):
    queue.add("a", waiting("count", {}, 0))
    now, delays = 0, []
    for _ in range(MOST_ATTEMPTS):
        queue.fail(queue.claim(WORKS, now), "no", now)
        due = queue.next_due(WORKS)
        delays.append(due and due - now)
        now = due or now
    assert delays[-1] is None
    assert delays[:-1] == sorted(set(delays[:-1]))
    assert '"error": "no"' in opened[0].execute("SELECT data FROM follow_up").fetchone()[0]


def test_running_notes_success_and_failure(queue, capsys):
    done = []
    handlers = {"count": lambda job, leaving: done.append(job.key) or {}, "break": lambda job, leaving: 1 / 0}
    queue.add("a", waiting("count", {}, 0))
    queue.add("b", waiting("break", {}, 0))
    assert [run_next(queue, handlers, Staying()) for _ in range(3)] == [True, True, False]
    assert done == ["a"]
    assert queue.next_due(frozenset({"break"})) > 0
    capsys.readouterr()


def test_statistics_are_made_when_the_store_has_grown(queue, opened):
    connection, _ = opened
    queue.add("s", waiting("statistics", {}, 0, every=1))
    handler = statistics_handler(*opened)
    assert handler(queue.claim(frozenset({"statistics"}), 0), lambda: False) == {}
    connection.execute("INSERT INTO resource VALUES (7, 1, 'a', 1, 1, 1, 0, 1, NULL, x'', x'')")
    assert handler(queue.claim(frozenset({"statistics"}), LEASE), lambda: False) == {"rows": 7}
    assert connection.execute("SELECT count(*) FROM sqlite_stat1").fetchone()[0] > 0
