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


@dataclass(frozen=True, slots=True)
class RateOptions:
    """Requests a second, 0 for no limit: of one `user`, of one `client`, to `/auth/...` from one address, and with `failures`, tokens that are no good.

    `burst`: for so many seconds' worth at once.
    """

    user: Annotated[float, Field(ge=0)] = 5000.0
    client: Annotated[float, Field(ge=0)] = 20000.0
    auth: Annotated[float, Field(ge=0)] = 50.0
    failures: Annotated[float, Field(ge=0)] = 50.0
    burst: Annotated[float, Field(gt=0)] = 60.0
