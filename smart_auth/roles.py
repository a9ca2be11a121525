"""Roles: named sets of permissions, each so many types x letters x reach. The built-in ones are data; an administrator may edit them.

Rules.
1. Letters are those of scopes (c create, r read, u update, d delete, s search). A reach says of whose resources:
   `any` everybody's; `organization` those that the person's organization owns; `assigned` those of patients whom the person looks after; `ward`
   of patients who lie where the person works; `ordered` of patients of orders that the person is to carry out; `payer` of claims and coverages
   that the person's organization pays; `self` the person's own, or of those whom they are a related person of.
2. All but `any` and `self` stay inside the person's organization.
3. A permission may have a query, in the form of a search: what is read or written must match it, before and after.
4. A role that is not known permits nothing. Who has a role of `STAFF` is no patient.

Specification: https://hl7.org/fhir/R4/security.html#authorization
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import parse_qsl

from smart_auth.scopes import LETTERS

Reach = Literal["any", "organization", "ward", "assigned", "ordered", "payer", "self"]
REACHES: Final[tuple[str, ...]] = get_args(Reach)
PERSONAL: Final[frozenset[Reach]] = frozenset({"ward", "assigned", "ordered", "self"})
"""Reaches that go by who the person is (`fhirUser`)."""
EVERY: Final = "*"

DIRECTORY: Final = frozenset(
    {
        "Practitioner",
        "PractitionerRole",
        "Organization",
        "Location",
        "HealthcareService",
        "Endpoint",
        "Medication",
        "Schedule",
        "Slot",
        "Questionnaire",
    }
)
"""Types that everybody whose scopes name them may look things up in, as far as their organization has them."""

PERSONS: Final = frozenset({"Patient", "RelatedPerson", "Person"})
SCHEDULING: Final = frozenset({"Appointment", "AppointmentResponse", "Schedule", "Slot"})
MONEY: Final = frozenset(
    {
        "Account",
        "ChargeItem",
        "Claim",
        "ClaimResponse",
        "Contract",
        "Coverage",
        "CoverageEligibilityRequest",
        "CoverageEligibilityResponse",
        "ExplanationOfBenefit",
        "Invoice",
        "PaymentNotice",
        "PaymentReconciliation",
    }
)
STOCK: Final = frozenset({"Medication", "Device", "DeviceDefinition", "Substance", "SupplyDelivery", "SupplyRequest"})
TREATMENT: Final = frozenset(
    {
        "AdverseEvent",
        "AllergyIntolerance",
        "BodyStructure",
        "CarePlan",
        "ClinicalImpression",
        "Communication",
        "CommunicationRequest",
        "Composition",
        "Condition",
        "DetectedIssue",
        "DeviceRequest",
        "DeviceUseStatement",
        "DiagnosticReport",
        "DocumentManifest",
        "DocumentReference",
        "Encounter",
        "EpisodeOfCare",
        "FamilyMemberHistory",
        "Flag",
        "Goal",
        "ImagingStudy",
        "Immunization",
        "ImmunizationEvaluation",
        "ImmunizationRecommendation",
        "List",
        "Media",
        "MedicationAdministration",
        "MedicationDispense",
        "MedicationRequest",
        "MedicationStatement",
        "NutritionOrder",
        "Observation",
        "Procedure",
        "QuestionnaireResponse",
        "RequestGroup",
        "RiskAssessment",
        "ServiceRequest",
        "Specimen",
        "Task",
        "VisionPrescription",
    }
)
"""What is written about the treatment of a patient."""
DEFINITIONS: Final = frozenset(
    {
        "ActivityDefinition",
        "CapabilityStatement",
        "CodeSystem",
        "CompartmentDefinition",
        "ConceptMap",
        "ImplementationGuide",
        "Library",
        "Measure",
        "NamingSystem",
        "OperationDefinition",
        "PlanDefinition",
        "SearchParameter",
        "StructureDefinition",
        "ValueSet",
    }
)
"""What tells of nobody."""


class RoleFault(Exception):  # noqa: N818  (the mistake of who edits roles, told to them)
    """A role that cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Permission:
    """`types` ("*": all) x `letters` x `reach`; `query`: what else must match, as the pairs of a search."""

    types: frozenset[str]
    letters: str
    reach: Reach
    query: tuple[tuple[str, str], ...] = ()

    def allows(self, kind: str, letter: str) -> bool:
        """Whether it is about the type and the letter."""
        return letter in self.letters and (kind in self.types or EVERY in self.types)


Roles = Mapping[str, tuple[Permission, ...]]


def _may(letters: str, reach: Reach, types: Iterable[str], query: str = "") -> Permission:
    return Permission(frozenset(types), letters, reach, tuple(parse_qsl(query)))


