"""Options of observability."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, slots=True)
class ObservabilityOptions:
    """`slow`: seconds from which a request is logged as slow, 0 for never; `metrics`: whether `/metrics` is served.

    `disk_reserve`: MiB that must be free for the server to call itself ready.
    """

    slow: Annotated[float, Field(ge=0)] = 1.0
    metrics: bool = True
    disk_reserve: Annotated[int, Field(ge=0)] = 64


@dataclass(frozen=True, slots=True)
class OtelOptions:
    """`endpoint`: URL of an OTLP/HTTP collector, empty for no traces; `sample`: share of requests traced, 0 to 1."""

    endpoint: str = ""
    service: str = "fhir-server"
    sample: Annotated[float, Field(ge=0, le=1)] = 1.0
