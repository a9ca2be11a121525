"""The ward and the clinic: encounters with vital signs, laboratory reports, diagnoses, prescriptions and procedures.

Rules: every patient has a level and a slope per measurement, so results show trends; one patient in twenty lies in a bed now, and
one more is in an open visit; everything done in a visit refers to its Encounter.

Specification: https://hl7.org/fhir/R4/clinicalsummary-module.html
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fhir_server.generator import vocabulary as words
from fhir_server.generator.chart import Chart
from fhir_server.generator.hospital import BEDS_PER_WARD, INPATIENT_EVERY, bed_id, moment

_YEARS = 6
_ACT = words.HL7 + "v3-ActCode"
_CLASSES = {
    "AMB": {"system": _ACT, "code": "AMB", "display": "ambulatory"},
    "EMER": {"system": _ACT, "code": "EMER", "display": "emergency"},
    "IMP": {"system": _ACT, "code": "IMP", "display": "inpatient encounter"},
}
_CHECKUP = words.coded(words.SNOMED, "185349003", "Encounter for check up")
_PROBLEM = words.coded(words.SNOMED, "185347001", "Encounter for problem")
_VITAL_SIGNS = [words.coded(words.HL7 + "observation-category", "vital-signs", "Vital Signs")]
_LABORATORY = [words.coded(words.HL7 + "observation-category", "laboratory", "Laboratory")]
_LAB_SECTION = [words.coded(words.HL7 + "v2-0074", "LAB", "Laboratory")]
_DIAGNOSIS = [words.coded(words.HL7 + "condition-category", "encounter-diagnosis", "Encounter Diagnosis")]
_PROBLEM_LIST = [words.coded(words.HL7 + "condition-category", "problem-list-item", "Problem List Item")]
_CONFIRMED = words.coded(words.HL7 + "condition-ver-status", "confirmed", "Confirmed")
_ACTIVE = words.coded(words.HL7 + "condition-clinical", "active", "Active")
_RESOLVED = words.coded(words.HL7 + "condition-clinical", "resolved", "Resolved")
_ATTENDER = [words.coded(words.HL7 + "v3-ParticipationType", "ATND", "attender")]
_FLAGS = {
    flag: [words.coded(words.HL7 + "v3-ObservationInterpretation", flag, display)]
    for flag, display in (("L", "Low"), ("N", "Normal"), ("H", "High"))
}


@dataclass(slots=True)
class Visit:
    """An encounter and what the things done in it refer to; `end` is None while it goes on."""

    encounter: dict[str, Any]
    doctor: dict[str, Any]
    department: int
    start: datetime
    end: datetime | None


class Course:
    """How a patient's measurements run: a level and a slope per measurement, the same at every visit."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._begin = chart.hospital.now - timedelta(days=365 * _YEARS)
        self._levels: dict[str, tuple[float, float]] = {}

    def value(self, measurement: words.Measurement, time: datetime) -> float | int:
        """The result at a time, rounded as the measurement is."""
        random = self._chart.random
        code = measurement.concept["text"]
        if code not in self._levels:
            slope = random.gauss(0, measurement.spread) / _YEARS
            self._levels[code] = random.gauss(measurement.mean, measurement.spread), slope
        level, slope = self._levels[code]
        years = (time - self._begin).days / 365
        result = abs(level + slope * years + random.gauss(0, measurement.spread / 4))
        if measurement.unit == "%":
            result = min(result, 100.0)
        return round(result, measurement.decimals) if measurement.decimals else round(result)


def history(chart: Chart) -> tuple[words.Disorder, ...]:
    """Adds the problem list, allergies and vaccines; gives the chronic disorders."""
    random = chart.random
    chronic = tuple(random.sample(words.CHRONIC, random.choice((0, 1, 1, 2, 2, 3))))
    for disorder in chronic:
        onset = chart.hospital.now - timedelta(days=random.randint(400, 2400))
        condition = _condition(chart, disorder, onset, _PROBLEM_LIST)
        if disorder.drug is not None:
            _prescribe(chart, disorder.drug, chart.doctor, onset, chart.add(condition), None, active=True)
        else:
            chart.add(condition)
    if random.random() < 0.25:  # noqa: PLR2004 - a quarter are allergic
        concept, category = random.choice(words.ALLERGIES)
        chart.add(
            {
                "resourceType": "AllergyIntolerance",
                "clinicalStatus": words.coded(words.HL7 + "allergyintolerance-clinical", "active", "Active"),
                "verificationStatus": words.coded(
                    words.HL7 + "allergyintolerance-verification", "confirmed", "Confirmed"
                ),
                "type": "allergy",
                "category": [category],
                "criticality": random.choice(("low", "high")),
                "code": concept,
                "patient": chart.patient,
            }
        )
    for vaccine in random.sample(words.VACCINES, random.randint(0, 3)):
        given = chart.hospital.now - timedelta(days=random.randint(10, 150))
        chart.add(
            {
                "resourceType": "Immunization",
                "status": "completed",
                "vaccineCode": vaccine,
                "patient": chart.patient,
                "occurrenceDateTime": moment(given),
                "primarySource": True,
            }
        )
    return chronic


