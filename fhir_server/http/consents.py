"""What patients have consented to, as a process knows it: the Consents that changed are read at most once a second.

Specification: https://hl7.org/fhir/R4/consent.html
"""

from dataclasses import dataclass, field

from fhir_server.interactions.service import Service
from fhir_server.storage.port import HistoryQuery, Stored
from resources.json_format import decode
from resources.references import parse
from search.narrowing import EVERYTHING
from search.query import Owners
from smart_auth.access.consents import EVERYTHING_DENIED, Consented, ConsentFault, Provision, counts, provision_of
from smart_auth.access.facts import PATIENT

_PAGE = 500


@dataclass(slots=True)
class Consents:
    """Follows the Consents of `service`'s store. `said`: by Consent, who says what; `known`: the newest change that was read."""

    service: Service
    said: dict[str, tuple[str, Provision]] = field(default_factory=dict)
    known: int = 0
    current: tuple[Consented, ...] = ()

    async def look(self) -> tuple[Consented, ...]:
        """What all patients say now; the same object while nothing changes."""
        before: int | None = None
        seen: set[str] = set()
        newest = self.known
        while True:
            asked = HistoryQuery("Consent", None, _PAGE, since=self.known + 1, before=before)
            page = await self.service.store.history(asked, EVERYTHING)
            for version in page.versions:
                newest = max(newest, version.updated)
                if version.key.id not in seen:
                    seen.add(version.key.id)
                    self._note(version)
            if not page.more:
                break
            before = page.versions[-1].updated
        self.known = newest
        if seen:
            grouped: dict[Provision, set[str]] = {}
            for patient, provision in self.said.values():
                grouped.setdefault(provision, set()).add(patient)
            self.current = tuple(Consented(one, Owners(PATIENT, frozenset(ids))) for one, ids in grouped.items())
        return self.current

    def _note(self, version: Stored) -> None:
        self.said.pop(version.key.id, None)
        if version.deleted:
            return
        consent = decode(version.body)
        reference = consent.get("patient", {}).get("reference", "")
        patient = parse(reference, (self.service.base, *self.service.aliases)).key
        if not counts(consent) or patient is None:
            return
        try:
            provision = provision_of(consent, stored=True)
        except ConsentFault:  # it was stored before it was refused: nobody is let in by what is not understood
            provision = EVERYTHING_DENIED
        self.said[version.key.id] = patient.id, provision
