"""patch: changes to a resource by JSON Patch or FHIRPath Patch; the outcome is checked as an update is.

Rules. `application/json-patch+json` is JSON Patch, a Parameters resource is FHIRPath Patch; XML Patch and everything else is 415 with Accept-Patch.
Type, id, versionId and lastUpdated cannot be changed. Without If-Match a patch that lost a race is applied again to what is then
current; with If-Match it is 412. A patch that changes nothing makes no new version. With criteria none is 404, several are 412.

In a Bundle the resource of a PATCH entry is Parameters, or a Binary of the content type application/json-patch+json.

Specification: https://hl7.org/fhir/R4/http.html#patch, https://hl7.org/fhir/R4/fhirpatch.html, https://www.rfc-editor.org/rfc/rfc6902
"""

import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final

from fhir_server.http.request import FhirRequest, refuse_parameters
from fhir_server.http.response import FhirResponse, validators
from fhir_server.interactions.apart import put_apart
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.commit import commit
from fhir_server.interactions.conditions import current_version, precondition_failed, retried
from fhir_server.interactions.criteria import find
from fhir_server.interactions.links import require_literal
from fhir_server.interactions.parts import require_shown_whole
from fhir_server.interactions.prepare import checked, require_same_id, require_whole
from fhir_server.interactions.service import Service
from fhir_server.interactions.written import answer
from fhir_server.storage.port import Conflict, Guard, Stored, UnitOfWork
from resources.errors import FhirError
from resources.json_format import decode, decode_array
from resources.model import Resource, ResourceKey
from resources.patching import fhirpath_patch, json_patch
from resources.patching.limits import PatchLimits

JSON_PATCH: Final = "application/json-patch+json"
FORMATS: Final = (JSON_PATCH, "application/fhir+json", "application/fhir+xml")
"""What is accepted: for Accept-Patch and the CapabilityStatement."""
UNPATCHABLE: Final = frozenset({"Binary"})
"""Types that are sent whole."""

Patch = Callable[[Resource], Any]
"""A patch that was read: the current resource -> the JSON value that the patch makes of it; never changes its argument."""


async def patch(service: Service, request: FhirRequest) -> FhirResponse:
    """`PATCH [base]/Type/id`: 200 with the new version."""
    refuse_parameters(request, "patch")
    key = ResourceKey(*request.segments)
    wanted = patch_of(service, request, key.type)

    async def attempt() -> FhirResponse:
        stored = await service.store.read(key, request.narrowing)
        if stored is None:
            raise FhirError(404, "not-found", f"{key} is not known")
        if stored.deleted:
            raise FhirError(410, "deleted", f"{key} was deleted", headers=dict(validators(stored)))
        return await _write(service, request, wanted, stored, ())

    return await retried(attempt)


async def conditional_patch(service: Service, request: FhirRequest) -> FhirResponse:
    """`PATCH [base]/Type?criteria`: the one match is patched."""
    (kind,) = request.segments
    wanted = patch_of(service, request, kind)

    async def attempt() -> FhirResponse:
        found = await find(service, kind, request.query, request.narrowing, "the URL of the patch")
        if found.match is None:
            raise FhirError(404, "not-found", f"no {kind} matches the criteria")
        return await _write(service, request, wanted, found.match, (found.guard,))

    return await retried(attempt)


async def _write(
    service: Service, request: FhirRequest, wanted: Patch, stored: Stored, guards: Sequence[Guard]
) -> FhirResponse:
    """One attempt to patch what is stored. Raises Conflict for a race that was lost and can be tried again."""
    expected = await current_version(service, stored.key, request.headers.get("if-match"), request.narrowing)
    if expected not in (None, stored.version):
        raise precondition_failed(stored.key)
    require_shown_whole(stored, request.narrowing)
    resource = patched(service, wanted, decode(stored.body))
    require_literal(service, request, resource)
    write = await put_apart(service.preparer, resource, stored.key, "PATCH", expected=stored.version)
    try:
        (done,) = await commit(service, UnitOfWork((write,), tuple(guards)), request.narrowing)
    except Conflict as conflict:
        if expected is not None and conflict.reason == "version":
            raise precondition_failed(stored.key) from None
        raise
    return answer(service, request, done, 200)


