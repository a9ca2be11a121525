"""A family with children that need no application: each test is a process of its own, since it forks."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, select, signal, sys, time
from fhir_server.settings import Settings
from fhir_server.family import Child, listen, run_family
from fhir_server.observability import configure_logging
configure_logging("info")
def steady(ready, lifeline):
    os.write(2, b"pid %d\\n" % os.getpid())
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    ready()
    while not told and not select.select([lifeline], [], [], 0.05)[0]:
        pass
    os.write(2, b"left\\n")
def broken(ready, lifeline):
    raise ValueError("a fault at start")
work = {"steady": steady, "broken": broken}[sys.argv[1]]
listener = listen("127.0.0.1", 0)
from fhir_server.family import CannotServe
try:
    code = run_family([Child("one", work), Child("two", work)], listener, Settings(pid_file=sys.argv[2], grace=2))
except CannotServe as error:
    print("cannot serve:", error, file=sys.stderr)
    code = 1
sys.exit(code)
"""


@pytest.fixture
def family(tmp_path):
    begun = []

    def begin(work):
        log = (tmp_path / "log").open("w")
        arguments = [sys.executable, "-c", PROGRAM, work, str(tmp_path / "pid")]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        begun.append((process, log))
        return process

    yield begin
    for process, log in begun:
        process.kill()
        process.wait()
        process.stdout.close()
        log.close()


def logged(tmp_path, word, count, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = [line for line in (tmp_path / "log").read_text().splitlines() if word in line]
        if len(lines) >= count:
            return lines
        time.sleep(0.02)
    raise AssertionError((tmp_path / "log").read_text())


def children(tmp_path, count):
    return [int(line.split()[1]) for line in logged(tmp_path, "pid ", count)]


def test_it_announces_the_address_once_all_are_ready_and_ends_on_sigterm(family, tmp_path):
    process = family("steady")
    assert process.stdout.readline().startswith("Listening on http://127.0.0.1:")
    assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert len(logged(tmp_path, "left", 2)) == 2
    assert not (tmp_path / "pid").exists()


def test_a_child_that_is_killed_is_started_again(family, tmp_path):
    process = family("steady")
    process.stdout.readline()
    os.kill(children(tmp_path, 2)[0], signal.SIGKILL)
    assert len(children(tmp_path, 3)) == 3
    assert logged(tmp_path, "process_ended", 1)


def test_children_leave_when_the_supervisor_is_killed(family, tmp_path):
    process = family("steady")
    process.stdout.readline()
    process.kill()
    assert len(logged(tmp_path, "left", 2)) == 2


def test_a_child_that_fails_at_start_ends_everything_with_a_sentence(family, tmp_path):
    process = family("broken")
    assert process.wait(10) == 1
    assert process.stdout.read() == ""
    assert "process failed to start" in logged(tmp_path, "cannot serve", 1)[0]
