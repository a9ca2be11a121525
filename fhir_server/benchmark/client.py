"""A closed loop of connections that send prepared requests as fast as answers come: wrk when it is there, else our own.

Rules: the load is made outside the server's and the driver's processes. Requests are sent in order, round and round. `@NUMBER@`
in any part becomes a running number, so that every update says something new. wrk (https://github.com/wg/wrk) costs far less
processor time than Python, so figures made with the two clients do not compare; the report names the client.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
NUMBER = "@NUMBER@"


class CannotMeasure(Exception):  # noqa: N818  (a sentence for the user)
    """A measurement that could not be made; the message says why."""


class Request(NamedTuple):
    """One request: method, path from the root (`/fhir/Patient/1`), JSON body or "", criteria of If-None-Exist or ""."""

    method: str
    path: str
    body: str = ""
    criteria: str = ""

    @property
    def line(self) -> str:
        """The request as the clients read it."""
        return f"{self.method}\t{self.path}\t{self.criteria}\t{self.body}\n"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement gave: answers below status 400 per second, latencies in milliseconds, everything else as `errors`."""

    rate: float
    p50: float
    p95: float
    p99: float
    requests: int
    errors: int


def client_name() -> str:
    """The client that `measure` uses here."""
    return "wrk" if shutil.which("wrk") else "python"


def measure(url: str, requests: Sequence[Request], connections: int, seconds: float, token: str = "") -> Figures:
    """Send `requests` to `url` (`http://127.0.0.1:8000`) over `connections` for `seconds`, with an access token where one is given."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as file:
        file.writelines(request.line for request in requests)
        file.flush()
        if wrk := shutil.which("wrk"):
            command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
            command += ["-s", str(HERE / "requests.lua"), url]
        else:
            command = [sys.executable, "-m", "fhir_server.benchmark.closed_loop", url, str(connections), str(seconds)]
        environment = {
            **os.environ,
            "BENCH_REQUESTS": file.name,
            "BENCH_TOKEN": token,
            "BENCH_SEED": str(int(time.time() * 10) % 10**7 * 10**6),
        }
        done = subprocess.run(  # noqa: S603  (our own command line)
            command, env=environment, capture_output=True, text=True, timeout=seconds + 90, check=False
        )
    line = next((line for line in done.stdout.splitlines() if line.startswith("@@")), None)
    if line is None:
        raise CannotMeasure(f"the load client failed: {done.stderr.strip() or done.stdout.strip()}")
    return figures_of(json.loads(line[2:]))


def figures_of(counted: dict[str, Any]) -> Figures:
    """The figures of what a client counted: requests, seconds, errors, p50, p95, p99 (milliseconds)."""
    good = counted["requests"] - counted["bad"]
    return Figures(
        round(good / counted["seconds"], 1),
        counted["p50"],
        counted["p95"],
        counted["p99"],
        counted["requests"],
        counted["bad"] + counted["broken"],
    )
