"""The FHIR API as one ASGI endpoint: scope -> FhirRequest -> interaction -> answer.

Rules: this is the hot path. Nothing is parsed that the interaction does not need; every fault ends as an OperationOutcome, the
unexpected ones as a 500 that tells nothing. Interactions speak JSON: XML and the raw content of a Binary are read before they are called, and
made of their answers afterwards.

Specification: https://hl7.org/fhir/R4/http.html
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from fhir_server.http import binary
from fhir_server.http.authorization import authorized
from fhir_server.http.errors import error_response, unexpected_response
from fhir_server.http.middleware import send_response
from fhir_server.http.negotiation import Format, preferences, require_plain, response_format, sent_format, truth
from fhir_server.http.rendering import rendered, told
from fhir_server.http.request import FhirRequest, Pairs, Payload, query_pairs, split_general
from fhir_server.http.routes import Route, RouteTable, route_of
from fhir_server.interactions.body import read_resource
from fhir_server.interactions.service import Service
from resources.errors import FhirError
from search.narrowing import EVERYTHING
from smart_auth.access.decisions import Access

if TYPE_CHECKING:
    from fhir_server.http.access import Gate
    from fhir_server.http.rates import Rates


class FhirEndpoint:
    """The ASGI application below `prefix` (`/fhir`).

    It finds its Service in `app.state.service` and the Gate (None: authorization is off) in `app.state.gate`, set while the app runs.

    `begin` hears of each write before it is carried out, `rates` of each request with a good token; both may refuse it (FhirError).
    """

    def __init__(
        self,
        table: RouteTable,
        prefix: str,
        begin: Callable[[Scope], None] = lambda _: None,
        rates: "Rates | None" = None,
    ) -> None:
        self._table = table
        self._prefix = len(prefix)
        self._begin = begin
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method: str = scope["method"]
        reading = method in ("GET", "HEAD")
        wanted: Format = "json"
        pretty = False
        try:
            state = scope["app"].state
            gate: Gate | None = state.gate
            if gate is None or scope["path"][self._prefix :] in _OPEN:
                service, access = state.service, None
            else:
                service, access = await _admitted(scope, gate)
            if self._rates is not None:
                self._rates.admit(scope)
            route, segments = self._route(service, scope, method)
            query, named, shown = (
                split_general(query_pairs(scope["query_string"], service.options.parameter_limit))
                if scope["query_string"]
                else _NO_QUERY
            )
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            pretty = shown is not None and truth("_pretty", shown)
            exchange = (method, route.shape) if segments and segments[0] == binary.KIND else None
            raw = exchange in _RAW_OUT and not query
            if not raw:
                wanted = response_format(headers.get("accept"), named)
            prefer = preferences(headers.get("prefer"))
            narrowing = EVERYTHING if access is None else authorized(access, method, route.shape, segments)
            payload = b"" if reading or method == "DELETE" else await _body(receive)
            if payload and "content-encoding" in headers:
                require_plain(headers["content-encoding"])
            content: Payload = payload
            if exchange in _RAW_IN:
                content = await binary.sent(service, segments, headers, payload)
            elif payload and sent_format(headers.get("content-type", "")) == "xml":
                content = await read_resource(service, payload, headers["content-type"])
            request = FhirRequest(method, segments, query, headers, content, narrowing, prefer, access)
            scope["fhir_request"] = request
            if not reading:
                self._begin(scope)
            response = await route.interaction(service, request)
            scope["fhir_response"] = response
            if raw:
                response, wanted = binary.presented(response, headers.get("accept"), named)
            if wanted != "json" or pretty:
                response = await rendered(response, wanted, pretty=pretty, reading=reading)
        except FhirError as error:
            response = await told(error_response(error), scope, pretty=pretty)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  (the last line: whatever it is, the client gets an OperationOutcome)
            response = await told(unexpected_response(error, scope.get("request_id", "")), scope, pretty=pretty)
        await send_response(response, send, head=method == "HEAD")

    def _route(self, service: Service, scope: Scope, method: str) -> tuple[Route, tuple[str, ...]]:
        path: str = scope["path"][self._prefix :].strip("/")
        segments = tuple(path.split("/")) if path else ()
        route = route_of(self._table, method, segments, service.types)
        scope["route_shape"] = route.shape
        scope["segments"] = segments
        return route, segments


async def _admitted(scope: Scope, gate: "Gate") -> tuple[Service, Access]:
    """The service as the bearer of the token may use it; FhirError 401 without a token that is good."""
    admitted = await gate.admit(
        [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    )
    scope["principal"] = admitted.access.principal
    return admitted.service, admitted.access


_OPEN = frozenset({"/metadata", "/metadata/"})
"""What is answered without a token."""
_NO_QUERY: tuple[Pairs, None, None] = ((), None, None)
_RAW_IN = frozenset({("POST", "/{type}"), ("PUT", "/{type}"), ("PUT", "/{type}/{id}")})
"""Method and shape of the requests whose body may be the raw content of a Binary."""
_RAW_OUT = frozenset(
    (method, shape) for method in ("GET", "HEAD") for shape in ("/{type}/{id}", "/{type}/{id}/_history/{version}")
)
"""Of those that may be answered with it."""


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
