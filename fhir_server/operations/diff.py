"""$diff: the difference of two versions of a resource, or of two resources of one type, as a FHIRPath Patch.

Rules. The answer is a Parameters resource that, applied to the one, gives the other; that of two resources changes the id too, which the
patch interaction refuses. versionId and lastUpdated are never compared, the rest of meta only with `includeMeta=true`.

Specification: https://hl7.org/fhir/R4/fhirpatch.html
"""

from dataclasses import replace
from typing import Final

from fhir_server.http.response import FhirResponse
from fhir_server.interactions.service import Service
from fhir_server.operations.answers import answered
from fhir_server.operations.model import Call
from fhir_server.storage.port import Stored
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import ResourceKey
from resources.patching.difference import difference
from resources.references import parse
from search.narrowing import Narrowing

_GIVEN_ON: Final = {"fromVersion": "instance", "from": "system", "to": "system"}
"""The parameters that one level has, and the other has not."""


async def diff(service: Service, call: Call) -> FhirResponse:
    """`GET` or `POST [base]/Type/id/$diff` and `[base]/$diff?from=...&to=...`."""
    for name, level in _GIVEN_ON.items():
        if call.level != level and call.arguments.one(name) is not None:
            raise FhirError(400, "not-supported", f"the parameter {name} is not supported on the {call.level} level")
    old, new = await (_versions if call.level == "instance" else _resources)(service, call)
    kind = new.key.type
    whole = call.arguments.one("includeMeta")
    ignored = (f"{kind}.meta.versionId", f"{kind}.meta.lastUpdated") if whole else (f"{kind}.meta",)
    answer = answered(difference(decode(old.body), decode(new.body), service.definitions, ignored))
    return replace(answer, shown=(old.key, new.key))


async def _versions(service: Service, call: Call) -> tuple[Stored, Stored]:
    """An earlier version and the current one."""
    new = await _stored(service, call.key, None, call.request.narrowing)
    given = call.arguments.one("fromVersion")
    old = await _stored(service, call.key, new.version - 1 if given is None else given, call.request.narrowing)
    return old, new


async def _resources(service: Service, call: Call) -> tuple[Stored, Stored]:
    """What `from` and `to` name."""
    old, new = [await _named(service, call, name) for name in ("from", "to")]
    if old.key.type != new.key.type:
        raise FhirError(400, "invalid", f"from names a {old.key.type}, to a {new.key.type}: they cannot be compared")
    return old, new


async def _named(service: Service, call: Call, name: str) -> Stored:
    text = call.arguments.one(name)
    if text is None:
        raise FhirError(400, "required", f"the parameter {name} of $diff is missing")
    found = parse(text, (service.base, *service.aliases))
    known = found.key is not None and found.key.type in service.types and (found.version or "1").isdecimal()
    if found.key is None or not known or found.fragment:
        raise FhirError(400, "invalid", f"{name} is neither Type/id nor Type/id/_history/version")
    version = int(found.version[:15]) if found.version else None
    return await _stored(service, found.key, version, call.request.narrowing)


async def _stored(service: Service, key: ResourceKey, version: int | None, narrowing: Narrowing) -> Stored:
    """That version, or the current one; 404 when there is none, 410 for a deletion."""
    if version is None:
        stored = await service.store.read(key, narrowing)
    else:
        stored = await service.store.read_version(key, version, narrowing)
    if stored is None:
        raise FhirError(
            404, "not-found", f"{key} is not known" if version is None else f"{key} has no version {version}"
        )
    if stored.deleted:
        raise FhirError(410, "deleted", f"{key} was deleted in version {stored.version}")
    return stored
