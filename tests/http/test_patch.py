"""https://hl7.org/fhir/R4/http.html#patch, https://hl7.org/fhir/R4/fhirpatch.html: patches through HTTP.

What the patches themselves can do is tested in tests/resources, by the cases of both specifications.
"""

import asyncio
import base64
import json
import uuid

import pytest

from tests.http.conftest import BASE, FHIR, issue_of, made, serving
from tests.resources.test_fhirpath_patch import parameters

pytestmark = pytest.mark.anyio

JSON_PATCH = {"Content-Type": "application/json-patch+json"}
XML = {"Content-Type": "application/fhir+xml"}


def setting(value):
    """Both kinds of patch that set the birth date."""
    return [
        pytest.param(JSON_PATCH, [{"op": "add", "path": "/birthDate", "value": value}], id="JSON Patch"),
        pytest.param(
            FHIR,
            parameters({"type": "add", "path": "Patient", "name": "birthDate", "value": {"valueDate": value}}),
            id="FHIRPath Patch",
        ),
    ]


async def patch(client, url, body, headers=JSON_PATCH, **more):
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    return await client.patch(url, content=content, headers={**headers, **more})


@pytest.fixture
def url():
    return f"Patient/{uuid.uuid4()}"


@pytest.mark.parametrize(("headers", "body"), setting("1930-01-01"))
async def test_a_patch_makes_the_next_version(client, patient, headers, body):
    first = await made(client, patient)
    answer = await patch(client, f"Patient/{first['id']}", body, headers)
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    assert answer.headers["location"] == f"{BASE}/Patient/{first['id']}/_history/2"
    now = answer.json()
    assert now == {**first, "birthDate": "1930-01-01", "meta": now["meta"]}
    assert (await client.get(f"Patient/{first['id']}")).content == answer.content
    assert (await client.get(f"Patient?_id={first['id']}&birthdate=1930-01-01")).json()["total"] == 1
    history = (await client.get(f"Patient/{first['id']}/_history")).json()
    assert [entry["request"]["method"] for entry in history["entry"]] == ["PATCH", "POST"]


async def test_a_fhirpath_patch_comes_in_xml_too(client, patient):
    first = await made(client, patient)
    body = (
        '<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>'
        '<part><name value="type"/><valueCode value="replace"/></part>'
        '<part><name value="path"/><valueString value="Patient.active"/></part>'
        '<part><name value="value"/><valueBoolean value="false"/></part></parameter></Parameters>'
    )
    answer = await patch(client, f"Patient/{first['id']}", body, XML, Accept="application/fhir+json")
    assert (answer.status_code, answer.json()["active"]) == (200, False)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(JSON_PATCH, [], id="no operations"),
        pytest.param(JSON_PATCH, [{"op": "test", "path": "/active", "value": True}], id="a test alone"),
        pytest.param(JSON_PATCH, [{"op": "replace", "path": "/active", "value": True}], id="the same value"),
        pytest.param(JSON_PATCH, [{"op": "test", "path": "/meta/versionId", "value": "1"}], id="a test of the version"),
        pytest.param(FHIR, {"resourceType": "Parameters"}, id="no parameters"),
        pytest.param(FHIR, parameters({"type": "delete", "path": "Patient.photo"}), id="a deletion of nothing"),
    ],
)
async def test_a_patch_that_changes_nothing_makes_no_version(client, patient, headers, body):
    first = await made(client, patient)
    answer = await patch(client, f"Patient/{first['id']}", body, headers)
    assert (answer.status_code, answer.headers["etag"], answer.json()) == (200, 'W/"1"', first)


@pytest.mark.parametrize(
    ("preference", "found"),
    [("return=minimal", b""), ("return=representation", b'"Patient"'), ("return=OperationOutcome", b'"OperationOutcome"')],
)  # fmt: skip
async def test_prefer_says_what_a_patch_answers(client, patient, preference, found):
    first = await made(client, patient)
    body = [{"op": "replace", "path": "/active", "value": False}]
    answer = await patch(client, f"Patient/{first['id']}", body, Prefer=preference)
    assert answer.status_code == 200
    assert found in answer.content
    assert bool(answer.content) == bool(found)


async def test_tokens_come_back_as_written(client):
    body = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.00},"effectiveDateTime":"2024"}'
    answer = await client.post("Observation", content=body, headers=FHIR)
    change = b'[{"op":"test","path":"/valueQuantity/value","value":1},{"op":"add","path":"/component","value":[{"code":{"text":"y"},"valueQuantity":{"value":-0.10e1}}]}]'
    answer = await patch(client, f"Observation/{answer.json()['id']}", change)
    assert answer.status_code == 200, answer.text
    assert b'"valueQuantity":{"value":1.00}' in answer.content
    assert b'"value":-0.10e1' in answer.content


