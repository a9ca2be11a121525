"""Custom search parameters through HTTP: refused with the reason, indexed by $reindex, usable when verified, gone when retired."""

import asyncio
import json
from contextlib import closing

import pytest

from fhir_server.interactions import parameters
from fhir_server.interactions.assembly import DATABASE
from fhir_server.jobs.background import run_next
from fhir_server.jobs.queue import SqliteJobQueue
from fhir_server.jobs.reindex import reindex_handler
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect
from tests.http.conftest import FHIR, serving

pytestmark = pytest.mark.anyio
EYES = "http://own.org/eye-colour"
PATIENT = {"resourceType": "Patient", "id": "a", "extension": [{"url": EYES, "valueCode": "blue"}]}


class Staying:
    def wait(self, _seconds):
        return False


def parameter(**more):
    return {
        "resourceType": "SearchParameter",
        "id": "eyes",
        "url": "http://own.org/SearchParameter/eyes",
        "name": "eyes",
        "status": "active",
        "description": "colour of the eyes",
        "code": "eye-colour",
        "base": ["Patient"],
        "type": "token",
        "expression": f"Patient.extension('{EYES}').value",
        **more,
    }


async def put(client, resource):
    path = f"{resource['resourceType']}/{resource['id']}"
    return await client.put(path, content=json.dumps(resource), headers=FHIR)


def work(folder):
    """Run the jobs that are due, as the background process does; whether there was one."""
    options, database = SqliteOptions(), folder / DATABASE
    settings = Settings(data_dir=folder, public_url="https://fhir.example.org", auth="off")
    with closing(connect(database, options)) as connection, closing(FileLock(database)) as lock:
        connection.execute("UPDATE follow_up SET data = json_set(data, '$.due', 0) WHERE kind = 'job'")
        queue = SqliteJobQueue(connection, lock)
        return run_next(queue, {"reindex": reindex_handler(connection, lock, settings)}, Staying())


async def found(client, query):
    answer = await client.get(query)
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", ())]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(parameters, "LOOK_EVERY", 0.0)


async def test_a_parameter_is_refused_until_its_index_is_verified(tmp_path):
    async with serving(tmp_path) as client:
        assert (await put(client, PATIENT)).status_code == 201
        unknown = await client.get("Patient?eye-colour=blue")
        assert "is not known" in unknown.json()["issue"][0]["diagnostics"]
        assert (await put(client, parameter())).status_code == 201
        refused = await client.get("Patient?eye-colour=blue")
        assert refused.status_code == 400
        assert "POST [base]/SearchParameter/eyes/$reindex" in refused.json()["issue"][0]["diagnostics"]
        chained = await client.get("Observation?subject:Patient.eye-colour=blue")
        assert "its index is not made yet" in chained.json()["issue"][0]["diagnostics"]
        asked = await client.post("SearchParameter/eyes/$reindex")
        assert (asked.status_code, asked.json()["parameter"][0]["valueCode"]) == (202, "indexing")
        assert asked.headers["content-location"].endswith("/SearchParameter/eyes/$reindex")
        assert (await client.post("SearchParameter/eyes/$reindex")).status_code == 202
        assert (await client.get("Patient?eye-colour=blue")).status_code == 400
        assert work(tmp_path)
        assert not work(tmp_path)
        told = (await client.get("SearchParameter/eyes/$reindex")).json()
        assert told["parameter"] == [{"name": "state", "valueCode": "ready"}]
        assert await found(client, "Patient?eye-colour=blue") == ["a"]
        await put(client, {**PATIENT, "id": "b"})
        assert await found(client, "Patient?eye-colour=blue&_sort=-_id") == ["b", "a"]
        assert await found(client, "Patient?eye-colour:missing=true") == []
        statement = (await client.get("metadata")).json()
        (patient,) = [one for one in statement["rest"][0]["resource"] if one["type"] == "Patient"]
        assert {"name": "eye-colour", "type": "token", "definition": parameter()["url"]} in patient["searchParam"]


async def test_every_process_notices(tmp_path):
    async with serving(tmp_path) as one, serving(tmp_path) as other:
        await put(one, parameter())
        answer = await other.get("Patient?eye-colour=blue")
        assert "its index is not made yet" in answer.json()["issue"][0]["diagnostics"]
        await put(other, PATIENT)
        await one.post("SearchParameter/eyes/$reindex")
        work(tmp_path)
        assert await found(other, "Patient?eye-colour=blue") == ["a"]


async def test_a_process_looks_every_half_second(tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "LOOK_EVERY", 0.4)
    async with serving(tmp_path) as one, serving(tmp_path) as other:
        assert (await other.get("Patient?eye-colour=blue")).status_code == 400
        await put(one, parameter())
        await asyncio.sleep(0.5)
        answer = await other.get("Patient?eye-colour=blue")
        assert "its index is not made yet" in answer.json()["issue"][0]["diagnostics"]


