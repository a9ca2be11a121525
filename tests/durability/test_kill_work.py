"""SIGKILL of long work: `load`, migration, `reindex` and `backup` go on or begin again, and what is there is whole.

Quick: a kill or two of each. Full: 20 more of each. `--rounds N` multiplies both.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from random import Random

import pytest

from fhir_server.generator import run as generate
from fhir_server.interactions.assembly import DATABASE
from tests.servers import CLEAN, PRODUCT, Server

pytestmark = pytest.mark.serial


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Files of a made-up hospital, and how many resources each type has."""
    folder = tmp_path_factory.mktemp("hospital")
    generate(30, 1, folder)
    return folder


def command(name, *arguments):
    return [*PRODUCT, name, *map(str, arguments)]


def killed(arguments, seconds):
    """Run, kill the whole process group after so long; whether it had ended by itself."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=CLEAN, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    else:
        return True
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return False


def finished(arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, env=CLEAN, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stored(folder):
    """How many current resources and versions of them there are, by type; nothing before the first migration."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return {}
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute(
            "SELECT type.name, count(*), sum(version) FROM resource JOIN type ON type.number = resource.type WHERE state = 1 GROUP BY 1"
        )
        return {name: (count, versions) for name, count, versions in rows}


def kill_loads(folder, hospital, kills, seed):
    """Kill a load again and again, at most `kills` times; what is stored grows and is whole in the end."""
    rng, load = Random(seed), command("load", hospital, "--data-dir", folder, "--processes", "2")
    before: dict[str, tuple[int, int]] = {}
    for _ in range(kills):
        folder.mkdir(exist_ok=True)
        ended = killed(load, rng.uniform(0.4, 2.0))
        now = stored(folder) if (folder / DATABASE).exists() else {}
        assert all(now[kind] >= counts for kind, counts in before.items())
        before = now
        if ended:
            break
    finished(load)
    assert "0 resources loaded" in finished(load), "a second run adds nothing"
    return stored(folder)


@pytest.fixture(scope="module")
def whole(hospital, tmp_path_factory):
    """A folder with the hospital loaded, for copies and comparison."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    finished(command("load", hospital, "--data-dir", folder))
    return folder


@pytest.fixture(scope="module")
def expected(whole):
    return stored(whole)


def test_a_load_that_is_killed_goes_on_and_adds_nothing_twice(tmp_path, hospital, expected, rounds):
    for number in range(rounds):
        assert kill_loads(tmp_path / f"data{number}", hospital, 2, number) == expected


@pytest.mark.full
def test_loads_that_are_killed_20_times_go_on_and_add_nothing_twice(tmp_path, hospital, expected, rounds):
    for number in range(5 * rounds):
        assert kill_loads(tmp_path / f"data{number}", hospital, 4, f"full {number}") == expected


# ---- migration

MIGRATIONS_KILLED = """
import os, pathlib, signal, sys
from fhir_server.storage.sqlite import SqliteOptions, SqliteStore, connection, migrations
folder, every = pathlib.Path(sys.argv[1]), int(sys.argv[2])
class Dying:
    def __init__(self, inner, left): self.inner, self.left = inner, left
    def execute(self, sql, *values):
        self.left -= 1
        if self.left == 0: os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.execute(sql, *values)
at, died = 2, 0
while True:
    path = folder / f"{at}.sqlite"
    if os.fork() == 0:
        opened = connection.connect(path, SqliteOptions())
        migrations.migrate(Dying(opened, at), connection.FileLock(path))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    store = SqliteStore.open(path)
    assert store.writer._connection.execute("PRAGMA user_version").fetchone() == (len(migrations.MIGRATIONS),)
    assert store.writer._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    layout = store.writer._connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()
    store.close_sync()
    if status == 0: break
    assert status == -signal.SIGKILL, status
    at, died = at + every, died + 1
    first = layout if died == 1 else first
    assert layout == first
