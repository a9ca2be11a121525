"""https://hl7.org/fhir/R4/resource-operation-meta.html, -meta-add.html, -meta-delete.html"""

import asyncio
import json

import pytest

from fhir_server.operations import labels
from tests.http.conftest import BASE, FHIR, issue_of, made, serving

pytestmark = pytest.mark.anyio

PROFILE = "http://example.org/StructureDefinition/p"
RED = {"system": "http://example.org/colour", "code": "red"}
BLUE = {"system": "http://example.org/colour", "code": "blue"}
SECRET = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}


def given(**labels):
    return json.dumps({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": labels}]})


async def labelled(client, patient, **labels):
    return (await made(client, {**patient, "meta": labels} if labels else patient))["id"]


async def change(client, name, operation, **labels):
    answer = await client.post(f"Patient/{name}/${operation}", content=given(**labels), headers=FHIR)
    assert answer.status_code == 200, answer.text
    return answer


def returned(answer):
    body = answer.json()
    assert body["resourceType"] == "Parameters"
    (parameter,) = body["parameter"]
    assert parameter["name"] == "return"
    return parameter["valueMeta"]


async def test_the_meta_of_a_resource_is_what_reading_it_gives(client, patient):
    name = await labelled(client, patient, tag=[RED], profile=[PROFILE])
    read = await client.get(f"Patient/{name}")
    for answer in (await client.get(f"Patient/{name}/$meta"), await client.post(f"Patient/{name}/$meta")):
        assert returned(answer) == read.json()["meta"]
        assert answer.headers["etag"] == read.headers["etag"]


async def test_the_meta_of_a_version_is_the_version_s(client, patient):
    name = await labelled(client, patient, tag=[RED])
    await change(client, name, "meta-add", tag=[BLUE])
    assert returned(await client.get(f"Patient/{name}/_history/1/$meta"))["tag"] == [RED]
    assert returned(await client.get(f"Patient/{name}/_history/2/$meta"))["tag"] == [RED, BLUE]
    assert (await client.get(f"Patient/{name}/_history/3/$meta")).status_code == 404
    assert (await client.get(f"Patient/{name}/_history/x/$meta")).status_code == 404


@pytest.mark.parametrize(
    ("before", "labels", "after"),
    [
        pytest.param({}, {"tag": [RED]}, {"tag": [RED]}, id="a first tag"),
        pytest.param({"tag": [RED]}, {"tag": [BLUE, RED]}, {"tag": [RED, BLUE]}, id="a tag that is there comes once"),
        pytest.param(
            {"tag": [RED]}, {"tag": [{**RED, "display": "Red", "version": "2"}]}, {"tag": [RED]},
            id="version and display tell no tags apart",
        ),
        pytest.param(
            {"tag": [RED]}, {"tag": [{"code": "red"}]}, {"tag": [RED, {"code": "red"}]}, id="the system tells tags apart"
        ),
        pytest.param({}, {"tag": [RED, RED]}, {"tag": [RED]}, id="given twice"),
        pytest.param(
            {"tag": [RED]}, {"security": [SECRET], "profile": [PROFILE]},
            {"profile": [PROFILE], "security": [SECRET], "tag": [RED]}, id="all kinds of labels",
        ),
        pytest.param({"profile": [PROFILE]}, {"profile": [PROFILE]}, {"profile": [PROFILE]}, id="a profile that is there"),
        pytest.param({}, {"source": "urn:x", "versionId": "9", "tag": [RED]}, {"tag": [RED]}, id="what is no label"),
    ],
)  # fmt: skip
async def test_labels_are_added_as_sets(client, patient, before, labels, after):
    name = await labelled(client, patient, **before)
    answer = await change(client, name, "meta-add", **labels)
    stored = (await client.get(f"Patient/{name}")).json()
    assert returned(answer) == stored["meta"]
    assert {key: value for key, value in stored["meta"].items() if key not in ("versionId", "lastUpdated")} == after
    assert stored["meta"]["versionId"] == ("1" if before == after else "2")
    assert {key: stored[key] for key in patient} == patient


@pytest.mark.parametrize(
    ("before", "labels", "after"),
    [
        pytest.param({"tag": [RED, BLUE]}, {"tag": [RED]}, {"tag": [BLUE]}, id="one of two tags"),
        pytest.param({"tag": [RED]}, {"tag": [RED]}, {}, id="the last tag"),
        pytest.param({"tag": [RED]}, {"tag": [BLUE]}, {"tag": [RED]}, id="what is not there"),
        pytest.param(
            {"tag": [{**RED, "display": "Red"}]}, {"tag": [{**RED, "display": "Rouge"}]}, {}, id="display does not count"
        ),
        pytest.param(
            {"profile": [PROFILE], "security": [SECRET]}, {"profile": [PROFILE]}, {"security": [SECRET]}, id="a profile"
        ),
    ],
)  # fmt: skip
async def test_labels_are_deleted_from_sets(client, patient, before, labels, after):
    name = await labelled(client, patient, **before)
    answer = await change(client, name, "meta-delete", **labels)
    stored = (await client.get(f"Patient/{name}")).json()
    assert returned(answer) == stored["meta"]
    assert {key: value for key, value in stored["meta"].items() if key not in ("versionId", "lastUpdated")} == after


async def test_a_change_of_labels_is_a_version_that_is_found_by_them(client, patient):
    name = await labelled(client, patient)
    code = {"system": "http://example.org/ward", "code": "w7"}
    answer = await change(client, name, "meta-add", tag=[code])
    assert answer.headers["location"] == f"{BASE}/Patient/{name}/_history/2"
    assert answer.headers["etag"] == 'W/"2"'
    found = (await client.get("Patient?_tag=http://example.org/ward|w7")).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == [name]
    entries = (await client.get(f"Patient/{name}/_history")).json()["entry"]
    assert [(e["request"]["method"], e["response"]["status"][:3]) for e in entries] == [("PUT", "200"), ("POST", "201")]
    await change(client, name, "meta-delete", tag=[code])
    assert "entry" not in (await client.get("Patient?_tag=http://example.org/ward|w7")).json()


async def test_numbers_keep_their_tokens(client):
    body = '{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"urn:x","valueDecimal":1.00}]}'
    name = (await client.post("Basic", content=body, headers=FHIR)).json()["id"]
    answer = await client.post(f"Basic/{name}/$meta-add", content=given(tag=[RED]), headers=FHIR)
    assert answer.status_code == 200
    assert '"valueDecimal":1.00' in (await client.get(f"Basic/{name}")).text


async def test_parallel_additions_are_all_kept(client, patient):
    name = await labelled(client, patient)
    await asyncio.gather(*(change(client, name, "meta-add", tag=[{"code": f"t{n}"}]) for n in range(6)))
    stored = (await client.get(f"Patient/{name}")).json()
    assert {tag["code"] for tag in stored["meta"]["tag"]} == {f"t{n}" for n in range(6)}
    assert stored["meta"]["versionId"] == "7"


async def test_if_match_is_kept(client, patient):
    name = await labelled(client, patient)
    url, body = f"Patient/{name}/$meta-add", given(tag=[RED])
    answer = await client.post(url, content=body, headers={**FHIR, "If-Match": 'W/"2"'})
    assert (answer.status_code, issue_of(answer)["code"]) == (412, "conflict")
    assert (await client.post(url, content=body, headers={**FHIR, "If-Match": 'W/"1"'})).status_code == 200


async def test_the_current_version_may_be_named_and_no_other(client, patient):
    name = await labelled(client, patient)
    await change(client, name, "meta-add", tag=[RED])
    old = await client.post(f"Patient/{name}/_history/1/$meta-add", content=given(tag=[BLUE]), headers=FHIR)
    assert (old.status_code, issue_of(old)["code"]) == (409, "conflict")
    new = await client.post(f"Patient/{name}/_history/2/$meta-delete", content=given(tag=[RED]), headers=FHIR)
    assert "tag" not in returned(new)


@pytest.mark.parametrize("call", ["$meta", "$meta-add", "$meta-delete"])
async def test_of_what_is_not_there(client, patient, call):
    name = await labelled(client, patient)
    await client.delete(f"Patient/{name}")
    body = given(tag=[RED]) if call != "$meta" else None
    assert (await client.post(f"Patient/nobody/{call}", content=body, headers=FHIR)).status_code == 404
    assert (await client.post(f"Patient/{name}/{call}", content=body, headers=FHIR)).status_code == 410


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        pytest.param(None, 400, "the parameter meta of $meta-add is missing", id="nothing"),
        pytest.param({"resourceType": "Parameters"}, 400, "missing", id="no parameter"),
        pytest.param({"resourceType": "Patient"}, 400, "no Parameters resource", id="another resource"),
        pytest.param(
            {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueString": "x"}]}, 400, "valueMeta",
            id="a value of another type",
        ),
        pytest.param(
            {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": {"code": "x"}}}]}, 400,
            "Parameters.parameter[0].valueMeta.tag", id="a meta of another shape",
        ),
        pytest.param(
            {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "SUBSETTED"}]}}]},
            422, "SUBSETTED", id="a tag that would make it incomplete",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_added_is_named(client, patient, body, status, told):
    name = await labelled(client, patient)
    content = None if body is None else json.dumps(body)
    answer = await client.post(f"Patient/{name}/$meta-add", content=content, headers=FHIR)
    assert answer.status_code == status, answer.text
    assert told in answer.text
    assert (await client.get(f"Patient/{name}")).headers["etag"] == 'W/"1"'


