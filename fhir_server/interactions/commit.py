"""The commit of what an interaction writes, with referential integrity where the setting rest.referential_integrity demands it.

Rules: with it, a reference to a resource of this server that is not there is refused (422, every such place), and so is the deletion of what is referred to (409, naming
at most ten of those that the caller may see). What search parameters find counts: versioned, absolute and contained references too; those to other servers
do not. It is decided inside the commit, so of a deletion and a reference that race one wins. Resources written together may refer to each other.

The loader does not enforce it: the parts of a load are committed in any order.

Specification: https://hl7.org/fhir/R4/references.html#integrity, https://hl7.org/fhir/R4/http.html#integrity
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from fhir_server.interactions.conditions import RETRIES, contended
from fhir_server.interactions.links import path_of
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Conflict, Put, UnitOfWork, Written
from resources import references
from resources.errors import FhirError, Issue
from resources.json_format import decode
from resources.model import ResourceKey
from search.narrowing import EVERYTHING, Narrowing

_NAMED: Final = 10


async def commit(
    service: Service, unit: UnitOfWork, narrowing: Narrowing, places: Sequence[str] = ()
) -> tuple[Written, ...]:
    """Commit the unit. Raises Conflict as the store does, FhirError 422 or 409 when it would break references.

    `places`: the entry (`Bundle.entry[3]`) of each write, where it comes from a Bundle.
    """
    if not service.options.referential_integrity:
        return await service.store.commit(unit)
    unit = replace(unit, enforce_references=True)
    for turn in range(RETRIES):
        try:
            return await service.store.commit(unit)
        except Conflict as conflict:
            if conflict.reason == "target":
                await refuse_unknown(service, unit, places)
            elif conflict.reason == "referred" and conflict.key is not None:
                await refuse_referred(service, unit, conflict.key, narrowing, places)
            else:
                raise
        await asyncio.sleep(0.002 * turn)
    raise contended()


async def refuse_unknown(service: Service, unit: UnitOfWork, places: Sequence[str] = ()) -> None:
    """422 with every place that refers to what is not there; nothing when all is there by now."""
    final = {write.key: write for write in unit.writes}
    issues: list[Issue] = []
    for index, write in enumerate(unit.writes):
        if not isinstance(write, Put) or final[write.key] is not write:
            continue
        for target, version in sorted(write.entries.targets()):
            if not await _is_there(service, unit, target, version):
                prefix = f"{places[index]}.resource" if places else write.key.type
                said = f"{target}{f'/_history/{version}' if version else ''} is not known"
                issues.append(Issue("error", "not-found", said, _expressions(service, write, target, prefix)))
    if issues:
        raise FhirError.many(422, issues)


async def _is_there(service: Service, unit: UnitOfWork, target: ResourceKey, version: str) -> bool:
    """Whether the target, and the version that is named, are there after the unit."""
    stored = await service.store.read(target, EVERYTHING)
    newest, there = (0, False) if stored is None else (stored.version, not stored.deleted)
    for write in unit.writes:
        if write.key == target:
            newest, there = newest + 1, isinstance(write, Put)
    return there and (not version or (version.isdigit() and 1 <= int(version) <= newest))


def _expressions(service: Service, write: Put, target: ResourceKey, prefix: str) -> tuple[str, ...]:
    resource = decode(write.body.body(1, 0))
    bases = (service.base, *service.aliases)
    return tuple(
        f"{prefix}{path_of(resource, link)}"
        for link in service.preparer.validator.links(resource)
        if references.parse(str(link.container[link.key]), bases).key == target
    )


async def refuse_referred(
    service: Service, unit: UnitOfWork, key: ResourceKey, narrowing: Narrowing, places: Sequence[str] = ()
) -> None:
    """409 naming who refers to what would be deleted; nothing when nobody does by now."""
    written = [write.key for write in unit.writes]
    most = _NAMED + len(written)
    if set(await service.store.referring(key, EVERYTHING, most)) <= set(written):
        return
    seen = [str(one) for one in await service.store.referring(key, narrowing, most) if one not in written]
    who = ", ".join(seen[:_NAMED]) or "what you may not see"
    said = f"{key} cannot be deleted: it is referred to by {who}{' and others' if len(seen) > _NAMED else ''}"
    raise FhirError(409, "conflict", said, expression=places[written.index(key)] if places else None)
