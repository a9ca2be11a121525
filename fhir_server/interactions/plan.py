"""A Bundle as a whole: the plan of what it writes, its one commit, and the answers to its entries.

Rules: a plan is made anew when its commit lost a race, a bounded number of times, then 409 with Retry-After. Reads are carried out after the commit: they see what was
written, and perhaps what others wrote since. A read that finds nothing does not undo the writes: its entry says 404.

Specification: https://hl7.org/fhir/R4/http.html#transaction-response
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.commit import commit
from fhir_server.interactions.conditions import retried
from fhir_server.interactions.delete import deleted
from fhir_server.interactions.entries import Entry, answer_entry
from fhir_server.interactions.pace import pacer
from fhir_server.interactions.service import Service
from fhir_server.interactions.written import answer
from fhir_server.storage.port import Stored, UnitOfWork, Written
from resources.model import Resource
from search.narrowing import Narrowing

READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Plan:
    """A Bundle ready to be committed.

    `written`: the entry (by index) of each write of the unit; `found`: what conditional
    creates found instead of writing, by entry.
    """

    entries: tuple[Entry, ...]
    unit: UnitOfWork
    written: tuple[int, ...]
    found: Mapping[int, Stored]


Planner = Callable[[Service, Resource, Narrowing], Awaitable[Plan]]


async def run_plan(service: Service, planner: Planner, bundle: Resource, request: FhirRequest) -> list[FhirResponse]:
    """Carry the Bundle out as a whole; one answer per entry, in their order."""
    waiting: list[Resource] = [bundle]

    async def attempt() -> tuple[Plan, tuple[Written, ...]]:
        # a plan changes the resources it reads: another attempt begins with the body again
        fresh = waiting.pop() if waiting else resource_of(service, request, "Bundle")
        plan = await planner(service, fresh, request.narrowing)
        places = [plan.entries[index].place for index in plan.written]
        return plan, await commit(service, plan.unit, request.narrowing, places) if places else ()

    plan, done = await retried(attempt)
    request = replace(request, prefer=replace(request.prefer, answer=request.prefer.answer or "minimal"))
    outcomes: dict[int, list[Written]] = {}
    for index, written in zip(plan.written, done, strict=True):
        outcomes.setdefault(index, []).append(written)
    answers = []
    pace = pacer()
    for entry in plan.entries:
        await pace()
        if entry.method in READS:
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
