"""Made-up patients for a measurement without given data: transaction Bundles of the shape and density of Synthea's.

The same seed gives the same Bundles. Nothing here is a real person.
"""

import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from resources.model import Resource

FAMILIES = [
    "Abbott",
    "Beer",
    "Carrion",
    "Delarosa",
    "Emmerich",
    "Feeney",
    "Gusikowski",
    "Hagenes",
    "Kirlin",
    "Lindqvist",
    "Moore",
    "Nader",
    "Okafor",
    "Quinones",
]
GIVEN = [
    "Alexia",
    "Barney",
    "Carlota",
    "Dorris",
    "Elvira",
    "Floyd",
    "Gabriela",
    "Hans",
    "Ines",
    "Jorge",
    "Karl",
    "Lavern",
    "Miguel",
    "Noor",
    "Olga",
    "Pedro",
]
LABORATORY = (
    ("4548-4", "Hemoglobin A1c", "%", 40, 110, 10),
    ("2339-0", "Glucose", "mg/dL", 65, 240, 1),
    ("2093-3", "Total Cholesterol", "mg/dL", 120, 300, 1),
    ("6299-2", "Urea Nitrogen", "mg/dL", 6, 30, 1),
    ("38483-4", "Creatinine", "mg/dL", 5, 30, 10),
)
VITAL = (
    ("8302-2", "Body Height", "cm", 1400, 2000, 10),
    ("29463-7", "Body Weight", "kg", 450, 1300, 10),
    ("39156-5", "Body Mass Index", "kg/m2", 170, 420, 10),
    ("8310-5", "Body temperature", "Cel", 360, 395, 10),
)
DISEASES = (
    ("44054006", "Diabetes"),
    ("38341003", "Hypertension"),
    ("195662009", "Acute viral pharyngitis"),
    ("10509002", "Bronchitis"),
)
HL7 = "http://terminology.hl7.org/CodeSystem/"


def bundles(patients: int, seed: int = 0) -> Iterator[Resource]:
    """One transaction Bundle per patient, about 120 resources each."""
    draw = random.Random(seed)  # noqa: S311  (made-up data)
    for number in range(patients):
        yield {"resourceType": "Bundle", "type": "transaction", "entry": list(_entries(draw, number))}


def _entries(draw: random.Random, number: int) -> Iterator[dict[str, Any]]:
    born = date(1930, 1, 1) + timedelta(days=draw.randrange(31_000))
    patient, practitioner = _link(draw), _link(draw)
    yield _entry(practitioner, _practitioner(draw, number))
    yield _entry(patient, _patient(draw, number, born))
    for _ in range(12):
        encounter = _link(draw)
        when = f"{born + timedelta(days=draw.randrange(7000, 12_000))}T{draw.randrange(8, 18):02}:{draw.randrange(60):02}:00+01:00"
        yield _entry(encounter, _encounter(patient, practitioner, when))
        yield _entry(_link(draw), _condition(draw, patient, encounter, when))
        for category, tests in (("laboratory", LABORATORY), ("vital-signs", VITAL)):
            for test in draw.sample(tests, 3):
                yield _entry(_link(draw), _observation(draw, category, test, patient, encounter, when))
        yield _entry(_link(draw), _prescription(draw, patient, practitioner, encounter, when))
        yield _entry(_link(draw), _claim(draw, patient, encounter, practitioner, when))


def _link(draw: random.Random) -> str:
    text = f"{draw.getrandbits(128):032x}"
    return f"urn:uuid:{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _entry(link: str, resource: Resource) -> dict[str, Any]:
    return {"fullUrl": link, "resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}


def _coded(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _ref(link: str) -> dict[str, str]:
    return {"reference": link}


def _practitioner(draw: random.Random, number: int) -> Resource:
    return {
        "resourceType": "Practitioner",
        "identifier": [{"system": "http://hl7.org/fhir/sid/us-npi", "value": f"{9_000_000 + number}"}],
        "active": True,
        "name": [{"family": draw.choice(FAMILIES), "given": [draw.choice(GIVEN)], "prefix": ["Dr."]}],
    }


def _patient(draw: random.Random, number: int, born: date) -> Resource:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "https://bench.example.org/mrn", "value": f"B{number:06}"}],
        "name": [
            {"use": "official", "family": draw.choice(FAMILIES), "given": [draw.choice(GIVEN), draw.choice(GIVEN)]}
        ],
        "telecom": [{"system": "phone", "value": f"555-{draw.randrange(10_000):04}", "use": "home"}],
        "gender": draw.choice(("female", "male")),
        "birthDate": str(born),
        "address": [
            {"line": [f"{draw.randrange(900)} Mill Lane"], "city": "Springfield", "state": "MA", "country": "US"}
        ],
    }


def _encounter(patient: str, practitioner: str, when: str) -> Resource:
    return {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": f"{HL7}v3-ActCode", "code": "AMB"},
        "type": [_coded("http://snomed.info/sct", "185345009", "Encounter for symptom")],
        "subject": _ref(patient),
        "participant": [{"individual": _ref(practitioner)}],
        "period": {"start": when},
    }


def _condition(draw: random.Random, patient: str, encounter: str, when: str) -> Resource:
    return {
        "resourceType": "Condition",
        "clinicalStatus": _coded(
            f"{HL7}condition-clinical", *draw.choice((("active", "Active"), ("resolved", "Resolved")))
        ),
        "verificationStatus": _coded(f"{HL7}condition-ver-status", "confirmed", "Confirmed"),
        "code": _coded("http://snomed.info/sct", *draw.choice(DISEASES)),
        "subject": _ref(patient),
        "encounter": _ref(encounter),
        "onsetDateTime": when,
    }


def _observation(
    draw: random.Random,
    category: str,
    test: tuple[str, str, str, int, int, int],
    patient: str,
    encounter: str,
    when: str,
) -> Resource:
    code, name, unit, low, high, scale = test
    value = draw.randrange(low, high)
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [_coded(f"{HL7}observation-category", category, category)],
        "code": _coded("http://loinc.org", code, name),
        "subject": _ref(patient),
        "encounter": _ref(encounter),
        "effectiveDateTime": when,
        "issued": when,
        "valueQuantity": {
            "value": value if scale == 1 else value / scale,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def _prescription(draw: random.Random, patient: str, practitioner: str, encounter: str, when: str) -> Resource:
    return {
        "resourceType": "MedicationRequest",
        "status": draw.choice(("active", "stopped")),
        "intent": "order",
        "medicationCodeableConcept": _coded(
            "http://www.nlm.nih.gov/research/umls/rxnorm", "860975", "Metformin 500 MG"
        ),
        "subject": _ref(patient),
        "encounter": _ref(encounter),
        "authoredOn": when,
        "requester": _ref(practitioner),
    }


def _claim(draw: random.Random, patient: str, encounter: str, practitioner: str, when: str) -> Resource:
    return {
        "resourceType": "Claim",
        "status": "active",
        "type": _coded(f"{HL7}claim-type", "institutional", "Institutional"),
        "use": "claim",
        "patient": _ref(patient),
        "created": when,
        "provider": _ref(practitioner),
        "priority": _coded(f"{HL7}processpriority", "normal", "Normal"),
        "insurance": [{"sequence": 1, "focal": True, "coverage": {"display": "Commonwealth Mutual"}}],
        "item": [
            {
                "sequence": 1,
                "productOrService": _coded("http://snomed.info/sct", "185345009", "Encounter for symptom"),
                "encounter": [_ref(encounter)],
            }
        ],
        "total": {"value": draw.randrange(50, 900), "currency": "USD"},
    }
