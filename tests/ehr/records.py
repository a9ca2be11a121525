"""The records of a small hospital: two patients with something of each kind, one of whom the doctor looks after."""

import json
from collections.abc import Iterator
from pathlib import Path

CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
OBSERVATION = "http://terminology.hl7.org/CodeSystem/observation-category"
US_CORE = "http://hl7.org/fhir/us/core/CodeSystem"

CATEGORIES = {
    "Condition": {
        "encounter-diagnosis": CONDITION,
        "problem-list-item": CONDITION,
        "health-concern": f"{US_CORE}/condition-category",
    },
    "Observation": {
        "laboratory": OBSERVATION,
        "vital-signs": OBSERVATION,
        "social-history": OBSERVATION,
        "survey": OBSERVATION,
        "sdoh": f"{US_CORE}/us-core-category",
    },
}
CLINICAL = (
    "AllergyIntolerance", "CarePlan", "CareTeam", "Condition", "Coverage", "DiagnosticReport", "DocumentReference", "Encounter", "Goal",
    "Immunization", "MedicationRequest", "Observation", "Procedure", "ServiceRequest",
)  # fmt: skip
"""The types of which each patient has something and which are searched by `patient`."""

DOCTOR, HOSPITAL = "Practitioner/doctor", "Organization/hospital"


def write(path: Path) -> None:
    """Write the records as NDJSON."""
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records()), encoding="utf-8")


def records() -> Iterator[dict]:
    """The hospital, its people and places, and the patients `a` and `b`."""
    yield {"resourceType": "Organization", "id": "hospital", "active": True, "name": "General Hospital"}
    yield {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Doe", "given": ["Jane"]}]}
    yield {"resourceType": "Practitioner", "id": "other", "name": [{"family": "Roe", "given": ["Rob"]}]}
    yield {"resourceType": "Location", "id": "ward", "status": "active", "name": "Ward 1"}
    yield {"resourceType": "Medication", "id": "aspirin", "code": _text("Aspirin")}
    for name, family, doctor in (("a", "Alpha", "doctor"), ("b", "Beta", "other")):
        yield from _patient(name, family, doctor)


def _patient(name: str, family: str, doctor: str) -> Iterator[dict]:
    who = {"reference": f"Patient/{name}"}
    yield {
        "resourceType": "Patient",
        "id": name,
        "identifier": [{"system": "urn:oid:1.2.3", "value": f"MRN-{name}"}],
        "name": [{"family": family, "given": ["Kim"]}],
        "gender": "female",
        "birthDate": "1980-01-02",
        "generalPractitioner": [{"reference": f"Practitioner/{doctor}"}],
        "managingOrganization": {"reference": HOSPITAL},
    }
    for kind, members in _clinical(who, doctor).items():
        yield {"resourceType": kind, "id": f"{kind.lower()}-{name}", **members}
    for kind, categories in CATEGORIES.items():
        for code, system in categories.items():
            category = [{"coding": [{"system": system, "code": code}]}]
            state = {"clinicalStatus": _coded("http://terminology.hl7.org/CodeSystem/condition-clinical", "active")}
            rest = {"status": "final"} if kind == "Observation" else state
            yield {
                "resourceType": kind, "id": f"{code}-{name}", "category": category, "code": _text(code), "subject": who, **rest,
            }  # fmt: skip
    yield {
        "resourceType": "Provenance",
        "id": f"provenance-{name}",
        "target": [{"reference": f"Observation/laboratory-{name}"}],
        "recorded": "2024-01-02T03:04:05Z",
        "agent": [{"who": {"reference": f"Practitioner/{doctor}"}}],
    }


def _clinical(who: dict, doctor: str) -> dict[str, dict]:
    """Members of one resource of each type that is not in `CATEGORIES`."""
    by = {"reference": f"Practitioner/{doctor}"}
    document = [{"attachment": {"contentType": "text/plain", "data": "aGVsbG8="}}]
    return {
        "AllergyIntolerance": {
            "patient": who, "code": _text("Latex"),
            "clinicalStatus": _coded("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active"),
        },
        "CarePlan": {"status": "active", "intent": "plan", "subject": who},
        "CareTeam": {"status": "active", "subject": who, "participant": [{"member": by}]},
        "Coverage": {"status": "active", "beneficiary": who, "payor": [{"reference": HOSPITAL}]},
        "DiagnosticReport": {"status": "final", "code": _text("Blood count"), "subject": who},
        "DocumentReference": {"status": "current", "docStatus": "final", "subject": who, "content": document},
        "Encounter": {
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": who,
            "participant": [{"individual": by}],
        },
        "Goal": {"lifecycleStatus": "active", "description": _text("Walk"), "subject": who},
        "Immunization": {
            "status": "completed", "vaccineCode": _text("Flu"), "patient": who, "occurrenceDateTime": "2024-01-02",
        },
        "MedicationRequest": {
            "status": "active", "intent": "order", "subject": who, "medicationReference": {"reference": "Medication/aspirin"},
            "requester": by,
        },
        "Procedure": {"status": "completed", "code": _text("Suture"), "subject": who},
        "ServiceRequest": {"status": "active", "intent": "order", "code": _text("MRI"), "subject": who},
    }  # fmt: skip


def _text(text: str) -> dict:
    return {"text": text}


def _coded(system: str, code: str) -> dict:
    return {"coding": [{"system": system, "code": code}]}
