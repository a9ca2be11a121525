"""$expunge: gone for good, and the store stays sound. Parameters as HAPI FHIR has them."""

import json
from contextlib import closing

import pytest

from fhir_server.integrity import Tally, check_store
from fhir_server.integrity.bases import extractor_of
from fhir_server.interactions.assembly import DATABASE
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import SqliteOptions, connect
from tests.http.conftest import FHIR, issue_of, made, serving

pytestmark = pytest.mark.anyio


def parameters(**given):
    rows = [
        {"name": name, "valueBoolean" if isinstance(value, bool) else "valuePositiveInt": value}
        for name, value in given.items()
    ]
    return json.dumps({"resourceType": "Parameters", "parameter": rows} if rows else {"resourceType": "Parameters"})


async def expunged(client, path, **given):
    answer = await client.post(f"{path}$expunge", content=parameters(**given), headers=FHIR)
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["parameter"]
    assert row["name"] == "count"
    return row["valueInteger"]


def found_in_tables(folder, text):
    """The tables that hold the text, folded or as it is."""
    with closing(connect(folder / DATABASE, SqliteOptions())) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        hit = []
        for table in tables:
            for row in connection.execute(f"SELECT * FROM {table}"):
                values = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in row]
                if any(text.casefold() in value.casefold() for value in values):
                    hit.append(table)
                    break
    return hit


def findings(folder):
    with closing(connect(folder / DATABASE, SqliteOptions(), read_only=True)) as connection:
        _, extractor = extractor_of(connection, Settings(public_url="https://fhir.example.org", auth="off"))
        return [str(finding) for finding in check_store(connection, extractor, Tally(), thorough=True)]


@pytest.fixture
async def client(anyio_backend, tmp_path):
    async with serving(tmp_path, expunge=True) as client:
        client.folder = tmp_path
        yield client


