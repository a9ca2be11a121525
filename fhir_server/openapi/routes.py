"""`/openapi.json` and `/openapi/{type}.json`: the documents, beside the FHIR base.

Rules: like the CapabilityStatement they need no token, tell nothing of any resource and are revalidated by their ETag. A document is made when
first asked for and kept while the search parameters are the same.

Specification: https://spec.openapis.org/oas/v3.1.0
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_server.http.errors import error_response
from fhir_server.http.routes import Projected
from fhir_server.http.table import ROUTES
from fhir_server.interactions.assembly import searchable
from fhir_server.interactions.service import Service
from fhir_server.openapi.document import Api, document
from fhir_server.openapi.operations import Operations
from fhir_server.operations import OPERATIONS
from resources.errors import FhirError

KEPT: Final = 16
"""Documents that a process keeps, of about 100 KB each."""
_OPEN: Final = {"Access-Control-Allow-Origin": "*"}


@dataclass(slots=True)
class _Documents:
    """The documents made for one state of the search parameters: type ("": the system) -> bytes."""

    projected: Mapping[str, Projected]
    endpoints: str
    epoch: int = -1
    made: dict[str, bytes] = field(default_factory=dict)

    def of(self, service: Service, origin: str, kind: str) -> bytes:
        service.preparer.refresh()
        if service.registry.epoch != self.epoch or len(self.made) >= KEPT:
            self.made, self.epoch = {}, service.registry.epoch
        found = self.made.get(kind)
        if found is None:
            found = self.made[kind] = msgspec.json.encode(document(self._api(service, origin), kind or None))
        return found

    def _api(self, service: Service, origin: str) -> Api:
        return Api(
            base=service.base,
            documents=f"{origin}/openapi/{{type}}.json",
            version=version("fhir-server"),
            routes=ROUTES,
            operations=Operations(
                tuple(row for row in OPERATIONS if row.allowed(service.options)), service.definitions, service.base
            ),
            definitions=service.definitions,
            searchable=lambda kind: searchable(service.registry, self.projected, kind),
            projected=self.projected,
            endpoints=self.endpoints,
        )


def openapi_routes(
    origin: str, projected: Mapping[str, Projected] | None = None, *, guarded: bool = False
) -> list[Route]:
    """The routes; `origin` is the public URL that they stand under, without a final slash; `projected` as in a RouteTable; `guarded`: there is access control."""
    documents = _Documents(projected or {}, f"{origin}/auth" if guarded else "")

    def answer(request: Request, kind: str) -> Response:
        body = documents.of(request.app.state.service, origin, kind)
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": tag, **_OPEN}
        held = {part.strip() for part in request.headers.get("if-none-match", "").split(",")}
        if tag in held:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    async def system(request: Request) -> Response:
        request.scope["route_shape"] = "/openapi.json"
        return answer(request, "")

    async def typed(request: Request) -> Response:
        request.scope["route_shape"] = "/openapi/{type}.json"
        kind = request.path_params["type"]
        if kind not in request.app.state.service.types:
            missing = error_response(FhirError(404, "not-found", "there is no resource type of this name"))
            return Response(missing.body, missing.status, headers=_OPEN, media_type=missing.content_type)
        return answer(request, kind)

    return [Route("/openapi.json", system), Route("/openapi/{type}.json", typed)]
