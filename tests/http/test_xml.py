"""Every interaction in XML: https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/xml.html"""

import asyncio
import json
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.json_format import encode as to_json
from resources.xml_format import decode, encode
from tests.http.conftest import FHIR, made, serving
from tests.strategies import SENT, resources

pytestmark = pytest.mark.anyio

XML = {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+xml"}
PATIENT = (
    b'<Patient xmlns="http://hl7.org/fhir"><active value="true"/><name><family value="Chalmers"/></name></Patient>'
)


def read(answer):
    """The answer's resource, which is XML."""
    assert answer.headers["content-type"] == "application/fhir+xml; charset=utf-8"
    assert "Accept" in answer.headers.get_list("vary")
    ET.fromstring(answer.content)
    return decode(answer.content)


async def test_a_resource_is_created_read_updated_and_patched_in_xml(client):
    created = await client.post("Patient", content=PATIENT, headers=XML)
    assert created.status_code == 201
    patient = read(created)
    url = f"Patient/{patient['id']}"
    assert created.headers["location"].endswith(f"{url}/_history/1")
    assert read(await client.get(url, headers=XML)) == patient == (await client.get(url)).json()
    patient["name"][0]["given"] = ["Peter"]
    updated = await client.put(url, content=encode(patient), headers=XML)
    assert (updated.status_code, read(updated)["meta"]["versionId"]) == (200, "2")
    patch = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "replace"},
                    {"name": "path", "valueString": "Patient.active"},
                    {"name": "value", "valueBoolean": False},
                ],
            }
        ],
    }
    patched = await client.patch(url, content=encode(patch), headers=XML)
    assert (patched.status_code, read(patched)["active"]) == (200, False)
    assert read(await client.get(f"{url}/_history/1", headers=XML))["active"] is True
    assert (await client.delete(url, headers=XML)).status_code == 204
    gone = await client.get(url, headers=XML)
    assert (gone.status_code, read(gone)["issue"][0]["code"]) == (410, "deleted")


