"""Every shape of query is run over an index: the plan of each statement names it, and nothing is scanned but what is walked in order."""

import json
import re

import pytest

from tests.http.conftest import FHIR, serving

pytestmark = pytest.mark.anyio

SHAPES = [
    ("Patient?name=a", "PRIMARY KEY (param=? AND folded>? AND folded<?)"),
    ("Patient?name:contains=a", "PRIMARY KEY (param=?)"),
    ("Patient?name:exact=A", "PRIMARY KEY (param=? AND folded=?)"),
    ("Patient?identifier=s|1", "PRIMARY KEY (param=? AND code=?)"),
    ("Patient?gender=male&birthdate=1990", "COVERING INDEX date_rid (rid=? AND param=?"),
    ("Patient?birthdate=gt1990", "date_wide (param=? AND high>?)"),
    ("Patient?gender:not=male", "INDEX live (type=?)"),
    ("Patient?gender:missing=true", "token_rid (rid=? AND param=?)"),
    ("Patient?_id=p1", "INDEX sqlite_autoindex_resource_1 (type=? AND id=?)"),
    ("Patient?_lastUpdated=gt2020", "resource_type_updated (type=? AND updated>?)"),
    ("Patient?organization=Organization/o1", "PRIMARY KEY (param=? AND target=?)"),
    ("Patient?organization.name=a", "PRIMARY KEY (param=? AND target=?)"),
    ("Patient?_has:Observation:patient:code=c", "reference_rid (rid=? AND param=?)"),
    ("Patient?_has:Observation:patient:code:not=c", "PRIMARY KEY (param=? AND target=?)"),
    ("Patient?_sort=birthdate", "date_rid (rid=? AND param=?"),
    ("Patient?_sort=-family,_id", "string_rid (rid=? AND param=?"),
    ("Patient?_filter=name ew a and birthdate po 1990", "date_rid (rid=? AND param=?"),
    ("Observation?code=c&date=2020", "date_rid (rid=? AND param=?"),
    ("Observation?code-value-quantity=c$gt5", "quantity_rid (rid=? AND param=?"),
    ("Observation?component-code-value-quantity=c$gt5", "quantity_rid (rid=? AND param=?"),
    ("Observation?value-quantity=5|http://unitsofmeasure.org|mg", "PRIMARY KEY (param=? AND low>? AND low<?)"),
    ("Observation?patient.organization.name=a", "PRIMARY KEY (param=? AND target=?)"),
    ("Observation?subject:identifier=s|1", "PRIMARY KEY (param=? AND code=?)"),
    ("ValueSet?url=http://a.org/v", "PRIMARY KEY (param=? AND value=?)"),
    ("ValueSet?url:below=http://a.org/v", "PRIMARY KEY (param=? AND value>? AND value<?)"),
    ("QuestionnaireResponse?questionnaire.title=a", "PRIMARY KEY (param=? AND value=?)"),
    ("RiskAssessment?probability=gt0.5", "PRIMARY KEY (param=? AND low>?)"),
    ("Observation?code:text=a", "PRIMARY KEY (param=? AND code=?)"),
    ("Observation?code:text=a&patient=Patient/p1", "token_rid (rid=? AND param=?)"),
    ("Patient?organization:text=a", "PRIMARY KEY (param=? AND target=?)"),
    ("Observation?code:in=http://hl7.org/fhir/ValueSet/administrative-gender", "PRIMARY KEY (param=? AND code=?)"),
    ("Observation?code:not-in=http://hl7.org/fhir/ValueSet/administrative-gender", "m USING PRIMARY KEY (value_set=?"),
    ("Encounter?class:below=http://terminology.hl7.org/CodeSystem/v3-ActCode|IMP", "PRIMARY KEY (param=? AND code=?)"),
    (
        "Encounter?class:above=http://terminology.hl7.org/CodeSystem/v3-ActCode|ACUTE",
        "subsumption_code (system=? AND code=?)",
    ),
    ("DocumentReference?contenttype:below=image", "PRIMARY KEY (param=? AND code>? AND code<?)"),
    ("Patient?identifier:of-type=s|c|1", "PRIMARY KEY (param=? AND code=?)"),
    ("Encounter?location:below=Location/l", "PRIMARY KEY (param=? AND target=?)"),
    ("Location?near=1|2", "PRIMARY KEY (param=? AND latitude>? AND latitude<?)"),
    ("Patient?_list=l", "reference_rid (rid=? AND param=?)"),
    ("Patient/p1/Observation?code=c", "PRIMARY KEY (owner=? AND type=?)"),
]
WALKED = re.compile(
    r"SCAN (s|\(subquery-\d+\)|m|j|json_each.*|.* USING (COVERING )?INDEX .*|f|h|t\d+|.* VIRTUAL TABLE INDEX .*|CONSTANT ROW)$"
)


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def client(anyio_backend, tmp_path_factory):
    async with serving(tmp_path_factory.mktemp("plans")) as client:
        for resource in (
            {"resourceType": "Organization", "id": "o1", "name": "a"},
            {"resourceType": "Patient", "id": "p1", "name": [{"family": "A"}], "birthDate": "1990", "gender": "male",
             "identifier": [{"system": "s", "value": "1"}], "managingOrganization": {"reference": "Organization/o1"}},
            {"resourceType": "Observation", "id": "b1", "status": "final", "code": {"coding": [{"code": "c"}]}, "effectiveDateTime": "2020",
             "subject": {"reference": "Patient/p1"}, "component": [{"code": {"coding": [{"code": "d"}]}, "valueQuantity": {"value": 6}}]},
            {"resourceType": "ValueSet", "id": "v1", "status": "draft", "url": "http://a.org/v"},
        ):  # fmt: skip
            answer = await client.put(
                f"{resource['resourceType']}/{resource['id']}", content=json.dumps(resource), headers=FHIR
            )
            assert answer.status_code == 201, answer.text
        yield client


@pytest.mark.parametrize(("query", "index"), SHAPES, ids=[query for query, _ in SHAPES])
async def test_a_search_is_run_over_an_index(client, query, index):
    answer = await client.get(f"{query}{'&' if '?' in query else '?'}_explain=true")
    assert answer.status_code == 200, answer.text
    outcomes = [entry["resource"] for entry in answer.json()["entry"] if entry["search"]["mode"] == "outcome"]
    plans = [issue["diagnostics"].partition(" -- ")[2] for one in outcomes for issue in one["issue"]]
    steps = [step for plan in plans if plan for step in plan.split("; ")]
    assert steps
    assert any(index in step for step in steps), steps
    for step in steps:
        if step.startswith("SCAN"):
            assert WALKED.match(step), step
