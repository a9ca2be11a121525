"""The store agrees with the reference evaluator on random searches through HTTP: 300, and 5,000 in the full tier."""

import random
from urllib.parse import quote

import pytest

from tests.http.conftest import FHIR, serving
from tests.search.reference import Reference
from tests.search.world import (
    BASE,
    CITIES,
    CODES,
    DATES,
    FAMILIES,
    GIVENS,
    LOCAL,
    LOINC,
    NUMBERS,
    TIMES,
    UCUM,
    URLS,
    World,
    encoded,
)

pytestmark = pytest.mark.anyio
PREFIXES = ("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")
PARAMETERS = {
    "Patient": {
        "family": "string", "given": "string", "name": "string", "address-city": "string", "gender": "gender", "active": "boolean",
        "birthdate": "date", "identifier": "identifier", "organization": ("Organization",), "general-practitioner": ("Practitioner", "Organization"),
        "link": ("Patient",), "phone": "phone",
    },
    "Observation": {
        "code": "token", "status": "status", "date": "date", "value-quantity": "quantity", "value-concept": "token", "value-string": "string",
        "component-code": "token", "component-value-quantity": "quantity", "combo-code": "token", "combo-value-quantity": "quantity",
        "subject": ("Patient", "Group", "Location"), "patient": ("Patient",), "encounter": ("Encounter",), "performer": ("Practitioner", "Organization", "Patient"),
        "code-value-quantity": "composite", "component-code-value-quantity": "composite", "combo-code-value-quantity": "composite",
    },
    "Encounter": {"status": "status", "date": "date", "subject": ("Patient", "Group"), "patient": ("Patient",), "class": "class"},
    "RiskAssessment": {"probability": "number", "subject": ("Patient", "Group"), "patient": ("Patient",)},
    "MedicationRequest": {"code": "token", "medication": ("Medication",), "subject": ("Patient", "Group"), "status": "status"},
    "Medication": {"code": "token", "manufacturer": ("Organization",)},
    "Organization": {"name": "string", "partof": ("Organization",), "active": "boolean"},
    "Practitioner": {"name": "string", "identifier": "identifier"},
    "Group": {"member": ("Patient",), "type": "person"},
    "Location": {"name": "string", "status": "place"},
    "ValueSet": {"url": "uri", "name": "string", "status": "draft"},
}  # fmt: skip
NEVER_MISSING_BY_TYPE = {"patient"}  # whether a logical reference is to a patient is not known


