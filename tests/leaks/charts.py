"""What is written of one patient of the leak suite's hospital: a resource or two of each type, each with the chart's word in all that it says."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import NamedTuple

ONE, TWO = "Organization/house-one", "Organization/quagga-house"
INSURER, OTHER = "Organization/insurer", "Organization/other-insurer"
CATEGORIES = {
    "Condition": "http://terminology.hl7.org/CodeSystem/condition-category",
    "Observation": "http://terminology.hl7.org/CodeSystem/observation-category",
}
WITHHELD = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "NOPAT"}


class Chart(NamedTuple):
    """Whose chart is written: `word` is in all of it, `owner` has it, `doctor` and the others work on it."""

    word: str
    owner: str
    doctor: str
    nurse: str
    technician: str
    location: str
    insurer: str

    @property
    def patient(self) -> str:
        return f"Patient/{self.word}"


ANN = Chart(
    "ann", ONE, "Practitioner/doctor", "Practitioner/nurse", "Practitioner/technician", "Location/ward", INSURER
)
CID = Chart(
    "okapi", ONE, "Practitioner/stranger", "Practitioner/stranger", "Practitioner/stranger", "Location/cellar", OTHER
)
BOB = Chart(
    "quagga",
    TWO,
    "Practitioner/quagga-doctor",
    "Practitioner/quagga-doctor",
    "Practitioner/quagga-doctor",
    "Location/quagga-ward",
    OTHER,
)


def refer(to: str) -> dict:
    return {"reference": to}


def labels(word: str) -> dict:
    return {
        "profile": [f"http://{word}.example.org/StructureDefinition/labelled"],
        "tag": [{"system": f"http://{word}.example.org/tags", "code": f"{word}-tag"}],
    }


def coded(word: str, code: str = "") -> dict:
    return {
        "coding": [
            {"system": f"http://{word}.example.org", "code": code or f"{word}-code", "display": f"{word} display"}
        ],
        "text": f"{word} text",
    }


def patient(chart: Chart) -> Iterator[dict]:
    """Who the patient is."""
    word = chart.word
    yield {
        "resourceType": "Patient",
        "id": word,
        "active": True,
        "identifier": [{"system": f"http://{word}.example.org/mrn", "value": f"{word}-mrn"}],
        "name": [{"family": f"{word}family", "given": [f"{word}given"]}],
        "telecom": [{"system": "phone", "value": f"{word}-phone"}, {"system": "email", "value": f"{word}@example.org"}],
        "address": [{"line": [f"{word} street"], "city": f"{word}city", "postalCode": f"{word}-zip"}],
        "birthDate": "1970-01-01",
        "managingOrganization": refer(chart.owner),
    }
    yield {
        "resourceType": "RelatedPerson",
        "patient": refer(chart.patient),
        "active": True,
        "name": [{"family": f"{word}aunt"}],
        "telecom": [{"system": "phone", "value": f"{word}-aunt"}],
    }


def care(chart: Chart) -> Iterator[dict]:
    """What makes people of the staff the patient's own, and what they plan."""
    word, patient = chart.word, refer(chart.patient)
    yield {
        "resourceType": "CareTeam",
        "status": "active",
        "name": f"{word} team",
        "subject": patient,
        "participant": [{"member": refer(chart.doctor)}],
    }
    yield {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "identifier": [{"value": f"{word}-visit"}],
        "subject": patient,
        "location": [{"location": refer(chart.location)}],
        "reasonCode": [coded(word)],
    }
    yield {
        "resourceType": "Appointment",
        "status": "booked",
        "description": f"{word} appointment",
        "start": "2026-11-20T10:00:00Z",
        "end": "2026-11-20T10:30:00Z",
        "reasonCode": [coded(word)],
        "participant": [{"actor": patient, "status": "accepted"}],
    }
    yield {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "identifier": [{"value": f"{word}-order"}],
        "code": coded(word),
        "subject": patient,
        "performer": [refer(chart.technician)],
    }
    yield {
        "resourceType": "Task",
        "status": "in-progress",
        "intent": "order",
        "description": f"{word} task",
        "code": coded(word),
        "for": patient,
    }
    yield {
        "resourceType": "CarePlan",
        "status": "active",
        "intent": "plan",
        "title": f"{word} plan",
        "subject": patient,
    }
    yield {
        "resourceType": "Goal",
        "lifecycleStatus": "active",
        "description": coded(word),
        "subject": patient,
    }
    yield {"resourceType": "Flag", "status": "active", "code": coded(word), "subject": patient}


