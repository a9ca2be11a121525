"""transaction: all entries of a Bundle or none, as one unit of work.

The way: read the entries -> check every resource (all faults at once) -> settle what each entry writes (conditional creates are
looked up) -> rewrite links to entries (fullUrl) and conditional references -> one commit -> reads -> one answer per entry, in the
order of the requests. Writes are carried out DELETE, POST, PUT; GET and HEAD see what was written.

Rules: one identity may be written once (400). What was looked up is guarded in the commit; a lost race is tried again from the
start a bounded number of times, then 409 with Retry-After. A failed transaction changes nothing and answers one OperationOutcome
whose expressions name the entry. A read that finds nothing does not undo the writes: its entry says 404.

`plan_transaction` needs no HTTP: the loader uses it as it is.

Specification: https://hl7.org/fhir/R4/http.html#transaction
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.conditions import current_version, retried
from fhir_server.interactions.criteria import criteria_pairs, find
from fhir_server.interactions.entries import (
    Entry,
    answer_entry,
    at,
    entries_of,
    placed,
    require_form,
    require_understood,
)
from fhir_server.interactions.links import Addresses, Links, Touched, resolve_conditional, rewrite
from fhir_server.interactions.pace import Pace, pacer
from fhir_server.interactions.prepare import checked, put, require_same_id, require_whole
from fhir_server.interactions.service import Service
from fhir_server.interactions.update import require_known
from fhir_server.interactions.written import answer
from fhir_server.storage.port import Delete, Guard, Put, Stored, UnitOfWork, Written
from resources.errors import FhirError, Issue
from resources.model import Resource, ResourceKey
from search.narrowing import Narrowing

_READS = ("GET", "HEAD")
_ORDER = ("DELETE", "POST", "PUT")


@dataclass(frozen=True, slots=True)
class Target:
    """What a writing entry is about: its key, the version that must be current (None: any), or what its condition found."""

    entry: Entry
    key: ResourceKey
    expected: int | None = None
    found: Stored | None = None
    guard: Guard | None = None


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
    targets = [await _target(service, entry, narrowing) for entry in entries if entry.method not in _READS]
    _require_distinct(targets)
    addresses = Addresses([(target.entry, target.key, target.entry.method == "POST") for target in targets])
    for index, places in links.items():
        rewrite(places, addresses, entries[index])
        await pace()
    writing = sorted((target for target in targets if target.found is None), key=_order)
    touched = [Touched(target.entry, target.key, target.entry.resource) for target in writing]
    guards = await resolve_conditional(service, touched, links, narrowing, pace)
    writes = []
    for target in writing:
        writes.append(_write(service, target))
        await pace()
    conditions = [target.guard for target in targets if target.guard is not None]
    return Plan(
        entries,
        UnitOfWork(tuple(writes), (*conditions, *guards)),
        tuple(target.entry.index for target in writing),
        {target.entry.index: target.found for target in targets if target.found is not None},
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
    outcomes = dict(zip(plan.written, done, strict=True))
    answers = []
    pace = pacer()
    for entry in plan.entries:
        await pace()
        if entry.method in _READS:
            answers.append(await answer_entry(service, entry, request))
        elif entry.index in plan.found:
            answers.append(answer(service, request, plan.found[entry.index], 200))
        else:
            answers.append(_answer(service, request, entry, outcomes[entry.index]))
    return answers


def _answer(service: Service, request: FhirRequest, entry: Entry, written: Written) -> FhirResponse:
    if entry.method == "DELETE":
        return FhirResponse(204, about=written if written.version else None)
    return answer(service, request, written, 201 if written.created else 200)


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
                links[entry.index] = _checked_resource(service, entry, entry.resource)
        except FhirError as error:
            faults.extend(error.issues)
            statuses.add(error.status)
        await pace()
    if faults:
        # 422 only when nothing but rules is broken
        raise FhirError.many(min(statuses), faults)
    return links


def _checked_resource(service: Service, entry: Entry, resource: Resource) -> Links:
    try:
        if entry.method == "PUT":
            require_same_id(resource, ResourceKey(*entry.segments))
            require_whole(resource)
        checked(service.preparer, resource)
    except FhirError as error:
        raise placed(error, entry) from None
    return service.preparer.validator.links(resource)


async def _target(service: Service, entry: Entry, narrowing: Narrowing) -> Target:
    """What the entry writes, after its conditions were looked up."""
    try:
        if entry.method != "POST":
            key = ResourceKey(*entry.segments)
            expected = await current_version(service, key, entry.headers.get("if-match"), narrowing)
            if entry.method == "PUT" and expected is None:
                await require_known(service, key, narrowing)
            return Target(entry, key, expected)
        (kind,) = entry.segments
        criteria = entry.headers.get("if-none-exist")
        if criteria is None:
            return Target(entry, ResourceKey(kind, service.new_id()), 0)
        found = await find(
            service, kind, criteria_pairs(service, kind, criteria, "ifNoneExist"), narrowing, "ifNoneExist"
        )
        if found.match is not None:
            return Target(entry, found.match.key, found=found.match, guard=found.guard)
        return Target(entry, ResourceKey(kind, service.new_id()), 0, guard=found.guard)
    except FhirError as error:
        raise placed(error, entry) from None


def _require_distinct(targets: Sequence[Target]) -> None:
    """400 when one identity is written twice, or two entries would create what one condition means."""
    keys: dict[ResourceKey, Target] = {}
    conditions: dict[str, Target] = {}
    for target in targets:
        before = keys.setdefault(target.key, target)
        if before is not target and (before.found is None or target.found is None):
            said = f"entries {before.entry.index} and {target.entry.index} are both about {target.key}"
            raise at(target.entry, 400, "duplicate", said)
        if target.guard is not None and target.found is None:
            before = conditions.setdefault(target.guard.unique, target)
            if before is not target:
                said = f"entries {before.entry.index} and {target.entry.index} have the same ifNoneExist"
                raise at(target.entry, 400, "duplicate", said, ".request.ifNoneExist")


def _order(target: Target) -> int:
    return _ORDER.index(target.entry.method)


def _write(service: Service, target: Target) -> Put | Delete:
    if target.entry.resource is None:
        return Delete(target.key, target.expected)
    method: Literal["POST", "PUT"] = "POST" if target.entry.method == "POST" else "PUT"
    try:
        return put(service.preparer, target.entry.resource, target.key, method, expected=target.expected)
    except FhirError as error:
        raise placed(error, target.entry) from None