async def test_a_changed_expression_waits_again_and_a_description_does_not(tmp_path):
    async with serving(tmp_path) as client:
        await put(client, PATIENT)
        await put(client, parameter())
        await client.post("SearchParameter/eyes/$reindex")
        work(tmp_path)
        await put(client, parameter(description="what colour the eyes have"))
        assert await found(client, "Patient?eye-colour=blue") == ["a"]
        await put(client, parameter(expression="Patient.gender"))
        assert (await client.get("Patient?eye-colour=blue")).status_code == 400
        await client.post("SearchParameter/eyes/$reindex")
        work(tmp_path)
        assert await found(client, "Patient?eye-colour=blue") == []


@pytest.mark.parametrize("last", ["urn:eyes:green", "urn:eyes:blue"])
async def test_an_update_replaces_the_rows_that_a_reindex_made(tmp_path, last):
    def patient(eyes):
        return {"resourceType": "Patient", "id": "a", "extension": [{"url": EYES, "valueUri": eyes}]}

    async with serving(tmp_path) as client:
        await put(client, patient("urn:eyes:blue"))
        await put(client, parameter(type="uri"))
        await client.post("SearchParameter/eyes/$reindex")
        assert work(tmp_path)
        await put(client, {**patient(last), "active": True})
        assert await found(client, f"Patient?eye-colour={last}") == ["a"]
        assert len(await found(client, "Patient?eye-colour=urn:eyes:blue,urn:eyes:green")) == 1
        await client.delete("Patient/a")
    with closing(connect(tmp_path / DATABASE, SqliteOptions())) as connection:
        assert connection.execute("SELECT count(*) FROM uri").fetchone() == (1,), "that of the SearchParameter's url"


@pytest.mark.parametrize("end", ["retire", "delete"])
async def test_a_parameter_that_goes_takes_its_rows_along(tmp_path, end):
    async with serving(tmp_path) as client:
        await put(client, parameter())
        await put(client, PATIENT)
        if end == "delete":
            await client.delete("SearchParameter/eyes")
        else:
            await put(client, parameter(status="retired"))
        answer = await client.get("Patient?eye-colour=blue")
        assert "is not known" in answer.json()["issue"][0]["diagnostics"]
        assert (await client.post("SearchParameter/eyes/$reindex")).status_code == (410 if end == "delete" else 422)
    with closing(connect(tmp_path / DATABASE, SqliteOptions())) as connection:
        rows = "SELECT count(*) FROM token t JOIN parameter p ON p.number = t.param WHERE p.code = 'eye-colour'"
        assert connection.execute(rows).fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expression": "Patient.extension("}, "does not parse"),
        ({"expression": "Patient.nothing"}, "finds nothing"),
        ({"expression": "Patient.name.where(family.matches('^(a+)+$')).family"}, "calls matches"),
        ({"expression": "Patient.name.family.matches /* ' */ ('^(a+)+$') /* ' */"}, "calls matches"),
        ({"expression": "Patient.name.family.`replaceMatches`('(a+)+$', 'x')"}, "calls replaceMatches"),
        ({"expression": "Patient.name.given.select($this & $this).select($this & $this)"}, "calls select"),
        ({"expression": "Patient.name.where(%resource.name.where(%resource.name.exists()).exists())"}, "a variable"),
        ({"expression": "(" * 400 + "Patient.gender" + ")" * 400}, "nested too deeply"),
        ({"expression": "Patient" + ".name" * 1000}, "more than 4000 letters"),
        ({"expression": "Observation.code"}, "the expression says nothing"),
        (
            {"expression": "Patient.birthDate", "type": "quantity"},
            "finds date, which a quantity parameter cannot index",
        ),
        ({"expression": "Patient.name.exists()", "type": "string"}, "a truth value, which is no string"),
        ({"expression": "Patient", "type": "composite"}, "a composite has components"),
        (
            {
                "expression": "Patient",
                "type": "composite",
                "component": [{"definition": "http://own.org/none", "expression": "gender"}],
            },
            "http://own.org/none is not known here",
        ),
        (
            {
                "expression": "Patient.name",
                "type": "composite",
                "component": [
                    {
                        "definition": "http://hl7.org/fhir/SearchParameter/individual-family",
                        "expression": "family.replaceMatches('(a+)+$', 'x')",
                    }
                ],
            },
            "calls replaceMatches",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_indexed_is_refused_with_the_reason(tmp_path, change, said):
    async with serving(tmp_path) as client:
        answer = await put(client, parameter(**change))
        assert answer.status_code == 422
        assert said in answer.json()["issue"][0]["diagnostics"]
        assert (await put(client, parameter(**change, status="draft"))).status_code == 201


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"code": "gender"}, "'gender' of Patient is http://hl7.org/fhir/SearchParameter/individual-gender"),
        ({"expression": None}, "it has no expression"),
        ({"type": "special"}, "its type is special"),
        ({"code": "_mine"}, "can be no parameter's name"),
        ({"url": "http://hl7.org/fhir/SearchParameter/individual-gender"}, "is a published search parameter"),
    ],
    ids=["a taken code", "no expression", "a special one", "a reserved name", "a published URL"],
)
async def test_what_defines_nothing_is_stored_and_says_why(tmp_path, change, reason):
    resource = {name: value for name, value in parameter(**change).items() if value is not None}
    async with serving(tmp_path) as client:
        assert (await put(client, resource)).status_code == 201
        answer = await client.post("SearchParameter/eyes/$reindex")
        assert answer.status_code == 422
        assert reason in answer.json()["issue"][0]["diagnostics"]
        told = (await client.get("SearchParameter/eyes/$reindex")).json()
        assert told["parameter"][0]["valueCode"] == "unused"
        if "code" in change:
            assert await found(client, "Patient?gender=male") == []


