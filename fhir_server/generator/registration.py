"""The front desk: Patient, Coverage, RelatedPerson and CareTeam.

Specification: https://hl7.org/fhir/R4/patient.html, https://hl7.org/fhir/R4/coverage.html
"""

from datetime import timedelta
from random import Random
from typing import Any

from fhir_server.generator import vocabulary as words
from fhir_server.generator.chart import Chart
from fhir_server.generator.hospital import FAMILY, GIVEN, INSURERS, MRN, NATIONAL, STREETS, moment

_MRN_TYPE = words.coded("http://terminology.hl7.org/CodeSystem/v2-0203", "MR", "Medical record number")
_SELF = words.coded(words.HL7 + "subscriber-relationship", "self", "Self")
_MARRIED = words.coded(words.HL7 + "v3-MaritalStatus", "M", "Married")
_SINGLE = words.coded(words.HL7 + "v3-MaritalStatus", "S", "Never Married")
_SPOUSE = words.coded(words.HL7 + "v3-RoleCode", "SPS", "spouse")
_DOCTOR_ROLE = words.coded(words.SNOMED, "59058001", "General physician")
_PLANS = words.coded(words.HL7 + "v3-ActCode", "EHCPOL", "extended healthcare")
_HOSPITAL = {"reference": "Organization/hospital"}
_YOUNGEST, _OLDEST = 2500, 33000
"""Ages in days; what is on record begins after birth."""


def register(chart: Chart) -> None:
    """Adds who the patient is, who pays and who cares; sets the chart's references."""
    random = chart.random
    now = chart.hospital.now
    chart.birth = now - timedelta(days=random.randint(_YOUNGEST, _OLDEST))
    general = chart.hospital.staff[0]
    chart.doctor = chart.hospital.doctors[general[chart.number % len(general)]]
    gender = random.choice(("female", "male", "female", "male", "female", "male", "other"))
    family = random.choice(FAMILY)
    given = random.choice(GIVEN["female" if gender == "female" else "male"])
    chart.patient = {**chart.add(_patient(chart, gender, given, family)), "display": f"{given} {family}"}
    _cover(chart)
    if random.random() < 0.3:  # noqa: PLR2004 - about a third name somebody
        _relative(chart, family)
    since = now - timedelta(days=random.randint(30, 1500))
    second = random.choice([doctor for doctor in chart.hospital.doctors[:40] if doctor is not chart.doctor])
    chart.add(
        {
            "resourceType": "CareTeam",
            "status": "active",
            "name": f"Care team of {given} {family}",
            "subject": chart.patient,
            "period": {"start": f"{since:%Y-%m-%d}"},
            "participant": [
                {"role": [_DOCTOR_ROLE], "member": chart.doctor, "onBehalfOf": _HOSPITAL},
                {"member": second, "onBehalfOf": _HOSPITAL},
            ],
            "managingOrganization": [_HOSPITAL],
        }
    )


def _patient(chart: Chart, gender: str, given: str, family: str) -> dict[str, Any]:
    random = chart.random
    number = chart.number + 1
    language = random.choice(words.LANGUAGES)
    names: list[dict[str, Any]] = [
        {"use": "official", "family": family, "given": [given, random.choice("ABCDEFGHJKLMNPRST")]}
    ]
    if random.random() < 0.1:  # noqa: PLR2004 - one in ten has changed name
        names.append({"use": "maiden", "family": random.choice(FAMILY), "given": [given]})
    adult = (chart.hospital.now - chart.birth).days > 18 * 365
    return {
        "resourceType": "Patient",
        "identifier": [
            {"use": "usual", "type": _MRN_TYPE, "system": MRN, "value": f"MRN-{number:07d}", "assigner": _HOSPITAL},
            {"system": NATIONAL, "value": f"756.{random.randint(1000, 9999)}.{number:06d}"},
        ],
        "active": True,
        "name": names,
        "telecom": [
            {"system": "phone", "value": _phone(random), "use": random.choice(("home", "mobile"))},
            {"system": "email", "value": f"patient{number}@mail.example"},
        ],
        "gender": gender,
        "birthDate": f"{chart.birth:%Y-%m-%d}",
        "deceasedBoolean": False,
        "address": [_address(random)],
        "maritalStatus": _MARRIED if adult and random.random() < 0.5 else _SINGLE,  # noqa: PLR2004 - half of them
        "communication": [{"language": words.coded("urn:ietf:bcp:47", *language), "preferred": True}],
        "generalPractitioner": [chart.doctor],
        "managingOrganization": _HOSPITAL,
    }


def _phone(random: Random) -> str:
    return f"+41 {random.randint(20, 99)} {random.randint(100, 999)} {random.randint(10, 99)} {random.randint(10, 99)}"


def _address(random: Random) -> dict[str, Any]:
    city, code, country = random.choice(words.CITIES)
    line = f"{random.choice(STREETS)} {random.randint(1, 180)}"
    return {"use": "home", "type": "both", "line": [line], "city": city, "postalCode": code, "country": country}


def _cover(chart: Chart) -> None:
    random = chart.random
    chosen = random.randrange(len(INSURERS))
    chart.insurer = {"reference": f"Organization/insurer-{chosen + 1}", "display": INSURERS[chosen]}
    start = chart.hospital.now - timedelta(days=random.randint(400, _YOUNGEST))
    chart.coverage = chart.add(
        {
            "resourceType": "Coverage",
            "status": "active",
            "type": _PLANS,
            "subscriber": chart.patient,
            "subscriberId": f"{random.randint(10**8, 10**9 - 1)}",
            "beneficiary": chart.patient,
            "relationship": _SELF,
            "period": {"start": moment(start)[:10]},
            "payor": [chart.insurer],
        }
    )


def _relative(chart: Chart, family: str) -> None:
    random = chart.random
    gender = random.choice(("female", "male"))
    chart.add(
        {
            "resourceType": "RelatedPerson",
            "active": True,
            "patient": chart.patient,
            "relationship": [_SPOUSE],
            "name": [{"use": "official", "family": family, "given": [random.choice(GIVEN[gender])]}],
            "telecom": [{"system": "phone", "value": _phone(random)}],
            "gender": gender,
        }
    )
