"""The rows of the route table."""

from fhir_server.http.routes import Route
from fhir_server.interactions.bundles import bundle
from fhir_server.interactions.capabilities import capabilities
from fhir_server.interactions.create import create
from fhir_server.interactions.delete import conditional_delete, delete
from fhir_server.interactions.history import history
from fhir_server.interactions.patch import conditional_patch, patch
from fhir_server.interactions.read import read, vread
from fhir_server.interactions.search import compartment_search, search, system_search
from fhir_server.interactions.update import conditional_update, update
from fhir_server.operations import operation

_GET = ("GET", "HEAD")

ROUTES: tuple[Route, ...] = (
    Route(_GET, "/metadata", capabilities, ()),
    Route(("POST",), "/", bundle, ("transaction", "batch")),
    Route(_GET, "/", system_search, ("search-system",)),
    Route(("POST",), "/_search", system_search, ()),
    Route(_GET, "/_history", history, ("history-system",)),
    Route(_GET, "/{type}", search, ("search-type",)),
    Route(("POST",), "/{type}", create, ("create",)),
    Route(("PUT",), "/{type}", conditional_update, ()),
    Route(("PATCH",), "/{type}", conditional_patch, ()),
    Route(("DELETE",), "/{type}", conditional_delete, ()),
    Route(("POST",), "/{type}/_search", search, ()),
    Route(_GET, "/{type}/_history", history, ("history-type",)),
    Route(_GET, "/{type}/{id}", read, ("read",)),
    Route(("PUT",), "/{type}/{id}", update, ("update",)),
    Route(("PATCH",), "/{type}/{id}", patch, ("patch",)),
    Route(("DELETE",), "/{type}/{id}", delete, ("delete",)),
    Route(_GET, "/{type}/{id}/_history", history, ("history-instance",)),
    Route(_GET, "/{type}/{id}/_history/{version}", vread, ("vread",)),
    Route((*_GET, "POST"), "/$operation", operation, ()),
    Route((*_GET, "POST"), "/{type}/$operation", operation, ()),
    Route((*_GET, "POST"), "/{type}/{id}/$operation", operation, ()),
    Route((*_GET, "POST"), "/{type}/{id}/_history/{version}/$operation", operation, ()),
    Route(_GET, "/{type}/{id}/{member}", compartment_search, ()),
    Route(("POST",), "/{type}/{id}/{member}/_search", compartment_search, ()),
)
