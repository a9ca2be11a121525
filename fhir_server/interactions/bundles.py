"""`POST [base]` with a batch, transaction or history Bundle, and the response Bundle of each.

Specification: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/bundle.html
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from fhir_server.http.negotiation import Answer
from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse, etag
from fhir_server.interactions.batch import run_batch
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.entries import entries_of
from fhir_server.interactions.plan import run_plan
from fhir_server.interactions.prepare import checked
from fhir_server.interactions.replay import plan_replay
from fhir_server.interactions.service import Service
from fhir_server.interactions.transaction import plan_transaction
from resources.errors import FhirError
from resources.model import Resource, instant


async def bundle(service: Service, request: FhirRequest) -> FhirResponse:
    """Carry the Bundle out: a transaction or a history as a whole, a batch entry by entry."""
    refuse_parameters(request, "batch and transaction")
    resource = resource_of(service, request, "Bundle")
    checked(service.preparer, shell(resource))
    match resource["type"]:
        case "transaction":
            answers = await run_plan(service, plan_transaction, resource, request)
            kind = "transaction-response"
        case "batch":
            answers = await run_batch(service, entries_of(service, resource), request)
            kind = "batch-response"
        case "history":
            answers = await run_plan(service, plan_replay, resource, request)
            kind = "transaction-response"
        case other:
            raise FhirError(
                400,
                "invalid",
                f"a Bundle of type {other} is no batch, transaction or history",
                expression="Bundle.type",
            )
    touched = [key for answer in answers for key in (*([answer.about.key] if answer.about else []), *answer.shown)]
    body = response_bundle(kind, answers, request.prefer.answer)
    return FhirResponse(200, body, shown=tuple(dict.fromkeys(touched)))


def shell(bundle: Resource) -> Resource:
    """The Bundle with an empty resource in the place of each entry's, which are checked one by one."""
    entries = bundle.get("entry")
    if not isinstance(entries, list):
        return bundle
    return {**bundle, "entry": [_bare(entry) for entry in entries]}


def _bare(entry: Any) -> Any:
    if isinstance(entry, dict) and isinstance(entry.get("resource"), dict):
        return {**entry, "resource": {"resourceType": "Parameters"}}
    return entry


def response_bundle(kind: str, answers: Sequence[FhirResponse], wanted: Answer | None) -> bytes:
    """The response Bundle: one entry per answer, in order; bodies are spliced in as they are."""
    entries = b",".join([_entry(answer, wanted) for answer in answers])
    listed = b',"entry":[%b]' % entries if entries else b""
    return b'{"resourceType":"Bundle","type":"%b"%b}' % (kind.encode(), listed)


def _entry(answer: FhirResponse, wanted: Answer | None) -> bytes:
    response = {"status": f"{answer.status} {HTTPStatus(answer.status).phrase}"}
    wrote = any(name == "Location" for name, _ in answer.headers)
    if answer.about is not None:
        about = answer.about
        if wrote:
            response["location"] = f"{about.key}/_history/{about.version}"
        response["etag"] = etag(about.version)
        response["lastModified"] = instant(about.updated)
    told = msgspec.json.encode(response)
    if not answer.body:
        return b'{"response":%b}' % told
    if answer.status >= HTTPStatus.BAD_REQUEST or (wrote and wanted == "OperationOutcome"):
        return b'{"response":%b,"outcome":%b}}' % (told[:-1], answer.body)
    return b'{"resource":%b,"response":%b}' % (answer.body, told)
