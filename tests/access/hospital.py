"""A small hospital behind access control: two patients, their people of care, and a token for whoever asks.

`anne` is looked after by the doctor `dora`; `bert` by nobody here. Each has one of everything that matters; names, codes and values tell whose it is.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from fhir_server.app import create_app
from fhir_server.interactions.options import RestOptions
from fhir_server.settings import Settings
from search.limits import SearchLimits
from smart_auth import keys
from smart_auth.model import Client, Grant, LaunchContext, Principal, User

BASE = "https://fhir.example.org/fhir"
FHIR = {"Content-Type": "application/fhir+json"}
OPERATOR = "user/*.cruds system/*.cruds"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
LABORATORY, VITAL = f"{CATEGORY}|laboratory", f"{CATEGORY}|vital-signs"


def ref(name: str) -> dict[str, str]:
    return {"reference": name}


def coded(code: str, system: str = "http://loinc.org") -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def patient(name: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": name,
        "identifier": [{"system": "urn:mrn", "value": f"mrn-{name}"}],
        "name": [{"family": name.capitalize()}],
        "gender": "female",
        "birthDate": "1980-01-01",
        **more,
    }


def observation(name: str, of: str, category: str = "laboratory", status: str = "final", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": status,
        "category": [coded(category, CATEGORY)],
        "code": coded("2339-0"),
        "subject": ref(f"Patient/{of}"),
        "valueString": f"secret of {of}",
        **more,
    }


def of_each(who: str) -> list[dict[str, Any]]:
    """What there is about one patient."""
    return [
        patient(who),
        observation(f"lab-{who}", who, performer=[ref("Practitioner/dora")], encounter=ref(f"Encounter/visit-{who}")),
        observation(f"vital-{who}", who, "vital-signs"),
        observation(f"early-{who}", who, status="preliminary"),
        observation(
            f"withheld-{who}",
            who,
            meta={"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "NOPAT"}]},
        ),
        {
            "resourceType": "Condition",
            "id": f"condition-{who}",
            "subject": ref(f"Patient/{who}"),
            "code": coded(f"code-{who}"),
            "clinicalStatus": coded("active", "http://terminology.hl7.org/CodeSystem/condition-clinical"),
        },
        {
            "resourceType": "Encounter",
            "id": f"visit-{who}",
            "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": ref(f"Patient/{who}"),
            "location": [{"location": ref(f"Location/bed-{who}")}],
        },
        {
            "resourceType": "Appointment",
            "id": f"appointment-{who}",
            "status": "proposed",
            "participant": [{"actor": ref(f"Patient/{who}"), "status": "accepted"}],
        },
        {
            "resourceType": "Coverage",
            "id": f"coverage-{who}",
            "status": "active",
            "beneficiary": ref(f"Patient/{who}"),
            "payor": [ref("Organization/insurer")],
        },
        {
            "resourceType": "Provenance",
            "id": f"provenance-{who}",
            "recorded": "2026-01-01T00:00:00Z",
            "target": [ref(f"Observation/lab-{who}")],
            "agent": [{"who": ref("Practitioner/dora")}],
        },
        {"resourceType": "Location", "id": f"bed-{who}", "partOf": ref(f"Location/ward-{who}")},
    ]


EVERYBODYS = [
    {
        "resourceType": "Practitioner",
        "id": "dora",
        "active": True,
        "name": [{"family": "Dora"}],
        "birthDate": "1970-01-01",
        "telecom": [
            {"system": "phone", "use": "work", "value": "111"},
            {"system": "phone", "use": "home", "value": "999"},
        ],
        "address": [{"use": "home", "city": "Hometown"}, {"use": "work", "city": "Worktown"}],
    },
    {"resourceType": "Practitioner", "id": "nora", "name": [{"family": "Nora"}]},
    {
        "resourceType": "PractitionerRole",
        "id": "nora-at-work",
        "practitioner": ref("Practitioner/nora"),
        "location": [ref("Location/ward-anne")],
    },
    {"resourceType": "Organization", "id": "insurer", "name": "Insurer"},
    {"resourceType": "Organization", "id": "other", "name": "Other hospital"},
    {"resourceType": "Location", "id": "ward-anne"},
    {"resourceType": "Location", "id": "ward-bert"},
    {
        "resourceType": "CareTeam",
        "id": "team-anne",
        "status": "active",
        "subject": ref("Patient/anne"),
        "participant": [{"member": ref("Practitioner/dora")}],
    },
    {
        "resourceType": "RelatedPerson",
        "id": "rita",
        "active": True,
        "patient": ref("Patient/anne"),
        "name": [{"family": "Rita"}],
    },
    patient("linked", link=[{"other": ref("Patient/anne"), "type": "seealso"}]),
    {
        "resourceType": "Group",
        "id": "both",
        "type": "person",
        "actual": True,
        "member": [{"entity": ref("Patient/anne")}, {"entity": ref("Patient/bert")}],
    },
    {
        "resourceType": "Provenance",
        "id": "provenance-of-both",
        "recorded": "2026-01-01T00:00:00Z",
        "target": [ref("Observation/lab-anne"), ref("Observation/lab-bert")],
        "agent": [{"who": ref("Practitioner/dora")}],
    },
    {
        "resourceType": "ValueSet",
        "id": "values",
        "status": "active",
        "url": "http://example.org/values",
    },
]
WORLD = {(one["resourceType"], one["id"]) for one in [*EVERYBODYS, *of_each("anne"), *of_each("bert")]}
"""(type, id) of everything there is."""
PEOPLE = (
    User("dora", ("doctor",), fhir_user="Practitioner/dora"),
    User("nora", ("nurse",), fhir_user="Practitioner/nora"),
    User("resi", ("receptionist",)),
    User("adam", ("admin",)),
    User("sue", ("super-admin",)),
    User("phil", ("pharmacist",)),
    User("lab", ("lab-technician",), fhir_user="Practitioner/lab"),
    User("bill", ("billing",)),
    User("ines", ("insurer",), organization="Organization/insurer"),
    User("far", ("admin",), organization="Organization/other"),
    User("anne", ("patient",), fhir_user="Patient/anne"),
    User("bert", ("patient",), fhir_user="Patient/bert"),
    User("rita", ("patient",), fhir_user="RelatedPerson/rita"),
    User("stranger", ("patient",)),
    User("nobody", ()),
)


class Hospital:
    """`client` speaks HTTP without a token; `as_` gives the headers of somebody."""

    def __init__(self, client: httpx2.AsyncClient, app: Any) -> None:
        self.client = client
        self.app = app
        self.auth = app.state.auth
        self._made: dict[tuple[str, ...], dict[str, str]] = {}
        self._grants = 0

    def as_(self, user: str, scope: str, patient: str = "", client: str = "app") -> dict[str, str]:
        """The Authorization header of a person ("" : an operator, "-": the client itself) with this scope."""
        key = (user, scope, patient, client)
        if key not in self._made:
            self._grants += 1
            grant = f"g{self._grants}"
            named = "" if user == "-" else user
            self.auth.store.add_grant(
                Grant(grant, client, scope, int(time.time()), named, LaunchContext(patient=patient))
            )
            principal = Principal(
                id=grant, client=client, scope=scope, user=named, patient=patient, grant=grant, operator=user == ""
            )
            self._made[key] = {"Authorization": f"Bearer {self.auth.tokens.access(principal, 3600)}"}
        return self._made[key]

    def pass_second(self) -> None:
        """What is looked at once a second is looked at again."""
        gate = self.app.state.gate
        gate._now, self.auth.tokens._looked = (-1, -1, -1), -1
        gate._admitted.clear()

    async def get(self, url: str, who: dict[str, str], **headers: str) -> httpx2.Response:
        return await self.client.get(url, headers=who | headers)

    async def send(self, method: str, url: str, body: Any, who: dict[str, str], **headers: str) -> httpx2.Response:
        content = json.dumps(body) if body is not None else None
        return await self.client.request(method, url, content=content, headers=FHIR | who | headers)

    async def ids(self, url: str, who: dict[str, str]) -> set[str]:
        """The ids that a search finds, on all its pages."""
        found: set[str] = set()
        while True:
            answer = await self.get(url, who)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            found |= {
                entry["resource"]["id"]
                for entry in body.get("entry", ())
                if entry.get("search", {}).get("mode") != "outcome"
            }
            following = [link["url"] for link in body["link"] if link["relation"] == "next"]
            if not following:
                return found
            url = following[0]


def seed_bundle() -> dict[str, Any]:
    resources = [*EVERYBODYS, *of_each("anne"), *of_each("bert")]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
            for one in resources
        ],
    }


@asynccontextmanager
async def opened(folder: Any, search: SearchLimits | None = None, **options: Any) -> AsyncIterator[Hospital]:
    """The hospital over a store in `folder`."""
    settings = Settings(
        data_dir=folder,
        public_url="https://fhir.example.org",
        auth="required",
        rest=RestOptions(access_log=False, **options),
        search=search or SearchLimits(),
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        store = app.state.auth.store
        keys.ensure(store, int(time.time()))
        for person in PEOPLE:
            store.put_user(person)
        store.put_client(Client("app", "App", "public"))
        store.put_client(Client("backend", "Backend", "backend", role="integration"))
        store.put_client(Client("away", "Away", "backend", organization="Organization/other"))
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=f"{BASE}/") as client:
            hospital = Hospital(client, app)
            answer = await hospital.send("POST", "", seed_bundle(), hospital.as_("", OPERATOR))
            assert answer.status_code == 200, answer.text
            yield hospital
