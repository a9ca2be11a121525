"""https://hl7.org/fhir/R4/http.html#read, #vread, #cread"""

import json

import pytest

from tests.http.conftest import BASE, FHIR, issue_of, made

pytestmark = pytest.mark.anyio


async def test_a_read_answers_the_current_version_with_its_validators(client, patient):
    created = await made(client, patient)
    answer = await client.get(f"Patient/{created['id']}")
    assert answer.status_code == 200
    assert answer.json() == created
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["last-modified"].endswith("GMT")
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"


async def test_head_answers_what_get_does_without_the_body(client, patient):
    url = f"Patient/{(await made(client, patient))['id']}"
    got, head = await client.get(url), await client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    same = ("etag", "last-modified", "content-type", "content-length")
    assert [head.headers[name] for name in same] == [got.headers[name] for name in same]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"If-None-Match": 'W/"1"'}, 304, id="the version the client holds"),
        pytest.param({"If-None-Match": '"1"'}, 304, id="comparison is weak"),
        pytest.param({"If-None-Match": 'W/"7", W/"1"'}, 304, id="one of several"),
        pytest.param({"If-None-Match": "*"}, 304, id="any version"),
        pytest.param({"If-None-Match": 'W/"2"'}, 200, id="another version"),
        pytest.param({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304, id="not modified since"),
        pytest.param({"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 200, id="modified since"),
        pytest.param({"If-Modified-Since": "yesterday"}, 200, id="a bad date is no condition"),
        pytest.param(
            {"If-None-Match": 'W/"2"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200, id="the tag decides"
        ),
    ],
)
async def test_conditional_reads(client, patient, headers, status):
    answer = await client.get(f"Patient/{(await made(client, patient))['id']}", headers=headers)
    assert answer.status_code == status
    assert answer.headers["etag"] == 'W/"1"'
    assert (answer.content == b"") == (status == 304)


async def test_what_never_was_is_404_and_what_was_deleted_410(client, patient):
    assert issue_of(await client.get("Patient/never"))["code"] == "not-found"
    name = (await made(client, patient))["id"]
    assert (await client.delete(f"Patient/{name}")).status_code == 204
    gone = await client.get(f"Patient/{name}")
    assert (gone.status_code, issue_of(gone)["code"], gone.headers["etag"]) == (410, "deleted", 'W/"2"')


async def test_vread_answers_each_version(client, patient):
    first = await made(client, patient)
    url = f"Patient/{first['id']}"
    second = (await client.put(url, content=json.dumps({**first, "active": False}), headers=FHIR)).json()
    await client.delete(url)
    assert (await client.get(f"{url}/_history/1")).json() == first
    answer = await client.get(f"{url}/_history/2")
    assert answer.json() == second
    assert answer.headers["etag"] == 'W/"2"'
    assert (await client.get(f"{url}/_history/3")).status_code == 410
    for wrong in ("4", "0", "-1", "x", "1.0", "99999999999999999999999", "²"):
        assert (await client.get(f"{url}/_history/{wrong}")).status_code == 404, wrong


async def test_pretty_and_format_shape_the_answer(client, patient):
    created = await made(client, patient)
    url = f"Patient/{created['id']}"
    pretty = await client.get(url, params={"_pretty": "true", "_format": "json"})
    assert pretty.json() == created
    assert b'\n  "id"' in pretty.content
    assert b"\n" not in (await client.get(url, params={"_pretty": "false"})).content
    assert (await client.get(url, params={"_pretty": "maybe"})).status_code == 400


@pytest.mark.parametrize("query", ["_summary=count", "_elements=nonsense", "name=x"])
async def test_a_read_refuses_parameters_it_does_not_know(client, patient, query):
    url = f"Patient/{(await made(client, patient))['id']}"
    answer = await client.get(f"{url}?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in issue_of(answer)["diagnostics"]


async def test_the_base_is_the_public_url_whatever_host_says(client, patient):
    answer = await client.post(
        "Patient", content=json.dumps(patient), headers={**FHIR, "Host": "evil.example.org", "X-Forwarded-Host": "evil"}
    )
    assert answer.headers["location"] == f"{BASE}/Patient/{answer.json()['id']}/_history/1"
