"""The watchdog: a worker whose loop hangs is ended with its places in the log, and another serves."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fhir_server import watchdog as watchdogs
from fhir_server.observability.board import Board
from fhir_server.watchdog import ABORT_GRACE, ASLEEP, STARTING, Watchdog
from tests.servers import Server

STEP = 1.0
MINE = 4_000_000  # no process of this machine has this id: nothing is ever sent to it


@pytest.fixture
def sent(monkeypatch):
    found = []
    monkeypatch.setattr(watchdogs.os, "kill", lambda pid, number: found.append((pid, number)))
    return found


def looked(beats, seconds=3.0, step=STEP):
    """A watchdog that looked once for each heartbeat, `step` seconds apart."""
    shown = iter(beats)
    watchdog = Watchdog(lambda _: next(shown), seconds)
    for number in range(len(beats)):
        watchdog.look([("worker-1", MINE)], number * step)


def test_a_process_that_shows_heartbeats_is_left_alone(sent):
    looked(range(100))
    assert sent == []


def test_a_heartbeat_that_stays_the_same_too_long_ends_the_process(sent):
    looked([1, 2, 2, 2, 2])
    assert sent == []
    looked([1, 2, 2, 2, 2, 2])
    assert sent == [(MINE, signal.SIGABRT)]


def test_what_survives_the_abort_is_killed(sent):
    looked([1] + [2] * (5 + int(ABORT_GRACE) + 1))
    assert sent[0] == (MINE, signal.SIGABRT)
    assert sent[-1] == (MINE, signal.SIGKILL)
    assert len(sent) == 2


def test_a_process_that_starts_has_the_time_of_a_start(sent):
    looked([0] * int(STARTING))
    assert sent == []
    looked([0] * (int(STARTING) + 3))
    assert sent[0] == (MINE, signal.SIGABRT)


def test_after_the_machine_slept_the_watch_begins_anew(sent):
    looked([1, 2, 2, 2], step=ASLEEP + 1)
    assert sent == []


def test_another_process_of_the_same_role_is_another(sent):
    watchdog = Watchdog(lambda _: 5, 3.0)
    for number in range(20):
        watchdog.look([("worker-1", MINE + number)], float(number))
    assert sent == []


def test_a_board_shows_the_heartbeats_of_each_role():
    board = Board(("worker-1", "worker-2"))
    board.take("worker-2")
    board.beat()
    board.beat()
    board.publish()
    assert (board.beat_of("worker-1"), board.beat_of("worker-2")) == (0, 2)
    assert [shown.role for shown in board.shown()] == ["worker-2"]


PROGRAM = """
import os, resource, faulthandler, sys
from fhir_server.observability.board import Board
from fhir_server.settings import Settings
from fhir_server.family import Child, listen, run_family
from fhir_server.observability import configure_logging
from fhir_server.watchdog import Watchdog
import time
configure_logging("info")
board = Board(("worker-1",))
def hanging(ready, lifeline):
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.write(2, b"pid %d\\n" % os.getpid())
    board.take("worker-1")
    ready()
    for _ in range(3):
        time.sleep(0.7)
        board.beat()
    spin_for_ever()
def spin_for_ever():
    while True:
        pass
sys.exit(run_family([Child("worker-1", hanging)], listen("127.0.0.1", 0), Settings(grace=1), watchdog=Watchdog(board.beat_of, 1.0)))
"""


@pytest.mark.serial
def test_a_loop_that_hangs_is_ended_with_its_place_in_the_log_and_started_again(tmp_path):
    path = tmp_path / "log"
    with path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )
    try:
        end = time.monotonic() + 20
        while path.read_text().count("pid ") < 2 and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the child hangs again: nothing else ends it
        process.wait()
    text = path.read_text()
    assert text.count("pid ") >= 2, text
    assert '"event": "process_hung"' in text or '"event":"process_hung"' in text
    assert "spin_for_ever" in text
    assert f"-{int(signal.SIGABRT)}" in text


@pytest.mark.serial
def test_a_server_whose_worker_stands_still_serves_again(tmp_path):
    with Server(tmp_path / "data", environment={"FHIR_WATCHDOG_SECONDS": "2"}) as server:
        with server.client() as client:
            assert client.get("Patient").status_code == 200
        worker = server.children()[0]
        time.sleep(1.5)
        os.kill(worker, signal.SIGSTOP)
        end = time.monotonic() + 20
        while worker in server.children() and time.monotonic() < end:
            time.sleep(0.1)
        assert worker not in server.children()
        with server.client() as client:
            assert client.get("Patient").status_code == 200
