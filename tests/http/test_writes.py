"""https://hl7.org/fhir/R4/http.html#create, #update, #delete"""

import asyncio
import json
import uuid

import pytest

from tests.http.conftest import BASE, FHIR, issue_of, made, serving

pytestmark = pytest.mark.anyio


async def put(client, resource, **headers):
    url = f"{resource['resourceType']}/{resource['id']}"
    return await client.put(url, content=json.dumps(resource), headers={**FHIR, **headers})


async def test_create_answers_201_with_location_and_validators(client, patient):
    answer = await client.post("Patient", content=json.dumps({**patient, "id": "mine"}), headers=FHIR)
    body = answer.json()
    assert answer.status_code == 201
    assert body["id"] != "mine"
    assert body["meta"]["versionId"] == "1"
    assert answer.headers["location"] == f"{BASE}/Patient/{body['id']}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert {name: body[name] for name in patient} == patient


async def test_ids_follow_the_order_of_creation(client, patient):
    ids = [(await made(client, patient))["id"] for _ in range(5)]
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("preference", "body"),
    [
        ("return=minimal", b""),
        ("return=representation", b'"Patient"'),
        ("return=OperationOutcome", b'"OperationOutcome"'),
        ("respond-async, return=minimal", b""),
    ],
)
async def test_prefer_says_what_a_write_answers(client, patient, preference, body):
    answer = await client.post("Patient", content=json.dumps(patient), headers={**FHIR, "Prefer": preference})
    assert answer.status_code == 201
    assert "location" in answer.headers
    assert body in answer.content
    assert bool(answer.content) == bool(body)


async def test_update_makes_the_next_version(client, patient):
    first = await made(client, patient)
    answer = await put(client, {**first, "active": False})
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    assert answer.headers["location"].endswith("/_history/2")
    assert answer.json()["meta"]["lastUpdated"] > first["meta"]["lastUpdated"]


async def test_identical_content_makes_no_version(client, patient):
    first = await made(client, patient)
    answer = await put(client, first)
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"1"')
    assert answer.json() == first


async def test_update_as_create_and_again_after_a_deletion(client, patient):
    resource = {**patient, "id": f"own-{uuid.uuid4()}"}
    assert (await put(client, resource)).status_code == 201
    await client.delete(f"Patient/{resource['id']}")
    again = await put(client, resource)
    assert (again.status_code, again.headers["etag"]) == (201, 'W/"3"')


async def test_update_as_create_can_be_off(tmp_path, patient):
    async with serving(tmp_path, update_as_create=False) as client:
        answer = await put(client, {**patient, "id": "own"})
        assert (answer.status_code, issue_of(answer)["code"]) == (405, "not-supported")
        assert "allow" in answer.headers
        first = await made(client, patient)
        assert (await put(client, {**first, "active": False})).status_code == 200