def visit(
    chart: Chart, course: Course, disorder: words.Disorder, *, chronic: bool, start: datetime, kind: str
) -> Visit:
    """Adds an encounter with what was found, measured and prescribed; `kind` is `AMB`, `EMER`, `IMP` or `open`, `inpatient` now."""
    random = chart.random
    staff = chart.hospital.staff[disorder.department]
    doctor = chart.doctor if chronic and kind == "AMB" else chart.hospital.doctors[random.choice(staff)]
    end = None if kind in {"open", "inpatient"} else start + timedelta(minutes=random.randint(15, 90))
    if kind == "IMP":
        end = start + timedelta(days=random.randint(1, 9))
    seen = Visit({}, doctor, disorder.department, start, end)
    seen.encounter = chart.add(_encounter(chart, seen, kind, disorder, chronic=chronic))
    _vital_signs(chart, course, seen)
    cause = None
    if not chronic:
        cause = chart.add(_condition(chart, disorder, start, _DIAGNOSIS, seen))
        if disorder.drug is not None:
            _prescribe(chart, disorder.drug, doctor, start, cause, seen, active=end is None)
    if chronic or random.random() < 0.5:  # noqa: PLR2004 - half of the acute visits
        _laboratory(chart, course, seen, disorder.panel)
    if random.random() < 0.4:  # noqa: PLR2004 - two visits in five
        chart.add(
            {
                "resourceType": "Procedure",
                "status": "completed",
                "code": random.choice(words.PROCEDURES),
                "subject": chart.patient,
                "encounter": seen.encounter,
                "performedPeriod": {"start": moment(start), "end": moment(start + timedelta(minutes=12))},
                "performer": [{"actor": doctor}],
            }
        )
    return seen


def _encounter(chart: Chart, seen: Visit, kind: str, disorder: words.Disorder, *, chronic: bool) -> dict[str, Any]:
    department = words.DEPARTMENTS[seen.department]
    code = {"open": "AMB", "inpatient": "IMP"}.get(kind, kind)
    encounter: dict[str, Any] = {
        "resourceType": "Encounter",
        "status": "finished" if seen.end is not None else "in-progress",
        "class": _CLASSES[code],
        "type": [_CHECKUP if chronic else _PROBLEM],
        "subject": chart.patient,
        "participant": [{"type": _ATTENDER, "individual": seen.doctor}],
        "period": {"start": moment(seen.start)} | ({"end": moment(seen.end)} if seen.end is not None else {}),
        "reasonCode": [disorder.concept],
        "serviceProvider": {"reference": f"Organization/department-{department.code}", "display": department.name},
    }
    if kind == "inpatient":
        bed = chart.number // INPATIENT_EVERY
        ward = {"reference": f"Location/ward-{bed // BEDS_PER_WARD + 1:02d}"}
        encounter["location"] = [
            {
                "location": {"reference": f"Location/{bed_id(bed)}"},
                "status": "active",
                "period": {"start": moment(seen.start)},
            },
            {"location": ward, "status": "active"},
        ]
    return encounter


def _condition(
    chart: Chart, disorder: words.Disorder, onset: datetime, category: list[dict[str, Any]], seen: Visit | None = None
) -> dict[str, Any]:
    resolved = onset + timedelta(days=chart.random.randint(5, 30))
    gone = seen is not None and seen.end is not None and resolved < chart.hospital.now
    condition: dict[str, Any] = {
        "resourceType": "Condition",
        "clinicalStatus": _RESOLVED if gone else _ACTIVE,
        "verificationStatus": _CONFIRMED,
        "category": category,
        "code": disorder.concept,
        "subject": chart.patient,
    }
    if seen is not None:
        condition["encounter"] = seen.encounter
    condition["onsetDateTime"] = moment(onset)
    if gone:
        condition["abatementDateTime"] = moment(resolved)
    condition["recordedDate"] = moment(onset)
    return condition


