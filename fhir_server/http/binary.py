"""Binary as what it holds: raw bytes in and out, under their own content type.

Rules. A body is the content of a Binary, whatever its type; under a FHIR type it may be the Binary resource itself. Read, a Binary is
raw unless Accept or `_format` asks for FHIR. X-Security-Context stands for `Binary.securityContext`. Raw content is
somebody's file: browsers are told to save it, not to guess its type, and to run nothing in it.

Specification: https://hl7.org/fhir/R4/binary.html#rest
"""

import binascii
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from fhir_server.http.negotiation import Format, binary_format, is_fhir
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.body import read_resource
from fhir_server.interactions.service import Service
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import Resource
from resources.references import parse

KIND: Final = "Binary"
SECURITY_CONTEXT: Final = "X-Security-Context"
_SAFE: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Disposition", "attachment"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
)
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+\-]+/[\w!#$&^.+\-]+(?:\s*;[ -~]*)?", re.ASCII)
_UNKNOWN: Final = "application/octet-stream"
_URL_CHARACTERS: Final = "/:?#[]@!$&'()*+,;=%~"


async def sent(service: Service, segments: tuple[str, ...], headers: Mapping[str, str], body: bytes) -> Resource:
    """The Binary that a request to create or update one carries; its id is the URL's, if that names one."""
    content_type = headers.get("content-type", "")
    context = headers.get("x-security-context")
    if is_fhir(content_type):
        resource = await read_resource(service, body, content_type)
        kind = resource.get("resourceType")
        if kind == KIND or not (isinstance(kind, str) and service.definitions.is_resource(kind)):
            _require_same_context(resource, context)
            return resource
    if not content_type.strip():
        raise FhirError(415, "not-supported", "the content of a Binary needs a Content-Type")
    made: dict[str, Any] = {"resourceType": KIND}
    if len(segments) > 1:
        made["id"] = segments[1]
    made["contentType"] = " ".join(content_type.split())
    if context is not None:
        made["securityContext"] = {"reference": _reference(service, context)}
    if body:
        made["data"] = b64encode(body).decode()
    return made


def _require_same_context(resource: Resource, context: str | None) -> None:
    given = resource.get("securityContext")
    if context is not None and (not isinstance(given, dict) or given.get("reference") != context):
        said = f"{SECURITY_CONTEXT} is for raw content; this Binary says its securityContext itself"
        raise FhirError(400, "invalid", said, expression="Binary.securityContext")


def _reference(service: Service, text: str) -> str:
    found = parse(text, (service.base, *service.aliases))
    if found.form not in ("local", "external") or not service.definitions.is_resource(found.type):
        raise FhirError(
            400, "value", f"{SECURITY_CONTEXT} is no reference to a resource", expression="Binary.securityContext"
        )
    return text


def presented(response: FhirResponse, accept: str | None, named: str | None) -> tuple[FhirResponse, Format]:
    """The answer to a read of a Binary: raw, or the FHIR format to render it in."""
    if not response.body:
        return response, "json"
    binary = decode(response.body)
    content_type = binary.get("contentType", _UNKNOWN)  # it may be absent for a reason
    wanted = binary_format(accept, named, content_type)
    if wanted is not None:
        return response, wanted
    context = binary.get("securityContext", {}).get("reference")
    headers = (
        *response.headers,
        *_SAFE,
        *(((SECURITY_CONTEXT, quote(context, _URL_CHARACTERS)),) if context is not None else ()),
    )
    content = binascii.a2b_base64(binary.get("data", ""))
    shown = content_type if _MEDIA_TYPE.fullmatch(content_type) is not None else _UNKNOWN
    return FhirResponse(response.status, content, headers, shown, response.about), "json"
