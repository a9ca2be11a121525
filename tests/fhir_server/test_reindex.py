"""`reindex`: rows are made again as the resources say, in batches that outlive their process."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from fhir_server.interactions.assembly import DATABASE
from fhir_server.jobs import foreground, reindex
from fhir_server.jobs.background import run_next
from fhir_server.jobs.port import Interrupted
from fhir_server.jobs.queue import SqliteJobQueue
from fhir_server.jobs.reindex import job_key, new_job, refusal, reindex_handler
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect
from resources.definitions import load
from search.parameters import Registry
from tests.fhir_server.test_integrity import DAMAGE, findings_of, run

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("FHIR_")}
ROW_TABLES = ("token", "string", "date", "number", "quantity", "reference", "uri", "compartment")


class Staying:
    def wait(self, _seconds):
        return False


def reindexed(store, kind=None, parameter=None):
    """Run the job in this process; its report."""
    key = job_key(kind, parameter)
    with store.connect() as connection, closing(FileLock(store.database)) as lock:
        queue = SqliteJobQueue(connection, lock)
        assert queue.add(key, new_job(kind, parameter, 0))
        assert run_next(queue, {"reindex": reindex_handler(connection, lock, store.settings)}, Staying())
        row = connection.execute("SELECT data FROM follow_up WHERE kind = 'report' AND key = ?", (key,)).fetchone()
    return json.loads(row[0])


def damage(store, *statements):
    with store.connect() as connection:
        for sql in statements:
            connection.execute(sql, store.rids)


def test_a_sound_store_stays_as_it_is(small_store, capsys):
    report = reindexed(small_store)
    assert (report["changed"], report["wrong"], report["sampled"]) == (0, 0, 5)
    assert findings_of(small_store) == []
    capsys.readouterr()


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in DAMAGE if case["mended"]])
def test_damaged_rows_are_mended(small_store, case, capsys):
    damage(small_store, *case["sql"])
    assert reindexed(small_store)["changed"] > 0
    assert findings_of(small_store) == []
    capsys.readouterr()


def test_all_rows_are_made_from_nothing_batch_by_batch(small_store, monkeypatch, capsys):
    monkeypatch.setattr(reindex, "BATCH", 2)
    damage(small_store, *(f"DELETE FROM {table}" for table in (*ROW_TABLES, "parameter", "term")))
    damage(small_store, "DELETE FROM resource WHERE state IN (0, 3)")
    report = reindexed(small_store)
    assert (report["changed"], report["wrong"]) == (5, 0)
    assert findings_of(small_store) == []
    capsys.readouterr()


def test_a_parameter_is_made_again_by_itself(small_store, capsys):
    damage(small_store, "DELETE FROM string WHERE rid = :patient", "DELETE FROM date WHERE rid = :patient")
    assert reindexed(small_store, "Patient", "birthdate")["changed"] == 1
    assert {finding.detail.split()[0] for finding in findings_of(small_store)} == {"string"}
    assert reindexed(small_store, None, "family")["changed"] == 1
    capsys.readouterr()


def test_a_type_is_made_again_by_itself(small_store, capsys):
    damage(small_store, "DELETE FROM date", "DELETE FROM number")
    report = reindexed(small_store, "RiskAssessment")
    assert (report["seen"], report["changed"]) == (1, 1)
    assert {finding.where for finding in findings_of(small_store)} == {"Patient/p", "Observation/o"}
    capsys.readouterr()


@pytest.mark.parametrize(
    ("kind", "parameter", "words"),
    [
        pytest.param("Patient", "family", None, id="a parameter of a type"),
        pytest.param(None, "code-value-quantity", None, id="a composite of any type"),
        pytest.param("Pasient", None, "resource type Pasient", id="an unknown type"),
        pytest.param("Patient", "code", "search parameter code of Patient", id="another type's parameter"),
        pytest.param(None, "_id", "search parameter _id", id="a parameter without rows"),
    ],
)
def test_what_there_is_not_is_refused(kind, parameter, words):
    said = refusal(kind, parameter, Registry(load()))
    assert said is None if words is None else words in said


def test_a_resource_that_was_written_meanwhile_is_passed_over(small_store):
    damage(small_store, "DELETE FROM date WHERE rid = :patient")
    with small_store.connect() as connection, closing(FileLock(small_store.database)) as lock:
        registry, extractor = reindex.extractor_of(connection, small_store.settings)
        work = reindex._Run(connection, lock, registry, extractor, new_job(None, None, 0)["payload"])
        one = next(each for each in work.next_ones()[0] if each.rid == small_store.rids["patient"])
        connection.execute("UPDATE resource SET version = version + 1 WHERE rid = ?", (one.rid,))
        with work.writing() as batch:
            assert not work.repaired(one, batch)
        assert connection.execute("SELECT count(*) FROM date WHERE rid = ?", (one.rid,)).fetchone() == (0,)


def test_work_that_has_to_leave_goes_on_where_it_was(small_store, monkeypatch, capsys):
    monkeypatch.setattr(reindex, "BATCH", 1)
    damage(small_store, "DELETE FROM token", "DELETE FROM date")
    with small_store.connect() as connection, closing(FileLock(small_store.database)) as lock:
        queue = SqliteJobQueue(connection, lock)
        queue.add("reindex", new_job(None, None, 0))
        handler = reindex_handler(connection, lock, small_store.settings)
        rounds = iter((False, False, False, True))
        assert run_next(queue, {"reindex": lambda job, _: handler(job, lambda: next(rounds))}, Staying())
        data = json.loads(connection.execute("SELECT data FROM follow_up WHERE kind = 'job'").fetchone()[0])
        assert (data["payload"]["seen"], data["attempt"], data["token"]) == (3, 0, "")
        assert run_next(queue, {"reindex": handler}, Staying())
        report = json.loads(connection.execute("SELECT data FROM follow_up WHERE kind = 'report'").fetchone()[0])
        assert report["seen"] == connection.execute("SELECT count(*) FROM resource").fetchone()[0]
    assert findings_of(small_store) == []
    capsys.readouterr()


def test_a_process_that_lost_its_lease_stops(small_store, monkeypatch):
    monkeypatch.setattr(reindex, "KEEP_EVERY", -1.0)
    with small_store.connect() as connection, closing(FileLock(small_store.database)) as lock:
        queue = SqliteJobQueue(connection, lock)
        queue.add("reindex", new_job(None, None, 0))
        job = queue.claim(frozenset({"reindex"}), 1)
        queue.release(job, job.payload, 1)
        with pytest.raises(Interrupted):
            reindex_handler(connection, lock, small_store.settings)(job, lambda: False)


def test_a_sample_that_disagrees_fails_the_job(small_store, monkeypatch, capsys):
    monkeypatch.setattr(reindex._Run, "repaired", lambda *_: False)
    damage(small_store, "DELETE FROM date WHERE rid = :patient")
    assert reindexed(small_store)["wrong"] == 1
    shown = json.loads(run("jobs", "--data-dir", small_store.folder, "--json").stdout)
    assert "1 of 5 sampled resources disagree" in shown["jobs"][0]["error"]
    capsys.readouterr()


def test_waiting_without_a_server_does_the_work_here(small_store, monkeypatch, capsys):
    monkeypatch.setattr(foreground, "SERVER_TAKES", 0.0)
    damage(small_store, "DELETE FROM date")
    key, told = job_key(None, None), []
    assert foreground.enqueue(small_store.settings, small_store.database, key, new_job(None, None, 0))
    assert not foreground.enqueue(small_store.settings, small_store.database, key, new_job(None, None, 0))
    assert foreground.await_job(small_store.settings, small_store.database, key, told.append) is None
    assert told[-1]["changed"] == 2
    assert findings_of(small_store) == []
    capsys.readouterr()


def count(database: Path, table: str) -> int:
    with closing(connect(database, SqliteOptions(), read_only=True)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.mark.serial
def test_a_reindex_that_was_killed_is_ended_by_the_next(tmp_path, rounds):
    lines = (json.dumps({"resourceType": "Patient", "id": f"p{n}", "name": [{"family": f"f{n}"}]}) for n in range(2000))
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    data = tmp_path / "data"
    assert run("load", tmp_path / "a.ndjson", "--data-dir", data, "--processes", 1).returncode == 0
    database = data / DATABASE
    whole = count(database, "string")
    command = [sys.executable, "-m", "fhir_server.cli", "reindex", "--wait", "--data-dir", str(data)]
    for _ in range(rounds):
        with closing(connect(database, SqliteOptions())) as connection:
            connection.execute("DELETE FROM string")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=CLEAN)
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None and count(database, "string") == 0:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < count(database, "string") < whole
        with closing(connect(database, SqliteOptions())) as connection:  # as if its lease had run out
            assert connection.execute(
                "UPDATE follow_up SET data = json_set(data, '$.due', 0) WHERE kind = 'job' AND key = 'reindex/*/*'"
            ).rowcount
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=CLEAN, check=False)
        assert done.returncode == 0, done.stderr
        assert "is under way already" in done.stderr
        assert count(database, "string") == whole
    assert run("check", "--data-dir", data).returncode == 0