async def test_one_that_takes_the_url_of_another_disturbs_it_not(tmp_path):
    async with serving(tmp_path) as client:
        assert (await put(client, parameter())).status_code == 201
        assert (await put(client, PATIENT)).status_code == 201
        assert (await client.post("SearchParameter/eyes/$reindex")).status_code == 202
        while work(tmp_path):
            pass
        await asyncio.sleep(0.6)
        assert await found(client, "Patient?eye-colour=blue") == ["a"]
        assert (await put(client, parameter(id="other", code="other"))).status_code == 201
        await asyncio.sleep(0.6)
        assert await found(client, "Patient?eye-colour=blue") == ["a"]
        answer = await client.post("SearchParameter/other/$reindex")
        assert answer.status_code == 422
        assert "another SearchParameter has the URL" in answer.text


@pytest.mark.parametrize(
    ("more", "resource", "query"),
    [
        ({"type": "string", "expression": "Patient.contact.name"}, {"contact": [{"name": {"family": "Eve"}}]}, "eve"),
        (
            {"type": "date", "expression": "Patient.contact.period"},
            {"contact": [{"name": {"text": "Eve"}, "period": {"start": "2020"}}]},
            "gt2019",
        ),
        (
            {"type": "reference", "expression": "Patient.contact.organization", "target": ["Organization"]},
            {"contact": [{"organization": {"reference": "Organization/1"}}]},
            "Organization/1",
        ),
        ({"type": "number", "expression": "Patient.multipleBirth.as(integer)"}, {"multipleBirthInteger": 2}, "2"),
        ({"type": "token", "expression": "Patient.name.where(use='old').exists()"}, {"name": [{"use": "old"}]}, "true"),
        ({"type": "token", "expression": "Patient.name.given.first()"}, {"name": [{"given": ["Ann"]}]}, "ann"),
        (
            {"base": ["Resource"], "type": "uri", "expression": "Resource.implicitRules"},
            {"implicitRules": "http://r"},
            "http://r",
        ),
        (
            {
                "type": "composite",
                "expression": "Patient.name",
                "component": [
                    {"definition": "http://hl7.org/fhir/SearchParameter/individual-family", "expression": "family"},
                    {"definition": "http://hl7.org/fhir/SearchParameter/individual-given", "expression": "given"},
                ],
            },
            {"name": [{"family": "Eve", "given": ["Ann"]}]},
            "eve$ann",
        ),
    ],
    ids=["string", "date", "reference", "number", "truth", "beyond places", "every type", "composite"],
)
async def test_each_type_can_be_indexed(tmp_path, more, resource, query):
    async with serving(tmp_path) as client:
        assert (await put(client, {"resourceType": "Patient", "id": "a", **resource})).status_code == 201
        await put(client, {"resourceType": "Patient", "id": "b"})
        assert (await put(client, parameter(**more))).status_code == 201
        await client.post("SearchParameter/eyes/$reindex")
        assert work(tmp_path)
        assert await found(client, f"Patient?eye-colour={query}") == ["a"]


async def test_a_resource_on_which_it_cannot_be_evaluated_is_refused_by_its_name(tmp_path):
    async with serving(tmp_path) as client:
        assert (await put(client, parameter(expression="Patient.name.given.single()"))).status_code == 201
        assert (await put(client, {**PATIENT, "name": [{"given": ["Ann"]}]})).status_code == 201
        answer = await put(client, {**PATIENT, "name": [{"given": ["Ann", "Eve"]}]})
        assert (answer.status_code, "'eye-colour'" in answer.text) == (422, True)


async def test_the_openapi_document_has_a_parameter_as_soon_as_it_is_usable(tmp_path):
    url = "https://fhir.example.org/openapi/Patient.json"
    async with serving(tmp_path) as client:
        assert (await put(client, parameter())).status_code == 201
        assert "eye-colour" not in (await client.get(url)).json()["components"]["parameters"]
        assert (await client.post("SearchParameter/eyes/$reindex")).status_code == 202
        while work(tmp_path):
            pass
        assert "eye-colour" in (await client.get(url)).json()["components"]["parameters"]
