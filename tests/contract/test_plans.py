"""No request of the published targets scans a table: every statement that SQLite runs for it is over an index.

A store of generated patients, of which SQLite's planner knows nothing, as when it is new; one with statistics, as after the
housekeeping; and one with those of a few resources that it had first, which every open connection keeps. The statements of each request are taken from the connections while it is answered and explained, with their values,
by a connection of the test. What a statement made itself may be walked; a table of resources or of their values never, save in the
order of an index that the request asks for.

Specification: https://www.sqlite.org/eqp.html
"""

import json
import re
import sqlite3
from contextlib import asynccontextmanager, closing
from functools import cached_property, partial
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from fhir_server.generator import generate
from fhir_server.interactions.assembly import DATABASE
from fhir_server.storage.sqlite import connection as connections
from tests.http.conftest import FHIR, serving

pytestmark = pytest.mark.anyio
PATIENTS = 25
SMALL = {"type", "parameter", "term", "meta", "code_system", "value_set", "follow_up"}
"""Tables that do not grow with the resources."""
NAMED = re.compile(r"\b(\w+) (?:AS )?(?=(\w+))")
WEIGHT = quote("http://loinc.org|29463-7", safe="")
SHAPES = {
    "Observation?patient={patient}&code={code}&_sort=-date&_count=20": "PRIMARY KEY (param=? AND target=?)",
    "Patient?name=a&_count=20": "PRIMARY KEY (param=? AND folded>? AND folded<?)",
    "Patient?identifier={identifier}": "PRIMARY KEY (param=? AND code=?)",
    "Patient?birthdate=ge1950-01-01&gender=female&_count=20": "rid (rid=? AND param=?",
    "Encounter?patient={patient}&_include=Encounter:practitioner&_count=20": "PRIMARY KEY (param=? AND target=?)",
    "Condition?patient={patient}&clinical-status=active&_count=20": "PRIMARY KEY (param=? AND target=?)",
    "Observation?patient={patient}&category=laboratory&date=ge2015-01-01&_count=20": "PRIMARY KEY (param=? AND target=?)",
    "Patient?_has:Observation:patient:code={code}&_count=20": "PRIMARY KEY (param=? AND code=?)",
    "MedicationRequest?patient={patient}&status=active&_include=MedicationRequest:medication"
    "&_include=MedicationRequest:requester&_count=20": "PRIMARY KEY (param=? AND target=?)",
    "Observation?code={code}&value-quantity=gt50&_count=20": "PRIMARY KEY (param=? AND code=?)",
    "Claim?patient={patient}&_count=20": "PRIMARY KEY (param=? AND target=?)",
    "Observation?patient={patient}&_revinclude=DiagnosticReport:result&_count=20": "SEARCH x USING PRIMARY KEY (param=? AND target=?)",
    "{patient}/$everything?_count=100": "(owner=?",
    "{patient}/Observation?code={code}": "PRIMARY KEY (owner=? AND type=?)",
    "Observation?_sort=-_lastUpdated&_count=20": "INDEX resource_type_updated (type=?)",
    "{patient}": "INDEX sqlite_autoindex_resource_1 (type=? AND id=?)",
    "{patient}/_history": "sqlite_autoindex_history_1 (rid=?",
    "Observation/_history?_count=20": "history_type_updated (type=?",
    "_history?_count=20": "resource_updated",
    "Observation/_history?_at=2100&_count=20": "history_type_updated (type=?",
    "_history?_list=plans&_count=20": "reference_rid (rid=? AND param=?",
    "Observation/$lastn?patient={patient}&category=laboratory": "PRIMARY KEY (param=? AND target=?)",
    "Patient/$meta": "PRIMARY KEY (param=?)",
    "Practitioner?_contained=both&name=a&_sort=family&_count=20": "string_rid (rid=? AND param=?",
    "Practitioner?_contained=true&_containedType=contained&_sort=-family,_id&_count=20": "INDEX contained",
}
WALKED_IN_ORDER = {"_history?_count=20": ("resource_updated", "history_updated")}


class Watched(sqlite3.Connection):
    """A connection that notes each statement with its values."""

    def __init__(self, *args, notes, **options):
        super().__init__(*args, **options)
        self.notes = notes

    def execute(self, text, values=()):
        self.notes.append((text, values))
        return super().execute(text, values)

    def executemany(self, text, rows):
        rows = list(rows)
        self.notes += [(text, row) for row in rows[:1]]
        return super().executemany(text, rows)


