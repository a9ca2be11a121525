"""The FHIR API as one ASGI endpoint: scope -> FhirRequest -> interaction -> answer.

Rules: this is the hot path. Nothing is parsed that the interaction does not need; every fault ends as an OperationOutcome, the
unexpected ones as a 500 that tells nothing.

Specification: https://hl7.org/fhir/R4/http.html
"""

from dataclasses import replace

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from fhir_server.http.errors import error_response, unexpected_response
from fhir_server.http.middleware import send_response
from fhir_server.http.negotiation import preferences, require_plain, response_format, truth
from fhir_server.http.request import FhirRequest, Pairs, query_pairs, split_general
from fhir_server.http.routes import Route, RouteTable, route_of
from fhir_server.interactions.service import Service
from resources.errors import FhirError
from search.narrowing import EVERYTHING


class FhirEndpoint:
    """The ASGI application below `prefix` (`/fhir`); it finds its Service in `app.state.service`, set while the app runs."""

    def __init__(self, table: RouteTable, prefix: str) -> None:
        self._table = table
        self._prefix = len(prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method: str = scope["method"]
        pretty = False
        try:
            service: Service = scope["app"].state.service
            route, segments = self._route(service, scope, method)
            query, named, shown = (
                split_general(query_pairs(scope["query_string"], service.options.parameter_limit))
                if scope["query_string"]
                else _NO_QUERY
            )
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            pretty = shown is not None and truth("_pretty", shown)
            response_format(headers.get("accept"), named)
            prefer = preferences(headers.get("prefer"))
            payload = b"" if method in ("GET", "HEAD", "DELETE") else await _body(receive)
            if payload and "content-encoding" in headers:
                require_plain(headers["content-encoding"])
            request = FhirRequest(method, segments, query, headers, payload, EVERYTHING, prefer)
            scope["fhir_request"] = request
            response = await route.interaction(service, request)
        except FhirError as error:
            response = error_response(error)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  (the last line: whatever it is, the client gets an OperationOutcome)
            response = unexpected_response(error, scope.get("request_id", ""))
        if pretty and response.body:
            response = replace(response, body=msgspec.json.format(response.body, indent=2))
        await send_response(response, send, head=method == "HEAD")

    def _route(self, service: Service, scope: Scope, method: str) -> tuple[Route, tuple[str, ...]]:
        path: str = scope["path"][self._prefix :].strip("/")
        segments = tuple(path.split("/")) if path else ()
        route = route_of(self._table, method, segments, service.types)
        scope["route_shape"] = route.shape
        scope["segments"] = segments
        return route, segments


_NO_QUERY: tuple[Pairs, None, None] = ((), None, None)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
