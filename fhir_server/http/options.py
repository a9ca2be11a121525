"""Limits of one request that hold before it is understood; those of what it says are in `RestOptions` and `SearchLimits`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """`deadline`: seconds a request may take; `concurrency`: requests under way in one worker; lengths in bytes."""

    deadline: Annotated[float, Field(gt=0)] = 60.0
    concurrency: Annotated[int, Field(ge=1)] = 512
    url: Annotated[int, Field(ge=100)] = 32 * 1024
    headers: Annotated[int, Field(ge=100)] = 32 * 1024