class World:
    """An application over a store of generated patients, and what it asks the store for."""

    def __init__(self, client, notes, eye, places):
        self.client, self.notes, self.eye, self.places = client, notes, eye, places

    async def plans(self, method, url, **sent):
        """The answer and (statement, its steps) for every statement behind it."""
        self.notes.clear()
        answer = await self.client.request(method, url, **sent)
        assert answer.status_code in (200, 201, 204), answer.text
        asked = [note for note in self.notes if re.match(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|REPLACE)\b", note[0])]
        return answer, [(text, self.steps(text, values)) for text, values in asked]

    def steps(self, text, values):
        return [row[3] for row in self.eye.execute(f"EXPLAIN QUERY PLAN {text}", values)]

    @cached_property
    def large(self):
        names = {row[0] for row in self.eye.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {name for name in names if not name.startswith("sqlite_")} - SMALL

    def scans(self, text, steps):
        """The steps that walk a whole table or index of what grows."""
        called = self.large | {alias for table, alias in NAMED.findall(text) if table in self.large}
        return [step for step in steps if step.startswith("SCAN") and step.split()[1] in called]


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def hospital(folder, statistics):
    notes = []
    watched = SimpleNamespace(
        Error=sqlite3.Error, connect=partial(sqlite3.connect, factory=partial(Watched, notes=notes))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "sqlite3", watched)
        if statistics != "no":
            async with serving(folder) as client:
                await filled(client, 1 if statistics == "early" else PATIENTS)
            with closing(sqlite3.connect(folder / DATABASE)) as connection:
                connection.execute("ANALYZE")
        async with serving(folder) as client:
            if statistics != "late":
                await filled(client)
            with closing(connections.connect(folder / DATABASE, connections.SqliteOptions())) as eye:
                yield World(client, notes, eye, await places(client))


async def filled(client, patients=PATIENTS):
    count = 0
    for body in generate(patients, 7):
        answer = await client.post(client.base_url, content=body, headers=FHIR)
        assert answer.status_code == 200, answer.text
        count += len(answer.json()["entry"])
    assert count > 100 * patients


async def places(client):
    tested = f"Patient?_has:Observation:patient:category=laboratory&_has:Observation:patient:code={WEIGHT}&_count=1"
    found = (await client.get(tested)).json()["entry"][0]["resource"]
    one = next(one for one in found["identifier"] if "value" in one)
    item = {"item": {"reference": f"Patient/{found['id']}"}}
    listed = {"resourceType": "List", "id": "plans", "status": "current", "mode": "working", "entry": [item]}
    assert (await client.put("List/plans", content=json.dumps(listed), headers=FHIR)).status_code == 201
    inside = {"resourceType": "Practitioner", "id": "in", "name": [{"family": "Abel"}]}
    basic = {
        "resourceType": "Basic",
        "id": "plans",
        "code": {"text": "x"},
        "author": {"reference": "#in"},
        "contained": [inside],
    }
    assert (await client.put("Basic/plans", content=json.dumps(basic), headers=FHIR)).status_code == 201
    identifier = quote(f"{one['system']}|{one['value']}", safe="")
    return {"patient": f"Patient/{found['id']}", "identifier": identifier, "code": WEIGHT}


@pytest.fixture(scope="module", params=["no", "early", "late"], ids=lambda when: f"{when} statistics")
async def world(request, anyio_backend, tmp_path_factory):
    async with hospital(tmp_path_factory.mktemp("plans"), request.param) as world:
        yield world


@pytest.mark.parametrize(("shape", "index"), SHAPES.items(), ids=SHAPES)
async def test_a_request_is_answered_over_indexes(world, shape, index):
    answer, plans = await world.plans("GET", shape.format(**world.places))
    if "?" in shape:
        assert answer.json().get("entry"), "a shape that finds nothing shows nothing"
    steps = [step for _, found in plans for step in found]
    assert any(index in step for step in steps), steps
    allowed = WALKED_IN_ORDER.get(shape, ())
    for text, found in plans:
        assert [s for s in world.scans(text, found) if not s.endswith(allowed or "-")] == [], text


@pytest.mark.parametrize(
    "text", ["SELECT * FROM resource", "SELECT 1 FROM type JOIN token AS t9", "DELETE FROM word WHERE place = 1"]
)
def test_a_scan_would_be_noticed(world, text):
    assert world.scans(text, world.steps(text, ()))


OBSERVATION = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    "valueQuantity": {"value": 71.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
}
WRITES = {
    "create": ("POST", "Observation", {}),
    "conditional create": ("POST", "Observation", {"If-None-Exist": "identifier=urn:plans|1&subject={patient}"}),
    "update": ("PUT", "Observation/plans", {}),
    "delete": ("DELETE", "Observation/plans", {}),
}


@pytest.mark.parametrize(("method", "url", "headers"), WRITES.values(), ids=WRITES)
async def test_a_write_scans_nothing(world, method, url, headers):
    resource = {**OBSERVATION, "subject": {"reference": world.places["patient"]}}
    if url.endswith("/plans"):
        resource["id"] = "plans"
    headers = {name: value.format(**world.places) for name, value in headers.items()}
    _, plans = await world.plans(method, url, content=json.dumps(resource), headers={**FHIR, **headers})
    assert any(text.startswith("SELECT") for text, _ in plans)
    assert any(text.startswith(("INSERT INTO token", "DELETE FROM token")) for text, _ in plans)
    assert [(text, found) for text, found in plans if world.scans(text, found)] == []
