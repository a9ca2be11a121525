"""The office: appointments, claims and the insurers' answers.

Rules: a finished visit is claimed and answered in full, in part or not at all; money has two decimals and adds up; an appointment
ahead takes a slot of its own.

Specification: https://hl7.org/fhir/R4/claim.html, https://hl7.org/fhir/R4/appointment.html
"""

from datetime import datetime, timedelta
from typing import Any

from fhir_server.generator import vocabulary as words
from fhir_server.generator.care import Visit
from fhir_server.generator.chart import Chart
from fhir_server.generator.hospital import APPOINTMENT_EVERY, moment, slot_id

_PROFESSIONAL = words.coded(words.HL7 + "claim-type", "professional", "Professional")
_NORMAL = words.coded(words.HL7 + "processpriority", "normal", "Normal")
_COMPLETE = words.coded(words.HL7 + "ex-paymenttype", "complete", "Complete")
_CONSULTATION = words.coded(words.SNOMED, "11429006", "Consultation")
_LABORATORY = words.coded(words.SNOMED, "15220000", "Laboratory test")
_SUBMITTED = words.coded(words.HL7 + "adjudication", "submitted", "Submitted Amount")
_BENEFIT = words.coded(words.HL7 + "adjudication", "benefit", "Benefit Amount")
_ROUTINE = words.coded(words.HL7 + "v2-0276", "ROUTINE", "Routine appointment")
_FOLLOW_UP = words.coded(words.HL7 + "v2-0276", "FOLLOWUP", "A follow up visit from a previous appointment")
_HOSPITAL = {"reference": "Organization/hospital"}
_ANSWERED = timedelta(days=20)


def _money(cents: int) -> dict[str, Any]:
    return {"value": cents / 100, "currency": "USD"}


def bill(chart: Chart, seen: Visit) -> None:
    """Adds the Claim of a finished visit and, unless it is too recent, its ClaimResponse."""
    if seen.end is None:
        return
    random = chart.random
    amounts = [random.randint(4000, 20000), random.randint(1000, 9000)]
    items = [
        {
            "sequence": sequence,
            "productOrService": service,
            "servicedDate": moment(seen.start)[:10],
            "unitPrice": _money(cents),
            "net": _money(cents),
            "encounter": [seen.encounter],
        }
        for sequence, (service, cents) in enumerate(zip((_CONSULTATION, _LABORATORY), amounts, strict=True), 1)
    ]
    created = seen.end + timedelta(days=1)
    claim = chart.add(
        {
            "resourceType": "Claim",
            "status": "active",
            "type": _PROFESSIONAL,
            "use": "claim",
            "patient": chart.patient,
            "billablePeriod": {"start": moment(seen.start), "end": moment(seen.end)},
            "created": moment(created),
            "insurer": chart.insurer,
            "provider": _HOSPITAL,
            "priority": _NORMAL,
            "careTeam": [{"sequence": 1, "provider": seen.doctor}],
            "insurance": [{"sequence": 1, "focal": True, "coverage": chart.coverage}],
            "item": items,
            "total": _money(sum(amounts)),
        }
    )
    if created + _ANSWERED < chart.hospital.now:
        _answer(chart, claim, amounts, created + timedelta(days=random.randint(3, 15)))


def _answer(chart: Chart, claim: dict[str, Any], amounts: list[int], time: datetime) -> None:
    share = chart.random.choice((100, 100, 80, 50, 0))
    paid = [cents * share // 100 for cents in amounts]
    response: dict[str, Any] = {
        "resourceType": "ClaimResponse",
        "status": "active",
        "type": _PROFESSIONAL,
        "use": "claim",
        "patient": chart.patient,
        "created": moment(time),
        "insurer": chart.insurer,
        "requestor": _HOSPITAL,
        "request": claim,
        "outcome": "complete",
        "disposition": "Paid" if share else "Not covered",
        "item": [
            {"itemSequence": sequence, "adjudication": [{"category": _BENEFIT, "amount": _money(cents)}]}
            for sequence, cents in enumerate(paid, 1)
        ],
        "total": [
            {"category": _SUBMITTED, "amount": _money(sum(amounts))},
            {"category": _BENEFIT, "amount": _money(sum(paid))},
        ],
    }
    if share:
        response["payment"] = {"type": _COMPLETE, "date": moment(time)[:10], "amount": _money(sum(paid))}
    chart.add(response)


def kept(chart: Chart, seen: Visit) -> None:
    """Adds the appointment that a past clinic visit was booked by."""
    start = seen.start.replace(second=0)
    chart.add(
        {
            "resourceType": "Appointment",
            "status": "fulfilled" if seen.end is not None else "arrived",
            "appointmentType": _ROUTINE,
            "start": moment(start),
            "end": moment(start + timedelta(minutes=30)),
            "created": moment(start - timedelta(days=chart.random.randint(1, 60))),
            "participant": [
                {"actor": chart.patient, "required": "required", "status": "accepted"},
                {"actor": seen.doctor, "required": "required", "status": "accepted"},
            ],
        }
    )


def ahead(chart: Chart) -> None:
    """Adds the booked appointment of every third patient, in a slot of its own."""
    number, rest = divmod(chart.number, APPOINTMENT_EVERY)
    if rest:
        return
    practitioner, slot = chart.hospital.slot(number)
    start = chart.hospital.slot_start(slot)
    chart.add(
        {
            "resourceType": "Appointment",
            "status": "booked",
            "appointmentType": _FOLLOW_UP,
            "start": moment(start),
            "end": moment(start + timedelta(minutes=30)),
            "slot": [{"reference": f"Slot/{slot_id(practitioner, slot)}"}],
            "created": moment(chart.hospital.now - timedelta(days=chart.random.randint(1, 30))),
            "participant": [
                {"actor": chart.patient, "required": "required", "status": "accepted"},
                {"actor": chart.hospital.doctors[practitioner], "required": "required", "status": "accepted"},
            ],
        }
    )
