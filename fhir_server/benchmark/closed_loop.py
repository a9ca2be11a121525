"""The load client for machines without wrk: `python -m fhir_server.benchmark.closed_loop URL CONNECTIONS SECONDS`.

It speaks as much HTTP/1.1 as this server answers: keep-alive, Content-Length. Requests: see `client.py`; counts go to stdout.

Specification: https://www.rfc-editor.org/rfc/rfc9112#section-6
"""

import asyncio
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from fhir_server.benchmark.client import NUMBER

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n")
_STATUS = slice(9, 12)


class _Connection(asyncio.Protocol):
    """Sends the next request when an answer is complete; notes (seconds, bad) of each in `answers`."""

    def __init__(self, requests: Iterator[bytes], answers: list[tuple[float, bool]]) -> None:
        self._requests = requests
        self._answers = answers
        self._buffer = bytearray()
        self._need = -1
        self._began = 0.0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are of its own class
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._need < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._buffer, 0, end + 2)
            self._need = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) >= self._need:
            bad = bytes(self._buffer[_STATUS]) >= b"400"
            self._answers.append((time.perf_counter() - self._began, bad))
            del self._buffer[: self._need]
            self._need = -1
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True


def _encoded(host: str, method: str, path: str, criteria: str, body: str) -> bytes:
    content = body.encode()
    condition = f"If-None-Exist: {criteria}\r\n" if criteria else ""
    length = f"Content-Type: application/fhir+json\r\nContent-Length: {len(content)}\r\n" if content else ""
    token = os.environ.get("BENCH_TOKEN", "")
    condition += f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/fhir+json\r\n{condition}{length}\r\n".encode()
        + content
    )


def _requests(host: str, lines: list[str], seed: int) -> Iterator[bytes]:
    rows = [line.split("\t", 3) for line in lines]
    fixed = [None if any(NUMBER in part for part in row) else _encoded(host, *row) for row in rows]
    numbers = itertools.count(seed + 1)
    for row, ready in itertools.cycle(zip(rows, fixed, strict=True)):
        if ready is None:
            number = str(next(numbers))
            ready = _encoded(host, *(part.replace(NUMBER, number) for part in row))  # noqa: PLW2901
        yield ready


async def _run(url: str, connections: int, seconds: float) -> dict[str, float]:
    target = urlsplit(url)
    lines = Path(os.environ["BENCH_REQUESTS"]).read_text(encoding="utf-8").splitlines()  # noqa: ASYNC240  (before the load)
    requests = _requests(target.netloc, lines, int(os.environ.get("BENCH_SEED", "0")))
    answers: list[tuple[float, bool]] = []
    assert target.hostname is not None
    assert target.port is not None
    host, port = target.hostname, target.port
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: _Connection(requests, answers), host, port) for _ in range(connections)
    ]
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    counted, elapsed = sorted(answers), time.perf_counter() - began
    broken = sum(protocol.lost for _, protocol in opened)
    for transport, _ in opened:
        transport.close()
    quantile = {
        f"p{part}": round(1000 * counted[len(counted) * part // 100][0], 3) if counted else 0.0 for part in (50, 95, 99)
    }
    bad = sum(fault for _, fault in counted)
    return {"requests": len(counted), "seconds": elapsed, "bad": bad, "broken": broken, **quantile}


if __name__ == "__main__":
    import uvloop

    sys.stdout.write("@@" + json.dumps(uvloop.run(_run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))) + "\n")
