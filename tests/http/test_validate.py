"""https://hl7.org/fhir/R4/resource-operation-validate.html: what a write would be told, without the write."""

import json
from pathlib import Path

import pytest

from resources.definitions import load
from tests.http.conftest import FHIR, issue_of, made, serving

pytestmark = pytest.mark.anyio
FAULTS = json.loads((Path(__file__).parents[1] / "cases" / "validation_faults.json").read_text("utf-8"))
PROFILE = "http://example.org/StructureDefinition/p"
BASE_PROFILE = "http://hl7.org/fhir/StructureDefinition/Patient"


def parameters(resource=None, **others):
    rows = [{"name": name, "valueCode" if name == "mode" else "valueUri": value} for name, value in others.items()]
    if resource is not None:
        rows.append({"name": "resource", "resource": resource})
    return {"resourceType": "Parameters", "parameter": rows}


async def asked(client, url, body, **headers):
    """The issues that $validate tells, as (severity, code, first expression)."""
    answer = await client.post(url, content=json.dumps(body), headers=FHIR | headers)
    assert answer.status_code == 200, answer.text
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    return [(one["severity"], one["code"], *one.get("expression", ())) for one in outcome["issue"]]


FINE = [("information", "informational")]


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in FAULTS])
async def test_the_faults_are_those_of_a_create(client, case):
    resource = case["resource"]
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or not load().is_resource(kind) or kind == "Parameters":
        kind = "Patient"
    refused = await client.post(kind, content=json.dumps(resource), headers=FHIR)
    told = await client.post(f"{kind}/$validate", content=json.dumps(parameters(resource)), headers=FHIR)
    assert told.status_code == 200, told.text
    if refused.status_code == 201:
        assert told.json()["issue"][0]["severity"] in ("information", "warning")
    elif refused.status_code in (400, 422) and resource.get("resourceType") == kind:
        assert told.json()["issue"] == refused.json()["issue"]
    else:
        assert told.json()["issue"][0]["severity"] == "error"


@pytest.mark.parametrize("mode", [{}, {"mode": "create"}], ids=["no mode", "create"])
@pytest.mark.parametrize("bare", [True, False], ids=["a bare resource", "in Parameters"])
async def test_a_good_resource_is_told_so_and_not_kept(client, patient, mode, bare):
    before = (await client.get("_history?_count=0")).json()["total"]
    if bare:
        query = "".join(f"?{name}={value}" for name, value in mode.items())
        assert await asked(client, f"Patient/$validate{query}", patient) == FINE
    else:
        assert await asked(client, "Patient/$validate", parameters(patient, **mode)) == FINE
    assert (await client.get("_history?_count=0")).json()["total"] == before


async def test_a_resource_of_another_type_is_a_fault(client, patient):
    assert await asked(client, "Observation/$validate", patient) == [("error", "invalid", "resourceType")]


async def test_an_update_is_judged_with_what_is_there(client, patient):
    stored = await made(client, patient)
    url = f"Patient/{stored['id']}/$validate?mode=update"
    assert await asked(client, url, stored) == FINE
    assert await asked(client, url, patient) == [("error", "invalid", "Patient.id")]
    assert await asked(client, url, {**stored, "id": "x"}) == [("error", "invalid", "Patient.id")]
    subsetted = {**stored, "meta": {"tag": [{"code": "SUBSETTED"}]}}
    assert await asked(client, url, subsetted) == [("error", "business-rule", "Patient.meta.tag[0]")]
    assert await asked(client, url, stored, **{"If-Match": 'W/"1"'}) == FINE
    assert await asked(client, url, stored, **{"If-Match": 'W/"2"'}) == [("error", "conflict")]
    assert await asked(client, url, stored, **{"If-None-Match": "*"}) == [("error", "conflict")]
    both = await asked(client, url, {**patient, "foo": 1})
    assert both == [("error", "structure", "Patient.foo"), ("error", "invalid", "Patient.id")]
    assert (await client.get(f"Patient/{stored['id']}")).headers["etag"] == 'W/"1"'


async def test_an_update_may_create(client, patient):
    assert await asked(client, "Patient/not-yet/$validate?mode=update", {**patient, "id": "not-yet"}) == FINE


