"""https://hl7.org/fhir/R4/http.html#cond-update, #3.1.0.7.1 (conditional delete)"""

import asyncio
import json
import uuid

import pytest

from fhir_server.interactions.conditions import RETRIES
from fhir_server.storage.port import Conflict
from fhir_server.storage.sqlite.store import SqliteStore
from tests.http.conftest import FHIR, issue_of, made, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def mark():
    return str(uuid.uuid4())


def identified(mark, **more):
    return {"resourceType": "Patient", "identifier": [{"system": "urn:test", "value": mark}], **more}


def criteria(mark):
    return f"Patient?identifier=urn:test|{mark}"


async def put(client, mark, resource, **headers):
    return await client.put(criteria(mark), content=json.dumps(resource), headers={**FHIR, **headers})


async def found(client, mark):
    answer = await client.get(criteria(mark))
    assert answer.status_code == 200, answer.text
    return [item["resource"] for item in answer.json().get("entry", [])]


# ---- update


async def test_without_match_and_id_it_creates_under_an_id_of_the_server(client, mark):
    answer = await put(client, mark, identified(mark))
    (there,) = await found(client, mark)
    assert (answer.status_code, answer.headers["etag"]) == (201, 'W/"1"')
    assert answer.headers["location"].endswith(f"/Patient/{there['id']}/_history/1")
    assert answer.json() == there


async def test_without_match_and_with_an_id_it_creates_under_that_id(client, mark):
    answer = await put(client, mark, identified(mark, id=f"own-{mark[:8]}"))
    assert (answer.status_code, answer.json()["id"]) == (201, f"own-{mark[:8]}")
    await client.delete(f"Patient/own-{mark[:8]}")
    again = await put(client, mark, identified(mark, id=f"own-{mark[:8]}"))
    assert (again.status_code, again.headers["etag"]) == (201, 'W/"3"')


async def test_without_match_an_id_in_use_is_409(client, mark):
    there = await made(client, identified(f"{mark}-other"))
    answer = await put(client, mark, identified(mark, id=there["id"]))
    assert (answer.status_code, issue_of(answer)["expression"]) == (409, ["Patient.id"])
    assert (await client.get(f"Patient/{there['id']}")).json() == there


@pytest.mark.parametrize("same", [True, False], ids=["the same id", "no id"])
async def test_one_match_is_updated(client, mark, same):
    there = await made(client, identified(mark))
    new = identified(mark, active=True, **({"id": there["id"]} if same else {}))
    answer = await put(client, mark, new)
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    assert answer.headers["location"].endswith(f"/Patient/{there['id']}/_history/2")
    assert (await found(client, mark)) == [answer.json()]
    assert (await put(client, mark, new)).headers["etag"] == 'W/"2"', "identical content makes no new version"


async def test_one_match_and_another_id_is_400(client, mark):
    there = await made(client, identified(mark))
    answer = await put(client, mark, identified(mark, id="another"))
    assert (answer.status_code, issue_of(answer)["expression"]) == (400, ["Patient.id"])
    assert await found(client, mark) == [there]


async def test_several_matches_are_412(client, mark):
    before = [await made(client, identified(mark)) for _ in range(2)]
    answer = await put(client, mark, identified(mark))
    assert (answer.status_code, issue_of(answer)["code"]) == (412, "multiple-matches")
    assert await found(client, mark) == before


@pytest.mark.parametrize(
    ("headers", "with_match", "without"),
    [
        pytest.param({"If-Match": 'W/"1"'}, 200, 412, id="the current version"),
        pytest.param({"If-Match": 'W/"2"'}, 412, 412, id="another version"),
        pytest.param({"If-Match": "*"}, 200, 412, id="any version"),
        pytest.param({"If-None-Match": "*"}, 412, 201, id="no version"),
        pytest.param({"If-None-Match": "*", "If-Match": "*"}, 400, 400, id="both"),
        pytest.param({"If-None-Match": 'W/"1"'}, 400, 400, id="none but a version"),
        pytest.param({"If-Match": "x"}, 400, 400, id="no tag"),
    ],
)
async def test_preconditions_hold_of_the_match(client, mark, headers, with_match, without):
    assert (await put(client, mark, identified(mark), **headers)).status_code == without
    for one in await found(client, mark):
        await client.delete(f"Patient/{one['id']}")
    await made(client, identified(mark))
    assert (await put(client, mark, identified(mark, active=True), **headers)).status_code == with_match


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({"id": ".."}, 400, id="an id that is a folder"),
        pytest.param({"surprise": 1}, 400, id="an unknown element"),
        pytest.param({"resourceType": "Observation"}, 400, id="another type"),
        pytest.param({"meta": {"tag": [{"code": "SUBSETTED"}]}}, 422, id="a reduced resource"),
    ],
)
async def test_a_conditional_update_is_checked_like_an_update(client, mark, change, status):
    answer = await put(client, mark, {**identified(mark), **change})
    assert answer.status_code == status
    assert await found(client, mark) == []


