"""Long work on the event loop lets others run at least every few milliseconds.

One entry of a Bundle costs microseconds, a Bundle up to a hundred milliseconds: whoever works through one calls its pace
between entries.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

Pace = Callable[[], Awaitable[None]]

SLICE = 0.003
"""Seconds of work between two yields."""


def pacer() -> Pace:
    """A function to await between steps: it yields to the event loop when the slice is spent."""
    until = time.perf_counter() + SLICE

    async def pace() -> None:
        nonlocal until
        if time.perf_counter() >= until:
            await asyncio.sleep(0)
            until = time.perf_counter() + SLICE

    return pace
