"""README.md is true: its tour, run command by command against a demo server, prints what it shows (`...` stands for anything)."""

import argparse
import doctest
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BASE = "http://localhost:8000"
FIRST_COMMAND = re.search(r"^    scripts/serve (--.*?)\s+#", README, re.MULTILINE)


def steps():
    """(command, what it prints) of every `$` line in the console blocks."""
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = step.partition("\n")
            yield command, shown.rstrip("\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    assert FIRST_COMMAND is not None
    folder = tmp_path_factory.mktemp("tour")
    flags = [*FIRST_COMMAND[1].split(), "--port", "0", "--data-dir", str(folder)]
    command = [sys.executable, "-m", "fhir_server.cli", "serve", *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("Listening on ").strip()
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def curl(command):
    """What curl would print, for the options that the tour uses: the tests need no curl."""
    options = argparse.ArgumentParser()
    options.add_argument("-s", action="store_true", required=True)
    options.add_argument("-X", default="GET")
    options.add_argument("-H", action="append", default=[])
    options.add_argument("-d", default="")
    options.add_argument("-o", choices=["/dev/null"])
    options.add_argument("-w", choices=["%{http_code}"])
    options.add_argument("url")
    program, *words = shlex.split(command)
    assert program == "curl"
    asked = options.parse_args(words)
    headers = dict(header.split(": ", 1) for header in asked.H)
    answer = httpx2.request(asked.X, asked.url, headers=headers, content=asked.d.encode())
    return ("" if asked.o else answer.text) + (str(answer.status_code) if asked.w else "")


def test_the_tour_prints_what_the_readme_shows(server):
    checker = doctest.OutputChecker()
    walked = 0
    for command, shown in steps():
        printed = curl(command.replace(BASE, server)).replace(server, BASE)
        assert checker.check_output(shown + "\n", printed + "\n", doctest.ELLIPSIS), f"{command}\n{printed}"
        walked += 1
    assert walked > 10


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
