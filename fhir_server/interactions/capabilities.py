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
from fhir_server.interactions.patch import FORMATS, UNPATCHABLE
from fhir_server.interactions.service import Service
from search.parameters import Parameter

_SPECIAL = ("_filter", "_has", "_list")
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
    operations: Iterable[tuple[tuple[str, ...] | None, str, str]],
    options: RestOptions,
    projected: Mapping[str, Sequence[str]],
    security: Mapping[str, Any],
) -> bytes:
    """The statement as JSON.

    `codes`: interactions by level (`system`, `type`); `parameters`: what can be searched, by type; `operations`: types (None: all),
    name, definition; `projected`: the interactions on types whose resources the server makes itself; `security`: CapabilityStatement.rest.security.
    """
    named: dict[str, list[tuple[str, str]]] = {"": []}
    for types, name, definition in operations:
        for kind in ("",) if types is None else types:
            named.setdefault(kind, []).append((name, definition))
    rows = {kind: sorted(found, key=lambda row: row.code) for kind, found in parameters.items()}
    revincludes = _revincludes({kind: [] if kind in projected else found for kind, found in rows.items()})
    return encoded(
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": date,
            "kind": "instance",
            "software": {"name": "fhir-server", "version": version},
            "implementation": {"description": "FHIR R4 server", "url": base},
            "fhirVersion": "4.0.1",
            "format": ["json", "xml", "application/fhir+json", "application/fhir+xml"],
            "patchFormat": list(FORMATS),
            "rest": [
                {
                    "mode": "server",
                    "security": security,
                    "resource": [
                        _projected(kind, found, projected[kind])
                        if kind in projected
                        else _resource(kind, found, revincludes[kind], codes["type"], options)
                        | _operations(named.get(kind, ()))
                        for kind, found in rows.items()
                    ],
                    "interaction": [{"code": code} for code in codes["system"]],
                    "searchParam": [
                        *({"name": name, "type": "special"} for name in _SPECIAL),
                        *_common({kind: found for kind, found in rows.items() if kind not in projected}),
                    ],
                    **_operations(named[""]),
                }
            ],
        }
    )


def _common(rows: Mapping[str, Sequence[Parameter]]) -> list[dict[str, str]]:
    """The parameters that every type has: what a search over all types can use."""
    first, *others = rows.values()
    codes = set.intersection(*({row.code for row in found} for found in others)) if others else set()
    return [_parameter(row) for row in first if row.code in codes]


def _revincludes(rows: Mapping[str, Sequence[Parameter]]) -> dict[str, list[str]]:
    """By type what may refer to it."""
    found: dict[str, list[str]] = {kind: [] for kind in rows}
    for source, parameters in rows.items():
        for row in parameters:
            if row.type == "reference":
                for kind, listed in found.items():
                    if row.may_target(kind):
                        listed.append(f"{source}:{row.code}")
    return found


def _operations(named: Iterable[tuple[str, str]]) -> dict[str, Any]:
    found = [{"name": name, "definition": definition} for name, definition in named]
    return {"operation": found} if found else {}


def _resource(
    kind: str, rows: Sequence[Parameter], revincludes: Sequence[str], codes: Sequence[str], options: RestOptions
) -> dict[str, Any]:
    includes = [f"{kind}:{row.code}" for row in rows if row.type == "reference"]
    return {
        "type": kind,
        "profile": _PROFILE + kind,
        "interaction": [{"code": code} for code in codes if code != "patch" or kind not in UNPATCHABLE],
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": options.update_as_create,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": options.conditional_delete,
        "referencePolicy": ["literal", "logical", *(["enforced"] if options.referential_integrity else [])],
        "searchInclude": ["*", *([f"{kind}:*"] if includes else []), *includes],
        "searchRevInclude": ["*", *revincludes],
        "searchParam": [_parameter(row) for row in rows],
    }


def _projected(kind: str, rows: Sequence[Parameter], codes: Sequence[str]) -> dict[str, Any]:
    return {
        "type": kind,
        "profile": _PROFILE + kind,
        "interaction": [{"code": code} for code in codes],
        "versioning": "no-version",
        "readHistory": False,
        "updateCreate": False,
        "conditionalCreate": False,
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "searchParam": [_parameter(row) for row in rows],
    }


def _parameter(row: Parameter) -> dict[str, str]:
    return {"name": row.code, "type": row.type, **({"definition": row.url} if row.url else {})}
