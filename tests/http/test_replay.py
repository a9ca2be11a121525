"""A history Bundle sent to [base] is carried out again: https://hl7.org/fhir/R4/http.html#history"""

import json

import pytest

from tests.http.conftest import FHIR, issue_of, serving

pytestmark = pytest.mark.anyio


def patient(name, **more):
    return {"resourceType": "Patient", "id": name, **more}


def entry(method, url, resource=None, **request):
    return {
        "fullUrl": f"http://other.example.org/fhir/{url.partition('/_history')[0]}",
        **({"resource": resource} if resource else {}),
        "request": {"method": method, "url": url, **request},
        "response": {"status": "200", "lastModified": "2020-01-01T00:00:00Z"},
    }


def bundle(*entries):
    return {"resourceType": "Bundle", "type": "history", "entry": list(entries)}


async def send(client, content, **headers):
    return await client.post("", content=json.dumps(content), headers={**FHIR, **headers})


async def told(client, path):
    """Method, number of the version and resource without it, newest first."""
    answer = await client.get(f"{path}/_history?_count=1000")
    found = []
    for item in answer.json()["entry"]:
        resource = item.get("resource")
        if resource:
            resource = {name: value for name, value in resource.items() if name != "meta"}
        found.append((item["request"]["method"], item["response"]["etag"], resource))
    return found


async def test_the_history_of_a_server_is_carried_out_on_another(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with serving(tmp_path / "a") as one, serving(tmp_path / "b") as other:
        created = (await one.post("Patient", content=json.dumps(patient("x", active=True)), headers=FHIR)).json()
        url = f"Patient/{created['id']}"
        await one.put(url, content=json.dumps({**created, "active": False}), headers=FHIR)
        observation = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": url},
        }
        await one.put("Observation/o", content=json.dumps({**observation, "id": "o"}), headers=FHIR)
        await one.delete(url)
        await one.put(url, content=json.dumps({**created, "birthDate": "2000-01-01"}), headers=FHIR)
        patch = json.dumps([{"op": "add", "path": "/gender", "value": "male"}])
        await one.patch(url, content=patch, headers={"Content-Type": "application/json-patch+json"})
        history = (await one.get("_history?_count=1000")).json()
        answer = await send(other, history)
        assert answer.status_code == 200, answer.text
        assert answer.json()["type"] == "transaction-response"
        assert len(answer.json()["entry"]) == len(history["entry"]) == 6
        for path in (url, "Observation/o"):
            assert await told(other, path) == await told(one, path)
        found = (await other.get(f"Observation?subject={url}&_total=accurate")).json()
        assert found["total"] == 1


async def test_answers_stand_in_the_order_of_the_entries(client):
    content = bundle(
        entry("DELETE", "Patient/replay-a"),
        entry("PUT", "Patient/replay-a/_history/2", patient("replay-a", active=False)),
        entry("POST", "Patient", patient("replay-a", active=True)),
    )
    answer = (await send(client, content)).json()
    got = [(item["response"]["status"], item["response"]["etag"]) for item in answer["entry"]]
    assert got == [("204 No Content", 'W/"3"'), ("200 OK", 'W/"2"'), ("201 Created", 'W/"1"')]


async def test_a_history_goes_on_with_what_is_there_already(client):
    await client.put("Patient/replay-b", content=json.dumps(patient("replay-b")), headers=FHIR)
    answer = await send(client, bundle(entry("PUT", "Patient/replay-b", patient("replay-b", active=True))))
    assert answer.json()["entry"][0]["response"]["etag"] == 'W/"2"'


@pytest.mark.parametrize(
    ("bad", "status", "place"),
    [
        pytest.param(entry("PUT", "Patient/bad", patient("bad", surprise=1)), 400, "resource.surprise", id="a faulty version"),
        pytest.param(entry("PUT", "Patient/bad", patient("other")), 400, "resource.id", id="another id"),
        pytest.param(entry("PUT", "Patient/bad", {"resourceType": "Patient"}), 400, "resource.id", id="no id"),
        pytest.param(entry("POST", "Patient", patient("..")), 400, "resource.id", id="an id that is a folder"),
        pytest.param(entry("PUT", "Patient/bad"), 400, "resource", id="no resource"),
        pytest.param(entry("PUT", "Observation/bad", patient("bad")), 400, "resource.resourceType", id="another type"),
        pytest.param(entry("PUT", "Patient?name=x", patient("bad")), 400, "request", id="criteria"),
        pytest.param(entry("POST", "Patient", patient("bad"), ifNoneExist="name=x"), 400, "request", id="a condition"),
        pytest.param(entry("DELETE", "Patient"), 400, "request.url", id="a deletion of nothing"),
        pytest.param(entry("DELETE", "Nonsense/1"), 400, "request.url", id="an unknown type"),
        pytest.param(entry("PUT", "Patient/_search", patient("bad")), 400, "request.url", id="a URL of no resource"),
        pytest.param(entry("GET", "Patient/bad"), 400, "request.method", id="a read"),
        pytest.param(entry("PUT", "Patient/bad", patient("bad", meta={"tag": [{"code": "SUBSETTED"}]})), 422, "resource.meta.tag[0]", id="a reduced version"),
    ],
)  # fmt: skip
async def test_a_history_that_cannot_be_carried_out_changes_nothing(client, bad, status, place):
    answer = await send(client, bundle(bad, entry("PUT", "Patient/replay-c", patient("replay-c"))))
    assert answer.status_code == status, answer.text
    assert issue_of(answer)["expression"] == [f"Bundle.entry[0].{place}"]
    assert (await client.get("Patient/replay-c")).status_code == 404


async def test_where_clients_may_not_choose_ids_no_unknown_one_is_taken(tmp_path):
    async with serving(tmp_path, update_as_create=False) as client:
        assert (await send(client, bundle(entry("POST", "Patient", patient("x"))))).status_code == 405
