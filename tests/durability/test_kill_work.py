"""SIGKILL of long work: `load` goes on where it was, adds nothing twice, and what it committed is whole.

Quick: 2 kills. Full: 20 more. `--rounds N` multiplies both.
"""

import os
import signal
import sqlite3
import subprocess
from contextlib import closing, suppress
from random import Random

import pytest

from fhir_server.generator import run as generate
from fhir_server.interactions.assembly import DATABASE
from tests.servers import CLEAN, PRODUCT

pytestmark = pytest.mark.serial


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    """Files of a made-up hospital, and how many resources each type has."""
    folder = tmp_path_factory.mktemp("hospital")
    generate(60, 1, folder)
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
def expected(hospital, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "data"
    finished(command("load", hospital, "--data-dir", folder))
    return stored(folder)


def test_a_load_that_is_killed_goes_on_and_adds_nothing_twice(tmp_path, hospital, expected, rounds):
    for number in range(rounds):
        assert kill_loads(tmp_path / f"data{number}", hospital, 2, number) == expected


@pytest.mark.full
def test_loads_that_are_killed_20_times_go_on_and_add_nothing_twice(tmp_path, hospital, expected, rounds):
    for number in range(5 * rounds):
        assert kill_loads(tmp_path / f"data{number}", hospital, 4, f"full {number}") == expected