@pytest.mark.parametrize(
    ("held", "status"),
    [('W/"1"', 200), ('"1"', 200), ("*", 200), ('W/"2"', 412), ("1", 400), ("nonsense", 400)],
)
@pytest.mark.parametrize("conditional", [False, True], ids=["by id", "by criteria"])
async def test_if_match_guards_the_version(client, patient, held, status, conditional):
    mark = str(uuid.uuid4())
    first = await made(client, {**patient, "identifier": [{"value": mark}]})
    url = f"Patient?identifier={mark}" if conditional else f"Patient/{first['id']}"
    body = [{"op": "replace", "path": "/active", "value": False}]
    assert (await patch(client, url, body, **{"If-Match": held})).status_code == status
    assert (await client.get(f"Patient/{first['id']}")).json()["active"] == (status != 200)


async def test_of_parallel_patches_none_is_lost(client, patient):
    first = await made(client, patient)
    bodies = [[{"op": "add", "path": "/name/0/given/-", "value": f"given-{at}"}] for at in range(6)]
    answers = await asyncio.gather(*(patch(client, f"Patient/{first['id']}", body) for body in bodies))
    assert [answer.status_code for answer in answers] == [200] * 6
    now = (await client.get(f"Patient/{first['id']}")).json()
    assert (now["meta"]["versionId"], sorted(now["name"][0]["given"])) == (
        "7",
        sorted(["Peter", *(f"given-{at}" for at in range(6))]),
    )


async def test_of_parallel_patches_of_one_version_one_wins(client, patient):
    first = await made(client, patient)
    bodies = [[{"op": "add", "path": "/birthDate", "value": f"2000-01-{day:02}"}] for day in range(1, 11)]
    answers = await asyncio.gather(
        *(patch(client, f"Patient/{first['id']}", body, **{"If-Match": 'W/"1"'}) for body in bodies)
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 9]


async def test_what_never_was_is_404_and_what_was_deleted_410(client, patient, url):
    for headers, body in ((JSON_PATCH, []), (FHIR, {"resourceType": "Parameters"})):
        answer = await patch(client, url, body, headers)
        assert (answer.status_code, issue_of(answer)["code"]) == (404, "not-found")
    first = await made(client, patient)
    await client.delete(f"Patient/{first['id']}")
    answer = await patch(client, f"Patient/{first['id']}", [])
    assert (answer.status_code, issue_of(answer)["code"], answer.headers["etag"]) == (410, "deleted", 'W/"2"')


@pytest.mark.parametrize(("headers", "body"), setting("1930-01-01"))
async def test_a_conditional_patch_needs_exactly_one_match(client, patient, headers, body):
    mark = str(uuid.uuid4())
    url = f"Patient?identifier=urn:test|{mark}"
    answer = await patch(client, url, body, headers)
    assert (answer.status_code, issue_of(answer)["code"]) == (404, "not-found")
    marked = {**patient, "identifier": [{"system": "urn:test", "value": mark}]}
    first = await made(client, marked)
    answer = await patch(client, url, body, headers)
    assert (answer.status_code, answer.json()["id"], answer.json()["birthDate"]) == (200, first["id"], "1930-01-01")
    await made(client, marked)
    answer = await patch(client, url, body, headers)
    assert (answer.status_code, issue_of(answer)["code"]) == (412, "multiple-matches")


@pytest.mark.parametrize("criteria", ["", "?", "?unknown-one=1", "?_count=1", "?identifier=", "?name=%FF"])
async def test_a_condition_that_says_nothing_is_400(client, criteria):
    assert (await patch(client, f"Patient{criteria}", [])).status_code == 400


@pytest.mark.parametrize(
    "kind",
    ["application/xml-patch+xml", "application/merge-patch+json", "text/plain", "application/fhir+json; fhirVersion=3.0", ""],
)  # fmt: skip
async def test_another_format_is_415_and_tells_what_is_accepted(client, patient, kind):
    first = await made(client, patient)
    answer = await patch(client, f"Patient/{first['id']}", "<diff/>", {"Content-Type": kind})
    assert (answer.status_code, issue_of(answer)["code"]) == (415, "not-supported")
    statement = (await client.get("metadata")).json()
    assert answer.headers["accept-patch"].split(", ") == statement["patchFormat"]


@pytest.mark.parametrize("url", ["Binary/1", "Binary?_lastUpdated=2020"])
async def test_a_binary_cannot_be_patched(client, url):
    answer = await patch(client, url, [])
    assert (answer.status_code, issue_of(answer)["code"]) == (405, "not-supported")
    assert "PATCH" not in answer.headers["allow"]


UNSAFE = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>'}
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def pointed(path, value, op="add"):
    return JSON_PATCH, [{"op": op, "path": path, "value": value}]


def pathed(**operation):
    return FHIR, parameters(operation)


