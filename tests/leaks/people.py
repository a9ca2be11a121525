"""Who asks: each with a token of their own, and what they may see of the hospital, written down once more and independently of the product.

A seed that a person may not see is taken out of the hospital's double (`worlds.py`), and both must answer that person alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from smart_auth.model import Client, User
from tests.leaks.charts import INSURER, ONE, TWO
from tests.leaks.hospital import Seed

DIRECTORY = {
    "Practitioner",
    "PractitionerRole",
    "Organization",
    "Location",
    "HealthcareService",
    "Medication",
    "Schedule",
}
CLINICAL = {
    "Encounter", "ServiceRequest", "CarePlan", "Goal", "Flag", "Observation", "Condition", "AllergyIntolerance",
    "DiagnosticReport", "Specimen", "Procedure", "Immunization", "MedicationRequest", "MedicationDispense",
    "MedicationStatement", "DocumentReference", "Communication", "QuestionnaireResponse", "List",
}  # fmt: skip
PERSONS = {"Patient", "RelatedPerson"}
MONEY = {"Coverage", "Claim", "ClaimResponse", "Account", "ChargeItem", "Invoice"}
MEDICINE = {
    "AllergyIntolerance",
    "Condition",
    "MedicationRequest",
    "MedicationDispense",
    "MedicationStatement",
    "Patient",
}
PAID = {"Claim", "ClaimResponse", "Coverage"}
LABORATORY = {"DiagnosticReport", "Observation", "Patient", "ServiceRequest", "Specimen"}
FREE = {"Task"}
"""In no patient's compartment in R4."""

Sees = Callable[[Seed], bool]


@dataclass(frozen=True)
class Person:
    """`words`: those of hidden things that no answer to this person may have."""

    name: str
    scope: str
    sees: Sees
    words: tuple[str, ...] = ("quagga", "okapi")
    user: User | None = None
    client: Client = field(default_factory=lambda: Client("app", "App", "public"))
    patient: str = ""
    operator: bool = False
    emergency: str = ""
    """The patient whom they look at in an emergency."""
    supports: Sees = lambda _: False
    """What decides over what is seen, without being seen."""

    def keeps(self, seed: Seed) -> bool:
        """Whether the seed is in this person's double of the hospital."""
        return self.sees(seed) or self.supports(seed)


def _user(name: str, role: str, fhir_user: str = "", organization: str = ONE) -> User:
    return User(name, (role,), fhir_user=fhir_user, organization=organization)


ANN = _user("ann", "patient", "Patient/ann")
AUNT = _user("aunt", "patient", "RelatedPerson/ann-relatedperson")
DOCTOR = _user("doctor", "doctor", "Practitioner/doctor")
NURSE = _user("nurse", "nurse", "Practitioner/nurse")
TECHNICIAN = _user("technician", "lab-technician", "Practitioner/technician")


def _house(seed: Seed) -> bool:
    return seed.type in DIRECTORY and seed.owner == ONE


def _ann(*types: str, tag: str = "") -> Sees:
    """What is released to Ann: of these types (none: of all that are about her), of one category."""

    def sees(seed: Seed) -> bool:
        about = seed.whose == "ann" and "unreleased" not in seed.tags and seed.type not in FREE
        return about and (not types or seed.type in types) and (not tag or tag in seed.tags)

    return sees


def _chart(whose: set[str], types: set[str]) -> Sees:
    """What staff of the first house sees: the directory and definitions, and of these patients these types."""
    return lambda seed: (
        _house(seed) or seed.type == "ValueSet" or (seed.whose in whose and seed.owner == ONE and seed.type in types)
    )


def _either(*ways: Sees) -> Sees:
    return lambda seed: any(way(seed) for way in ways)


def _organization(seed: Seed) -> bool:
    return seed.owner == ONE or seed.type == "ValueSet"


def _care(seed: Seed) -> bool:
    """What makes the doctor, the nurse and the technician Ann's."""
    known = {"CareTeam", "Encounter", "ServiceRequest", "PractitionerRole", "Location", "Patient", "RelatedPerson"}
    return seed.owner == ONE and seed.whose in ("ann", "one") and seed.type in known


_ASSIGNED = CLINICAL | PERSONS | {"Binary", "CareTeam", "Appointment", "Coverage", "Provenance"}
_HIDDEN = ("quagga", "okapi", "numbat")


def _launched(seed: Seed) -> bool:
    return seed.type != "ValueSet" and _chart({"ann"}, _ASSIGNED)(seed)


