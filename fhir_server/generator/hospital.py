"""The hospital itself: organizations, wards and beds, practitioners with roles and schedules, insurers.

Rules: everything here has a fixed id and is written with PUT, so that patients' bundles may refer to it; what a patient is given
(bed, doctor, slot) follows from the patient's number alone, so a bed has one patient and a slot one appointment.

Specification: https://hl7.org/fhir/R4/administration-module.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from fhir_server.generator import vocabulary as words

BUNDLE_ENTRIES = 1000
"""The hospital is written in transactions of at most this many entries, each referring only to earlier ones."""
INPATIENT_EVERY = 20
"""Every so many patients one lies in a bed now; another one is in an open visit."""
APPOINTMENT_EVERY = 3
PATIENTS_PER_PRACTITIONER = 40
BEDS_PER_WARD = 12
SLOTS_FREE = 10
SLOTS_PER_DAY = 8
INSURERS = ("Assurance Générale", "Kölner Versicherung", "United Mutual", "Sjukkassan Öst")
MRN = "https://hospital.example/mrn"
NATIONAL = "https://hospital.example/national-id"
STAFF = "https://hospital.example/staff"


@dataclass(frozen=True, slots=True)
class Hospital:
    """The plan: for how many patients, from which seed, and the moment (UTC) up to which its records go.

    `doctors` are References by practitioner index; `staff` are the practitioner indexes of each department.
    """

    patients: int
    seed: int
    now: datetime
    doctors: tuple[dict[str, Any], ...]
    staff: tuple[tuple[int, ...], ...]

    @property
    def beds(self) -> int:
        """How many beds there are: one in five is free."""
        return max(BEDS_PER_WARD, -(-self.patients // INPATIENT_EVERY) * 5 // 4)

    @property
    def appointments(self) -> int:
        """How many patients have an appointment ahead."""
        return -(-self.patients // APPOINTMENT_EVERY)

    def slot(self, appointment: int) -> tuple[int, int]:
        """The practitioner and the number of the slot of the nth appointment."""
        return appointment % len(self.doctors), appointment // len(self.doctors)

    def slot_start(self, number: int) -> datetime:
        """When a practitioner's nth slot begins: eight a working day from the coming Monday on."""
        day, place = divmod(number, SLOTS_PER_DAY)
        weeks, weekday = divmod(day, 5)
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        monday = midnight + timedelta(days=7 - midnight.weekday())
        return monday + timedelta(weeks=weeks, days=weekday, hours=9, minutes=30 * place)