REFUSED = [
    pytest.param(*pointed("/id", "another"), 400, "Patient.id", id="JSON Patch: another id"),
    pytest.param(*pathed(type="replace", path="Patient.id", value={"valueId": "another"}), 400, "Patient.id", id="FHIRPath Patch: another id"),
    pytest.param(JSON_PATCH, [{"op": "remove", "path": "/id"}], 400, "Patient.id", id="JSON Patch: no id"),
    pytest.param(*pathed(type="delete", path="Patient.id"), 400, "Patient.id", id="FHIRPath Patch: no id"),
    pytest.param(*pointed("/resourceType", "Group"), 400, "resourceType", id="another type"),
    pytest.param(JSON_PATCH, [{"op": "remove", "path": "/resourceType"}], 400, "resourceType", id="no type"),
    pytest.param(*pointed("/meta/versionId", "7"), 400, "Patient.meta.versionId", id="JSON Patch: another version"),
    pytest.param(*pathed(type="replace", path="Patient.meta.versionId", value={"valueId": "7"}), 400, "Patient.meta.versionId", id="FHIRPath Patch: another version"),
    pytest.param(*pointed("/meta/lastUpdated", "2020-01-01T00:00:00Z"), 400, "Patient.meta.lastUpdated", id="another time"),
    pytest.param(*pointed("", []), 422, None, id="an array in place of the resource"),
    pytest.param(*pointed("", 5), 422, None, id="a number in place of the resource"),
    pytest.param(*pointed("/text", UNSAFE), 422, "Patient.text.div", id="JSON Patch: an unsafe narrative"),
    pytest.param(*pathed(type="add", path="Patient", name="text", value={"part": [{"name": "status", "valueCode": "generated"}, {"name": "div", "valueString": UNSAFE["div"]}]}), 422, "Patient.text.div", id="FHIRPath Patch: an unsafe narrative"),
    pytest.param(*pointed("/meta/tag", [SUBSETTED]), 422, "Patient.meta.tag[0]", id="marked as reduced"),
    pytest.param(*pointed("/surprise", 1), 400, "Patient.surprise", id="an unknown element"),
    pytest.param(*pointed("/active", "yes"), 400, "Patient.active", id="a wrong type"),
    pytest.param(*pointed("/gender", "x"), 422, "Patient.gender", id="a code outside the required value set"),
    pytest.param(*pathed(type="add", path="Patient", name="gender", value={"valueCode": "x"}), 422, "Patient.gender", id="FHIRPath Patch: a code outside the required value set"),
    pytest.param(*pointed("/contact", [{"gender": "male"}]), 422, "Patient.contact[0]", id="a broken invariant"),
    pytest.param(*pointed("/name/0", {}, "replace"), 400, "Patient.name[0]", id="an empty element"),
    pytest.param(*pointed("/active", None), 400, "Patient.active", id="null"),
    pytest.param(*pointed("/nothing/here", 1), 422, None, id="a place that is not there"),
    pytest.param(JSON_PATCH, [{"op": "test", "path": "/active", "value": False}], 422, None, id="a failed test"),
    pytest.param(*pathed(type="replace", path="Patient.birthDate", value={"valueDate": "2020"}), 422, "Parameters.parameter[0]", id="a path that selects nothing"),
    pytest.param(*pathed(type="spam", path="Patient"), 400, "Parameters.parameter[0]", id="an unknown operation"),
    pytest.param(FHIR, {"resourceType": "Patient", "active": True}, 400, "resourceType", id="another resource than Parameters"),
    pytest.param(FHIR, [], 400, None, id="an array as FHIR"),
    pytest.param(JSON_PATCH, {"op": "remove", "path": "/active"}, 400, None, id="an object as JSON Patch"),
    pytest.param(JSON_PATCH, b"", 400, None, id="nothing as JSON Patch"),
    pytest.param(FHIR, b"", 400, None, id="nothing as FHIR"),
    pytest.param(JSON_PATCH, b"[", 400, None, id="cut short"),
    pytest.param(JSON_PATCH, b"[" * 100_000 + b"]" * 100_000, 400, None, id="deep arrays"),
    pytest.param(JSON_PATCH, b'[{"op":"add","path":"/active","value":true,"value":false}]', 400, None, id="a member twice"),
    pytest.param(JSON_PATCH, b'[{"op":"add","path":"/birthDate","value":"\\ud800"}]', 400, None, id="a lone surrogate"),
    pytest.param(JSON_PATCH, [{"op": "test", "path": "/active", "value": True}] * 1001, 413, None, id="endless operations"),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "status", "place"), REFUSED)
