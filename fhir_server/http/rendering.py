"""The last step of every answer: from JSON, in which it was made, to the format that was negotiated.

Rules: JSON passes untouched. Large answers are converted with pauses, so that others are served meanwhile. A resource that XML cannot carry
is 406 to a reader; the answer to a write stays JSON then, for what was done is done.

Specification: https://hl7.org/fhir/R4/http.html#mime-type
"""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_plus

import msgspec
from starlette.types import Scope

from fhir_server.http.negotiation import Format, fault_format
from fhir_server.http.response import FHIR_JSON, FhirResponse
from fhir_server.interactions.pace import pacer
from resources import xml_format
from resources.errors import FhirError
from resources.json_format import decode

FHIR_XML: Final = "application/fhir+xml; charset=utf-8"
_FORMAT = re.compile(rb"(?:^|&)_format=([^&]+)")
_DEEPEST: Final = 1_000_000
"""Levels of an answer: a resource was held to the limit when it came, the Bundles around it add some."""


async def rendered(response: FhirResponse, wanted: Format, *, pretty: bool, reading: bool) -> FhirResponse:
    """The answer in the format `wanted`, indented when `pretty`; what has no body, or is no FHIR, as it is.

    Raises FhirError 406 for what the format cannot carry, when it answers a request that only was `reading`.
    """
    if not response.body or response.content_type != FHIR_JSON:
        return response
    if wanted == "json":
        return replace(response, body=msgspec.json.format(response.body, indent=2)) if pretty else response
    try:
        return await _as_xml(response, pretty=pretty)
    except FhirError:
        if reading:
            raise
        return response


async def told(outcome: FhirResponse, scope: Scope, *, pretty: bool = False) -> FhirResponse:
    """An OperationOutcome in the format that the request asks for, however little of it was understood."""
    accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), None)
    named = _FORMAT.search(scope["query_string"])
    wanted = fault_format(accept, unquote_plus(named[1].decode("latin-1")) if named is not None else None)
    return await rendered(outcome, wanted, pretty=pretty, reading=False)


async def _as_xml(response: FhirResponse, *, pretty: bool) -> FhirResponse:
    pace = pacer()
    parts = []
    try:
        for part in xml_format.pieces(decode(response.body, limit_depth=_DEEPEST), indent=pretty):
            parts.append(part.encode())
            await pace()
    except RecursionError:  # the limit of nesting was set very high
        raise FhirError(406, "not-supported", "the answer is nested too deeply for XML; ask for JSON") from None
    return replace(response, body=b"".join(parts), content_type=FHIR_XML)
