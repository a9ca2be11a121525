"""transaction: all entries of a Bundle or none, as one unit of work.

The way: read the entries -> check every resource (all faults at once) -> settle what each entry writes (conditions are looked up, patches applied) -> rewrite links to
entries (fullUrl) and conditional references -> one commit -> reads -> one answer per entry, in the order of the requests. Writes are carried out DELETE, POST, PUT and
PATCH; GET and HEAD see what was written.

Rules: one identity may be written once (400; see clashes). What was looked up is guarded in the commit; a lost race is tried again from the
start a bounded number of times, then 409 with Retry-After. A failed transaction changes nothing and answers one OperationOutcome
whose expressions name the entry. A read that finds nothing does not undo the writes: its entry says 404.

`plan_transaction` needs no HTTP: the loader uses it as it is.

Specification: https://hl7.org/fhir/R4/http.html#transaction
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.aims import Aim, aim_of
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.clashes import require_apart, require_distinct
from fhir_server.interactions.conditions import retried
from fhir_server.interactions.delete import deleted
from fhir_server.interactions.entries import (
    METHODS,
    Entry,
    answer_entry,
    entries_of,
    placed,
    require_form,
    require_understood,
)
from fhir_server.interactions.links import Addresses, Links, Touched, resolve_conditional, rewrite
from fhir_server.interactions.pace import Pace, pacer
from fhir_server.interactions.patch import patch_of
from fhir_server.interactions.prepare import checked, put, require_same_id, require_whole
from fhir_server.interactions.service import Service
from fhir_server.interactions.written import answer
from fhir_server.storage.port import Delete, Put, Stored, UnitOfWork, Written
from resources.errors import FhirError, Issue
from resources.model import Resource, ResourceKey
from search.narrowing import Narrowing

_READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Plan:
    """A transaction ready to be committed.

    `written`: the entry (by index) of each write of the unit; `found`: what conditional
    creates found instead of writing, by entry.
    """

    entries: tuple[Entry, ...]
    unit: UnitOfWork
    written: tuple[int, ...]
    found: Mapping[int, Stored]


async def plan_transaction(service: Service, bundle: Resource, narrowing: Narrowing) -> Plan:
    """The unit of work that carries `bundle` out; its resources are changed in place (links are rewritten).

    Raises FhirError when the transaction cannot be done; expressions name the entry.
    """
    entries = entries_of(service, bundle)
    pace = pacer()
    links = await _checked(service, entries, pace)
    aims = [await aim_of(service, entry, narrowing) for entry in entries if entry.method not in _READS]
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
            puts[aim.entry.index] = _put(service, aim, aim.resource)
            writes.append(puts[aim.entry.index])
        await pace()
    await require_apart(aims, puts, service.now(), pace)
    return Plan(
        entries,
        UnitOfWork(tuple(writes), (*(aim.guard for aim in aims if aim.guard is not None), *guards)),
        tuple(aim.entry.index for aim in writing for _ in aim.keys),
        {aim.entry.index: aim.found for aim in aims if aim.found is not None},
    )


async def run_transaction(service: Service, bundle: Resource, request: FhirRequest) -> list[FhirResponse]:
    """Carry the transaction out; one answer per entry, in their order."""
    waiting: list[Resource] = [bundle]

    async def attempt() -> tuple[Plan, tuple[Written, ...]]:
        # a plan changes the resources it reads: another attempt begins with the body again
        fresh = waiting.pop() if waiting else resource_of(service, request, "Bundle")
        plan = await plan_transaction(service, fresh, request.narrowing)
        return plan, await service.store.commit(plan.unit) if plan.unit.writes else ()

    plan, done = await retried(attempt)
    request = replace(request, prefer=replace(request.prefer, answer=request.prefer.answer or "minimal"))
    outcomes: dict[int, list[Written]] = {}
    for index, written in zip(plan.written, done, strict=True):
        outcomes.setdefault(index, []).append(written)
    answers = []
    pace = pacer()
    for entry in plan.entries:
        await pace()
        if entry.method in _READS:
            answers.append(await answer_entry(service, entry, request))
        elif entry.index in plan.found:
            answers.append(answer(service, request, plan.found[entry.index], 200))
        else:
            answers.append(_answer(service, request, entry, outcomes.get(entry.index, ())))
    return answers


def _answer(service: Service, request: FhirRequest, entry: Entry, written: Sequence[Written]) -> FhirResponse:
    if entry.method == "DELETE":
        return deleted(*written)
    (one,) = written
    return answer(service, request, one, 201 if one.created else 200)


async def _checked(service: Service, entries: Sequence[Entry], pace: Pace) -> dict[int, Links]:
    """The links of every entry's resource; all faults of all entries are raised together."""
    links: dict[int, Links] = {}
    faults: list[Issue] = []
    statuses: set[int] = set()
    for entry in entries:
        try:
            require_form(service, entry)
            require_understood(service, entry)
            if entry.resource is not None:
                _check_resource(service, entry, entry.resource)
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


def _check_resource(service: Service, entry: Entry, resource: Resource) -> None:
    try:
        if entry.method == "PATCH":
            patch_of(service, resource, entry.segments[0])
            return
        if entry.method == "PUT":
            if len(entry.segments) > 1:
                require_same_id(resource, ResourceKey(*entry.segments))
            require_whole(resource)
        checked(service.preparer, resource)
    except FhirError as error:
        raise placed(error, entry) from None


def _order(aim: Aim) -> int:
    """DELETE, POST, then PUT and PATCH in the order of the Bundle."""
    return min(METHODS.index(aim.entry.method), METHODS.index("PUT"))


def _put(service: Service, aim: Aim, resource: Resource) -> Put:
    method = cast("Literal['POST', 'PUT', 'PATCH']", aim.entry.method)
    try:
        return put(service.preparer, resource, aim.keys[0], method, expected=aim.expected)
    except FhirError as error:
        raise placed(error, aim.entry) from None