class Queries:
    """Random parameters over a world."""

    def __init__(self, world, seed):
        self.world, self.random = world, random.Random(seed)

    def pick(self, values):
        return self.random.choice(tuple(values))

    def query(self):
        kind = self.pick(PARAMETERS)
        return kind, [self.parameter(kind, 2) for _ in range(self.random.choice((1, 1, 1, 1, 2)))]

    def parameter(self, kind, depth):
        chance = self.random.random()
        if depth and chance < 0.12:
            found = self.has(kind, depth)
            if found is not None:
                return found
        code, form = self.pick(PARAMETERS[kind].items())
        if chance > 0.95:
            return "_id", ",".join(self.pick(self.world.ids[kind]) for _ in range(3))
        if chance > 0.88 and code not in NEVER_MISSING_BY_TYPE and form != "composite":
            return f"{code}:missing", self.pick(("true", "false"))
        if isinstance(form, tuple):
            return self.reference(code, form, depth)
        modifier, values = self.values(form)
        if modifier == "not":
            return f"{code}:not", ",".join(values)
        return f"{code}{':' if modifier else ''}{modifier}", ",".join(values)

    def has(self, kind, depth):
        sources = [
            (s, c)
            for s, codes in PARAMETERS.items()
            for c, form in codes.items()
            if isinstance(form, tuple) and kind in form
        ]
        if not sources:
            return None
        source, code = self.pick(sources)
        name, value = self.parameter(source, depth - 1)
        return f"_has:{source}:{code}:{name}", value

    def reference(self, code, kinds, depth):
        target = self.pick(kinds)
        chance = self.random.random()
        if depth and chance < 0.45:
            name, value = self.parameter(target, depth - 1)
            typed = f"{code}:{target}" if len(kinds) > 1 else code
            return f"{typed}.{name}", value
        name = self.pick(self.world.ids[target])
        if chance < 0.55:
            return f"{code}:{target}" if code != "patient" else code, name
        if chance < 0.62:
            return f"{code}:identifier", self.values("identifier")[1][0]
        text = f"{target}/{name}"
        return code, self.pick(
            (
                text,
                text,
                f"{BASE}/{text}",
                f"{text}/_history/1",
                f"http://elsewhere.org/fhir/{text}",
                f"{target}/missing",
            )
        )

    def values(self, form):
        """(modifier, values) of a parameter of this form."""
        several = self.random.choice((1, 1, 2))
        match form:
            case "string":
                text = self.pick((*FAMILIES, *GIVENS, *CITIES, "n", "be", "ie", "smith jones"))
                return self.pick(("", "", "contains", "exact")), [text]
            case "token":
                makes = (
                    lambda c: c,
                    lambda c: f"{LOINC}|{c}",
                    lambda c: f"|{c}",
                    lambda c: f"{LOCAL}|{c}",
                    lambda _: f"{LOINC}|",
                )
                return self.pick(("", "", "not")), [self.pick(makes)(self.pick(CODES)) for _ in range(several)]
            case "identifier":
                makes = (lambda c: c, lambda c: f"urn:a|{c}", lambda c: f"|{c}", lambda _: "urn:b|")
                return self.pick(("", "", "not")), [
                    self.pick(makes)(self.pick(("1", "2", "a7", "A7"))) for _ in range(several)
                ]
            case "gender":
                codes = ("male", "FEMALE", "other", "http://hl7.org/fhir/administrative-gender|male", "urn:x|male")
                return self.pick(("", "not")), [self.pick(codes) for _ in range(several)]
            case "boolean":
                return self.pick(("", "not")), [self.pick(("true", "false"))]
            case "status":
                return self.pick(("", "not")), [self.pick(("final", "amended", "planned", "finished", "active"))]
            case "person" | "draft":
                return self.pick(("", "not")), [form]
            case "place":
                return "", [self.pick(("active", "inactive"))]
            case "class":
                return "", [self.pick(("AMB", "IMP", "http://terminology.hl7.org/CodeSystem/v3-ActCode|IMP"))]
            case "phone":
                return "", [self.pick(("555", "+31 1"))]
            case "date":
                return "", [
                    self.pick(PREFIXES) + self.pick((*DATES, *TIMES, "2020-01-15T12:00:00Z")) for _ in range(several)
                ]
            case "number":
                return "", [self.pick((*PREFIXES, "ap")) + self.pick(("0.5", "0.50", "0.3", "0", "1", "0.2"))]
            case "quantity":
                return "", [self.quantity() for _ in range(several)]
            case "composite":
                return "", [f"{self.pick((f'{LOINC}|', ''))}{self.pick(CODES)}${self.quantity()}"]
            case "uri":
                return self.pick(("", "below", "above")), [self.pick((*URLS[:4], "http://a.org/vs/deep/er"))]
        raise ValueError(form)

    def quantity(self):
        unit = self.pick(("", "", f"|{UCUM}|mg", f"|{UCUM}|g", f"|{UCUM}|mm[Hg]", "||drops", "||mm[Hg]"))
        return self.pick((*PREFIXES, "ap")) + self.pick((*NUMBERS, "5", "0.0054", "5.445")) + unit


def url_of(kind, parameters):
    return f"{kind}?" + "&".join(f"{quote(name, safe=':.')}={quote(value, safe='')}" for name, value in parameters)


async def check(tmp_path, seed, size, number):
    world = World(seed, size)
    bodies = [encoded(resource) for resource in world.resources]
    reference = Reference(bodies)
    queries = Queries(world, seed)
    hits = 0
    async with serving(tmp_path) as client:
        for resource, body in zip(world.resources, bodies, strict=True):
            answer = await client.put(f"{resource['resourceType']}/{resource['id']}", content=body, headers=FHIR)
            assert answer.status_code == 201, (answer.text, body)
        for _ in range(number):
            kind, parameters = queries.query()
            url = url_of(kind, parameters)
            expected = reference.find(kind, parameters)
            answer = await client.get(f"{url}&_count=1000&_total=accurate")
            assert answer.status_code == 200, (url, answer.text)
            bundle = answer.json()
            found = {entry["resource"]["id"] for entry in bundle.get("entry", ()) if entry["search"]["mode"] == "match"}
            assert found == expected, (url, sorted(found - expected), sorted(expected - found))
            assert bundle["total"] == len(expected), url
            hits += bool(expected)
    assert hits > number * 0.3, hits


async def test_the_store_agrees_with_the_reference_on_300_searches(tmp_path, rounds):
    await check(tmp_path, seed=rounds, size=200, number=300 * rounds)


@pytest.mark.full
async def test_the_store_agrees_with_the_reference_on_5000_searches(tmp_path):
    await check(tmp_path, seed=77, size=1400, number=5000)