def _prescribe(
    chart: Chart,
    drug: words.Drug,
    doctor: dict[str, Any],
    time: datetime,
    reason: dict[str, Any],
    seen: Visit | None,
    *,
    active: bool,
) -> None:
    request: dict[str, Any] = {
        "resourceType": "MedicationRequest",
        "status": "active" if active else "completed",
        "intent": "order",
        "medicationCodeableConcept": drug.concept,
        "subject": chart.patient,
    }
    if seen is not None:
        request["encounter"] = seen.encounter
    request |= {
        "authoredOn": moment(time),
        "requester": doctor,
        "reasonReference": [reason],
        "dosageInstruction": [
            {
                "text": f"1 {drug.unit.strip('{}').lower()}, {drug.times} times a day",
                "timing": {"repeat": {"frequency": drug.times, "period": 1, "periodUnit": "d"}},
                "doseAndRate": [{"doseQuantity": {"value": 1, "unit": drug.unit}}],
            }
        ],
        "dispenseRequest": {
            "numberOfRepeatsAllowed": chart.random.randint(0, 5),
            "quantity": {"value": 30 * drug.times},
        },
    }
    chart.add(request)


def _quantity(measurement: words.Measurement, value: float) -> dict[str, Any]:
    return {"value": value, "unit": measurement.unit, "system": words.UCUM, "code": measurement.unit}


def _observation(
    chart: Chart, seen: Visit, category: list[dict[str, Any]], code: dict[str, Any], time: str
) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final" if seen.end is not None else "preliminary",
        "category": category,
        "code": code,
        "subject": chart.patient,
        "encounter": seen.encounter,
        "effectiveDateTime": time,
        "issued": time,
        "performer": [seen.doctor],
    }


def _vital_signs(chart: Chart, course: Course, seen: Visit) -> None:
    time = moment(seen.start + timedelta(minutes=5))
    pressure = _observation(chart, seen, _VITAL_SIGNS, words.PRESSURE, time)
    pressure["component"] = [
        {"code": part.concept, "valueQuantity": _quantity(part, course.value(part, seen.start))}
        for part in (words.SYSTOLIC, words.DIASTOLIC)
    ]
    chart.add(pressure)
    for measurement in words.VITALS:
        observation = _observation(chart, seen, _VITAL_SIGNS, measurement.concept, time)
        observation["valueQuantity"] = _quantity(measurement, course.value(measurement, seen.start))
        chart.add(observation)


def _laboratory(chart: Chart, course: Course, seen: Visit, panel: str) -> None:
    code, measurements = words.PANELS[panel]
    drawn = seen.start + timedelta(minutes=10)
    ready = moment(min(drawn + timedelta(minutes=chart.random.randint(40, 300)), chart.hospital.now))
    order = chart.add(
        {
            "resourceType": "ServiceRequest",
            "status": "completed",
            "intent": "order",
            "code": code,
            "subject": chart.patient,
            "encounter": seen.encounter,
            "authoredOn": moment(seen.start),
            "requester": seen.doctor,
        }
    )
    results = []
    for measurement in measurements:
        value = course.value(measurement, seen.start)
        observation = _observation(chart, seen, _LABORATORY, measurement.concept, moment(drawn))
        observation["issued"] = ready
        observation["basedOn"] = [order]
        observation["valueQuantity"] = _quantity(measurement, value)
        observation["interpretation"] = _FLAGS[
            "L" if value < measurement.low else "H" if value > measurement.high else "N"
        ]
        observation["referenceRange"] = [
            {"low": _quantity(measurement, measurement.low), "high": _quantity(measurement, measurement.high)}
        ]
        results.append(chart.add(observation))
    chart.add(
        {
            "resourceType": "DiagnosticReport",
            "basedOn": [order],
            "status": "final" if seen.end is not None else "preliminary",
            "category": _LAB_SECTION,
            "code": code,
            "subject": chart.patient,
            "encounter": seen.encounter,
            "effectiveDateTime": moment(drawn),
            "issued": ready,
            "performer": [{"reference": "Organization/hospital"}],
            "result": results,
        }
    )