@pytest.mark.parametrize(
    ("held", "status"),
    [('W/"1"', 200), ('"1"', 200), ("*", 200), ('W/"2"', 412), ('W/"9"', 412), ("1", 400), ("nonsense", 400)],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_if_match_guards_the_version(client, patient, held, status, method):
    first = await made(client, patient)
    if method == "PUT":
        answer = await put(client, {**first, "active": False}, **{"If-Match": held})
    else:
        answer = await client.delete(f"Patient/{first['id']}", headers={"If-Match": held})
    assert answer.status_code == (204 if (method, status) == ("DELETE", 200) else status)
    if status != 200:
        assert (await client.get(f"Patient/{first['id']}")).json() == first


async def test_if_match_on_what_is_not_there_fails(client, patient):
    assert (await put(client, {**patient, "id": f"own-{uuid.uuid4()}"}, **{"If-Match": 'W/"1"'})).status_code == 412


async def test_of_parallel_updates_of_one_version_one_wins(client, patient):
    first = await made(client, patient)
    answers = await asyncio.gather(
        *(put(client, {**first, "birthDate": f"2000-01-{day:02}"}, **{"If-Match": 'W/"1"'}) for day in range(1, 21))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 19]


@pytest.mark.parametrize(
    ("change", "status", "place"),
    [
        pytest.param({"id": "another"}, 400, "Patient.id", id="another id than the URL's"),
        pytest.param({"id": None}, 400, "Patient.id", id="no id"),
        pytest.param({"resourceType": "Observation"}, 400, "resourceType", id="another type than the URL's"),
        pytest.param(
            {
                "meta": {
                    "tag": [
                        {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
                    ]
                }
            },
            422,
            "Patient.meta.tag[0]",
            id="a reduced resource",
        ),
        pytest.param({"surprise": 1}, 400, "Patient.surprise", id="an unknown element"),
    ],
)
async def test_update_refuses(client, patient, change, status, place):
    first = await made(client, patient)
    body = {name: value for name, value in {**first, **change}.items() if value is not None}
    answer = await client.put(f"Patient/{first['id']}", content=json.dumps(body), headers=FHIR)
    assert answer.status_code == status
    assert issue_of(answer)["expression"] == [place]
    assert (await client.get(f"Patient/{first['id']}")).json() == first


async def test_delete_is_204_however_often_and_keeps_the_history(client, patient):
    url = f"Patient/{(await made(client, patient))['id']}"
    assert [(await client.delete(url)).status_code for _ in range(3)] == [204, 204, 204]
    assert (await client.delete("Patient/never-was")).status_code == 204
    assert (await client.get(f"{url}/_history/1")).status_code == 200
    assert (await client.get(f"{url}/_history")).json()["total"] == 2


async def test_parallel_conditional_creates_make_one_resource(client, patient):
    mark = str(uuid.uuid4())
    body = json.dumps({**patient, "identifier": [{"system": "urn:test", "value": mark}]})
    headers = {**FHIR, "If-None-Exist": f"identifier=urn:test|{mark}"}
    answers = await asyncio.gather(*(client.post("Patient", content=body, headers=headers) for _ in range(100)))
    assert sorted(answer.status_code for answer in answers) == [*[200] * 99, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert all("location" in answer.headers for answer in answers)


async def test_a_conditional_create_that_matches_several_is_412(client, patient):
    mark = str(uuid.uuid4())
    body = {**patient, "identifier": [{"system": "urn:test", "value": mark}]}
    await made(client, body)
    await made(client, body)
    headers = {**FHIR, "If-None-Exist": f"identifier=urn:test|{mark}"}
    answer = await client.post("Patient", content=json.dumps(body), headers=headers)
    assert (answer.status_code, issue_of(answer)["code"]) == (412, "multiple-matches")


@pytest.mark.parametrize("criteria", ["", "unknown-one=1", "_count=1", "identifier=", "name=%FF"])
async def test_a_condition_that_says_nothing_is_400(client, patient, criteria):
    answer = await client.post("Patient", content=json.dumps(patient), headers={**FHIR, "If-None-Exist": criteria})
    assert answer.status_code == 400


async def test_if_none_match_creates_and_never_overwrites(client, patient):
    resource = {**patient, "id": f"own-{uuid.uuid4()}"}
    answers = await asyncio.gather(
        *(put(client, {**resource, "birthDate": f"2000-01-{day:02}"}, **{"If-None-Match": "*"}) for day in range(1, 11))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [412] * 9
    assert (await put(client, resource, **{"If-None-Match": 'W/"1"'})).status_code == 400
    await client.delete(f"Patient/{resource['id']}")
    assert (await put(client, resource, **{"If-None-Match": "*"})).status_code == 201


@pytest.mark.parametrize("kind", ["MedicinalProductAuthorization", "SubstanceSpecification"])
@pytest.mark.parametrize(
    "status", [{"text": "Müller"}, {"coding": [{"code": "draft"}]}, {"coding": [{"display": "x"}]}]
)
async def test_a_status_may_be_a_concept(client, kind, status):
    one = await made(client, {"resourceType": kind, "status": status})
    assert (await client.get(f"{kind}/{one['id']}")).json()["status"] == status
