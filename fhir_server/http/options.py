"""Limits of one request that hold before it is understood; those of what it says are in `RestOptions` and `SearchLimits`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """`deadline`: seconds a request may take; `concurrency`: requests under way in one worker; lengths in bytes."""

    deadline: float = 60.0
    concurrency: int = 512
    url: int = 16 * 1024
    headers: int = 32 * 1024