async def test_a_deletion_is_judged_with_what_is_there(client, patient):
    stored = await made(client, patient)
    url = f"Patient/{stored['id']}/$validate?mode=delete"
    assert (await client.get(url)).json()["issue"][0]["severity"] == "information"
    assert await asked(client, url.partition("?")[0], parameters(mode="delete")) == FINE
    answer = await client.get(url, headers={"If-Match": 'W/"7"'})
    assert (answer.status_code, issue_of(answer)["severity"]) == (200, "error")
    await client.delete(f"Patient/{stored['id']}")
    assert issue_of(await client.get(url))["severity"] == "warning"
    assert (await client.get(f"Patient/{stored['id']}")).status_code == 410


async def test_a_claimed_profile_is_told_to_be_unchecked(client, patient):
    claiming = {**patient, "meta": {"profile": [BASE_PROFILE, PROFILE]}}
    assert await asked(client, "Patient/$validate", claiming) == [
        ("warning", "not-supported", "Patient.meta.profile[1]")
    ]


@pytest.mark.parametrize("profile", [BASE_PROFILE, f"{BASE_PROFILE}|4.0.1"])
async def test_the_specification_s_own_profile_may_be_named(client, patient, profile):
    assert await asked(client, "Patient/$validate", parameters(patient, profile=profile)) == FINE


@pytest.mark.parametrize(
    ("url", "body", "code", "told"),
    [
        pytest.param("Patient/$validate", {"resourceType": "Parameters"}, "required", "resource", id="no resource"),
        pytest.param("Patient/$validate", None, "required", "resource", id="nothing"),
        pytest.param("Patient/$validate?mode=x", {"resourceType": "Patient"}, "not-supported", "mode=x", id="no mode"),
        pytest.param(
            "Patient/$validate?mode=profile", {"resourceType": "Patient"}, "not-supported", "mode=profile",
            id="mode profile",
        ),
        pytest.param(
            "Patient/$validate?mode=update", {"resourceType": "Patient"}, "invalid", "Patient/[id]/$validate",
            id="an update of no resource",
        ),
        pytest.param("Patient/$validate?mode=delete", None, "invalid", "mode=delete", id="a deletion of no resource"),
        pytest.param(
            "Patient/$validate", parameters({"resourceType": "Patient"}, profile=PROFILE), "not-supported", PROFILE,
            id="another profile",
        ),
        pytest.param(
            "Patient/$validate?mode=create&mode=update", {"resourceType": "Patient"}, "invalid", "mode is given twice",
            id="two modes",
        ),
    ],
)  # fmt: skip
async def test_a_call_that_cannot_be_carried_out_is_named(client, url, body, code, told):
    answer = await client.post(url, content=None if body is None else json.dumps(body), headers=FHIR)
    assert (answer.status_code, issue_of(answer)["code"]) == (400, code)
    assert told in issue_of(answer)["diagnostics"]


async def test_what_is_no_json_is_400(client):
    assert (await client.post("Patient/$validate", content=b"{", headers=FHIR)).status_code == 400


async def test_references_are_judged_as_a_write_judges_them(tmp_path, patient):
    async with serving(tmp_path, referential_integrity=True) as client:
        about = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "Patient/nobody"}}
        fault = [("error", "not-found", "Basic.subject.reference")]
        assert await asked(client, "Basic/$validate", about) == FINE
        assert await asked(client, "Basic/$validate?mode=create", about) == fault
        assert await asked(client, "Basic/b/$validate?mode=update", {**about, "id": "b"}) == fault
        stored = await made(client, patient)
        url = f"Patient/{stored['id']}/$validate?mode=delete"
        assert (await client.get(url)).json()["issue"][0]["severity"] == "information"
        await made(client, {**about, "subject": {"reference": f"Patient/{stored['id']}"}})
        assert issue_of(await client.get(url))["code"] == "conflict"


async def test_a_conditional_reference_is_told_as_a_write_tells_it(client):
    about = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "Patient?name=x"}}
    refused = await client.post("Basic", content=json.dumps(about), headers=FHIR)
    told = await client.post("Basic/$validate?mode=create", content=json.dumps(about), headers=FHIR)
    assert told.json()["issue"] == refused.json()["issue"]