_ALL: Final = (EVERY,)
_LOOK_UP: Final = _may("rs", "any", DEFINITIONS)
_ORGANIZED: Final = (
    *PERSONS,
    *SCHEDULING,
    *DIRECTORY,
    *DEFINITIONS,
    *STOCK,
    "CareTeam",
    "Coverage",
    "Group",
    "Subscription",
)
_NOTED_BY_NURSES: Final = (
    "AllergyIntolerance",
    "Communication",
    "DocumentReference",
    "MedicationAdministration",
    "QuestionnaireResponse",
    "Task",
)
_MEDICATION: Final = (
    "AllergyIntolerance",
    "Condition",
    "DetectedIssue",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "Patient",
    "Task",
)
_LABORATORY: Final = ("DiagnosticReport", "Media", "Observation", "Patient", "ServiceRequest", "Specimen", "Task")
_UNFINISHED: Final = "status=registered,preliminary"
_CLAIMS: Final = (
    "Claim",
    "ClaimResponse",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "ExplanationOfBenefit",
)
_WRITTEN_BY_PATIENTS: Final = (
    "Appointment",
    "AppointmentResponse",
    "Communication",
    "DocumentReference",
    "MedicationStatement",
    "Observation",
    "QuestionnaireResponse",
)

ROLES: Final[Roles] = {
    "super-admin": (_may("rs", "any", _ALL), _may("cu", "any", _ORGANIZED)),
    "admin": (_may("rs", "organization", _ALL), _may("cud", "organization", _ORGANIZED), _LOOK_UP),
    "doctor": (
        _may(
            "rs",
            "assigned",
            (*TREATMENT, *PERSONS, *SCHEDULING, "Binary", "CareTeam", "Consent", "Coverage", "Provenance"),
        ),
        _may("cu", "assigned", (*(TREATMENT - {"MedicationAdministration", "MedicationDispense"}), "CareTeam")),
        _may("c", "assigned", ("Provenance",)),
        _may("rsu", "self", ("Appointment",)),
        _may("crsu", "self", ("AppointmentResponse",)),
        _LOOK_UP,
    ),
    "nurse": (
        *(
            permission
            for reach in cast("tuple[Reach, ...]", ("assigned", "ward"))
            for permission in (
                _may("rs", reach, (*TREATMENT, *PERSONS, *SCHEDULING, "Binary", "CareTeam", "Consent", "Provenance")),
                _may("cu", reach, _NOTED_BY_NURSES),
                _may("cu", reach, ("Observation",), "category=vital-signs"),
            )
        ),
        _LOOK_UP,
    ),
    "receptionist": (_may("crsu", "organization", (*PERSONS, *SCHEDULING, "Coverage")), _LOOK_UP),
    "pharmacist": (
        _may("rs", "organization", (*_MEDICATION, *STOCK)),
        _may("cu", "organization", ("DetectedIssue", "MedicationDispense", *STOCK)),
        _may("u", "organization", ("Task",)),
        _LOOK_UP,
    ),
    "lab-technician": (
        _may("rs", "ordered", _LABORATORY),
        _may("cu", "ordered", ("Media", "Specimen")),
        _may("u", "ordered", ("Task",)),
        _may("cu", "ordered", ("DiagnosticReport", "Observation"), _UNFINISHED),
        _LOOK_UP,
    ),
    "billing": (
        _may("rs", "organization", (*MONEY, "Encounter", "Patient", "Procedure", "RelatedPerson")),
        _may(
            "cu",
            "organization",
            (
                "Account",
                "ChargeItem",
                "Claim",
                "CoverageEligibilityRequest",
                "Invoice",
                "PaymentNotice",
                "PaymentReconciliation",
            ),
        ),
        _LOOK_UP,
    ),
    "insurer": (
        _may("rs", "payer", _CLAIMS),
        _may("cu", "payer", ("ClaimResponse", "CoverageEligibilityResponse", "ExplanationOfBenefit")),
        _LOOK_UP,
    ),
    "integration": (_may(LETTERS, "organization", _ALL), _LOOK_UP),
    "patient": (_may("rs", "self", _ALL), _may("cu", "self", _WRITTEN_BY_PATIENTS)),
}
"""The roles there are from the beginning."""

PATIENT: Final = "patient"
PAYING: Final = frozenset({"insurer"})
"""Whose organization keeps no records here."""
BREAKING_GLASS: Final = frozenset({"doctor", "nurse", "pharmacist"})
"""Who may look at a patient in an emergency."""


def roles_with(edited: Mapping[str, Any] | None) -> Roles:
    """The built-in roles with those that were edited in their place. Raises RoleFault.

    `edited`: role -> list of objects with `types` (list), `letters`, `reach`, and perhaps `query` (`status=preliminary`).
    """
    return {**ROLES, **{name: tuple(_permission(name, row) for row in rows) for name, rows in (edited or {}).items()}}


def _permission(role: str, row: Any) -> Permission:
    if not isinstance(row, dict) or not row.keys() <= {"types", "letters", "reach", "query"}:
        raise RoleFault(f"role {role}: a permission has types, letters, reach and query")
    types, letters, reach, query = (row.get(name) for name in ("types", "letters", "reach", "query"))
    if not isinstance(types, list) or not types or not all(isinstance(one, str) for one in types):
        raise RoleFault(f"role {role}: types is a list of resource types, or of *")
    if not isinstance(letters, str) or not letters or not set(letters) <= set(LETTERS):
        raise RoleFault(f"role {role}: letters are some of {LETTERS}")
    if reach not in REACHES:
        raise RoleFault(f"role {role}: reach is one of {', '.join(REACHES)}")
    if query is not None and (not isinstance(query, str) or not parse_qsl(query, keep_blank_values=True)):
        raise RoleFault(f"role {role}: query is a search such as status=preliminary")
    return Permission(frozenset(types), letters, cast("Reach", reach), tuple(parse_qsl(query or "")))