PEOPLE = (
    Person("ann-with-all", "launch/patient patient/*.rs", _either(_ann(), _house), _HIDDEN, ANN, patient="ann"),
    Person("ann-with-v1", "patient/*.read", _either(_ann(), _house), _HIDDEN, ANN, patient="ann"),
    Person("ann-writing", "patient/*.cruds", _either(_ann(), _house), _HIDDEN, ANN, patient="ann"),
    Person("ann-as-user", "user/*.rs", _either(_ann(), _house), _HIDDEN, ANN),
    Person("ann-with-observations", "patient/Observation.rs", _ann("Observation"), _HIDDEN, ANN, patient="ann"),
    Person(
        "ann-with-laboratory",
        "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
        _ann("Observation", tag="laboratory"),
        (*_HIDDEN, "ann-vital-signs"),
        ANN,
        patient="ann",
    ),
    Person(
        "ann-with-two-categories",
        "patient/Observation.rs?category=vital-signs patient/Condition.rs?category=problem-list-item patient/Patient.r",
        _either(_ann("Observation", tag="vital-signs"), _ann("Condition", tag="problem-list-item"), _ann("Patient")),
        (*_HIDDEN, "ann-laboratory"),
        ANN,
        patient="ann",
    ),
    Person(
        "ann-searching-only",
        "patient/Observation.s patient/Patient.r",
        _ann("Observation", "Patient"),
        _HIDDEN,
        ANN,
        patient="ann",
    ),
    Person("aunt", "patient/*.rs", _either(_ann(), _house), _HIDDEN, AUNT, patient="ann", supports=_care),
    Person(
        "desk-token-for-ann",
        "patient/*.rs",
        _either(_ann(), lambda seed: seed.type in DIRECTORY),
        ("okapi", "numbat"),
        patient="ann",
        operator=True,
    ),
    Person("doctor", "user/*.rs", _chart({"ann"}, _ASSIGNED), user=DOCTOR, supports=_care),
    Person(
        "doctor-in-an-emergency",
        "user/*.cruds",
        _either(_chart({"ann"}, _ASSIGNED), _chart({"cid"}, _ASSIGNED)),
        ("quagga",),
        _user("called", "doctor", "Practitioner/doctor"),
        emergency="okapi",
        supports=_care,
    ),
    Person("doctor-writing", "user/*.cruds", _chart({"ann"}, _ASSIGNED), user=DOCTOR, supports=_care),
    Person("doctor-launched", "launch patient/*.rs", _launched, user=DOCTOR, patient="ann", supports=_care),
    Person(
        "doctor-with-two-types",
        "user/Patient.rs user/Condition.rs",
        lambda seed: seed.whose == "ann" and seed.type in ("Patient", "Condition"),
        user=DOCTOR,
        supports=_care,
    ),
    Person("nurse", "user/*.rs", _chart({"ann"}, _ASSIGNED - {"Coverage"}), user=NURSE, supports=_care),
    Person("technician", "user/*.rs", _chart({"ann"}, LABORATORY), user=TECHNICIAN, supports=_care),
    Person(
        "receptionist",
        "user/*.cruds",
        _chart({"ann", "cid"}, PERSONS | {"Appointment", "Coverage"}),
        ("quagga",),
        _user("desk", "receptionist"),
    ),
    Person(
        "pharmacist",
        "user/*.rs",
        _chart({"ann", "cid"}, MEDICINE | {"Task"}),
        ("quagga",),
        _user("pills", "pharmacist"),
    ),
    Person(
        "billing",
        "user/*.rs",
        _chart({"ann", "cid"}, MONEY | {"Encounter", "Patient", "Procedure", "RelatedPerson"}),
        ("quagga",),
        _user("bills", "billing"),
    ),
    Person(
        "insurer",
        "user/*.rs",
        lambda seed: seed.type == "ValueSet" or (seed.whose == "ann" and seed.type in PAID),
        user=_user("payer", "insurer", organization=INSURER),
    ),
    Person("admin", "user/*.cruds", _organization, ("quagga",), _user("boss", "admin")),
    Person(
        "backend",
        "system/*.rs",
        lambda seed: seed.owner == ONE,
        ("quagga",),
        client=Client("service", "Service", "backend", organization=ONE),
    ),
    Person(
        "integration",
        "system/*.cruds",
        _organization,
        ("quagga",),
        client=Client("engine", "Engine", "backend", organization=ONE, role="integration"),
    ),
    Person(
        "backend-with-observations",
        "system/Observation.rs",
        lambda seed: seed.owner == ONE and seed.type == "Observation",
        ("quagga",),
        client=Client("results", "Results", "backend", organization=ONE),
    ),
    Person(
        "other-house",
        "system/*.rs",
        lambda seed: seed.owner == TWO,
        ("okapi", "numbat-laboratory"),
        client=Client("elsewhere", "Elsewhere", "backend", organization=TWO),
    ),
    Person("nobody-in-particular", "openid", lambda _: False, _HIDDEN, _user("plain", "patient")),
    Person("person-with-a-system-scope", "system/*.rs", lambda _: False, _HIDDEN, ANN),
    Person(
        "service-with-a-user-scope",
        "user/*.rs patient/*.rs",
        lambda _: False,
        _HIDDEN,
        client=Client("wrong", "Wrong", "backend", organization=ONE),
    ),
)
