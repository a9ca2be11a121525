"""What authorization asks of the store of resources (`smart_auth.ports.Directory`): whether something is there, whom one may choose.

Rules.
1. Staff choose among the patients that their access lets them see (`gate`), patients and related persons among their own (`kin.py`).
2. Who looks for somebody in an emergency finds those of their own organization.
3. Nothing here is remembered.

Specification: https://hl7.org/fhir/R4/relatedperson.html, https://hl7.org/fhir/R4/person.html
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fhir_server.http.access import Gate
from fhir_server.http.negotiation import Prefer
from fhir_server.http.request import FhirRequest
from fhir_server.interactions.search import search as search_type
from fhir_server.interactions.service import Service
from fhir_server.kin import ON_BEHALF, own_patients
from resources import references
from resources.model import ResourceKey, is_id
from search.narrowing import EVERYTHING, Narrowing
from search.values import fold
from smart_auth.access.reaches import owned
from smart_auth.model import Identified, Principal, User
from smart_auth.roles import PATIENT

_MOST: Final = 20
_IDENTIFIER_TYPES: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"

Body = Mapping[str, Any]


def _nobody() -> None:
    """No gate: everything may be seen."""


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    """Looks into the service's store. `gate` says what a member of staff may see; it is asked for late, for it needs this directory."""

    service: Service
    gate: Callable[[], Gate | None] = _nobody

    async def exists(self, reference: str, asker: Principal | None) -> bool:
        """See the port."""
        key = references.parse(reference, ()).key
        return key is not None and await _read(self.service, key, await self._belonging(asker)) is not None

    async def patients(self, user: User, search: str) -> list[tuple[str, str]]:
        """See the port: the patient of that id first, then those whose name begins so."""
        if user.fhir_user.startswith(ON_BEHALF):
            bodies = await own_patients(self.service, user.fhir_user)
            reached = await self._reached_by(user)
            return [(body["id"], shown(body)) for body in bodies if reached is None or body["id"] in reached]
        if set(user.roles) <= {PATIENT}:
            return []
        service, narrowing = await self._seen_by(user)
        found, search = {}, search.strip()
        key = ResourceKey("Patient", search)
        if is_id(search) and (patient := await _read(service, key, narrowing)) is not None:
            found[search] = shown(patient)
        if fold(search) or not search:
            query = [("name", _escaped(search))] if search else []
            for patient in await _search(service, "Patient", query, narrowing):
                found.setdefault(patient["id"], shown(patient))
        return list(found.items())[:_MOST]

    async def identify(self, mrn: str, name: str, birth_date: str, asker: Principal | None) -> list[Identified]:
        """See the port. The name has to be whole words of the patient's, the family name among them."""
        narrowing = await self._belonging(asker)
        if mrn:
            system, bar, value = mrn.rpartition("|")
            text = f"{_escaped(system)}|{_escaped(value)}" if bar else _escaped(value)
            rows = await _search(self.service, "Patient", [("identifier", text)], narrowing) if value else []
            return [_identified(row) for row in rows if any(one.get("value") == value for one in _numbers(row))]
        words = fold(name).split()
        if not words:
            return []
        query = [("birthdate", birth_date), *(("name", word) for word in words)]
        rows = await _search(self.service, "Patient", query, narrowing)
        return [_identified(row) for row in rows if row.get("birthDate") == birth_date and _is_named(row, words)]

    async def _belonging(self, asker: Principal | None) -> Narrowing:
        """What belongs to the asker's organization."""
        gate = self.gate()
        if gate is None or asker is None:
            return EVERYTHING
        access = (await gate.admitted(asker)).access
        node = owned(asker, access.rules)
        return Narrowing(f"{access.id}|owned", lambda _kind: node)

    async def _seen_by(self, user: User) -> tuple[Service, Narrowing]:
        """The store as a member of staff may read and search patients in it."""
        gate = self.gate()
        if gate is None:
            return self.service, EVERYTHING
        admitted = await gate.admitted(_principal(user))
        return admitted.service, admitted.access.narrowing("rs")

    async def _reached_by(self, user: User) -> frozenset[str] | None:
        """The ids of the patients whom somebody who is no staff reaches, by what belongs to their organization; None: that is not looked at."""
        gate = self.gate()
        return None if gate is None else (await gate.admitted(_principal(user))).access.facts.reached("self").ids


def _principal(user: User) -> Principal:
    return Principal(
        id=f"directory:{user.name}",
        client="",
        scope="user/Patient.rs",
        user=user.name,
        roles=user.roles,
        fhir_user=user.fhir_user,
        organization=user.organization,
    )


async def _read(service: Service, key: ResourceKey, narrowing: Narrowing = EVERYTHING) -> Body | None:
    stored = await service.store.read(key, narrowing)
    if stored is None or stored.deleted:
        return None
    body: Body = json.loads(stored.body)
    return body


async def _search(
    service: Service, kind: str, query: Sequence[tuple[str, str]], narrowing: Narrowing = EVERYTHING
) -> Sequence[Body]:
    pairs = (*query, ("_count", str(_MOST)))
    request = FhirRequest("GET", (kind,), pairs, {}, b"", narrowing, Prefer())
    answer = json.loads((await search_type(service, request)).body)
    return [entry["resource"] for entry in answer.get("entry", ())]


def shown(patient: Body) -> str:
    """`Ana Nuñez, 1990-02-03`: how a patient is told from others."""
    return ", ".join(part for part in (_name(patient) or patient.get("id", ""), patient.get("birthDate", "")) if part)


def _identified(patient: Body) -> Identified:
    number = next((one.get("value", "") for one in _numbers(patient)), "")
    return Identified(patient["id"], _name(patient), patient.get("birthDate", ""), number)


def _name(patient: Body) -> str:
    names = patient.get("name") or [{}]
    name = next((one for one in names if one.get("use") == "official"), names[0])
    return name.get("text") or " ".join([*name.get("given", ()), name.get("family", "")]).strip()


def _numbers(patient: Body) -> Iterator[Body]:
    """The identifiers that are medical record numbers: those of type MR, else those without a type."""
    given = patient.get("identifier", ())
    typed = [one for one in given if _IDENTIFIER_TYPES in {code.get("system") for code in _codings(one)}]
    numbers = [one for one in typed if "MR" in {code.get("code") for code in _codings(one)}]
    yield from numbers or [one for one in given if one not in typed]


def _codings(identifier: Body) -> Sequence[Body]:
    codings: Sequence[Body] = identifier.get("type", {}).get("coding", ())
    return codings


def _is_named(patient: Body, words: Sequence[str]) -> bool:
    """Whether one name of the patient has all the words, its family name among them."""
    for name in patient.get("name", ()):
        family = fold(name.get("family", "")).split()
        others = fold(" ".join([*name.get("given", ()), name.get("text", "")])).split()
        if family and set(family) <= set(words) <= {*family, *others} and set(words) - set(family):
            return True
    return False


def _is_day(text: str) -> bool:
    try:
        return datetime.strptime(text, "%Y-%m-%d").strftime("%Y-%m-%d") == text  # noqa: DTZ007  (a day)
    except ValueError:
        return False


def _escaped(text: str) -> str:
    """A text as one value of a search."""
    return re.sub(r"([\\,|$])", r"\\\1", text)
