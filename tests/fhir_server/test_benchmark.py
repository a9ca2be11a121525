"""The parts of the benchmark that have an outcome other than time."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading

import pytest

from fhir_server.benchmark import CannotMeasure, compare_files
from fhir_server.benchmark.client import NUMBER, Request, figures_of, measure
from fhir_server.benchmark.phases import PHASES, Loaded, chosen
from fhir_server.benchmark.report import FORMAT, show, table


@pytest.fixture
def counting():
    """A tiny HTTP server; gives its URL and the requests (target, body) that came."""
    seen, loop, ready = [], asyncio.new_event_loop(), threading.Event()

    async def answer(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                target = head.split()[1].decode()
                seen.append((target, body.decode()))
                status = b"404 Not Found" if "missing" in target else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ready.set()
        async with server:
            await over.wait()
        await asyncio.sleep(0.1)

    urls, over = [], asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    yield urls[0], seen
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


def closed_loop(url, requests, tmp_path):
    """Our own client, whether or not wrk is here."""
    file = tmp_path / "requests.tsv"
    file.write_text("".join(request.line for request in requests))
    done = subprocess.run(
        [sys.executable, "-m", "fhir_server.benchmark.closed_loop", url, "2", "0.3"],
        env={**os.environ, "BENCH_REQUESTS": str(file), "BENCH_SEED": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return figures_of(json.loads(done.stdout.removeprefix("@@")))


def test_our_own_client_sends_requests_in_order_and_numbers_them(counting, tmp_path):
    url, seen = counting
    figures = closed_loop(url, [Request("GET", "/a"), Request("PUT", f"/b/{NUMBER}", f'{{"n":"{NUMBER}"}}')], tmp_path)
    assert figures.errors == 0
    assert figures.rate > 0
    assert {"/a", "/b/101"} <= {target for target, _ in seen}
    assert all(body == f'{{"n":"{target[3:]}"}}' for target, body in seen if target != "/a")


def test_answers_of_400_and_above_are_errors_and_no_part_of_the_rate(counting, tmp_path):
    figures = closed_loop(counting[0], [Request("GET", "/missing")], tmp_path)
    assert figures.rate == 0
    assert figures.errors == figures.requests > 0


def test_a_client_that_fails_is_a_sentence():
    with pytest.raises(CannotMeasure, match="load client failed"):
        measure("http://127.0.0.1:1", [Request("GET", "/")], 1, 0.2)


def test_phases_are_chosen_by_the_beginning_of_their_names():
    assert list(chosen("read")) == ["read"]
    assert all(name.startswith("search") for name in chosen("search"))
    assert chosen("load") == {}
    assert chosen("access") == {}
    assert chosen(None) is PHASES
    with pytest.raises(CannotMeasure, match="there is no phase x"):
        chosen("read,x")


def test_every_phase_asks_for_something_of_a_small_hospital():
    patient = {"name": [{"family": "Okafor"}], "identifier": [{"system": "urn:x", "value": "a|b"}]}
    observation = {"code": {"coding": [{"system": "http://loinc.org", "code": "1-2"}]}}
    loaded = Loaded({"Patient": [("Patient/1", patient)], "Observation": [("Observation/2", observation)]})
    for name, phase in PHASES.items():
        requests = phase.requests(loaded)
        assert requests, name
        assert all(request.path.startswith("/fhir/") and "\t" not in request.body for request in requests)


def test_what_access_control_costs_is_shown_beside_its_budget(capsys):
    off, admin = {"rate": 1000.0, "cost": 100.0}, {"rate": 800.0, "cost": 120.0, "more": 0.2, "budget": 0.15}
    names = ("start_seconds", "memory_mb", "disk_mb", "json_mb", "resources", "client", "workers")
    show({"limits": {}, "phases": {}, "access": {"read": {"off": off, "admin": admin}}} | dict.fromkeys(names, 0))
    assert "read, admin                 800           120           +20%    +15%" in capsys.readouterr().out


def test_two_results_are_compared_by_rate_and_by_share_of_the_limit(tmp_path, capsys):
    for name, rate, limit in (("before", 100.0, 1000.0), ("after", 300.0, 2000.0)):
        phases = {"read": {"rate": rate, "errors": 0, "limit": "http", "share": rate / limit}}
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"format": FORMAT, "limits": {"http": limit}, "phases": phases})
        )
    compare_files(tmp_path / "before.json", tmp_path / "after.json")
    assert capsys.readouterr().out.splitlines()[2].split() == ["read", "100", "300", "3.00", "1.50"]


def test_a_file_that_is_no_result_is_named(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(CannotMeasure, match=r"x\.json is not a result"):
        compare_files(tmp_path / "x.json", tmp_path / "x.json")


def test_a_table_is_aligned():
    assert table([("a", "b"), ("long", "1")]) == "a     b\nlong  1\n"