def plan(patients: int, seed: int, now: datetime) -> Hospital:
    """The hospital for so many patients."""
    count = max(len(words.DEPARTMENTS), patients // PATIENTS_PER_PRACTITIONER)
    staff: list[list[int]] = [[] for _ in words.DEPARTMENTS]
    doctors = []
    for index in range(count):
        staff[department_of(index)].append(index)
        _, given, family = _name(seed, index)
        doctors.append({"reference": f"Practitioner/{practitioner_id(index)}", "display": f"Dr. {given} {family}"})
    return Hospital(patients, seed, now, tuple(doctors), tuple(map(tuple, staff)))


def department_of(practitioner: int) -> int:
    """The index of a practitioner's department: each has one before the large ones have more."""
    return _ROTA[practitioner % len(_ROTA)]


def _name(seed: int, index: int) -> tuple[str, str, str]:
    random = Random(f"{seed}/practitioner/{index}")  # noqa: S311 - invented people, not secrets
    gender = random.choice(("female", "male"))
    return gender, random.choice(GIVEN[gender]), random.choice(FAMILY)


_ROTA: tuple[int, ...] = (
    *range(len(words.DEPARTMENTS)),
    *(index for index, department in enumerate(words.DEPARTMENTS) for _ in range(department.share - 1)),
)


def practitioner_id(index: int) -> str:
    """`practitioner-0001`."""
    return f"practitioner-{index + 1:04d}"


def bed_id(index: int) -> str:
    """`bed-01-03`: third bed of the first ward."""
    return f"bed-{index // BEDS_PER_WARD + 1:02d}-{index % BEDS_PER_WARD + 1:02d}"


def slot_id(practitioner_index: int, number: int) -> str:
    """`slot-0001-003`."""
    return f"slot-{practitioner_index + 1:04d}-{number + 1:03d}"


def resources(hospital: Hospital) -> Iterator[dict[str, Any]]:
    """Everything that is not a patient's, with ids, in an order in which references point backwards."""
    yield from _organizations()
    yield from _locations(hospital)
    for index in range(len(hospital.doctors)):
        yield from _staff(hospital, index)
    per_practitioner = -(-hospital.appointments // len(hospital.doctors)) + SLOTS_FREE
    for number in range(per_practitioner):
        start = hospital.slot_start(number)
        for index in range(len(hospital.doctors)):
            busy = number * len(hospital.doctors) + index < hospital.appointments
            yield {
                "resourceType": "Slot",
                "id": slot_id(index, number),
                "schedule": {"reference": f"Schedule/schedule-{index + 1:04d}"},
                "status": "busy" if busy else "free",
                "start": moment(start),
                "end": moment(start + timedelta(minutes=30)),
            }


def moment(time: datetime) -> str:
    """A time as an instant or dateTime in UTC."""
    return f"{time:%Y-%m-%dT%H:%M:%S}Z"


def _organizations() -> Iterator[dict[str, Any]]:
    yield {
        "resourceType": "Organization",
        "id": "hospital",
        "active": True,
        "type": [words.coded(words.HL7 + "organization-type", "prov", "Healthcare Provider")],
        "name": "Hôpital Universitaire St. Zoë",
        "telecom": [{"system": "phone", "value": "+41 44 000 00 00", "use": "work"}],
        "address": [
            {"use": "work", "line": ["Rue de l'Hôpital 1"], "city": "Zürich", "postalCode": "8001", "country": "CH"}
        ],
    }
    for department in words.DEPARTMENTS:
        yield {
            "resourceType": "Organization",
            "id": f"department-{department.code}",
            "active": True,
            "type": [words.coded(words.HL7 + "organization-type", "dept", "Hospital Department")],
            "name": department.name,
            "partOf": {"reference": "Organization/hospital"},
        }
        yield {
            "resourceType": "HealthcareService",
            "id": f"service-{department.code}",
            "active": True,
            "providedBy": {"reference": f"Organization/department-{department.code}"},
            "specialty": [department.specialty],
            "name": f"{department.name} clinic",
        }
    for index, name in enumerate(INSURERS):
        yield {
            "resourceType": "Organization",
            "id": f"insurer-{index + 1}",
            "active": True,
            "type": [words.coded(words.HL7 + "organization-type", "ins", "Insurance Company")],
            "name": name,
        }


def _locations(hospital: Hospital) -> Iterator[dict[str, Any]]:
    physical = words.HL7 + "location-physical-type"
    wards = -(-hospital.beds // BEDS_PER_WARD)
    for ward in range(wards):
        department = words.DEPARTMENTS[ward % len(words.DEPARTMENTS)]
        yield {
            "resourceType": "Location",
            "id": f"ward-{ward + 1:02d}",
            "status": "active",
            "name": f"Ward {ward + 1}, {department.name}",
            "mode": "instance",
            "physicalType": words.coded(physical, "wa", "Ward"),
            "position": {"longitude": 8.54 + ward / 1000, "latitude": 47.37 + ward / 1000},
            "managingOrganization": {"reference": f"Organization/department-{department.code}"},
        }
    taken = -(-hospital.patients // INPATIENT_EVERY)
    for bed in range(hospital.beds):
        status = ("O", "Occupied") if bed < taken else ("U", "Unoccupied")
        yield {
            "resourceType": "Location",
            "id": bed_id(bed),
            "status": "active",
            "operationalStatus": {
                "system": "http://terminology.hl7.org/CodeSystem/v2-0116",
                "code": status[0],
                "display": status[1],
            },
            "name": f"Bed {bed // BEDS_PER_WARD + 1}.{bed % BEDS_PER_WARD + 1}",
            "mode": "instance",
            "physicalType": words.coded(physical, "bd", "Bed"),
            "partOf": {"reference": f"Location/ward-{bed // BEDS_PER_WARD + 1:02d}"},
        }


def _staff(hospital: Hospital, index: int) -> Iterator[dict[str, Any]]:
    department = words.DEPARTMENTS[department_of(index)]
    gender, given, family = _name(hospital.seed, index)
    person = hospital.doctors[index]
    yield {
        "resourceType": "Practitioner",
        "id": practitioner_id(index),
        "identifier": [{"system": STAFF, "value": f"DOC-{index + 1:05d}"}],
        "active": True,
        "name": [{"use": "official", "family": family, "given": [given], "prefix": ["Dr."]}],
        "telecom": [{"system": "email", "value": f"doctor{index + 1}@hospital.example", "use": "work"}],
        "gender": gender,
    }
    yield {
        "resourceType": "PractitionerRole",
        "id": f"role-{index + 1:04d}",
        "active": True,
        "practitioner": person,
        "organization": {"reference": f"Organization/department-{department.code}"},
        "code": [words.coded(words.SNOMED, "309343006", "Physician")],
        "specialty": [department.specialty],
        "healthcareService": [{"reference": f"HealthcareService/service-{department.code}"}],
    }
    yield {
        "resourceType": "Schedule",
        "id": f"schedule-{index + 1:04d}",
        "active": True,
        "specialty": [department.specialty],
        "actor": [person, {"reference": f"PractitionerRole/role-{index + 1:04d}"}],
        "planningHorizon": {
            "start": moment(hospital.slot_start(0)),
            "end": moment(hospital.slot_start(0) + timedelta(days=28)),
        },
    }


def _split(text: str) -> tuple[str, ...]:
    return tuple(word.replace("-", " ") for word in text.split())


GIVEN = {"female": _split(words.FEMALE), "male": _split(words.MALE)}
FAMILY = _split(words.FAMILY)
STREETS = _split(words.STREETS)
