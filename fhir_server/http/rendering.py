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

from fhir_server.http.errors import error_response
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


def scope_format(scope: Scope) -> Format:
    """The format of an OperationOutcome for a request that was not understood far enough to negotiate."""
    accept = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"), None)
    named = _FORMAT.search(scope["query_string"])
    return fault_format(accept, unquote_plus(named[1].decode("latin-1")) if named is not None else None)


async def rendered(response: FhirResponse, wanted: Format, *, pretty: bool, reading: bool) -> FhirResponse:
    """The answer in the format `wanted`, indented when `pretty`; what has no body, or is no FHIR, as it is."""
    if not response.body or response.content_type != FHIR_JSON:
        return response
    if wanted == "json":
        return replace(response, body=msgspec.json.format(response.body, indent=2)) if pretty else response
    try:
        return await _as_xml(response, pretty=pretty)
    except FhirError as error:
        if not reading or response.status >= 400:  # noqa: PLR2004
            return response
        return await _as_xml(error_response(error), pretty=pretty)


async def _as_xml(response: FhirResponse, *, pretty: bool) -> FhirResponse:
    pace = pacer()
    parts = []
    for part in xml_format.pieces(decode(response.body, limit_depth=_DEEPEST), indent=pretty):
        parts.append(part.encode())
        await pace()
    return replace(response, body=b"".join(parts), content_type=FHIR_XML)