def findings(chart: Chart) -> Iterator[dict]:
    """Observations, conditions, reports."""
    word, patient = chart.word, refer(chart.patient)
    for category in ("laboratory", "vital-signs"):
        yield {
            "resourceType": "Observation",
            "id": f"{word}-{category}",
            "meta": labels(word),
            "status": "final",
            "category": [{"coding": [{"system": CATEGORIES["Observation"], "code": category}]}],
            "identifier": [{"value": f"{word}-{category}"}],
            "code": coded(word, f"{word}-{category}-code"),
            "subject": patient,
            "performer": [refer(chart.technician)],
            "effectiveDateTime": "2026-11-01T08:00:00Z",
            "valueString": f"{word} value",
            "note": [{"text": f"{word} note"}],
        }
    for category in ("problem-list-item", "encounter-diagnosis"):
        yield {
            "resourceType": "Condition",
            "id": f"{word}-{category}",
            "category": [{"coding": [{"system": CATEGORIES["Condition"], "code": category}]}],
            "code": coded(word, f"{word}-{category}-code"),
            "subject": patient,
            "encounter": refer(f"Encounter/{word}-encounter"),
            "recordedDate": "2026-11-01",
        }
    yield {"resourceType": "AllergyIntolerance", "code": coded(word), "patient": patient}
    yield {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "identifier": [{"value": f"{word}-report"}],
        "code": coded(word),
        "subject": patient,
        "result": [refer(f"Observation/{word}-laboratory")],
        "conclusion": f"{word} conclusion",
    }
    yield {
        "resourceType": "Specimen",
        "identifier": [{"value": f"{word}-specimen"}],
        "subject": patient,
        "type": coded(word),
    }
    yield {"resourceType": "Procedure", "status": "completed", "code": coded(word), "subject": patient}
    yield {
        "resourceType": "Immunization",
        "status": "completed",
        "vaccineCode": coded(word),
        "patient": patient,
        "occurrenceDateTime": "2026-10-01",
        "lotNumber": f"{word}-lot",
    }


def medication(chart: Chart) -> Iterator[dict]:
    """Prescriptions and what came of them."""
    word, patient = chart.word, refer(chart.patient)
    yield {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": coded(word),
        "subject": patient,
        "requester": refer(chart.doctor),
        "note": [{"text": f"{word} note"}],
    }
    yield {
        "resourceType": "MedicationDispense",
        "status": "completed",
        "medicationCodeableConcept": coded(word),
        "subject": patient,
        "authorizingPrescription": [refer(f"MedicationRequest/{word}-medicationrequest")],
    }
    yield {
        "resourceType": "MedicationStatement",
        "contained": [{"resourceType": "Medication", "id": "pill", "code": coded(word, f"{word}-pill")}],
        "status": "active",
        "medicationReference": refer("#pill"),
        "subject": patient,
    }


def papers(chart: Chart) -> Iterator[dict]:
    """Documents, messages, lists, and who wrote."""
    word, patient = chart.word, refer(chart.patient)
    yield {
        "resourceType": "DocumentReference",
        "status": "current",
        "description": f"{word} letter",
        "type": coded(word),
        "subject": patient,
        "content": [
            {"attachment": {"contentType": "text/plain", "url": f"Binary/{name}", "title": f"{word} title"}}
            for name in (f"{word}-binary", f"{word}-scan")
        ],
    }
    yield {
        "resourceType": "Binary",
        "contentType": "text/plain",
        "securityContext": patient,
        "data": b64encode(f"{word} scan".encode()).decode(),
    }
    yield {
        "resourceType": "Binary",
        "id": f"{word}-scan",
        "contentType": "text/plain",
        "data": b64encode(f"{word} scan".encode()).decode(),
    }
    yield {
        "resourceType": "Communication",
        "status": "completed",
        "subject": patient,
        "payload": [{"contentString": f"{word} message"}],
        "topic": coded(word),
    }
    yield {
        "resourceType": "QuestionnaireResponse",
        "status": "completed",
        "identifier": {"value": f"{word}-answers"},
        "subject": patient,
        "item": [{"linkId": "1", "text": f"{word} question", "answer": [{"valueString": f"{word} answer"}]}],
    }
    yield {
        "resourceType": "List",
        "status": "current",
        "mode": "working",
        "title": f"{word} list",
        "code": coded(word),
        "subject": patient,
        "entry": [{"item": refer(f"Condition/{word}-problem-list-item")}],
    }
    yield {
        "resourceType": "Provenance",
        "target": [refer(f"Observation/{word}-laboratory")],
        "recorded": "2026-11-01T08:00:00Z",
        "agent": [{"who": refer(chart.doctor), "type": coded(word)}],
    }


