"""The command line as its users see it: by subprocess, so the tests are few."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from fhir_server.interactions.assembly import DATABASE
from fhir_server.storage.sqlite.connection import SqliteOptions, connect

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("FHIR_")}


def run(*arguments, **variables):
    command = [sys.executable, "-m", "fhir_server.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**CLEAN, **variables}, check=False)


@pytest.fixture
def served():
    """Starts servers; gives process and URL."""
    begun = []

    def serve(*arguments):
        command = [
            sys.executable,
            "-m",
            "fhir_server.cli",
            "serve",
            "--auth",
            "off",
            "--port",
            "0",
            *map(str, arguments),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=CLEAN)
        begun.append(process)
        line = process.stdout.readline()
        assert line.startswith("Listening on "), process.stderr.read()
        return process, line.removeprefix("Listening on ").strip()

    yield serve
    for process in begun:
        process.kill()
        process.communicate()


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["serve", "--host", "0.0.0.0"], 2, "https", id="in the clear on all addresses"),
        pytest.param(
            ["serve", "--host", "192.0.2.1", "--public-url", "http://ehr.example.org"],
            2,
            "https",
            id="in the clear on another address",
        ),
        pytest.param(["serve", "--auth", "off", "--host", "0.0.0.0"], 2, "loopback", id="on all addresses"),
        pytest.param(["serve", "--auth", "off", "--host", "192.0.2.1"], 2, "loopback", id="on another address"),
        pytest.param(["serve", "--auth", "none"], 2, "auth", id="with an unknown kind of access control"),
        pytest.param(["serve", "--port", "70000"], 2, "port", id="on a port that does not exist"),
        pytest.param(
            ["serve", "--auth", "off", "--port", "0", "--data-dir", "/dev/null/x"],
            1,
            "/dev/null/x",
            id="in a folder that cannot be",
        ),
        pytest.param(["load", "/does/not/exist.json"], 1, "does not exist", id="loading a file that is not there"),
        pytest.param(
            ["bench", "--phases", "none"], 1, "there is no phase none", id="measuring a phase that is not there"
        ),
    ],
)
def test_it_refuses_in_a_sentence(arguments, code, words):
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_taken_port_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--auth", "off", "--port", port, "--data-dir", tmp_path)
    assert done.returncode == 1
    assert f"port {port}: the port is taken" in done.stderr


def test_a_store_of_a_newer_version_is_refused(tmp_path):
    connection = connect(tmp_path / DATABASE, SqliteOptions())
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    done = run("serve", "--auth", "off", "--port", 0, "--data-dir", tmp_path)
    assert done.returncode == 1
    assert "newer" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_are_shown_with_their_source():
    done = run("settings", FHIR_PORT="8123", FHIR_NOTHING="1")
    assert re.search(r"^port +8123 +environment +FHIR_PORT", done.stdout, re.MULTILINE)
    assert "FHIR_NOTHING is not a setting" in done.stderr


def test_the_version_is_shown():
    assert re.fullmatch(r"fhir-server \d+\.\d+\.\d+\n", run("--version").stdout)


def test_the_demonstration_is_served_once_however_often_it_is_started(served, tmp_path):
    for _ in range(2):
        process, url = served("--demo", "--data-dir", tmp_path / "data", "--pid-file", tmp_path / "pid")
        assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
        assert get(f"{url}/fhir/metadata")["resourceType"] == "CapabilityStatement"
        assert get(f"{url}/fhir/Patient?_summary=count")["total"] == 20
        assert get(f"{url}/fhir/Organization/hospital")["meta"]["versionId"] == "1"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not (tmp_path / "pid").exists()
