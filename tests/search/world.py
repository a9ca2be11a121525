"""A small random world of resources for the reference evaluator: few names, codes and dates, so that searches hit and miss.

The same seed gives the same world. References go to what is there, to what is not, to versions, and to logical identifiers.
"""

import json
import random

LOINC, UCUM, LOCAL = "http://loinc.org", "http://unitsofmeasure.org", "urn:local"
FAMILIES = ("Núñez", "Nunez", "O'Brien", "Obrien", "van der Berg", "Berg", "Müller", "Li", "Smith-Jones", "Smith")
GIVENS = ("Ann", "anna", "ANNA", "Ben", "Zoë", "Li", "J.")
DATES = ("2019", "2020", "2020-01", "2020-02", "2020-01-01", "2020-01-31", "2020-02-29", "2021-12-31")
TIMES = ("2020-01-01T00:00:00Z", "2020-01-31T23:59:59Z", "2020-02-01T00:30:00+01:00", "2020-01-01T12:00:00.500Z")
NUMBERS = ("0", "1", "1.0", "5.4", "5.40", "5.45", "5400", "-2", "0.05", "99.5", "100")
CODES = ("8480-6", "8462-4", "abc", "ABC", "x-1")
CITIES = ("Den Haag", "Paris", "Århus", "paris")
URLS = ("http://a.org/vs", "http://a.org/vs/deep", "http://a.org/vsx", "http://a.org", "urn:uuid:1")
BASE = "https://fhir.example.org/fhir"


