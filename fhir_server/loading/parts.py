"""From a file to units of work, without writing anything: what a loading process does.

Every part becomes a transaction Bundle and is planned like one that was sent by POST, with its ledger row beside it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fhir_server.interactions.bundles import shell
from fhir_server.interactions.prepare import checked
from fhir_server.interactions.service import Service
from fhir_server.interactions.transaction import plan_transaction
from fhir_server.loading.ledger import Ledger, entry
from fhir_server.loading.sources import Unreadable, content, digest, has_lines, lines
from fhir_server.storage.port import UnitOfWork
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import Resource, is_id
from search.narrowing import EVERYTHING

LINES_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of work that writes `count` resources; `where` names its place in the file for a report."""

    work: UnitOfWork
    count: int
    where: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A part that cannot be loaded: its place in the file and the reason."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The file is through; `known` parts were loaded earlier."""

    known: int


Message = Unit | Fault | End


async def parts(service: Service, ledger: Ledger, path: Path) -> AsyncIterator[Message]:
    """Everything of a file that the ledger does not have, ended by one End."""
    known = 0
    try:
        name = digest(path)
        done = ledger.done(name)
        if has_lines(path):
            waiting = ((number, line) for number, line in lines(path) if number not in done)
            for group in _grouped(waiting):
                async for message in _lines(service, name, group):
                    yield message
            known = len(done)
        elif done:
            known = 1
        else:
            yield await _unit(service, name, [0], _bundle(decode(content(path))))
    except Unreadable as error:
        yield Fault("", str(error))
    except FhirError as error:
        yield _fault("", error)
    yield End(known)


async def _lines(service: Service, name: str, group: Sequence[tuple[int, bytes]]) -> AsyncIterator[Message]:
    """The lines together, or one by one when a fault is among them."""
    try:
        bundle = _puts([{"resource": decode(line)} for _, line in group])
        yield await _unit(service, name, [number for number, _ in group], bundle)
    except FhirError as error:
        if len(group) == 1:
            yield _fault(f"line {group[0][0] + 1}", error)
            return
        for line in group:
            async for message in _lines(service, name, [line]):
                yield message


async def _unit(service: Service, name: str, numbers: list[int], bundle: Resource) -> Unit:
    checked(service.preparer, shell(bundle))
    plan = await plan_transaction(service, bundle, EVERYTHING)
    work = UnitOfWork(plan.unit.writes, plan.unit.guards, (*plan.unit.follow_ups, entry(name, numbers)))
    return Unit(work, len(work.writes), f"lines {numbers[0] + 1} to {numbers[-1] + 1}" if len(numbers) > 1 else "")


def _bundle(resource: Resource) -> Resource:
    """The transaction that a file's resource stands for: see rule 1 of the package."""
    if resource.get("resourceType") != "Bundle":
        return _puts([{"resource": resource}])
    match resource.get("type"):
        case "transaction":
            return resource
        case "collection":
            return _puts(resource.get("entry", []))
        case other:
            raise FhirError(
                400, "not-supported", f"Bundles of type {other!r} cannot be loaded; transaction and collection can"
            )


def _puts(entries: Sequence[dict[str, Any]]) -> Resource:
    """A transaction that writes every entry's resource under its own id."""
    asked = []
    for index, item in enumerate(entries):
        resource = item.get("resource") if isinstance(item, dict) else None
        kind, name = (resource.get("resourceType"), resource.get("id")) if isinstance(resource, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(name, str) or not is_id(name):
            said = "a resource with its type and id is needed"
            raise FhirError(400, "required", said, expression=f"Bundle.entry[{index}].resource.id")
        asked.append({**item, "request": {"method": "PUT", "url": f"{kind}/{name}"}})
    return {"resourceType": "Bundle", "type": "transaction", "entry": asked}


def _grouped(numbered: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    while group := list(islice(numbered, LINES_TOGETHER)):
        yield group


def _fault(where: str, error: FhirError) -> Fault:
    """All issues of the error in one text: they name places, never values of other resources."""
    told = [
        f"{', '.join(issue.expression)}: {issue.diagnostics}" if issue.expression else issue.diagnostics
        for issue in error.issues
    ]
    return Fault(where, "; ".join(told))