@pytest.mark.parametrize("name", [".", ".."])
async def test_an_id_that_means_a_folder_is_refused(client, patient, name):
    answer = await client.put(
        f"Patient/{name.replace('.', '%2E')}", content=json.dumps({**patient, "id": name}), headers=FHIR
    )
    assert (answer.status_code, issue_of(answer)["code"]) == (400, "value")
    bundle = {"resourceType": "Bundle", "type": "transaction",
              "entry": [{"resource": {**patient, "id": name}, "request": {"method": "PUT", "url": f"Patient/{name}"}}]}  # fmt: skip
    answer = await client.post("", content=json.dumps(bundle), headers=FHIR)
    assert (answer.status_code, issue_of(answer)["code"]) == (400, "value")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    "query",
    ["", "?", "?_count=1", "?unknown-one=1", "?identifier=", "?name=x&_sort=name", "?_format=json", "?birthdate=x"],
)
async def test_criteria_that_say_nothing_are_400(client, patient, method, query):
    body = json.dumps(patient) if method == "PUT" else None
    headers = {**FHIR, "Prefer": "handling=lenient"}
    answer = await client.request(method, f"Patient{query}", content=body, headers=headers)
    assert answer.status_code == 400
    issue_of(answer)


async def test_where_clients_may_not_choose_ids_only_the_server_does(tmp_path, mark):
    async with serving(tmp_path, update_as_create=False) as client:
        assert (await put(client, mark, identified(mark, id="own"))).status_code == 405
        assert (await put(client, mark, identified(mark))).status_code == 201
        assert (await put(client, mark, identified(mark, active=True))).status_code == 200