async def test_a_change_is_posted(client, patient):
    name = await labelled(client, patient)
    answer = await client.get(f"Patient/{name}/$meta-add")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# ---- of a type and of the server


async def test_the_labels_in_use_are_those_of_live_resources(tmp_path, patient, monkeypatch):
    async with serving(tmp_path) as client:
        assert (await client.get("$meta")).json() == {"resourceType": "Parameters"}
        await labelled(client, patient, tag=[RED, {"code": "MiXed"}], profile=[PROFILE])
        await labelled(client, patient, tag=[{**RED, "display": "Red"}])
        gone = await labelled(client, patient, tag=[{"code": "gone"}])
        await client.delete(f"Patient/{gone}")
        await made(
            client, {"resourceType": "Basic", "code": {"text": "x"}, "meta": {"security": [SECRET], "tag": [BLUE]}}
        )
        of_patients = returned(await client.get("Patient/$meta"))
        assert of_patients == {"profile": [PROFILE], "tag": [RED, {"code": "MiXed"}]}
        assert returned(await client.post("Basic/$meta")) == {"security": [SECRET], "tag": [BLUE]}
        everything = returned(await client.get("$meta"))
        assert everything["security"] == [SECRET]
        assert [tag["code"] for tag in everything["tag"]] == ["red", "MiXed", "blue"]
        assert (await client.get("Observation/$meta")).json() == {"resourceType": "Parameters"}
        monkeypatch.setattr(labels, "MOST", 1)
        answer = await client.get("$meta")
        assert (answer.status_code, issue_of(answer)["code"]) == (403, "too-costly")


async def test_a_profile_that_is_an_extension_alone_is_no_label(client, patient):
    gap = {"extension": [{"url": "http://example.org/why", "valueString": "x"}]}
    name = await labelled(client, patient, profile=[None, PROFILE], _profile=[gap, None])
    assert (await client.get("Patient/$meta")).status_code == 200
    assert returned(await change(client, name, "meta-add", tag=[RED]))["_profile"] == [gap, None]
    assert returned(await change(client, name, "meta-add", profile=[f"{PROFILE}2"]))["profile"] == [
        PROFILE,
        f"{PROFILE}2",
    ]