async def test_a_patch_is_refused_and_changes_nothing(client, patient, headers, body, status, place):
    first = await made(client, patient)
    answer = await patch(client, f"Patient/{first['id']}", body, headers)
    assert answer.status_code == status, answer.text
    assert issue_of(answer).get("expression", [None])[0] == place
    assert (await client.get(f"Patient/{first['id']}")).json() == first


async def test_all_faults_of_the_outcome_are_told_at_once(client, patient):
    first = await made(client, patient)
    body = [{"op": "add", "path": "/surprise", "value": 1}, {"op": "add", "path": "/active", "value": "yes"}]
    answer = await patch(client, f"Patient/{first['id']}", body)
    assert {issue["expression"][0] for issue in answer.json()["issue"]} == {"Patient.surprise", "Patient.active"}


async def test_a_copy_that_doubles_and_doubles_is_refused(tmp_path, patient):
    async with serving(tmp_path, body_limit=100_000) as client:
        first = await made(client, patient)
        body = [{"op": "copy", "from": "/name", "path": "/name/-"}] * 40
        answer = await patch(client, f"Patient/{first['id']}", body)
        assert (answer.status_code, issue_of(answer)["code"]) == (413, "too-costly")
        grown = [{"op": "add", "path": "/name/0/family", "value": "x" * 90_000}]
        assert (await patch(client, f"Patient/{first['id']}", grown)).status_code == 200
        grown = [{"op": "add", "path": "/name/0/text", "value": "x" * 20_000}]
        assert (await patch(client, f"Patient/{first['id']}", grown)).status_code == 413


@pytest.mark.parametrize("source", ["/extension", "/extension/0"])
async def test_a_small_patch_makes_no_large_resource(client, patient, source):
    first = await made(client, patient)
    value = [{"url": "x", "extension": [{"url": "y"}]}]
    copies = [{"op": "copy", "from": source, "path": "/extension/0/extension/-"}] * 24
    answer = await patch(
        client, f"Patient/{first['id']}", [{"op": "add", "path": "/extension", "value": value}, *copies]
    )
    assert (answer.status_code, issue_of(answer)["code"]) == (413, "too-costly")
    assert (await client.get(f"Patient/{first['id']}")).json() == first


async def test_a_query_of_a_patch_by_id_is_refused(client, patient):
    first = await made(client, patient)
    assert (await patch(client, f"Patient/{first['id']}?name=x", [])).status_code == 400


# ---- in Bundles


def entry(url, resource, **request):
    return {"resource": resource, "request": {"method": "PATCH", "url": url, **request}}


def binary(body):
    data = base64.b64encode(json.dumps(body).encode()).decode()
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize("by_criteria", [False, True], ids=["by id", "by criteria"])
@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(binary([{"op": "replace", "path": "/active", "value": False}]), id="JSON Patch in a Binary"),
        pytest.param(
            parameters({"type": "replace", "path": "Patient.active", "value": {"valueBoolean": False}}),
            id="FHIRPath Patch",
        ),
    ],
)
async def test_patches_in_bundles(client, patient, kind, by_criteria, resource):
    mark = str(uuid.uuid4())
    first = await made(client, {**patient, "identifier": [{"value": mark}]})
    url = f"Patient?identifier={mark}" if by_criteria else f"Patient/{first['id']}"
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry(url, resource)]}
    answer = await client.post("", content=json.dumps(bundle), headers=FHIR)
    assert answer.status_code == 200, answer.text
    assert answer.json()["entry"][0]["response"]["status"].startswith("200")
    now = (await client.get(f"Patient/{first['id']}")).json()
    assert (now["meta"]["versionId"], now["active"]) == ("2", False)


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        pytest.param(binary([{"op": "test", "path": "/active", "value": False}]), 422, id="a failed test"),
        pytest.param(binary([{"op": "spam"}]), 400, id="an unknown operation"),
        pytest.param({**binary([]), "contentType": "text/plain"}, 400, id="another content type"),
        pytest.param({"resourceType": "Patient", "active": True}, 400, id="another resource"),
        pytest.param(
            parameters({"type": "delete", "path": "Patient.id"}), 400, id="an outcome that cannot be stored"
        ),
    ],
)  # fmt: skip
async def test_a_patch_that_cannot_be_done_undoes_the_transaction(client, patient, resource, status):
    first = await made(client, patient)
    mark = str(uuid.uuid4())
    other = {"resource": {**patient, "identifier": [{"value": mark}]}, "request": {"method": "POST", "url": "Patient"}}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [other, entry(f"Patient/{first['id']}", resource)],
    }
    answer = await client.post("", content=json.dumps(bundle), headers=FHIR)
    assert answer.status_code == status, answer.text
    assert issue_of(answer)["expression"][0].startswith("Bundle.entry[1]")
    assert (await client.get(f"Patient?identifier={mark}&_total=accurate")).json()["total"] == 0
    assert (await client.get(f"Patient/{first['id']}")).json() == first