async def test_parallel_conditional_updates_make_one_resource(client, mark):
    answers = await asyncio.gather(*(put(client, mark, identified(mark, language=f"x-{n}")) for n in range(50)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [*[200] * 49, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(int(answer.json()["meta"]["versionId"]) for answer in answers) == list(range(1, 51))


ENDLESS = [
    pytest.param("PUT", "Patient?identifier=urn:test|x", {"resourceType": "Patient"}, {}, id="conditional update"),
    pytest.param("POST", "Patient", {"resourceType": "Patient"}, {"If-None-Exist": "identifier=urn:test|x"}, id="conditional create"),
    pytest.param("DELETE", "Patient?_id=endless", None, {}, id="conditional delete"),
    pytest.param("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}]}, {}, id="transaction"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "url", "body", "headers"), ENDLESS)
async def test_races_lost_again_and_again_end_with_409_and_when_to_come_back(
    client, monkeypatch, method, url, body, headers
):
    await client.put("Patient/endless", content='{"resourceType":"Patient","id":"endless"}', headers=FHIR)
    tried = []

    async def lost(_store, unit):
        tried.append(unit)
        raise Conflict("guard", None)

    monkeypatch.setattr(SqliteStore, "commit", lost)
    answer = await client.request(method, url, content=json.dumps(body) if body else None, headers={**FHIR, **headers})
    assert (answer.status_code, issue_of(answer)["code"], answer.headers["retry-after"]) == (409, "conflict", "1")
    assert len(tried) == RETRIES


# ---- references that have to be looked up: https://hl7.org/fhir/R4/http.html#trules


def referring(text, **more):
    return {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": text}, **more}


@pytest.mark.parametrize("text", ['"Patient?identifier=a|b"', '"Patient\\u003Fidentifier=a|b"'], ids=["", "escaped"])
@pytest.mark.parametrize("request_line", ["POST Basic", "PUT Basic/refused", "PUT Basic?code=none", "PATCH"])
async def test_a_conditional_reference_outside_a_transaction_is_refused_by_name(client, text, request_line):
    there = await made(client, {"resourceType": "Basic", "code": {"text": "x"}})
    method, _, url = request_line.partition(" ")
    body = json.dumps(referring("#", **({"id": "refused"} if url.endswith("refused") else {}))).replace('"#"', text)
    headers = FHIR
    if method == "PATCH":
        body = f'[{{"op": "add", "path": "/subject", "value": {{"reference": {text}}}}}]'
        url, headers = f"Basic/{there['id']}", {"Content-Type": "application/json-patch+json"}
    answer = await client.request(method, url, content=body, headers=headers)
    assert (answer.status_code, issue_of(answer)["code"]) == (400, "not-supported"), answer.text
    assert issue_of(answer)["expression"] == ["Basic.subject.reference"]
    assert (await client.get("Basic/refused")).status_code == 404
    assert (await client.get(f"Basic/{there['id']}")).json() == there


async def test_a_conditional_reference_in_a_batch_is_refused(client):
    entry = {"resource": referring("Patient?name=x"), "request": {"method": "POST", "url": "Basic"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    (got,) = (await client.post("", content=json.dumps(bundle), headers=FHIR)).json()["entry"]
    assert got["response"]["status"].startswith("400")
    (issue,) = got["response"]["outcome"]["issue"]
    assert issue["expression"] == ["Bundle.entry[0].resource.subject.reference"]


async def test_a_question_mark_elsewhere_is_no_conditional_reference(client):
    url = "http://elsewhere.example.org/find?x=1"
    there = await made(client, referring("Patient/1", identifier=[{"value": "why?"}], implicitRules=url))
    assert there["implicitRules"] == url


# ---- delete


async def test_no_match_is_204(client, mark):
    answer = await client.delete(criteria(mark))
    assert (answer.status_code, "etag" in answer.headers) == (204, False)


async def test_one_match_is_deleted(client, mark):
    there = await made(client, identified(mark))
    answer = await client.delete(criteria(mark))
    assert (answer.status_code, answer.headers["etag"]) == (204, 'W/"2"')
    assert (await client.get(f"Patient/{there['id']}")).status_code == 410
    assert (await client.delete(criteria(mark))).status_code == 204


async def test_several_matches_are_412_and_all_stay(client, mark):
    before = [await made(client, identified(mark)) for _ in range(2)]
    answer = await client.delete(criteria(mark))
    assert (answer.status_code, issue_of(answer)["code"]) == (412, "multiple-matches")
    assert await found(client, mark) == before


@pytest.mark.parametrize(
    ("held", "number", "status"),
    [('W/"1"', 1, 204), ("*", 1, 204), ('W/"2"', 1, 412), ("x", 1, 400), ('W/"1"', 0, 412), ("*", 0, 412)],
)
async def test_if_match_holds_of_the_one_match(client, mark, held, number, status):
    for _ in range(number):
        await made(client, identified(mark))
    answer = await client.delete(criteria(mark), headers={"If-Match": held})
    assert answer.status_code == status
    assert len(await found(client, mark)) == (number if status != 204 else 0)


@pytest.fixture(scope="module")
async def multiple(anyio_backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("multiple")
    async with serving(folder, conditional_delete="multiple", conditional_delete_limit=3) as client:
        yield client


@pytest.mark.parametrize("number", range(4))
async def test_where_several_may_be_deleted_all_matches_are(multiple, mark, number):
    there = [await made(multiple, identified(mark)) for _ in range(number)]
    other = await made(multiple, identified(f"{mark}-other"))
    assert (await multiple.delete(criteria(mark))).status_code == 204
    assert await found(multiple, mark) == []
    assert {(await multiple.get(f"Patient/{one['id']}")).status_code for one in there} <= {410}
    assert (await multiple.get(f"Patient/{other['id']}")).status_code == 200


async def test_more_than_the_limit_is_412_naming_it_and_all_stay(multiple, mark):
    before = [await made(multiple, identified(mark)) for _ in range(4)]
    answer = await multiple.delete(criteria(mark))
    assert (answer.status_code, issue_of(answer)["code"]) == (412, "multiple-matches")
    assert "3" in issue_of(answer)["diagnostics"]
    assert await found(multiple, mark) == before


async def test_if_match_is_about_one_resource(multiple, mark):
    for _ in range(2):
        await made(multiple, identified(mark))
    assert (await multiple.delete(criteria(mark), headers={"If-Match": "*"})).status_code == 412


async def test_parallel_conditional_deletes_write_one_deletion(client, mark):
    there = await made(client, identified(mark))
    answers = await asyncio.gather(*(client.delete(criteria(mark)) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {204}
    assert (await client.get(f"Patient/{there['id']}/_history")).json()["total"] == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, "single"), ({"conditional_delete": "multiple"}, "multiple")],
    ids=["as it comes", "with several allowed"],
)
async def test_the_statement_tells_which_conditions_writes_may_have(tmp_path, options, told):
    async with serving(tmp_path, **options) as client:
        (rest,) = (await client.get("metadata")).json()["rest"]
    names = ("conditionalCreate", "conditionalUpdate", "conditionalDelete")
    assert {tuple(row[name] for name in names) for row in rest["resource"] if row["type"] != "AuditEvent"} == {
        (True, True, told)
    }
