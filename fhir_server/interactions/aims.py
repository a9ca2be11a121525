"""What the writing entries of a transaction are about, once their conditions were looked up.

Rules: an entry is about one resource; a conditional delete about as many as match, perhaps none. Conditions are decided by what is stored before the transaction.
What was looked up is guarded until the commit.

Specification: https://hl7.org/fhir/R4/http.html#trules
"""

from dataclasses import dataclass

from fhir_server.http.authorization import insufficient
from fhir_server.http.request import split_general
from fhir_server.interactions import delete, update
from fhir_server.interactions.conditions import current_version, precondition_failed
from fhir_server.interactions.criteria import criteria_pairs, find
from fhir_server.interactions.entries import Entry, placed
from fhir_server.interactions.parts import require_shown_whole
from fhir_server.interactions.patch import patch_of, patched
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Guard, Stored
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import Resource, ResourceKey
from search.narrowing import Narrowing
from search.query import Nothing


@dataclass(frozen=True, slots=True)
class Aim:
    """What a writing entry is about: the keys it writes, the version that must be current (0: none, None: any), what is written.

    `resource` None: the keys are deleted. `found`: a conditional create found this and writes nothing. `guard`: that of its criteria.
    """

    entry: Entry
    keys: tuple[ResourceKey, ...]
    resource: Resource | None
    expected: int | None = None
    found: Stored | None = None
    guard: Guard | None = None

    @property
    def creates(self) -> bool:
        """Whether it writes the first version of a resource under an id of the server."""
        if self.resource is None or self.found is not None or self.expected != 0:
            return False
        return self.entry.method == "POST" or self.resource.get("id") is None

    @property
    def version(self) -> str:
        """The version that the resource will have where that is known, else ""."""
        return str(self.found.version) if self.found is not None else "1" if self.creates else ""


async def aim_of(service: Service, entry: Entry, narrowing: Narrowing) -> Aim:
    """What the entry writes; FhirError, its expressions led to the entry, when its conditions do not hold."""
    try:
        match entry.method:
            case "POST":
                return await _create(service, entry, narrowing)
            case "PUT":
                return await _update(service, entry, narrowing)
            case "PATCH":
                return await _patch(service, entry, narrowing)
            case _:
                return await _delete(service, entry, narrowing)
    except FhirError as error:
        raise placed(error, entry) from None


async def _create(service: Service, entry: Entry, narrowing: Narrowing) -> Aim:
    (kind,) = entry.segments
    new = (ResourceKey(kind, service.new_id()),)
    text = entry.headers.get("if-none-exist")
    if text is None:
        return Aim(entry, new, entry.resource, 0)
    criteria = criteria_pairs(service, kind, text, "ifNoneExist")
    found = await find(service, kind, criteria, narrowing, "ifNoneExist")
    if found.match is not None:
        return Aim(entry, (found.match.key,), entry.resource, found=found.match, guard=found.guard)
    return Aim(entry, new, entry.resource, 0, guard=found.guard)


async def _update(service: Service, entry: Entry, narrowing: Narrowing) -> Aim:
    assert entry.resource is not None
    if len(entry.segments) > 1:
        key = ResourceKey(*entry.segments)
        expected = await update.preconditions(service, key, entry.headers, narrowing)
        if not expected:
            await update.require_known(service, key, narrowing)
        return Aim(entry, (key,), entry.resource, expected)
    (kind,) = entry.segments
    criteria, _, _ = split_general(entry.query)
    meant = await update.meaning(service, kind, criteria, entry.resource, entry.headers, narrowing)
    return Aim(entry, (meant.key,), entry.resource, meant.expected, guard=meant.guard)


async def _patch(service: Service, entry: Entry, narrowing: Narrowing) -> Aim:
    assert entry.resource is not None
    kind, guard = entry.segments[0], None
    if narrowing.patched is not None and isinstance(narrowing.patched.of(kind), Nothing):
        raise insufficient("read and update", kind)
    if len(entry.segments) > 1:
        stored = await service.store.read(ResourceKey(*entry.segments), narrowing.patched or narrowing)
    else:
        criteria, _, _ = split_general(entry.query)
        found = await find(service, kind, criteria, narrowing, "the conditional patch")
        stored, guard = found.match, found.guard
        if stored is not None and narrowing.patched is not None:
            stored = await service.store.read(stored.key, narrowing.patched)
    if stored is None:
        raise FhirError(404, "not-found", "there is nothing to patch")
    if stored.deleted:
        raise FhirError(410, "deleted", f"{stored.key} was deleted")
    expected = await current_version(service, stored.key, entry.headers.get("if-match"), narrowing)
    if expected not in (None, stored.version):
        raise precondition_failed(stored.key)
    require_shown_whole(stored, narrowing)
    resource = patched(service, patch_of(service, entry.resource, kind), decode(stored.body))
    return Aim(entry, (stored.key,), resource, stored.version, guard=guard)


async def _delete(service: Service, entry: Entry, narrowing: Narrowing) -> Aim:
    if len(entry.segments) > 1:
        key = ResourceKey(*entry.segments)
        expected = await current_version(service, key, entry.headers.get("if-match"), narrowing)
        return Aim(entry, (key,), None, expected)
    (kind,) = entry.segments
    criteria, _, _ = split_general(entry.query)
    meant = await delete.meaning(service, kind, criteria, entry.headers, narrowing)
    keys = tuple(one.key for one in meant.deletes)
    return Aim(entry, keys, None, meant.deletes[0].expected if len(keys) == 1 else None, guard=meant.guard)
