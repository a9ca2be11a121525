"""What authorization asks of the store of resources (`smart_auth.ports.Directory`): whether something is there, whom one may choose."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.http.negotiation import Prefer
from fhir_server.http.request import FhirRequest, Pairs
from fhir_server.interactions.search import search as search_type
from fhir_server.interactions.service import Service
from resources import references
from resources.model import ResourceKey, is_id
from search.narrowing import EVERYTHING

_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    """Looks into the service's store."""

    service: Service

    async def exists(self, reference: str) -> bool:
        """See the port."""
        key = references.parse(reference, ()).key
        return key is not None and await self._read(key) is not None

    async def patients(self, user: str, search: str) -> list[tuple[str, str]]:  # noqa: ARG002  (access is to narrow it)
        """See the port: the patient of that id first, then those whose name begins so."""
        found: dict[str, str] = {}
        if is_id(search) and (patient := await self._read(ResourceKey("Patient", search))) is not None:
            found[search] = shown(patient)
        for patient in await self._search((("name", search),) if search.strip() else ()):
            found.setdefault(patient["id"], shown(patient))
        return list(found.items())[:_MOST]

    async def identified(self, system: str, value: str) -> str | None:
        """The id of a patient with this identifier."""
        found = await self._search((("identifier", f"{system}|{value}"),))
        return found[0]["id"] if found else None

    async def _search(self, query: Pairs) -> list[Mapping[str, Any]]:
        request = FhirRequest("GET", ("Patient",), (*query, ("_count", str(_MOST))), {}, b"", EVERYTHING, Prefer())
        answer = json.loads((await search_type(self.service, request)).body)
        return [entry["resource"] for entry in answer.get("entry", ())]

    async def _read(self, key: ResourceKey) -> Mapping[str, Any] | None:
        stored = await self.service.store.read(key, EVERYTHING)
        if stored is None or stored.deleted:
            return None
        resource: Mapping[str, Any] = json.loads(stored.body)
        return resource


def shown(patient: Mapping[str, Any]) -> str:
    """`Ana Nuñez, 1990-02-03`: how a patient is told from others."""
    names = patient.get("name") or [{}]
    name = next((one for one in names if one.get("use") == "official"), names[0])
    text = name.get("text") or " ".join([*name.get("given", ()), name.get("family", "")]).strip()
    return ", ".join(part for part in (text or patient.get("id", ""), patient.get("birthDate", "")) if part)