def patch_of(service: Service, given: FhirRequest | Resource, kind: str) -> Patch:
    """Read the patch of a `kind` that a request carries, or that the resource of a Bundle's PATCH entry is.

    Pure. Raises FhirError 400 for a malformed patch, 405 for a `kind` that cannot be patched, 413 for too many operations, 415 for another format.
    A transaction reads each patch when it checks its entries; then, with what is current: `patched(service, patch, decode(stored.body))`.
    """
    if kind in UNPATCHABLE:
        said = f"a {kind} cannot be patched: send it whole"
        raise FhirError(405, "not-supported", said, headers={"Allow": "GET, HEAD, PUT, DELETE"})
    if not isinstance(given, FhirRequest):
        return _of_resource(service, given)
    if not isinstance(given.payload, bytes):
        return _of_resource(service, given.payload)
    if given.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON_PATCH:
        return _json_patch(service, given.payload)
    try:
        return _of_resource(service, resource_of(service, given, "Parameters"))
    except FhirError as error:
        if error.status != 415:  # noqa: PLR2004
            raise
        accepted = ", ".join(FORMATS)
        said = f"a patch is sent as one of {accepted}"
        raise FhirError(415, "not-supported", said, headers={"Accept-Patch": accepted}) from None


def patched(service: Service, patch: Patch, current: Resource) -> Resource:
    """What `patch` makes of `current`, a stored body as decoded: another resource, checked as an update is, ready for `put`.

    Pure; `current` is not changed. Raises FhirError 400 or 422 when the patch cannot be carried out, or its outcome has faults or another
    type, id, versionId or lastUpdated; 413 when it is too large.
    """
    made = patch(current)
    if not isinstance(made, dict):
        raise FhirError(422, "processing", "the patch leaves something that is no resource")
    if made.get("resourceType") != current["resourceType"]:
        raise FhirError(400, "invalid", "a patch cannot change the resourceType", expression="resourceType")
    limits(service).require_bounded(made)
    require_same_id(made, ResourceKey(current["resourceType"], current["id"]))
    _require_same_meta(made, current)
    checked(service.preparer, made)
    require_whole(made)
    return made


def limits(service: Service) -> PatchLimits:
    """What a patch may cost here: its outcome is no larger and no deeper than a body may be."""
    return PatchLimits(size=service.options.body_limit, depth=service.options.nesting_limit)


def _require_same_meta(made: Resource, current: Resource) -> None:
    """400 for another versionId or lastUpdated; they may be left out, as in an update."""
    meta, before = made.get("meta"), current.get("meta", {})
    for name in ("versionId", "lastUpdated"):
        if isinstance(meta, dict) and name in meta and meta[name] != before.get(name):
            place = f"{current['resourceType']}.meta.{name}"
            raise FhirError(400, "invalid", f"a patch cannot change meta.{name}: the server gives it", expression=place)


def _of_resource(service: Service, resource: Resource) -> Patch:
    match resource.get("resourceType"):
        case "Parameters":
            return _fhirpath_patch(service, resource)
        case "Binary" if resource.get("contentType") == JSON_PATCH:
            return _json_patch(service, _data(resource))
    said = f"a patch is a Parameters resource, or a Binary of the content type {JSON_PATCH}"
    raise FhirError(400, "invalid", said, expression="resourceType")


def _data(binary: Resource) -> bytes:
    try:
        return binascii.a2b_base64("".join(str(binary.get("data", "")).split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise FhirError(400, "value", "the data is no base64", expression="Binary.data") from None


def _json_patch(service: Service, body: bytes) -> Patch:
    bounds = limits(service)
    operations = json_patch.read_patch(decode_array(body, limit_depth=bounds.depth), bounds)
    return lambda current: json_patch.apply_patch(current, operations, bounds)


def _fhirpath_patch(service: Service, parameters: Resource) -> Patch:
    operations = fhirpath_patch.read_patch(parameters, service.definitions, limits(service))
    return lambda current: fhirpath_patch.apply_patch(current, operations, service.definitions)
