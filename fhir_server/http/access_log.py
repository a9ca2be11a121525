"""The access log: one line per answer on stderr, gathered and written a few times a second, off the hot path.

Rules: a line says request id, method, route shape, status and milliseconds; never an id, a query value, a header or a body.
"""

import asyncio
import sys
from typing import TextIO

INTERVAL = 0.2
"""Seconds between two writes."""


class AccessLog:
    """Gathers lines and writes them together. Call it with a line; `flush` writes what waits."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def __call__(self, line: str) -> None:
        """Keep a line until the next writing."""
        if not self._lines:
            asyncio.get_running_loop().call_later(INTERVAL, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write the waiting lines."""
        if self._lines:
            lines, self._lines = self._lines, []
            stream = self._stream or sys.stderr
            stream.write("\n".join(lines) + "\n")
            stream.flush()
