"""Options of observability."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObservabilityOptions:
    """`slow`: seconds from which a request is logged as slow, 0 for never; `metrics`: whether `/metrics` is served.

    `disk_reserve`: MiB that must be free for the server to call itself ready.
    """

    slow: float = 1.0
    metrics: bool = True
    disk_reserve: int = 64


@dataclass(frozen=True, slots=True)
class OtelOptions:
    """`endpoint`: URL of an OTLP/HTTP collector, empty for no traces; `sample`: share of requests traced, 0 to 1."""

    endpoint: str = ""
    service: str = "fhir-server"
    sample: float = 1.0
