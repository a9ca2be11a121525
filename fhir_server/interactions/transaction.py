"""transaction: all entries of a Bundle or none, as one unit of work.

The way: read the entries -> check every resource (all faults at once) -> settle what each entry writes (conditions are looked up, patches
applied) -> rewrite links to entries (fullUrl) and conditional references -> one commit -> reads -> one answer per entry, in the order of
the requests. Writes are carried out DELETE, POST, PUT and PATCH; GET and HEAD see what was written.

Rules: one identity may be written once (400; see clashes). What was looked up is guarded in the commit. A failed transaction changes
nothing and answers one OperationOutcome whose expressions name the entry.

`plan_transaction` needs no HTTP: the loader uses it as it is.

Specification: https://hl7.org/fhir/R4/http.html#transaction
"""

from collections.abc import Sequence
from typing import Literal, cast

from fhir_server.interactions.aims import Aim, aim_of
from fhir_server.interactions.apart import checked_apart, put_apart
from fhir_server.interactions.clashes import require_apart, require_distinct
from fhir_server.interactions.entries import (
    METHODS,
    Entry,
    entries_of,
    placed,
    require_form,
    require_understood,
)
from fhir_server.interactions.links import Addresses, Links, Touched, resolve_conditional, rewrite
from fhir_server.interactions.pace import Pace, pacer
from fhir_server.interactions.parts import require_whole_copy
from fhir_server.interactions.patch import patch_of
from fhir_server.interactions.plan import READS, Plan
from fhir_server.interactions.prepare import require_same_id
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Delete, Put, UnitOfWork
from resources.errors import FhirError, Issue
from resources.model import Resource, ResourceKey
from search.narrowing import Narrowing


async def plan_transaction(service: Service, bundle: Resource, narrowing: Narrowing) -> Plan:
    """The unit of work that carries `bundle` out; its resources are changed in place (links are rewritten).

    Raises FhirError when the transaction cannot be done; expressions name the entry.
    """
    entries = entries_of(service, bundle)
    pace = pacer()
    links = await _checked(service, entries, narrowing, pace)
    aims = [await aim_of(service, entry, narrowing) for entry in entries if entry.method not in READS]
    require_distinct(aims)
    for aim in aims:
        if aim.entry.method == "PATCH" and aim.resource is not None:  # of the outcome, not of the patch
            links[aim.entry.index] = service.preparer.validator.links(aim.resource)
    addresses = Addresses((aim.entry, aim.keys[0], aim.version) for aim in aims if aim.keys)
    for index, places in links.items():
        rewrite(places, addresses, entries[index])
        await pace()
    writing = sorted((aim for aim in aims if aim.found is None), key=_order)
    touched = [Touched(aim.entry, key, aim.resource) for aim in writing for key in aim.keys]
    guards = await resolve_conditional(service, touched, links, narrowing, pace)
    writes: list[Put | Delete] = []
    puts: dict[int, Put] = {}
    for aim in writing:
        if aim.resource is None:
            writes += [Delete(key, aim.expected) for key in aim.keys]
        else:
            puts[aim.entry.index] = await _put(service, aim, aim.resource)
            writes.append(puts[aim.entry.index])
        await pace()
    await require_apart(aims, puts, service.now(), pace)
    return Plan(
        entries,
        UnitOfWork(tuple(writes), (*(aim.guard for aim in aims if aim.guard is not None), *guards)),
        tuple(aim.entry.index for aim in writing for _ in aim.keys),
        {aim.entry.index: aim.found for aim in aims if aim.found is not None},
    )


async def _checked(service: Service, entries: Sequence[Entry], narrowing: Narrowing, pace: Pace) -> dict[int, Links]:
    """The links of every entry's resource; all faults of all entries are raised together."""
    links: dict[int, Links] = {}
    faults: list[Issue] = []
    statuses: set[int] = set()
    for entry in entries:
        try:
            require_form(service, entry)
            require_understood(service, entry)
            if entry.resource is not None:
                await _check_resource(service, entry, entry.resource, narrowing)
                if entry.method != "PATCH":
                    links[entry.index] = service.preparer.validator.links(entry.resource)
        except FhirError as error:
            faults.extend(error.issues)
            statuses.add(error.status)
        await pace()
    if faults:
        # 422 only when nothing but rules is broken
        raise FhirError.many(min(statuses), faults)
    return links


async def _check_resource(service: Service, entry: Entry, resource: Resource, narrowing: Narrowing) -> None:
    try:
        if entry.method == "PATCH":
            patch_of(service, resource, entry.segments[0])
            return
        if entry.method == "PUT":
            if len(entry.segments) > 1:
                require_same_id(resource, ResourceKey(*entry.segments))
            key = ResourceKey(entry.segments[0], str(resource.get("id", "")))
            await require_whole_copy(service, key, resource, narrowing)
        await checked_apart(service.preparer, resource)
    except FhirError as error:
        raise placed(error, entry) from None


def _order(aim: Aim) -> int:
    """DELETE, POST, then PUT and PATCH in the order of the Bundle."""
    return min(METHODS.index(aim.entry.method), METHODS.index("PUT"))


async def _put(service: Service, aim: Aim, resource: Resource) -> Put:
    method = cast("Literal['POST', 'PUT', 'PATCH']", aim.entry.method)
    try:
        return await put_apart(
            service.preparer, resource, aim.keys[0], method, expected=aim.expected, fresh=aim.creates
        )
    except FhirError as error:
        raise placed(error, aim.entry) from None