async def test_tokens_come_back_as_written_through_xml(client):
    body = (
        '<Observation xmlns="http://hl7.org/fhir"><status value="final"/><code><text value="a&#10;b"/></code>'
        '<effectiveDateTime value="2024-02-29T00:00:00.000Z"/><valueQuantity><value value="1.00"/></valueQuantity></Observation>'
    )
    created = await client.post(
        "Observation", content=body.encode(), headers={**XML, "Accept": "application/fhir+json"}
    )
    assert b'"value":1.00' in created.content
    assert '"text":"a\\nb"' in created.text
    again = await client.get(f"Observation/{created.json()['id']}?_format=xml")
    assert '<value value="1.00"/>' in again.text
    assert 'value="2024-02-29T00:00:00.000Z"' in again.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "application/fhir+xml"},
        {"Accept": "application/xml"},
        {"Accept": "text/xml; charset=utf-8"},
        {"Accept": "application/fhir+xml; fhirVersion=4.0"},
        {"Accept": "application/fhir+json;q=0.5, application/fhir+xml;q=0.9"},
        {"Accept": "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8"},
        {"Accept": "*/*, application/fhir+xml"},
        {"Accept": "application/fhir+json;q=0, */*"},
        {"Accept": "text/turtle, text/xml"},
    ],
    ids=lambda headers: headers["Accept"],
)
async def test_accept_asks_for_xml(client, headers):
    assert read(await client.get("metadata", headers=headers))["resourceType"] == "CapabilityStatement"


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/*", "application/fhir+json, application/fhir+xml", "application/fhir+xml;q=0, */*", "application/fhir+xml;q=0.1, */*"],
)  # fmt: skip
async def test_json_is_the_default(client, accept):
    answer = await client.get("metadata", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    ["xml", "application/fhir%2Bxml", "application/fhir+xml", "application/xml", "text/xml", "application/xml+fhir"],
)
async def test_format_beats_accept(client, name):
    answer = await client.get(f"metadata?_format={name}", headers={"Accept": "application/fhir+json"})
    assert read(answer)["resourceType"] == "CapabilityStatement"


@pytest.mark.parametrize(
    "content_type", ["application/fhir+xml;charset=UTF-8", "application/xml", "text/xml", "APPLICATION/FHIR+XML"]
)
async def test_xml_is_taken_under_its_names(client, content_type):
    answer = await client.post("Patient", content=PATIENT, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["name"]) == (201, [{"family": "Chalmers"}])


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "Patient/never", 404),
        ("GET", "Nonsense/1", 404),
        ("BREW", "Patient/1", 405),
        ("GET", "Patient?nonsense=1", 400),
        ("GET", "Patient?name=%FF", 400),
        ("GET", "Patient/1?_pretty=perhaps", 400),
        ("GET", "Patient?" + "x" * 40_000, 414),
        ("GET", "Binary/never", 404),
    ],
)
async def test_a_fault_is_told_in_xml(client, method, url, status):
    for asked in (
        {"headers": {"Accept": "application/fhir+xml"}},
        {"url": f"{url}{'&' if '?' in url else '?'}_format=xml"},
    ):
        answer = await client.request(method, **{"url": url, **asked})
        assert answer.status_code == status
        assert read(answer)["resourceType"] == "OperationOutcome"


async def test_a_fault_of_negotiation_is_told_in_json(client):
    for headers in ({"Accept": "image/png"}, {"Accept": "application/fhir+xml; fhirVersion=5.0"}):
        answer = await client.get("Patient/never", headers=headers)
        assert (answer.status_code, answer.json()["issue"][0]["code"]) == (406, "not-supported")


async def test_a_body_beyond_the_limit_is_refused_in_xml(tmp_path):
    async with serving(tmp_path, body_limit=1000) as client:
        answer = await client.post("Patient", content=b"<" + b"x" * 1000, headers=XML)
        assert (answer.status_code, read(answer)["issue"][0]["code"]) == (413, "too-long")


BODIES = {
    "no XML": b"{}",
    "an empty body": b"",
    "a cut document": PATIENT[:-3],
    "a document type": b"<!DOCTYPE Patient>" + PATIENT,
    "an unknown element": PATIENT.replace(b"active", b"aktiv"),
    "another type than the URL's": PATIENT.replace(b"Patient", b"Basic"),
    "no namespace": PATIENT.replace(b' xmlns="http://hl7.org/fhir"', b""),
    "a wrong value": PATIENT.replace(b"true", b"yes"),
    "an id that is wrong": PATIENT.replace(b"<active", b'<id value="a b"/><active'),
    "a script in the narrative": PATIENT.replace(
        b"<active",
        b'<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml"><script>1</script></div></text><active',
    ),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("line", ["POST Patient", "PUT Patient/xml-refused"])
async def test_a_bad_body_is_refused(client, line, body):
    method, url = line.split()
    answer = await client.request(method, url, content=body, headers=XML)
    assert answer.status_code in (400, 422)
    assert read(answer)["issue"][0]["severity"] == "error"
    assert (await client.get("Patient/xml-refused")).status_code == 404


async def test_faults_of_xml_and_of_values_are_told_together(client):
    body = b'<Patient xmlns="http://hl7.org/fhir">\n<active value="yes"/>\n<nonsense/><birthDate value="2024-13-01"/></Patient>'
    issues = read(await client.post("Patient", content=body, headers=XML))["issue"]
    assert [(issue["expression"], issue["diagnostics"].partition(" (")[0]) for issue in issues] == [
        (["Patient.nonsense"], "is no element of Patient"),
        (["Patient.active"], "must be true or false"),
        (["Patient.birthDate"], "must be a date: YYYY, YYYY-MM or YYYY-MM-DD"),
    ]
    assert issues[0]["diagnostics"].endswith("(line 3)")


async def test_searches_histories_and_bundles_come_in_xml(client, patient):
    name = (await made(client, {**patient, "name": [{"family": "Xmlsearch"}]}))["id"]
    for url, kind, count in (
        ("Patient?name=xmlsearch", "searchset", 1),
        ("Patient?name=xmlsearch&_summary=true", "searchset", 1),
        (f"Patient/{name}/_history", "history", 1),
        (f"Patient/{name}/$everything", "searchset", 1),
        ("Patient?name=nobody", "searchset", 0),
    ):
        answer = await client.get(url, headers=XML)
        bundle = read(answer)
        assert (bundle["type"], len(bundle.get("entry", ()))) == (kind, count)
        assert bundle == (await client.get(url)).json()
    posted = await client.post(
        "Patient/_search", data={"name": "xmlsearch", "_format": "json"}, headers={"Accept": "text/xml"}
    )
    assert read(posted)["total"] == 1


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_a_bundle_in_xml_is_carried_out_and_answered(client, patient, kind):
    asked = {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            {"resource": patient, "request": {"method": "POST", "url": "Patient"}},
            {"request": {"method": "GET", "url": "Patient?name=nobody&_format=xml"}},
        ],
    }
    answer = await client.post("", content=encode(asked), headers={**XML, "Prefer": "return=representation"})
    first, second = read(answer)["entry"]
    assert (first["response"]["status"], first["resource"]["name"]) == ("201 Created", patient["name"])
    assert (second["response"]["status"], second["resource"]["total"]) == ("200 OK", 0)
    asked["entry"][0]["resource"] = {**patient, "active": "yes"}
    failed = await client.post("", content=encode(asked), headers=XML)
    issue = (read(failed)["entry"][0]["response"]["outcome"] if kind == "batch" else read(failed))["issue"][0]
    assert issue["expression"] == ["Bundle.entry[0].resource.active"]


async def test_pretty_xml_is_indented(client, patient):
    name = (await made(client, patient))["id"]
    pretty = await client.get(f"Patient/{name}?_pretty=true", headers=XML)
    plain = await client.get(f"Patient/{name}", headers=XML)
    assert "\n  <name>\n" in pretty.text
    assert "\n" not in plain.text
    assert read(pretty) == read(plain)


async def test_head_and_conditional_reads_work_in_xml(client, patient):
    name = (await made(client, patient))["id"]
    got = await client.get(f"Patient/{name}", headers=XML)
    head = await client.head(f"Patient/{name}", headers=XML)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(got.content)))
    held = await client.get(f"Patient/{name}", headers={**XML, "If-None-Match": got.headers["etag"]})
    assert (held.status_code, held.content) == (304, b"")


async def test_what_xml_cannot_carry_is_406_to_a_reader_and_json_to_a_writer(client):
    body = json.dumps({"resourceType": "Patient", "name": [{"family": "\ufffe"}]})
    written = await client.post("Patient", content=body, headers={**FHIR, "Accept": "application/fhir+xml"})
    assert (written.status_code, written.headers["content-type"]) == (201, "application/fhir+json; charset=utf-8")
    answer = await client.get(f"Patient/{written.json()['id']}", headers=XML)
    assert (answer.status_code, read(answer)["issue"][0]["code"]) == (406, "not-supported")
    assert "U+FFFE" in read(answer)["issue"][0]["diagnostics"]


async def test_a_failure_of_the_server_is_told_in_xml(client, monkeypatch):
    def broken(*_, **__):
        raise ValueError("secret")

    monkeypatch.setattr("fhir_server.http.endpoint.rendered", broken)
    answer = await client.get("metadata", headers=XML)
    assert (answer.status_code, read(answer)["issue"][0]["code"]) == (500, "exception")
    assert "secret" not in answer.text


async def test_an_answer_too_deep_for_xml_is_406(tmp_path):
    def nested(levels):
        inner = {"url": "x", "valueCode": "c"}
        for _ in range(levels):
            inner = {"url": "x", "extension": [inner]}
        return json.dumps({"resourceType": "Patient", "extension": [inner]})

    async with serving(tmp_path, nesting_limit=1000, invariants=False) as client:
        for levels, status in ((100, 200), (330, 406)):
            name = (await client.post("Patient", content=nested(levels), headers=FHIR)).json()["id"]
            answer = await client.get(f"Patient/{name}", headers=XML)
            assert answer.status_code == status
            assert decode(answer.content, limit_depth=1000)["resourceType"] == (
                "Patient" if status == 200 else "OperationOutcome"
            )


async def test_the_statement_tells_both_formats(client):
    assert {"json", "xml"} <= set((await client.get("metadata")).json()["format"])


async def test_large_bundles_leave_the_loop_to_others(client, patient, monkeypatch):
    pauses = 0
    sleep = asyncio.sleep

    async def counted(seconds):
        nonlocal pauses
        pauses += 1
        await sleep(seconds)

    entries = [
        {
            "resource": {**patient, "name": [{"family": "Xmlmany", "given": [str(n)] * 20}]},
            "request": {"method": "POST", "url": "Patient"},
        }
        for n in range(1000)
    ]
    body = encode({"resourceType": "Bundle", "type": "batch", "entry": entries})
    monkeypatch.setattr("fhir_server.interactions.pace.asyncio.sleep", counted)
    answer = await client.post("", content=body, headers=XML)
    assert answer.status_code == 200
    assert pauses > 3
    pauses = 0
    found = read(await client.get("Patient?family=Xmlmany&_count=1000", headers=XML))
    assert len(found["entry"]) == 1000
    assert pauses > 3


def test_resources_of_every_type_come_back_in_xml_as_they_were_sent(tmp_path_factory, rounds):
    folder = tmp_path_factory.mktemp("lossless-xml")
    with asyncio.Runner() as runner:

        @settings(max_examples=40 * rounds, suppress_health_check=list(HealthCheck))
        @given(data=st.data())
        def sent_and_read(data):
            kind = data.draw(st.sampled_from(SENT))
            runner.run(exchanged(data.draw(resources(kind)), kind))

        async def exchanged(resource, kind):
            if kind in ("SearchParameter", "Consent"):
                resource["status"] = "draft"  # an active one has to be indexable, or enforceable
            answer = await held.post(kind, content=encode(resource), headers=XML)
            assert answer.status_code == 201, answer.text
            got = await held.get(f"{kind}/{read(answer)['id']}", headers=XML)
            assert own(read(got)) == own(resource)

        serving_context = serving(folder, invariants=False)
        held = runner.run(serving_context.__aenter__())
        try:
            sent_and_read()
        finally:
            runner.run(serving_context.__aexit__(None, None, None))


def own(resource):
    """What the client said, its numbers as written."""
    meta = {
        name: value
        for name, value in resource.get("meta", {}).items()
        if name not in ("versionId", "lastUpdated", "_versionId", "_lastUpdated")
    }
    rest = {name: value for name, value in resource.items() if name not in ("id", "_id", "meta")}
    return json.loads(to_json(rest | ({"meta": meta} if meta else {})), parse_float=str)
