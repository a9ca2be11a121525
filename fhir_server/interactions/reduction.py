"""`_summary` and `_elements` as the interactions ask for them.

Specification: https://hl7.org/fhir/R4/search.html#summary, #elements
"""

from collections.abc import Collection
from typing import cast

from fhir_server.http.request import FhirRequest
from fhir_server.interactions.service import Service
from resources.definitions import Definitions
from resources.errors import FhirError
from resources.reduction import Reduction, Summary, unknown_elements

_SUMMARIES = ("true", "text", "data", "false")
PARAMETERS = frozenset({"_summary", "_elements"})


def reduction(
    definitions: Definitions, types: Collection[str], summary: str | None, elements: tuple[str, ...]
) -> Reduction | None:
    """How to reduce resources of these types; None when whole ones are wanted. 400 for an element that none of them has."""
    unknown = unknown_elements(elements, types, definitions)
    if unknown:
        said = f"Parameter '_elements': '{unknown[0]}' is no element of {next(iter(types)) if len(types) == 1 else 'these types'}."
        raise FhirError(400, "invalid", said)
    if summary in (None, "false", "count"):
        return Reduction(definitions, None, elements) if elements else None
    if elements:
        raise FhirError(400, "invalid", "Parameters '_summary' and '_elements' do not go together.")
    return Reduction(definitions, cast("Summary", summary), ())


def asked_reduction(service: Service, request: FhirRequest, kind: str) -> Reduction | None:
    """The reduction that the query of a read asks for."""
    found: dict[str, str] = {}
    for name, value in request.query:
        if name in PARAMETERS and value:
            if name in found:
                raise FhirError(400, "invalid", f"Parameter '{name}' is given more than once.")
            found[name] = value
    summary = found.get("_summary")
    if summary is not None and summary not in _SUMMARIES:
        raise FhirError(400, "invalid", f"Parameter '_summary': '{summary}' is not one of {', '.join(_SUMMARIES)}.")
    names = tuple(dict.fromkeys(name for name in found.get("_elements", "").split(",") if name))
    return reduction(service.definitions, (kind,), summary, names)