def money(chart: Chart) -> Iterator[dict]:
    """Insurance and bills."""
    word, patient = chart.word, refer(chart.patient)
    money = {"value": 1.0, "currency": "EUR"}
    yield {
        "resourceType": "Coverage",
        "status": "active",
        "identifier": [{"value": f"{word}-policy"}],
        "subscriberId": f"{word}-subscriber",
        "beneficiary": patient,
        "payor": [refer(chart.insurer)],
    }
    yield {
        "resourceType": "Claim",
        "status": "active",
        "identifier": [{"value": f"{word}-claim"}],
        "type": coded(word),
        "use": "claim",
        "patient": patient,
        "created": "2026-11-02",
        "insurer": refer(chart.insurer),
        "provider": refer(chart.owner),
        "priority": coded(word),
        "insurance": [{"sequence": 1, "focal": True, "coverage": refer(f"Coverage/{word}-coverage")}],
    }
    yield {
        "resourceType": "ClaimResponse",
        "status": "active",
        "type": coded(word),
        "use": "claim",
        "patient": patient,
        "created": "2026-11-03",
        "insurer": refer(chart.insurer),
        "request": refer(f"Claim/{word}-claim"),
        "outcome": "complete",
        "disposition": f"{word} disposition",
    }
    yield {"resourceType": "Account", "status": "active", "name": f"{word} account", "subject": [patient]}
    yield {
        "resourceType": "ChargeItem",
        "status": "billable",
        "code": coded(word),
        "subject": patient,
        "enterer": refer(chart.doctor),
    }
    yield {
        "resourceType": "Invoice",
        "status": "issued",
        "identifier": [{"value": f"{word}-invoice"}],
        "subject": patient,
        "totalNet": money,
    }


def unreleased(chart: Chart) -> Iterator[dict]:
    """What staff sees of the patient and the patient does not."""
    word, patient = "numbat", refer(chart.patient)
    yield {
        "resourceType": "Observation",
        "id": "numbat-laboratory",
        "status": "preliminary",
        "category": [{"coding": [{"system": CATEGORIES["Observation"], "code": "laboratory"}]}],
        "code": coded(word),
        "subject": patient,
        "valueString": f"{word} value",
    }
    yield {
        "resourceType": "Condition",
        "meta": {"security": [WITHHELD]},
        "category": [{"coding": [{"system": CATEGORIES["Condition"], "code": "problem-list-item"}]}],
        "code": coded(word),
        "subject": patient,
    }
    yield {
        "resourceType": "DocumentReference",
        "status": "current",
        "docStatus": "preliminary",
        "description": f"{word} draft",
        "subject": patient,
        "content": [{"attachment": {"contentType": "text/plain", "title": f"{word} title"}}],
    }


def chart_of(chart: Chart) -> Iterator[dict]:
    """All of a chart; what has no id is named after its word and type."""
    for part in (patient, care, findings, medication, papers, money):
        yield from map(_named(chart.word), part(chart))


def unreleased_of(chart: Chart) -> Iterator[dict]:
    """What is not released yet."""
    return map(_named("numbat"), unreleased(chart))


def _named(word: str) -> Callable[[dict], dict]:
    return lambda resource: {"id": f"{word}-{resource['resourceType'].lower()}", **resource}