print(died)
"""


def migrations_killed(folder, every):
    arguments = [sys.executable, "-c", MIGRATIONS_KILLED, str(folder), str(every)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=CLEAN, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_migration_that_is_killed_is_done_again(tmp_path):
    assert migrations_killed(tmp_path, 9) >= 4


@pytest.mark.full
def test_a_migration_that_is_killed_before_any_of_its_statements_is_done_again(tmp_path):
    assert migrations_killed(tmp_path, 1) > 40


# ---- reindex, backup


def changed(folder, *statements):
    """Run statements on the file; how many rows they changed."""
    with closing(sqlite3.connect(folder / DATABASE, timeout=20)) as connection, connection:
        return sum(connection.execute(statement).rowcount for statement in statements)


def sound(folder):
    """What `check` says, and whether it found nothing."""
    told = subprocess.run(
        command("check", "--data-dir", folder), capture_output=True, text=True, env=CLEAN, timeout=120, check=False
    )
    assert told.returncode in (0, 1), told.stderr
    return told.returncode == 0


def waits(folder):
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return connection.execute("SELECT 1 FROM follow_up WHERE kind = 'job' AND key LIKE 'reindex%'").fetchone()


def kill_reindexes(folder, whole, kills, seed):
    """Kill the server that reindexes again and again; the index is whole in the end. Gives the kills that met the work."""
    rng, met = Random(seed), 0
    shutil.copytree(whole, folder)
    server = Server(folder)
    try:
        for _ in range(kills):
            if not waits(folder):
                assert changed(folder, "DELETE FROM token WHERE rid % 2", "DELETE FROM string WHERE rid % 3 = 0") > 1000
                finished(command("reindex", "--data-dir", folder))
            server.start()
            time.sleep(rng.uniform(1.0, 3.0))  # the work begins within a second
            server.kill()
            met += waits(folder) is not None
            # the lease of the dead: its end is not waited for
            changed(folder, "UPDATE follow_up SET data = json_set(data, '$.due', 0) WHERE kind = 'job'")
        server.start()
        end = time.monotonic() + 60
        while waits(folder) and time.monotonic() < end:
            time.sleep(0.1)
        assert not waits(folder)
        with server.client() as client:
            assert client.get("Patient?_count=0&_total=accurate").json()["total"] == stored(folder)["Patient"][0]
    finally:
        server.kill()
    return met


def test_a_reindex_that_is_killed_goes_on(tmp_path, whole, expected, rounds):
    for number in range(rounds):
        kill_reindexes(tmp_path / f"data{number}", whole, 1, number)
        assert sound(tmp_path / f"data{number}")
        assert stored(tmp_path / f"data{number}") == expected


@pytest.mark.full
def test_reindexes_that_are_killed_20_times_go_on(tmp_path, whole, expected, rounds):
    assert kill_reindexes(tmp_path / "data", whole, 20 * rounds, "full") >= 5
    assert sound(tmp_path / "data")
    assert stored(tmp_path / "data") == expected


def kill_backups(folder, whole, kills, seed):
    rng = Random(seed)
    shutil.copytree(whole, folder / "data")
    for number in range(kills):
        out = folder / f"{number}.tar"
        killed(command("backup", "--data-dir", folder / "data", "--out", out), rng.uniform(0.3, 0.7))
        if out.exists():
            finished(command("restore", "--from", out, "--data-dir", folder / f"restored{number}"))
    finished(command("backup", "--data-dir", folder / "data", "--out", folder / "last.tar.gz"))
    finished(command("restore", "--from", folder / "last.tar.gz", "--data-dir", folder / "last"))
    return stored(folder / "last")


def test_a_backup_that_is_killed_leaves_no_half_file(tmp_path, whole, expected, rounds):
    assert kill_backups(tmp_path, whole, rounds, 1) == expected
    assert sound(tmp_path / "data")


@pytest.mark.full
def test_backups_that_are_killed_20_times_leave_no_half_files(tmp_path, whole, expected, rounds):
    assert kill_backups(tmp_path, whole, 20 * rounds, 2) == expected
