"""What an operator sees of the server: logs, metrics, slow requests, traces.

Rules. Nothing here holds what a resource says: no id, no search value, no header, no body; names that a client sent are shown only when
they are names of the specification. The request's path pays for a few dictionary look-ups; everything else happens on a timer or when asked.

`logs` one event per line on stderr; `metrics` what a process counts; `board` memory in which the processes show it to each other;
`exposition` the text for Prometheus; `slow` the shape of a slow request; `tracing` spans, when OpenTelemetry is there.
"""

from fhir_server.observability.logs import configure_logging

__all__ = ["configure_logging"]