class World:
    """`resources` in the order in which they are to be stored."""

    def __init__(self, seed, size):
        self.random = random.Random(seed)
        self.ids = {
            kind: [f"{kind[:2].lower()}{at}" for at in range(max(2, size * share // 100))]
            for kind, share in (
                ("Organization", 5), ("Practitioner", 5), ("Patient", 20), ("Group", 2), ("Location", 3), ("Encounter", 15),
                ("Observation", 30), ("RiskAssessment", 6), ("MedicationRequest", 8), ("Medication", 3), ("ValueSet", 3),
            )
        }  # fmt: skip
        self.resources = [
            {"resourceType": kind, "id": name, **getattr(self, kind.lower())()}
            for kind, names in self.ids.items()
            for name in names
        ]

    def some(self, make, most=2):
        return [make() for _ in range(self.random.randint(0, most))]

    def pick(self, values):
        return self.random.choice(values)

    def maybe(self, **members):
        return {name: make() for name, make in members.items() if self.random.random() < 0.7}

    # ---- datatypes

    def reference(self, *kinds):
        kind = self.pick(kinds)
        text = f"{kind}/{self.pick(self.ids[kind])}"
        form = self.random.random()
        if form < 0.1:
            return {"identifier": self.identifier()}
        if form < 0.15:
            text = f"{kind}/missing"
        elif form < 0.25:
            text = f"{BASE}/{text}"
        elif form < 0.3:
            text = f"{text}/_history/1"
        elif form < 0.35:
            text = f"http://elsewhere.org/fhir/{text}"
        return {"reference": text}

    def identifier(self):
        return {**self.maybe(system=lambda: self.pick(("urn:a", "urn:b"))), "value": self.pick(("1", "2", "A7", "a7"))}

    def coding(self):
        return {**self.maybe(system=lambda: self.pick((LOINC, LOCAL))), "code": self.pick(CODES)}

    def concept(self):
        return {"coding": self.some(self.coding), "text": "t"}

    def part(self):
        """A code that no Observation has itself: with a value, a component must not have the same (obs-7)."""
        return {"coding": [{"system": "urn:parts", "code": self.pick(CODES)}]}

    def name(self):
        found = self.maybe(family=lambda: self.pick(FAMILIES), given=lambda: [self.pick(GIVENS), self.pick(GIVENS)])
        return found or {"text": f"{self.pick(GIVENS)} {self.pick(FAMILIES)}"}

    def period(self):
        start, end = sorted(
            (self.pick(("2019-12-01", "2020-01-15", "2020-02-01")), self.pick(("2020-01-20", "2021-01-01")))
        )
        return self.maybe(start=lambda: start, end=lambda: end) or {"start": start}

    def quantity(self):
        value = {"value": Raw(self.pick(NUMBERS))}
        if self.random.random() < 0.8:
            unit = self.pick(("mg", "g", "mm[Hg]"))
            value |= {"system": UCUM, "code": unit, "unit": unit}
        elif self.random.random() < 0.5:
            value |= {"unit": "drops"}
        return value

    # ---- resources

    def organization(self):
        return {
            "name": self.pick(CITIES),
            **self.maybe(partOf=lambda: self.reference("Organization"), active=lambda: True),
        }

    def practitioner(self):
        return {"name": [self.name()], "identifier": self.some(self.identifier, 1) or [{"value": "x"}]}

    def patient(self):
        return {
            **self.maybe(
                active=lambda: self.pick((True, False)),
                gender=lambda: self.pick(("male", "female", "other")),
                birthDate=lambda: self.pick(DATES),
                managingOrganization=lambda: self.reference("Organization"),
                name=lambda: [self.name(), *self.some(self.name, 1)],
                identifier=lambda: [self.identifier(), *self.some(self.identifier, 1)],
                address=lambda: [{"city": self.pick(CITIES), "country": self.pick(("NL", "DK"))}],
                telecom=lambda: [{"system": "phone", "value": self.pick(("+31 1", "555"))}],
                generalPractitioner=lambda: [self.reference("Practitioner", "Organization")],
            ),
            "link": [{"other": self.reference("Patient"), "type": "seealso"} for _ in range(self.random.randint(0, 1))]
            or [{"other": {"reference": "Patient/missing"}, "type": "seealso"}],
        }

    def group(self):
        return {"type": "person", "actual": True, "member": [{"entity": self.reference("Patient")}]}

    def location(self):
        return {"name": self.pick(CITIES), "status": self.pick(("active", "inactive"))}

    def encounter(self):
        return {
            "status": self.pick(("planned", "finished")),
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": self.pick(("AMB", "IMP"))},
            **self.maybe(subject=lambda: self.reference("Patient", "Group"), period=self.period),
        }

    def observation(self):
        effective = self.pick(
            (
                {"effectiveDateTime": self.pick(DATES)},
                {"effectiveDateTime": self.pick(TIMES)},
                {"effectivePeriod": self.period()},
                {},
            )
        )
        value = self.pick(
            (
                {"valueQuantity": self.quantity()},
                {"valueCodeableConcept": self.concept()},
                {"valueString": self.pick(FAMILIES)},
                {},
            )
        )
        parts = [{"code": self.part(), "valueQuantity": self.quantity()} for _ in range(self.random.randint(0, 2))]
        return {
            "status": self.pick(("final", "amended")),
            "code": self.concept(),
            **effective,
            **value,
            **({"component": parts} if parts else {}),
            **self.maybe(
                subject=lambda: self.reference("Patient", "Group", "Location"),
                encounter=lambda: self.reference("Encounter"),
                performer=lambda: [self.reference("Practitioner", "Organization", "Patient")],
            ),
        }

    def riskassessment(self):
        chances = [
            {"probabilityDecimal": Raw(self.pick(("0.5", "0.50", "0.25", "1", "0")))}
            for _ in range(self.random.randint(0, 2))
        ]
        return {
            "status": "final",
            "subject": self.reference("Patient", "Group"),
            **({"prediction": chances} if chances else {}),
        }

    def medicationrequest(self):
        inside = {"resourceType": "Medication", "id": "in", "code": self.concept()}
        kind = self.pick(("inside", "stored", "coded"))
        medication = {
            "inside": {"contained": [inside], "medicationReference": {"reference": "#in"}},
            "stored": {"medicationReference": self.reference("Medication")},
            "coded": {"medicationCodeableConcept": self.concept()},
        }[kind]
        return {"status": "active", "intent": "order", "subject": self.reference("Patient", "Group"), **medication}

    def medication(self):
        return {"code": self.concept(), **self.maybe(manufacturer=lambda: self.reference("Organization"))}

    def valueset(self):
        return {"status": "draft", "url": self.pick(URLS), **self.maybe(name=lambda: self.pick(GIVENS))}


class Raw(str):
    """A JSON number by its token."""

    __slots__ = ()


def encoded(value):
    """JSON with the number tokens as they are; empty lists left out, for FHIR has none."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        members = ((name, inner) for name, inner in value.items() if inner not in ([], {}))
        return "{" + ",".join(f"{json.dumps(name)}:{encoded(inner)}" for name, inner in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encoded, value)) + "]"
    return json.dumps(value)
