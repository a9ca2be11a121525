"""FHIR's operations, one module each; `OPERATIONS` is the table of those there are.

Rules: dispatch, the CapabilityStatement and the tests read this one table. An operation that changes something is asked for by POST alone.

Specification: https://hl7.org/fhir/R4/operations.html
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fhir_server.http.authorization import authorized_call
from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.service import Service
from fhir_server.operations.arguments import arguments
from fhir_server.operations.diff import diff
from fhir_server.operations.everything import everything
from fhir_server.operations.expunge import expunge
from fhir_server.operations.labels import meta, meta_add, meta_delete
from fhir_server.operations.lastn import lastn
from fhir_server.operations.model import Call, Level, Operation, own_resource, text_parameter
from fhir_server.operations.reindex import reindex
from fhir_server.operations.validate import validate
from fhir_server.storage.port import Stored
from resources.errors import FhirError
from resources.json_format import encode
from resources.model import ResourceKey
from search.results import CURSOR
from search.values import time_range

_CURSOR: Final = (text_parameter(CURSOR),)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("$diff", "Resource-diff", ("system", "instance"), None, diff, own=True, needs="read"),
    Operation(
        "$everything", "Encounter-everything", ("instance",), ("Encounter",), everything, added=_CURSOR, needs="collect"
    ),
    Operation(
        "$everything", "Patient-everything", ("instance",), ("Patient",), everything, added=_CURSOR, needs="collect"
    ),
    Operation(
        "$expunge",
        "Resource-expunge",
        ("system", "type", "instance"),
        None,
        expunge,
        affects_state=True,
        own=True,
        setting="expunge",
        needs="operate",
    ),
    Operation("$lastn", "Observation-lastn", ("type",), ("Observation",), lastn, open=True, needs="search"),
    Operation("$meta", "Resource-meta", ("system", "type", "instance", "version"), None, meta, needs="collect"),
    Operation(
        "$meta-add", "Resource-meta-add", ("instance", "version"), None, meta_add, affects_state=True, needs="change"
    ),
    Operation(
        "$meta-delete",
        "Resource-meta-delete",
        ("instance", "version"),
        None,
        meta_delete,
        affects_state=True,
        needs="change",
    ),
    Operation(
        "$reindex", "SearchParameter-reindex", ("instance",), ("SearchParameter",), reindex, own=True, needs="operate"
    ),
    Operation("$validate", "Resource-validate", ("type", "instance"), None, validate, needs="try"),
)


async def operation(service: Service, request: FhirRequest) -> FhirResponse:
    """`[base]/$name`, `[base]/Type/$name`, `[base]/Type/id/$name`, `[base]/Type/id/_history/version/$name`.

    404 naming an operation that there is not, or not there; 403 for one that is switched off, 405 for GET on one that changes something.
    """
    kind, name, version = _about(request.segments)
    level: Level = "version" if version else "instance" if name else "type" if kind else "system"
    called = request.segments[-1]
    found = next((row for row in OPERATIONS if row.name == called and row.answers(level, kind)), None)
    if found is None:
        raise FhirError(404, "not-supported", _refusal(called, level, kind))
    if not found.allowed(service.options):
        raise FhirError(403, "forbidden", f"{called} is switched off here (setting rest.{found.setting})")
    if found.affects_state and request.method != "POST":
        said = f"{called} changes what is stored: POST it"
        raise FhirError(405, "not-supported", said, headers={"Allow": "POST"})
    if request.access is not None:
        request = replace(request, narrowing=authorized_call(request.access, found.needs, called, kind))
    return await found.run(service, Call(request, level, kind, name, version, arguments(service, request, found)))


def _about(segments: tuple[str, ...]) -> tuple[str | None, str | None, str | None]:
    """Type, id and version of the path."""
    match segments[:-1]:
        case (kind, name, _, version):
            return kind, name, version
        case (kind, name):
            return kind, name, None
        case (kind,):
            return kind, None, None
    return None, None, None


def _refusal(called: str, level: Level, kind: str | None) -> str:
    if not any(row.name == called for row in OPERATIONS):
        return f"the operation {called} is not supported"
    return f"the operation {called} is not supported on the level {level}{f' of {kind}' if kind else ''}"


def own_definitions(base: str) -> Mapping[ResourceKey, Stored]:
    """The OperationDefinition resources of this server's own operations, as reading them answers. They are in no store."""
    found = {}
    for row in OPERATIONS:
        if row.own:
            resource = own_resource(row.definition)
            key = ResourceKey("OperationDefinition", row.definition)
            body = encode({**resource, "url": row.url(base)})
            written = time_range(resource["date"])
            assert written is not None
            found[key] = Stored(key, 1, written[0], False, "PUT", body)
    return found
