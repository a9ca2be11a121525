"""The patients whom a person is, or is related to: for choosing one, and for access.

Rules. A patient is themselves. A RelatedPerson is of their patient, while active and in their period. Who is several of these, by an active Person
resource that links them with sure assurance, has the patients of all. What is not to be seen `within` a narrowing relates nobody.

Specification: https://hl7.org/fhir/R4/relatedperson.html, https://hl7.org/fhir/R4/person.html
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fhir_server.interactions.service import Service
from resources.model import ResourceKey
from resources.references import parse
from search.narrowing import EVERYTHING, Narrowing
from search.query import Match, Query, ReferenceTest
from search.rewrite import rewrite

SURE: Final = frozenset({"level3", "level4"})
"""The assurances of Person.link that count: somebody has checked who it is."""
ON_BEHALF: Final = ("Patient", "RelatedPerson")
_MOST: Final = 20

Body = Mapping[str, Any]


async def own_patients(service: Service, fhir_user: str, within: Narrowing = EVERYTHING) -> list[Body]:
    """The Patient resources of the person `Patient/1` or `RelatedPerson/1`, each once."""
    found: dict[str, Body] = {}
    for key in await _linked(service, fhir_user, within):
        body = await _read(service, key, within)
        if body is not None and key.type == "RelatedPerson":
            body = await _related(service, body, within)
        if body is not None:
            found[body["id"]] = body
    return list(found.values())


async def _linked(service: Service, fhir_user: str, within: Narrowing) -> list[ResourceKey]:
    """The person's own key and those of the resources that surely are the same person."""
    own = _key(service, fhir_user)
    link = service.registry.find("Person", "link")
    if own is None or link is None:
        return []
    same = [own]
    query = rewrite(Query("Person", Match(link, ReferenceTest((own,), None)), count=_MOST), within)
    for row in (await service.store.search(query, within)).rows:
        person = json.loads(row.stored.body)
        named = [one["target"].get("reference", "") for one in person.get("link", ()) if one.get("assurance") in SURE]
        sure = [_key(service, reference) for reference in named]
        if person.get("active", True) and own in sure:
            same += [key for key in sure if key is not None]
    return list(dict.fromkeys(same))


async def _related(service: Service, body: Body, within: Narrowing) -> Body | None:
    """The patient whom a RelatedPerson is related to now."""
    key = _key(service, body.get("patient", {}).get("reference", ""))
    if not body.get("active", True) or not holds(body.get("period", {})) or key is None or key.type != "Patient":
        return None
    return await _read(service, key, within)


def _key(service: Service, reference: str) -> ResourceKey | None:
    key = parse(reference, (service.base, *service.aliases)).key
    return key if key is not None and key.type in ON_BEHALF else None


async def _read(service: Service, key: ResourceKey, within: Narrowing) -> Body | None:
    stored = await service.store.read(key, within)
    if stored is None or stored.deleted:
        return None
    body: Body = json.loads(stored.body)
    return body


def holds(period: Body) -> bool:
    """Whether today is in the period, days as written."""
    today, start, end = datetime.now(UTC).date().isoformat(), period.get("start", "")[:10], period.get("end", "")[:10]
    return start <= today[: len(start)] and (not end or today[: len(end)] <= end)