async def updated(client, resource, **changes):
    answer = await client.put(
        f"{resource['resourceType']}/{resource['id']}", content=json.dumps({**resource, **changes}), headers=FHIR
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def named(family, **more):
    return {"resourceType": "Patient", "name": [{"family": family}], **more}


async def test_what_a_deleted_resource_said_is_in_no_table(client):
    contained = [{"resourceType": "Organization", "id": "o", "name": "Zuckerwatte Clinic"}]
    first = await made(client, named("Quetzalcoatl", contained=contained, managingOrganization={"reference": "#o"}))
    await updated(client, first, name=[{"family": "Xylophon"}])
    subject = {"reference": f"Patient/{first['id']}", "display": "Quetzalcoatl the Feathered"}
    code = {"coding": [{"system": "urn:s", "code": "qq", "display": "Jabberwocky"}], "text": "Bandersnatch"}
    seen = await made(client, {"resourceType": "Observation", "status": "final", "code": code, "subject": subject})
    for path in (f"Observation/{seen['id']}", f"Patient/{first['id']}"):
        await client.delete(path)
    for text in ("Quetzalcoatl", "Xylophon", "Jabberwocky", "Bandersnatch", "Zuckerwatte"):
        assert found_in_tables(client.folder, text), text
    assert await expunged(client, f"Observation/{seen['id']}/", expungeDeletedResources=True) == 2
    assert await expunged(client, f"Patient/{first['id']}/", expungeDeletedResources=True) == 3
    for text in ("Quetzalcoatl", "Xylophon", "Jabberwocky", "Bandersnatch", "Zuckerwatte", "feathered"):
        assert found_in_tables(client.folder, text) == [], text
    assert findings(client.folder) == []
    assert (await client.get(f"Patient/{first['id']}")).status_code == 404
    assert (await client.get(f"Patient/{first['id']}/_history/1")).status_code == 404
    assert (await client.get(f"Patient/{first['id']}/_history")).status_code == 404
    assert (await client.get("_history?_count=0")).json()["total"] == 0


async def test_superseded_versions_go_and_the_current_one_stays(client):
    first = await made(client, named("Quetzalcoatl"))
    for family in ("Xylophon", "Chalmers"):
        last = await updated(client, first, name=[{"family": family}])
    assert await expunged(client, f"Patient/{first['id']}/", expungePreviousVersions=True) == 2
    assert found_in_tables(client.folder, "Quetzalcoatl") == found_in_tables(client.folder, "Xylophon") == []
    read = await client.get(f"Patient/{first['id']}")
    assert (read.json(), read.headers["etag"]) == (last, 'W/"3"')
    (entry,) = (await client.get(f"Patient/{first['id']}/_history")).json()["entry"]
    assert entry["response"]["etag"] == 'W/"3"'
    assert entry["response"]["status"].startswith("200")
    assert findings(client.folder) == []
    await updated(client, first, active=True)
    assert findings(client.folder) == []


async def test_a_reference_to_what_is_gone_stays_and_finds_what_comes_back(client):
    patient = await made(client, named("Quetzalcoatl"))
    subject = {"reference": f"Patient/{patient['id']}"}
    await made(client, {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "subject": subject})
    await client.delete(f"Patient/{patient['id']}")
    assert await expunged(client, "Patient/", expungeDeletedResources=True) == 2
    assert findings(client.folder) == []
    query = f"Observation?patient={patient['id']}&_include=Observation:patient"
    assert len((await client.get(query)).json()["entry"]) == 1
    back = await client.put(f"Patient/{patient['id']}", content=json.dumps(patient), headers=FHIR)
    assert (back.status_code, back.headers["etag"]) == (201, 'W/"1"')
    assert len((await client.get(query)).json()["entry"]) == 2
    assert findings(client.folder) == []


async def test_a_lost_version_is_told_from_an_expunged_one(client):
    first = await made(client, named("a"))
    for family in "bcd":
        await updated(client, first, name=[{"family": family}])
    assert await expunged(client, "", expungePreviousVersions=True, limit=1) == 1
    assert findings(client.folder) == []
    with closing(connect(client.folder / DATABASE, SqliteOptions())) as connection:
        connection.execute("DELETE FROM history WHERE version = 2")
    (finding,) = findings(client.folder)
    assert "history-gap" in finding


async def test_the_limit_is_kept_and_the_count_told(client):
    for _ in range(3):
        patient = await made(client, named("a"))
        await client.delete(f"Patient/{patient['id']}")
    assert await expunged(client, "", expungeDeletedResources=True, limit=4) == 4
    assert await expunged(client, "", expungeDeletedResources=True, limit=4) == 2
    assert await expunged(client, "", expungeDeletedResources=True, expungePreviousVersions=True) == 0


async def test_a_live_resource_is_deleted_first(client):
    patient = await made(client, named("a"))
    call = parameters(expungeDeletedResources=True)
    answer = await client.post(f"Patient/{patient['id']}/$expunge", content=call, headers=FHIR)
    assert (answer.status_code, issue_of(answer)["code"]) == (409, "conflict")
    assert await expunged(client, "Patient/", expungeDeletedResources=True, expungePreviousVersions=True) == 0
    assert (await client.get(f"Patient/{patient['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("path", "given", "status", "told"),
    [
        pytest.param("", {}, 400, "nothing is said to be removed", id="nothing said"),
        pytest.param("", {"expungeDeletedResources": False}, 400, "nothing is said", id="said to be false"),
        pytest.param("", {"expungeEverything": True}, 400, "expungeEverything is not supported", id="everything"),
        pytest.param("", {"limit": 0, "expungePreviousVersions": True}, 400, "valuePositiveInt", id="no limit"),
        pytest.param("", {"everything": True}, 400, "the parameter everything", id="an unknown parameter"),
        pytest.param("Patient/never/", {"expungePreviousVersions": True}, 404, "Patient/never", id="an unknown one"),
    ],
)
async def test_a_call_that_cannot_be_carried_out_is_named(client, path, given, status, told):
    answer = await client.post(f"{path}$expunge", content=parameters(**given), headers=FHIR)
    assert answer.status_code == status
    assert told in answer.text


async def test_it_is_posted(client):
    answer = await client.get("$expunge?expungeDeletedResources=true")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("on", [True, False])
async def test_it_is_off_unless_the_setting_allows_it(tmp_path, on):
    async with serving(tmp_path, **({"expunge": True} if on else {})) as client:
        answer = await client.post("$expunge", content=parameters(expungeDeletedResources=True), headers=FHIR)
        assert answer.status_code == (200 if on else 403)
        assert on or "rest.expunge" in issue_of(answer)["diagnostics"]
        (rest,) = (await client.get("metadata")).json()["rest"]
        assert ("expunge" in [one["name"] for one in rest["operation"]]) is on
