"""The route table: which methods and path shapes there are, which interaction answers, what the CapabilityStatement calls it.

Rules: dispatch, 405 with Allow, the CapabilityStatement and the tests all read this one table. A path is matched by its shape:
each segment is classified (a resource type, an id, `_history`, ...) and the shape looked up, so no pattern is tried in turn.

Specification: https://hl7.org/fhir/R4/http.html
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from fhir_server.http.authorization import authorized
from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.service import Service
from resources.errors import FhirError

Interaction = Callable[[Service, FhirRequest], Awaitable[FhirResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """`shape` such as `/{type}/{id}`; `codes` of http://hl7.org/fhir/restful-interaction that the statement lists for it."""

    methods: tuple[str, ...]
    shape: str
    interaction: Interaction
    codes: tuple[str, ...]


Shapes = Mapping[str, Mapping[str, Route]]
"""Shape -> method -> row."""


@dataclass(frozen=True, slots=True)
class Projected:
    """A type whose resources the server makes itself: these rows alone answer, these search parameters alone are known."""

    routes: tuple[Route, ...]
    parameters: tuple[str, ...]


class RouteTable(NamedTuple):
    """The rows for every type, and by name those of the types that are projected."""

    shapes: Shapes
    projected: Mapping[str, Shapes]


def table_of(routes: Collection[Route], projected: Mapping[str, Projected] | None = None) -> RouteTable:
    """The table of these rows."""
    own = {kind: _shapes(one.routes) for kind, one in (projected or {}).items()}
    return RouteTable(_shapes(routes), own)


def _shapes(routes: Collection[Route]) -> Shapes:
    table: dict[str, dict[str, Route]] = {}
    for route in routes:
        for method in route.methods:
            table.setdefault(route.shape, {})[method] = route
    return table


_NO_METHODS: Mapping[str, Route] = {}
_LITERALS = frozenset({"_history", "_search"})


def shape_of(segments: tuple[str, ...], types: Collection[str]) -> str:
    """The shape of a path below the FHIR base; 404 for an unknown resource type or a path of no known form."""
    if not segments:
        return "/"
    first = segments[0]
    if first not in types:
        if len(segments) == 1 and (first in _LITERALS or first == "metadata"):
            return f"/{first}"
        if first.startswith("$") and len(segments) == 1:
            return "/$operation"
        raise FhirError(404, "not-supported", f"{first!r} is not a resource type of FHIR R4")
    match segments[1:]:
        case ():
            return "/{type}"
        case (second,):
            if second in _LITERALS:
                return f"/{{type}}/{second}"
            return "/{type}/$operation" if second.startswith("$") else "/{type}/{id}"
        case (_, third):
            if third == "_history":
                return "/{type}/{id}/_history"
            if third.startswith("$"):
                return "/{type}/{id}/$operation"
            if third in types or third == "*":
                return "/{type}/{id}/{member}"
        case (_, third, fourth):
            if third == "_history":
                return "/{type}/{id}/_history/{version}"
            if fourth == "_search" and (third in types or third == "*"):
                return "/{type}/{id}/{member}/_search"
        case (_, "_history", _, fifth) if fifth.startswith("$"):
            return "/{type}/{id}/_history/{version}/$operation"
    raise FhirError(404, "not-found", "this server has no such path")


def route_of(table: RouteTable, method: str, segments: tuple[str, ...], types: Collection[str]) -> Route:
    """The row for a request: 404 for an unknown path, 405 with Allow for a method it does not have."""
    shape = shape_of(segments, types)
    methods = table.shapes.get(shape)
    if table.projected and segments:
        own = table.projected.get(segments[2] if "{member}" in shape else segments[0])
        if own is not None and methods is not None:
            methods = own.get(shape, _NO_METHODS)
    if not methods:
        raise FhirError(404, "not-found", "this server has no such path")
    route = methods.get(method)
    if route is None:
        allowed = ", ".join(methods)
        raise FhirError(
            405,
            "not-supported",
            f"{method} is not supported on /{'/'.join(segments)}; {allowed} is",
            headers={"Allow": allowed},
        )
    return route


async def answer_request(table: RouteTable, service: Service, request: FhirRequest) -> FhirResponse:
    """Dispatch a request that is already made: an entry of a Bundle."""
    route = route_of(table, request.method, request.segments, service.types)
    if request.access is not None:
        narrowing = authorized(request.access, request.method, route.shape, request.segments)
        request = replace(request, narrowing=narrowing)
    return await route.interaction(service, request)
