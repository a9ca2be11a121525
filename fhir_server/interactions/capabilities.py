"""capabilities: the CapabilityStatement, written from the tables in use.

Rules: what is listed is what the route table dispatches and what the search registry answers; nothing is listed by hand that
could be untrue. The ETag is the content's, so a client revalidates for free.

Specification: https://hl7.org/fhir/R4/http.html#capabilities, https://hl7.org/fhir/R4/capabilitystatement.html
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fhir_server.http.errors import not_supported
from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse, encoded
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.service import Service
from search.parameters import Parameter

_PROFILE = "http://hl7.org/fhir/StructureDefinition/"


async def capabilities(service: Service, request: FhirRequest) -> FhirResponse:
    """`GET [base]/metadata`: needs no token; 304 when the client holds this statement."""
    for name, value in request.query:
        if name == "mode" and value != "full":
            raise not_supported(f"mode={value} of the capabilities interaction", 400)
    refuse_parameters(request, "capabilities", frozenset({"mode"}))
    body = service.statement()
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    held = request.headers.get("if-none-match", "")
    if tag in {part.strip() for part in held.split(",")}:
        return FhirResponse(304, headers=(("ETag", tag),))
    return FhirResponse(200, body, (("ETag", tag),))


def statement(
    *,
    base: str,
    version: str,
    date: str,
    codes: Mapping[str, Sequence[str]],
    parameters: Mapping[str, Iterable[Parameter]],
    options: RestOptions,
) -> bytes:
    """The statement as JSON. `codes`: interactions by level (`system`, `type`); `parameters`: what can be searched, by type."""
    return encoded(
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": date,
            "kind": "instance",
            "software": {"name": "fhir-server", "version": version},
            "implementation": {"description": "FHIR R4 server", "url": base},
            "fhirVersion": "4.0.1",
            "format": ["json", "application/fhir+json"],
            "rest": [
                {
                    "mode": "server",
                    "resource": [_resource(kind, rows, codes["type"], options) for kind, rows in parameters.items()],
                    "interaction": [{"code": code} for code in codes["system"]],
                }
            ],
        }
    )


def _resource(kind: str, rows: Iterable[Parameter], codes: Sequence[str], options: RestOptions) -> dict[str, Any]:
    rows = sorted(rows, key=lambda row: row.code)
    includes = [f"{kind}:{row.code}" for row in rows if row.type == "reference"]
    return {
        "type": kind,
        "profile": _PROFILE + kind,
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": options.update_as_create,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical"],
        **({"searchInclude": includes} if includes else {}),
        "searchParam": [_parameter(row) for row in rows],
    }


def _parameter(row: Parameter) -> dict[str, str]:
    return {"name": row.code, "type": row.type, **({"definition": row.url} if row.url else {})}
