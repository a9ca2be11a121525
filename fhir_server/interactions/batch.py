"""batch: the entries of a Bundle as requests of their own; each succeeds or fails by itself.

Rules: entries are carried out DELETE, POST, PUT, PATCH, then GET and HEAD; those of one method wait for the store together, so that they
share its commits. POST may ask for an operation. An entry may not refer to another one by its fullUrl: there is no telling whether that one succeeds.

Specification: https://hl7.org/fhir/R4/http.html#batch
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from fhir_server.http.errors import error_response, unexpected_response
from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.entries import METHODS, OPERATION_SHAPES, Entry, answer_entry, at, require_form
from fhir_server.interactions.pace import pacer
from fhir_server.interactions.service import Service
from resources.errors import FhirError

TOGETHER = 32
"""Entries of one method that are under way at once."""


async def run_batch(service: Service, entries: Sequence[Entry], request: FhirRequest) -> list[FhirResponse]:
    """One answer per entry, in their order."""
    answers: dict[int, FhirResponse] = {}
    addresses = {entry.full_url: entry for entry in entries if entry.full_url is not None and len(entry.segments) == 1}
    pace = pacer()

    async def one(entry: Entry) -> None:
        await pace()
        try:
            require_form(service, entry, ("/{type}", *OPERATION_SHAPES))
            _require_alone(entry, addresses)
            answers[entry.index] = await answer_entry(service, entry, request)
        except FhirError as error:
            answers[entry.index] = error_response(error)
        except Exception as error:  # noqa: BLE001  (the fault of one entry is that entry's answer)
            answers[entry.index] = unexpected_response(error, request.headers.get("x-request-id", entry.place))

    for method in METHODS:
        chosen = [entry for entry in entries if entry.method == method]
        for first in range(0, len(chosen), TOGETHER):
            await asyncio.gather(*(one(entry) for entry in chosen[first : first + TOGETHER]))
    return [answers[entry.index] for entry in entries]


def _require_alone(entry: Entry, addresses: Mapping[str, Entry]) -> None:
    for text in _strings(entry.resource):
        other = addresses.get(text)
        if other is not None and other is not entry:
            said = f"an entry of a batch may not refer to another one (entry {other.index})"
            raise at(entry, 400, "invalid", said, ".resource")


def _strings(value: object) -> Iterator[str]:
    """Every text in a resource."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
