"""$validate: what the server would say to a resource, or to a write of it, without writing.

Rules. The faults are those that the interaction itself finds, by the same functions. Whatever is found, the answer is 200 with an OperationOutcome; without a
fault one informational issue says so. A 4xx means that the call cannot be carried out: no resource, an unknown mode, a mode for another level, a profile.
Resources are validated against the specification's own definition of their type: another `profile` is refused by name, one that the resource
claims in meta.profile is told to be unchecked. Modes: create, update (with If-Match and If-None-Match), delete (whose resource does not count).

Specification: https://hl7.org/fhir/R4/resource-operation-validate.html
"""

from collections.abc import Awaitable, Callable
from typing import Final

from fhir_server.http.response import FhirResponse
from fhir_server.interactions.commit import refuse_referred, refuse_unknown
from fhir_server.interactions.links import require_literal
from fhir_server.interactions.prepare import checked, put, require_same_id, require_whole
from fhir_server.interactions.service import Service
from fhir_server.interactions.update import preconditions, require_known
from fhir_server.operations.answers import answered
from fhir_server.operations.model import Call
from fhir_server.storage.port import Delete, UnitOfWork
from resources.errors import FhirError, Issue, outcome
from resources.model import Resource, ResourceKey
from resources.validation import status_of

_BASE: Final = "http://hl7.org/fhir/StructureDefinition/"
_MODES: Final = ("create", "update", "delete")
_BUSINESS: Final = 422
"""The status of faults that leave the structure whole."""
_FOUND_NOTHING: Final = Issue("information", "informational", "No fault was found.")


async def validate(service: Service, call: Call) -> FhirResponse:
    """`POST [base]/Type/$validate`, `[base]/Type/id/$validate`; a deletion is asked about by GET too."""
    mode = _mode(call)
    if mode == "delete":
        issues = await _deletion(service, call)
    else:
        issues = await _content(service, call, mode)
    return answered(outcome(issues or (_FOUND_NOTHING,)))


def _mode(call: Call) -> str | None:
    mode: str | None = call.arguments.one("mode")
    if mode is not None and mode not in _MODES:
        raise FhirError(400, "not-supported", f"mode={mode} is not supported; {', '.join(_MODES)} are")
    if mode in ("update", "delete") and call.level != "instance":
        raise FhirError(400, "invalid", f"mode={mode} is about one resource: call {call.type}/[id]/$validate")
    if mode != "delete" and call.arguments.one("resource") is None:
        raise FhirError(400, "required", "the parameter resource of $validate is missing")
    profile: str | None = call.arguments.one("profile")
    if profile is not None and profile.partition("|")[0] != f"{_BASE}{call.type}":
        raise FhirError(
            400, "not-supported", f"validation against the profile {profile} is not supported; {_BASE}{call.type} is"
        )
    return mode


async def _content(service: Service, call: Call, mode: str | None) -> list[Issue]:
    """The faults of the resource, and those of creating or updating by it."""
    resource: Resource = call.arguments.one("resource")
    given = resource.get("resourceType")
    if given != call.type:
        said = f"the resource is no {call.type}, which the URL names"
        return [Issue("error", "invalid", said, ("resourceType",))]
    issues = _faults(lambda: checked(service.preparer, resource))
    if mode is not None and (not issues or status_of(issues) == _BUSINESS):
        issues += _faults(lambda: require_literal(service, call.request, resource))
        issues += await _awaited(_targets(service, call, resource))
    if mode == "update":
        issues += _faults(lambda: require_same_id(resource, call.key))
        issues += _faults(lambda: require_whole(resource))
        issues += await _awaited(_writable(service, call))
    return issues + _unchecked(call, resource)


async def _targets(service: Service, call: Call, resource: Resource) -> None:
    """What the setting rest.referential_integrity asks of references; raises FhirError."""
    if service.options.referential_integrity:
        key = ResourceKey(resource["resourceType"], call.id or service.new_id())
        await refuse_unknown(service, UnitOfWork((put(service.preparer, resource, key, "PUT"),)))


async def _writable(service: Service, call: Call) -> None:
    """What an update asks of the resource that is there; raises FhirError."""
    narrowing = call.request.narrowing
    if not await preconditions(service, call.key, call.request.headers, narrowing):
        await require_known(service, call.key, narrowing)


async def _deletion(service: Service, call: Call) -> list[Issue]:
    """Whether the resource could be deleted."""
    headers = {name: value for name, value in call.request.headers.items() if name == "if-match"}
    issues = await _awaited(preconditions(service, call.key, headers, call.request.narrowing))
    stored = await service.store.read(call.key, call.request.narrowing)
    if stored is None or stored.deleted:
        said = f"{call.key} is not there: deleting it would change nothing"
        issues.append(Issue("warning", "not-found", said))
    elif service.options.referential_integrity:
        unit = UnitOfWork((Delete(call.key),))
        issues += await _awaited(refuse_referred(service, unit, call.key, call.request.narrowing))
    return issues


def _faults(check: Callable[[], object]) -> list[Issue]:
    try:
        check()
    except FhirError as error:
        return list(error.issues)
    return []


async def _awaited(check: Awaitable[object]) -> list[Issue]:
    try:
        await check
    except FhirError as error:
        return list(error.issues)
    return []


def _unchecked(call: Call, resource: Resource) -> list[Issue]:
    """A warning for each profile that the resource claims and nobody has checked."""
    meta = resource.get("meta")
    claimed = meta.get("profile") if isinstance(meta, dict) else None
    return [
        Issue(
            "warning",
            "not-supported",
            f"the profile {profile} was not checked: profiles are not supported",
            (f"{call.type}.meta.profile[{at}]",),
        )
        for at, profile in enumerate(claimed if isinstance(claimed, list) else ())
        if isinstance(profile, str) and profile.partition("|")[0] != f"{_BASE}{call.type}"
    ]
