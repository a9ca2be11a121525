"""Traces, when they are asked for (`FHIR_OTEL__ENDPOINT`) and OpenTelemetry is installed (extra `otel`).

Rules: one span per request, made when the answer is sent, so that requests that are not traced pay nothing. It says what the log says:
method, route shape, interaction, resource type, status; no id, no query. The caller's `traceparent` is its parent. Asked for but not
installed: the server does not start.

Specification: https://opentelemetry.io/docs/specs/semconv/http/http-spans/, https://www.w3.org/TR/trace-context/
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from fhir_server.observability.options import OtelOptions

_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_SERVER_FAULT = 500


class NotInstalled(Exception):  # noqa: N818  (a sentence for the user)
    """Traces are asked for and the packages are not there."""


class Trace(Protocol):
    """Tells of one request: span name, attributes, the caller's headers, times in nanoseconds since 1970."""

    def __call__(
        self, name: str, attributes: Mapping[str, str | int], carrier: Mapping[str, str], begun: int, ended: int
    ) -> None:
        """Record the span."""


def require_installed(options: OtelOptions) -> None:
    """Raise NotInstalled when `options` ask for what is not there."""
    if not options.endpoint:
        return
    for name in _NEEDED:
        if not _there(name):
            raise NotInstalled(
                f"traces are asked for (setting otel.endpoint) but {name} is not installed: "
                "install the extra, `pip install 'fhir-server[otel]'`, or remove the setting"
            )


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a package above it is not there
        return False


def start_tracing(options: OtelOptions, process: str) -> tuple[Trace, Callable[[], None]]:
    """The hook of this process and what ends it (sends what waits). Call it after the fork: it starts a thread."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  (an extra)
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": options.service, "service.instance.id": process}),
        sampler=ParentBasedTraceIdRatio(options.sample),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=options.endpoint)))
    return tracer_hook(provider.get_tracer("fhir_server")), provider.shutdown


def tracer_hook(tracer: Any) -> Trace:
    """The hook over an OpenTelemetry tracer."""
    from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    propagator = TraceContextTextMapPropagator()

    def trace(
        name: str, attributes: Mapping[str, str | int], carrier: Mapping[str, str], begun: int, ended: int
    ) -> None:
        context = propagator.extract(carrier)
        span = tracer.start_span(name, context, kind=SpanKind.SERVER, attributes=attributes, start_time=begun)
        if int(attributes["http.response.status_code"]) >= _SERVER_FAULT:
            span.set_status(StatusCode.ERROR)
        span.end(end_time=ended)

    return trace
