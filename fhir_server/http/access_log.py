"""The access log: one line per answer on stderr, gathered and written a few times a second, off the hot path.

Rules: a line says time, process, request id, method, route shape, status and milliseconds; never an id, a query value, a header or a
body. An answer of 5xx has the level error. What is kept on the way of a request is a tuple; lines are made when they are written.
"""

import asyncio
import logging
import sys
import time
from typing import TextIO

import structlog

INTERVAL = 0.2
"""Seconds between two writes."""

_SERVER_FAULT = 500

Line = tuple[float, str, str, str, int, float]
"""Seconds since 1970, request id, method, route shape, status, milliseconds."""


class AccessLog:
    """Gathers answers and writes their lines together. Call it with an answer; `flush` writes what waits.

    `level`: with warning and error only answers of 5xx are written. `text`: for people instead of JSON.
    """

    def __init__(self, stream: TextIO | None = None, *, level: str = "info", text: bool = False) -> None:
        self._stream = stream
        self._least = 0 if logging.getLevelNamesMapping()[level.upper()] <= logging.INFO else _SERVER_FAULT
        self._render = _as_text if text else _as_json
        self._lines: list[Line] = []

    def __call__(self, line: Line) -> None:
        """Keep an answer until the next writing."""
        if line[4] >= self._least:
            if not self._lines:
                asyncio.get_running_loop().call_later(INTERVAL, self.flush)
            self._lines.append(line)

    def flush(self) -> None:
        """Write the waiting lines."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        process = structlog.contextvars.get_contextvars().get("process", "")
        second, day = -1, ""
        parts = []
        for line in lines:
            if int(line[0]) != second:
                second = int(line[0])
                day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            parts.append(self._render(f"{day}.{int((line[0] - second) * 1000):03d}Z", process, line))
        stream = self._stream or sys.stderr
        stream.write("".join(parts))
        stream.flush()


def _as_json(moment: str, process: str, line: Line) -> str:
    # by hand: each part is of our own making or was checked to need no escape
    _, name, method, shape, status, ms = line
    return (
        f'{{"event":"request","level":"{_level(status)}","timestamp":"{moment}","process":"{process}",'
        f'"request_id":"{name}","method":"{method}","route":"{shape}","status":{status},"ms":{ms:.2f}}}\n'
    )


def _as_text(moment: str, process: str, line: Line) -> str:
    _, name, method, shape, status, ms = line
    return f"{moment} [{_level(status):<7}] {method} {shape} {status} {ms:.2f} ms process={process} request_id={name}\n"


def _level(status: int) -> str:
    return "error" if status >= _SERVER_FAULT else "info"
