"""What `$everything` asks for, as a value, and the dates of care that its `start` and `end` are compared with.

Rules. Dates are those of care, not of the record: a type without such a date has no row in `CARE_DATES` and is never left out, nor
is a resource without a value. Several parameters of a type span one period, from the earliest value to the latest.

Specification: https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from resources.model import ResourceKey
from search.parameters import Parameter, Registry


class Place(NamedTuple):
    """A row of the answer: members of the compartment (part 0) by type and row number, then what they refer to (part 1)."""

    part: int
    type: int
    rid: int


@dataclass(frozen=True, slots=True)
class EverythingQuery:
    """A page of everything about `owner`, a Patient or an Encounter, from behind `after` on.

    `types`: what to answer with, None for all; `since`, `start`, `end` in microseconds; `dates`: the parameters that say when care was.
    """

    owner: ResourceKey
    count: int
    types: tuple[str, ...] | None = None
    since: int | None = None
    start: int | None = None
    end: int | None = None
    dates: tuple[Parameter, ...] = ()
    after: Place | None = None


CARE_DATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Account": ("period",),
    "AdverseEvent": ("date",),
    "AllergyIntolerance": ("onset", "last-date"),
    "Appointment": ("date",),
    "AuditEvent": ("date",),
    "CarePlan": ("date",),
    "CareTeam": ("date",),
    "ChargeItem": ("occurrence",),
    "Claim": ("created",),
    "ClaimResponse": ("created",),
    "ClinicalImpression": ("date",),
    "Communication": ("sent", "received"),
    "CommunicationRequest": ("occurrence",),
    "Composition": ("period",),
    "Condition": ("onset-date", "abatement-date"),
    "DetectedIssue": ("identified",),
    "DeviceRequest": ("event-date",),
    "DiagnosticReport": ("date",),
    "DocumentReference": ("period",),
    "Encounter": ("date",),
    "EpisodeOfCare": ("date",),
    "ExplanationOfBenefit": ("created",),
    "Flag": ("date",),
    "Goal": ("start-date", "target-date"),
    "ImagingStudy": ("started",),
    "Immunization": ("date",),
    "Media": ("created",),
    "MedicationAdministration": ("effective-time",),
    "MedicationDispense": ("whenhandedover", "whenprepared"),
    "MedicationRequest": ("authoredon",),
    "MedicationStatement": ("effective",),
    "NutritionOrder": ("datetime",),
    "Observation": ("date",),
    "Procedure": ("date",),
    "Provenance": ("when",),
    "QuestionnaireResponse": ("authored",),
    "RequestGroup": ("authored",),
    "RiskAssessment": ("date",),
    "Schedule": ("date",),
    "ServiceRequest": ("occurrence",),
    "Specimen": ("collected",),
    "SupplyRequest": ("date",),
    "VisionPrescription": ("datewritten",),
}
"""Type -> the codes of its parameters that say when the care was."""


def care_dates(registry: Registry) -> tuple[Parameter, ...]:
    """The parameters of `CARE_DATES`."""
    found = [registry.find(kind, code) for kind, codes in CARE_DATES.items() for code in codes]
    return tuple(parameter for parameter in found if parameter is not None)
