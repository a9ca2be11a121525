"""What an operation answers: one `return` parameter bare where it is a resource, anything else as Parameters.

Specification: https://hl7.org/fhir/R4/operations.html#response
"""

from collections.abc import Sequence
from typing import Any

from fhir_server.http.response import FhirResponse
from resources.json_format import encode
from resources.model import Resource


def answered(resource: Resource, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> FhirResponse:
    """A single resource as the whole answer."""
    return FhirResponse(status, encode(resource), headers)


def parameters(
    rows: Sequence[tuple[str, str, Any]], status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> FhirResponse:
    """Parameters of (name, type, value): `("return", "Meta", {...})` becomes `{"name": "return", "valueMeta": {...}}`."""
    found = [{"name": name, f"value{kind[0].upper()}{kind[1:]}": value} for name, kind, value in rows]
    listed = {"parameter": found} if found else {}
    return answered({"resourceType": "Parameters", **listed}, status, headers)
