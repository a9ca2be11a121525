"""A hospital of few people for the leak suite: who is hidden from somebody bears a word that no other text has.

Ann and Cid are patients of the organization `one`, Bob of `two`. All that is Bob's or of his organization says `quagga`, all that is Cid's says
`okapi`, and what staff sees and Ann does not, of her own record and of the house's work, says `numbat`: in ids, in codes, in text. An answer with a word that its reader is kept from
(and has not said) is a leak.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.leaks.charts import ANN, BOB, CATEGORIES, CID, ONE, TWO, chart_of, coded, refer, unreleased_of

WORDS = ("quagga", "okapi", "numbat")


class Seed(NamedTuple):
    """A resource at rest. `whose`: `ann`, `cid`, `bob`, or the house whose directory has it; `tags` say what else matters."""

    resource: dict
    whose: str
    owner: str
    tags: frozenset[str] = frozenset()

    @property
    def type(self) -> str:
        return self.resource["resourceType"]

    @property
    def reference(self) -> str:
        return f"{self.type}/{self.resource['id']}"


def _practitioner(name: str, word: str = "") -> dict:
    said = word or name
    return {
        "resourceType": "Practitioner",
        "id": name,
        "active": True,
        "identifier": [{"system": "http://staff.example.org", "value": f"{said}-number"}],
        "name": [{"family": f"{said}family"}],
    }


def _directory(house: str, word: str, ward: str, people: tuple[str, ...]) -> Iterator[dict]:
    mark = f"{word}-" if word else ""
    said = word or "house"
    yield {
        "resourceType": "Organization",
        "id": house.partition("/")[2],
        "active": True,
        "name": f"{said} organization",
    }
    for name in people:
        yield _practitioner(name, word)
    yield {
        "resourceType": "Location",
        "id": ward,
        "status": "active",
        "name": f"{said} ward",
        "managingOrganization": refer(house),
    }
    yield {
        "resourceType": "PractitionerRole",
        "id": f"{mark}role",
        "active": True,
        "practitioner": refer(f"Practitioner/{'quagga-doctor' if word else 'nurse'}"),
        "organization": refer(house),
        "location": [refer(f"Location/{ward}")],
        "code": [coded(said)],
    }
    yield {"resourceType": "Medication", "id": f"{mark}medication", "code": coded(said), "status": "active"}
    yield {
        "resourceType": "HealthcareService",
        "id": f"{mark}service",
        "name": f"{said} service",
        "providedBy": refer(house),
    }
    yield {
        "resourceType": "Schedule",
        "id": f"{mark}schedule",
        "actor": [refer(f"Location/{ward}")],
        "comment": f"{said} schedule",
    }


def _across() -> Iterator[tuple[dict, str, str]]:
    """What Ann may see and that leads to what she may not: (resource, whose, owner)."""
    yield (
        {
            "resourceType": "Observation",
            "id": "ann-donor",
            "status": "final",
            "category": [{"coding": [{"system": CATEGORIES["Observation"], "code": "laboratory"}]}],
            "code": coded("ann", "ann-donor-code"),
            "subject": refer("Patient/ann"),
            "focus": [refer("Patient/donor")],
            "hasMember": [refer("Observation/donor-value")],
        },
        "ann",
        ONE,
    )
    yield (
        {
            "resourceType": "Patient",
            "id": "donor",
            "name": [{"family": "quaggadonor"}],
            "identifier": [{"system": "http://quagga.example.org/mrn", "value": "quagga-donor"}],
            "birthDate": "1960-06-06",
        },
        "bob",
        TWO,
    )
    yield (
        {
            "resourceType": "Observation",
            "id": "donor-value",
            "status": "final",
            "code": coded("quagga"),
            "subject": refer("Patient/donor"),
            "derivedFrom": [refer("Observation/ann-laboratory")],
        },
        "bob",
        TWO,
    )
    yield (
        {
            "resourceType": "Provenance",
            "id": "quagga-both",
            "target": [refer("Observation/ann-laboratory"), refer("Observation/quagga-laboratory")],
            "recorded": "2026-11-01T08:00:00Z",
            "agent": [{"who": refer("Practitioner/quagga-doctor"), "type": coded("quagga")}],
        },
        "bob",
        TWO,
    )
    yield (
        {
            "resourceType": "Group",
            "id": "quagga-group",
            "type": "person",
            "actual": True,
            "name": "quagga group",
            "member": [{"entity": refer("Patient/ann")}, {"entity": refer("Patient/quagga")}],
        },
        "bob",
        TWO,
    )
    yield (
        {
            "resourceType": "List",
            "id": "quagga-both",
            "status": "current",
            "mode": "working",
            "title": "quagga list of several",
            "entry": [{"item": refer("Patient/ann")}, {"item": refer("Patient/quagga")}],
        },
        "bob",
        TWO,
    )
    yield (
        {
            "resourceType": "ValueSet",
            "id": "numbat-codes",
            "url": "http://numbat.example.org/ValueSet/codes",
            "status": "active",
            "name": "Numbat",
            "compose": {
                "include": [{"system": "http://ann.example.org", "concept": [{"code": "ann-laboratory-code"}]}]
            },
        },
        "two",
        TWO,
    )


def seeds() -> tuple[Seed, ...]:
    """All there is, in the order in which it is written: what refers comes behind."""
    house = (
        *_directory(ONE, "", "ward", ("doctor", "nurse", "technician", "stranger")),
        {"resourceType": "Organization", "id": "insurer", "name": "payer"},
        {"resourceType": "Location", "id": "cellar", "status": "active", "name": "house cellar"},
    )
    return (
        *(Seed(one, "one", ONE) for one in house),
        *(Seed(one, "two", TWO) for one in _directory(TWO, "quagga", "quagga-ward", ("quagga-doctor",))),
        *(
            Seed(one, whose, chart.owner, _tags(one))
            for chart, whose in ((ANN, "ann"), (CID, "cid"), (BOB, "bob"))
            for one in chart_of(chart)
        ),
        *(Seed(one, "ann", ONE, _tags(one) | {"unreleased"}) for one in unreleased_of(ANN)),
        *(Seed(one, whose, owner, _tags(one)) for one, whose, owner in _across()),
    )


def _tags(resource: dict) -> frozenset[str]:
    """The codes of its category."""
    return frozenset(coding["code"] for concept in resource.get("category", ()) for coding in concept.get("coding", ()))
