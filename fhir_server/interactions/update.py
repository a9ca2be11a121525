"""update: a new version of a resource, or its first under the client's id (update-as-create); by id or by criteria.

Rules: the body's id is the URL's. If-Match guards the current version, `If-None-Match: *` that there is none (412). Identical content makes no new version. A body
marked SUBSETTED is refused: it would erase what it left out.

By criteria: no match and no id in the body creates under an id of the server; no match and an id is update-as-create, refused (409) when that id is in use; one
match is updated unless the body has another id (400); several matches are 412. The criteria are checked again inside the commit, so parallel ones make one resource.

Specification: https://hl7.org/fhir/R4/http.html#update, #upsert, #cond-update
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fhir_server.http.request import FhirRequest, Pairs, refuse_parameters
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.apart import checked_apart, put_apart
from fhir_server.interactions.body import resource_of
from fhir_server.interactions.commit import commit
from fhir_server.interactions.conditions import (
    current_version,
    exists_already,
    must_be_absent,
    precondition_failed,
    retried,
)
from fhir_server.interactions.criteria import find
from fhir_server.interactions.links import require_literal
from fhir_server.interactions.parts import require_whole_copy
from fhir_server.interactions.prepare import require_same_id
from fhir_server.interactions.service import Service
from fhir_server.interactions.written import answer
from fhir_server.storage.port import Conflict, Guard, UnitOfWork
from resources.errors import FhirError
from resources.model import Resource, ResourceKey
from search.narrowing import Narrowing

_WHAT: Final = "the conditional update"


async def update(service: Service, request: FhirRequest) -> FhirResponse:
    """`PUT [base]/Type/id`: 200, or 201 when nothing was current."""
    refuse_parameters(request, "update")
    key = ResourceKey(*request.segments)
    resource = resource_of(service, request, key.type)
    require_same_id(resource, key)
    await require_whole_copy(service, key, resource, request.narrowing)
    await checked_apart(service.preparer, resource)
    require_literal(service, request, resource)
    expected = await preconditions(service, key, request.headers, request.narrowing)
    if not expected:
        await require_known(service, key, request.narrowing)
    try:
        new = await put_apart(service.preparer, resource, key, "PUT", expected=expected)
        (done,) = await commit(service, UnitOfWork((new,)), request.narrowing)
    except Conflict:
        raise (exists_already if expected == 0 else precondition_failed)(key) from None
    return answer(service, request, done, 201 if done.created else 200)


async def conditional_update(service: Service, request: FhirRequest) -> FhirResponse:
    """`PUT [base]/Type?criteria`: 200, or 201 when nothing matched."""
    (kind,) = request.segments
    resource = resource_of(service, request, kind)
    await require_whole_copy(service, ResourceKey(kind, str(resource.get("id", ""))), resource, request.narrowing)
    await checked_apart(service.preparer, resource)
    require_literal(service, request, resource)

    async def attempt() -> FhirResponse:
        meant = await meaning(service, kind, request.query, resource, request.headers, request.narrowing)
        new = await put_apart(service.preparer, resource, meant.key, "PUT", expected=meant.expected, fresh=meant.fresh)
        (done,) = await commit(service, UnitOfWork((new,), (meant.guard,)), request.narrowing)
        return answer(service, request, done, 201 if done.created else 200)

    return await retried(attempt)


@dataclass(frozen=True, slots=True)
class Meant:
    """The resource that a conditional update writes, the version that must be current (0: none), and the guard of its criteria. `fresh`: the id is new."""

    key: ResourceKey
    expected: int | None
    guard: Guard
    fresh: bool = False


async def meaning(
    service: Service, kind: str, criteria: Pairs, resource: Resource, headers: Mapping[str, str], narrowing: Narrowing
) -> Meant:
    """Look up what a conditional update of `resource` is about; FhirError 400, 405, 409 or 412 when it cannot be done."""
    given = resource.get("id")
    found = await find(service, kind, criteria, narrowing, _WHAT)
    if found.match is None and given is not None and await _is_live(service, ResourceKey(kind, given), narrowing):
        found = await find(service, kind, criteria, narrowing, _WHAT)  # perhaps it was written between the two looks
        if found.match is None:
            said = f"{kind}/{given} exists, and the criteria do not match it"
            raise FhirError(409, "conflict", said, expression=f"{kind}.id")
    if found.match is not None:
        key = found.match.key
        if given not in (None, key.id):
            said = f"the criteria match {key}, the resource has another id"
            raise FhirError(400, "invalid", said, expression=f"{kind}.id")
        return Meant(key, await preconditions(service, key, headers, narrowing), found.guard)
    key = ResourceKey(kind, service.new_id() if given is None else given)
    if given is not None:
        require_same_id(resource, key)
        await require_known(service, key, narrowing)
    await preconditions(service, key, headers, narrowing)
    return Meant(key, 0, found.guard, given is None)


async def _is_live(service: Service, key: ResourceKey, narrowing: Narrowing) -> bool:
    stored = await service.store.read(key, narrowing)
    return stored is not None and not stored.deleted


async def preconditions(
    service: Service, key: ResourceKey, headers: Mapping[str, str], narrowing: Narrowing
) -> int | None:
    """The version that If-Match and If-None-Match demand (0: none, None: any); FhirError 412 when they do not hold now."""
    if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
    if if_none_match is None:
        return await current_version(service, key, if_match, narrowing)
    if if_match is not None:
        raise FhirError(400, "invalid", "If-Match and If-None-Match exclude each other")
    return await must_be_absent(service, key, if_none_match, narrowing)


async def require_known(service: Service, key: ResourceKey, narrowing: Narrowing) -> None:
    """405 when the resource never was and clients may not choose ids."""
    if not service.options.update_as_create and await service.store.read(key, narrowing) is None:
        raise FhirError(
            405,
            "not-supported",
            f"{key} is not known and clients may not choose ids here",
            headers={"Allow": "GET, HEAD"},
        )
