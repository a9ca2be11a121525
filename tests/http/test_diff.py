"""$diff: a FHIRPath Patch between two versions or two resources."""

import json
import uuid

import pytest

from tests.http.conftest import BASE, FHIR, issue_of, made

pytestmark = pytest.mark.anyio


@pytest.fixture
async def history(client, patient):
    """The id of a Patient with three versions."""
    first = await made(client, patient)
    for change in ({"active": False}, {"active": False, "birthDate": "1930", "meta": {"tag": [{"code": "x"}]}}):
        body = {**first, **change}
        assert (await client.put(f"Patient/{first['id']}", content=json.dumps(body), headers=FHIR)).status_code == 200
    return first["id"]


def told(answer):
    """The operations in short form."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["resourceType"] == "Parameters"
    return [
        tuple(value for part in one["part"] for name, value in part.items() if name != "name")
        for one in body.get("parameter", [])
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", [("add", "Patient", "birthDate", "1930")], id="from the version before"),
        pytest.param("?fromVersion=3", [], id="from the current version"),
        pytest.param(
            "?fromVersion=1", [("replace", "Patient.active", False), ("add", "Patient", "birthDate", "1930")], id="from the first"
        ),
        pytest.param(
            "?includeMeta=true",
            [("add", "Patient.meta", "tag", {"code": "x"}), ("add", "Patient", "birthDate", "1930")],
            id="with meta",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_difference_of_versions(client, history, query, expected, method):
    assert told(await client.request(method, f"Patient/{history}/$diff{query}")) == expected


async def test_the_difference_is_a_patch_that_the_server_takes(client, history):
    patch = await client.get(f"$diff?from=Patient/{history}&to=Patient/{history}/_history/1&includeMeta=true")
    answer = await client.patch(f"Patient/{history}", content=patch.content, headers=FHIR)
    assert answer.status_code == 200, answer.text
    first = (await client.get(f"Patient/{history}/_history/1")).json()
    assert {**answer.json(), "meta": None} == {**first, "meta": None}
    assert "tag" not in answer.json()["meta"]


async def test_the_difference_of_two_resources(client, patient):
    one, other = await made(client, patient), await made(client, {**patient, "gender": "male"})
    expected = [("replace", "Patient.id", other["id"]), ("add", "Patient", "gender", "male")]
    assert told(await client.get(f"$diff?from=Patient/{one['id']}&to={BASE}/Patient/{other['id']}")) == expected
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "from", "valueUri": f"Patient/{one['id']}"},
            {"name": "to", "valueUri": f"Patient/{other['id']}/_history/1"},
        ],
    }
    assert told(await client.post("$diff", content=json.dumps(body), headers=FHIR)) == expected


@pytest.mark.parametrize(
    ("url", "status"),
    [
        pytest.param("Patient/never/$diff", 404, id="a resource that never was"),
        pytest.param("Patient/{id}/$diff?fromVersion=9", 404, id="a version that never was"),
        pytest.param("Patient/{id}/$diff?fromVersion=x", 400, id="a version that is no number"),
        pytest.param("Patient/{id}/$diff?from=Patient/1", 400, id="from on one resource"),
        pytest.param("Patient/{id}/$diff?nonsense=1", 400, id="an unknown parameter"),
        pytest.param("Patient/{id}/$diff?includeMeta=maybe", 400, id="neither true nor false"),
        pytest.param("Patient/$diff", 404, id="on a type"),
        pytest.param("$diff", 400, id="neither from nor to"),
        pytest.param("$diff?from=Patient/{id}", 400, id="no to"),
        pytest.param("$diff?from=Patient/{id}&to=Patient/{id}&fromVersion=1", 400, id="fromVersion on the server"),
        pytest.param("$diff?from=Patient/{id}&to=nonsense", 400, id="to that is no reference"),
        pytest.param("$diff?from=Patient/{id}&to=Patient/{id}/_history/x", 400, id="a version that is no number here"),
        pytest.param("$diff?from=Patient/{id}&to=Nonsense/1", 400, id="an unknown type"),
        pytest.param("$diff?from=Patient/{id}&to=https://elsewhere.example.org/Patient/1", 400, id="elsewhere"),
        pytest.param("$diff?from=Patient/{id}&to=Patient/never", 404, id="to that never was"),
        pytest.param("$diff?from=Patient/{id}&to=Patient/{id}/_history/" + "9" * 40, 404, id="an endless version"),
    ],
)
async def test_a_difference_that_cannot_be_told(client, history, url, status):
    answer = await client.get(url.format(id=history))
    assert answer.status_code == status, answer.text
    assert issue_of(answer)["diagnostics"]


async def test_other_types_are_refused_and_deletions_gone(client, patient):
    one = await made(client, patient)
    basic = await made(client, {"resourceType": "Basic", "code": {"text": str(uuid.uuid4())}})
    answer = await client.get(f"$diff?from=Patient/{one['id']}&to=Basic/{basic['id']}")
    assert (answer.status_code, issue_of(answer)["code"]) == (400, "invalid")
    await client.delete(f"Patient/{one['id']}")
    assert (await client.get(f"Patient/{one['id']}/$diff")).status_code == 410


async def test_the_only_version_has_none_before_it(client, patient):
    one = await made(client, patient)
    assert (await client.get(f"Patient/{one['id']}/$diff")).status_code == 404


async def test_its_definition_is_served(client):
    answer = await client.get("OperationDefinition/Resource-diff")
    assert (answer.status_code, answer.json()["code"]) == (200, "diff")
