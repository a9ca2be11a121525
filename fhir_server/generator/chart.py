"""One patient's record while it grows: entries of a transaction, and the random source that belongs to the patient alone.

Rules: the random source is seeded by seed and patient number, so a patient is the same whatever was generated before; times are
naive datetimes in UTC; a value shared between resources is never changed after it was added.

Specification: https://hl7.org/fhir/R4/http.html#transaction
"""

from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from fhir_server.generator.hospital import Hospital


@dataclass(slots=True)
class Chart:
    """See the module. `patient` is the Reference to the patient, `doctor` to the general practitioner."""

    hospital: Hospital
    number: int
    random: Random
    entries: list[dict[str, Any]] = field(default_factory=list)
    patient: dict[str, Any] = field(default_factory=dict)
    doctor: dict[str, Any] = field(default_factory=dict)
    coverage: dict[str, Any] = field(default_factory=dict)
    insurer: dict[str, Any] = field(default_factory=dict)
    birth: datetime = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC

    def add(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Adds a resource to the transaction; gives the Reference to it."""
        bits = self.random.getrandbits(122)
        text = f"{(bits >> 74) << 80 | 4 << 76 | (bits >> 62 & 0xFFF) << 64 | 2 << 62 | bits & (1 << 62) - 1:032x}"
        key = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        kind = resource["resourceType"]
        url = f"urn:uuid:{key}"
        self.entries.append(
            {
                "fullUrl": url,
                "resource": {"resourceType": kind, "id": key, **resource},
                "request": {"method": "POST", "url": kind},
            }
        )
        return {"reference": url}


def open_chart(hospital: Hospital, number: int) -> Chart:
    """An empty chart for the patient of that number, counted from 0."""
    return Chart(hospital, number, Random(f"{hospital.seed}/patient/{number}"))  # noqa: S311 - invented people, not secrets
