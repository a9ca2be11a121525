"""The pages that show commands are true: run command by command against a server, they print what they show (`...` stands for anything)."""

import argparse
import doctest
import json
import re
import shlex
import signal
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.servers import PRODUCT

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("README.md", "docs/tour.md", "docs/access.md")
BASE = "http://localhost:8000"
NEXT = re.compile(r"""next=\$\((.*) \| jq -r '\.link\[] \| select\(\.relation == "next"\)\.url'\)""")
"""A line of shell that a page may have beside curl: it keeps a link for the commands behind it."""
TOKEN = re.compile(r"token=\$\((.*)\)")
"""Another: it keeps a token."""
OWN_COMMAND = ".venv/bin/fhir-server "


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def steps(page):
    """(command, what it prints) of every `$` line in the console blocks."""
    for block in re.findall(r"```console\n(.*?)```", text_of(page), re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = step.partition("\n")
            yield command, shown.rstrip("\n")


@pytest.fixture(params=PAGES)
def walk(request, tmp_path):
    """A page and the address of a server that its first command started."""
    first = re.search(r"^    scripts/serve (--.*?)\s+#", text_of(request.param), re.MULTILINE)
    assert first is not None
    flags = [*first[1].split(), "--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(
        [*PRODUCT, "serve", *flags], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield request.param, process.stdout.readline().removeprefix("Listening on ").strip(), tmp_path
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
    options.add_argument("-w", default="")
    options.add_argument("url")
    program, *words = shlex.split(command)
    assert program == "curl"
    asked = options.parse_args(words)
    form = {"Content-Type": "application/x-www-form-urlencoded"} if asked.d else {}
    headers = form | dict(header.split(": ", 1) for header in asked.H)
    answer = httpx2.request(asked.X, asked.url, headers=headers, content=asked.d.encode())
    told = asked.w.replace("%{http_code}", str(answer.status_code))
    told = re.sub(r"%header\{([a-z-]+)}", lambda found: answer.headers.get(found[1], ""), told)
    return ("" if asked.o else answer.text) + told


def own(command, folder):
    """What a command of the server itself prints, on the folder of the server that runs."""
    words = [*PRODUCT, *shlex.split(command.removeprefix(OWN_COMMAND)), "--data-dir", str(folder)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.rstrip("\n")


def test_the_commands_of_a_page_print_what_it_shows(walk):
    page, server, folder = walk
    checker = doctest.OutputChecker()
    address = re.compile(rf"http://(localhost|127\.0\.0\.1):{server.rpartition(':')[2]}")
    walked, following, token = 0, "", ""
    for command, shown in steps(page):
        here = command.replace(BASE, server)
        kept = NEXT.fullmatch(here)
        if kept is not None:
            (following,) = [one["url"] for one in json.loads(curl(kept[1]))["link"] if one["relation"] == "next"]
            continue
        made = TOKEN.fullmatch(here)
        if made is not None:
            token = own(made[1], folder).splitlines()[-1]
            continue
        here = here.replace("$next", following).replace("$token", token)
        printed = address.sub(BASE, own(here, folder) if here.startswith(OWN_COMMAND) else curl(here))
        assert checker.check_output(shown + "\n", printed + "\n", doctest.ELLIPSIS), f"{command}\n{printed}"
        walked += 1
    assert walked > 5


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page):
    for target in re.findall(r"\]\(([^)#]+)\)", text_of(page)):
        assert (ROOT / page).parent.joinpath(target).exists(), target
