"""A history Bundle sent to [base]: what it tells is carried out again here, as one unit of work.

Rules: a history is told newest first, so its entries are carried out in reverse. Every resource keeps its id and gets its versions in their order; their numbers and
times are this server's own. An entry's identity is that of its resource, of a deletion that of its URL. References stay as they are written. What was decided when the
history was made (criteria, conditions) cannot be decided again: such an entry is refused.

Specification: https://hl7.org/fhir/R4/http.html#history, https://hl7.org/fhir/R4/bundle.html#history
"""

from typing import Final, Literal, cast

from fhir_server.interactions.apart import checked_apart, put_apart
from fhir_server.interactions.entries import Entry, at, entries_of, entry_shape, placed, require_writable
from fhir_server.interactions.pace import pacer
from fhir_server.interactions.plan import Plan
from fhir_server.interactions.prepare import require_same_id, require_whole
from fhir_server.interactions.service import Service
from fhir_server.interactions.update import require_known
from fhir_server.storage.port import Delete, Put, UnitOfWork
from resources.errors import FhirError, Issue
from resources.model import Resource, ResourceKey, is_id
from search.narrowing import Narrowing

_SHAPES: Final = ("/{type}", "/{type}/{id}", "/{type}/{id}/_history/{version}")
"""URLs under which servers tell what a version was made by."""


async def plan_replay(service: Service, bundle: Resource, narrowing: Narrowing) -> Plan:
    """The unit of work that carries the history `bundle` out; FhirError, its expressions naming the entries, with all faults."""
    entries = entries_of(service, bundle)
    pace = pacer()
    writes: list[Put | Delete] = []
    faults: list[FhirError] = []
    for entry in reversed(entries):
        try:
            writes.append(await _write(service, entry, narrowing))
        except FhirError as error:
            faults.append(error)
        await pace()
    if faults:
        issues: list[Issue] = [issue for error in reversed(faults) for issue in error.issues]
        raise FhirError.many(min(error.status for error in faults), issues)
    return Plan(entries, UnitOfWork(tuple(writes)), tuple(entry.index for entry in reversed(entries)), {})


async def _write(service: Service, entry: Entry, narrowing: Narrowing) -> Put | Delete:
    key = _key(service, entry)
    if entry.resource is None:
        return Delete(key)
    try:
        require_same_id(entry.resource, key)
        require_whole(entry.resource)
        await checked_apart(service.preparer, entry.resource)
        await require_known(service, key, narrowing)
        method = cast("Literal['POST', 'PUT', 'PATCH']", entry.method)
        return await put_apart(service.preparer, entry.resource, key, method)
    except FhirError as error:
        raise placed(error, entry) from None


def _key(service: Service, entry: Entry) -> ResourceKey:
    if entry.method in ("GET", "HEAD"):
        raise at(entry, 400, "invalid", f"a history tells what was written, not {entry.method}", ".request.method")
    if entry.query or entry.headers:
        raise at(entry, 400, "not-supported", "conditions in a history Bundle are not supported", ".request")
    if entry_shape(service, entry) not in _SHAPES:
        raise at(entry, 400, "invalid", "the URL is neither that of a type nor of a resource", ".request.url")
    require_writable(service, entry)
    kind, *rest = entry.segments
    if entry.resource is None:
        if not rest or not is_id(rest[0]):
            raise at(entry, 400, "value", "the URL of a deletion holds the id", ".request.url")
        return ResourceKey(kind, rest[0])
    if entry.resource.get("resourceType") != kind:
        said = f"the URL names {kind}, the resource is of another type"
        raise at(entry, 400, "invalid", said, ".resource.resourceType")
    given = entry.resource.get("id")
    if not isinstance(given, str):
        raise at(entry, 400, "required", "a resource of a history has its id", ".resource.id")
    return ResourceKey(kind, rest[0] if rest else given)
