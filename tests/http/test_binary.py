"""Binary raw and as FHIR: https://hl7.org/fhir/R4/binary.html#rest"""

import json
from base64 import b64encode

import pytest

from resources.xml_format import decode, encode
from tests.http.conftest import BASE, FHIR, issue_of, made, serving

pytestmark = pytest.mark.anyio

PDF = bytes(range(256)) * 8
AS_FHIR = {"Accept": "application/fhir+json"}


async def sent(client, content=PDF, content_type="application/pdf", **headers):
    answer = await client.post("Binary", content=content, headers={"Content-Type": content_type, **headers})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_raw_content_is_kept_and_answered_byte_for_byte(client):
    binary = await sent(client)
    assert (binary["contentType"], binary["data"]) == ("application/pdf", b64encode(PDF).decode())
    answer = await client.get(f"Binary/{binary['id']}")
    assert (answer.status_code, answer.content) == (200, PDF)
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["etag"] == 'W/"1"'
    assert "last-modified" in answer.headers
    assert "x-security-context" not in answer.headers


async def test_raw_content_cannot_harm_a_browser(client):
    binary = await sent(client, b"<script>alert(1)</script>", "text/html")
    answer = await client.get(f"Binary/{binary['id']}", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


RAW = "raw"
FORMS = [
    (None, "", RAW),
    ("*/*", "", RAW),
    ("application/pdf", "", RAW),
    ("application/*", "", RAW),
    ("application/pdf;q=0.1", "", RAW),
    ("text/html, */*;q=0.1", "", RAW),
    ("image/png, application/pdf;q=0.5, application/fhir+json;q=0.1", "", RAW),
    ("application/fhir+json", "", "json"),
    ("application/fhir+xml", "", "xml"),
    ("application/fhir+json;fhirVersion=4.0", "", "json"),
    ("*/*, application/fhir+json", "", "json"),
    ("application/pdf;q=0.5, application/fhir+xml", "", "xml"),
    ("image/png, application/fhir+json;q=0.5", "", "json"),
    ("application/json", "", "json"),
    ("text/xml", "", "xml"),
    ("application/pdf", "?_format=json", "json"),
    (None, "?_format=xml", "xml"),
    (None, "?_format=application/fhir%2Bjson", "json"),
    (None, "?_summary=true", "json"),
    (None, "?_elements=contentType", "json"),
    ("image/png", "", 406),
    ("image/*, text/turtle", "", 406),
    ("application/fhir+json; fhirVersion=5.0", "", 406),
    (None, "?_format=ttl", 406),
    (None, "?_format=application/pdf", 406),
]


@pytest.mark.parametrize(("accept", "query", "form"), FORMS, ids=str)
async def test_fhir_is_answered_where_it_is_asked_for(client, accept, query, form):
    binary = await sent(client)
    for url in (f"Binary/{binary['id']}", f"Binary/{binary['id']}/_history/1"):
        headers = {"Accept": accept} if accept is not None else {}
        request = client.build_request("GET", f"{url}{query}", headers=headers)
        if accept is None:
            del request.headers["accept"]
        answer = await client.send(request)
        if form == 406:
            assert (answer.status_code, issue_of(answer)["code"]) == (406, "not-supported")
        elif form == RAW:
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
        else:
            assert answer.headers["content-type"] == f"application/fhir+{form}; charset=utf-8"
            assert (answer.json() if form == "json" else decode(answer.content))["contentType"] == "application/pdf"


@pytest.mark.parametrize("content_type", ["application/json", "application/xml", "text/xml"])
async def test_content_of_a_general_type_is_raw(client, content_type):
    content = b'{"a":1}' if content_type == "application/json" else b'<!DOCTYPE a><a xmlns="b"/>'
    binary = await sent(client, content, content_type)
    answer = await client.get(f"Binary/{binary['id']}", headers={"Accept": content_type})
    assert (answer.content, answer.headers["content-type"]) == (content, content_type)


@pytest.mark.parametrize("content_type", ["application/fhir+json", "application/fhir+xml"])
async def test_under_a_fhir_type_a_binary_is_the_resource_and_any_other_resource_is_content(client, content_type):
    def written(resource):
        return encode(resource) if content_type.endswith("xml") else resource_json(resource)

    inner = {"resourceType": "Binary", "contentType": "text/plain", "data": "aGk="}
    binary = await sent(client, written(inner), content_type)
    assert (binary["contentType"], binary["data"]) == ("text/plain", "aGk=")
    assert (await client.get(f"Binary/{binary['id']}")).content == b"hi"
    content = written({"resourceType": "Patient", "active": True})
    binary = await sent(client, content, content_type)
    assert binary["contentType"] == content_type
    assert (await client.get(f"Binary/{binary['id']}")).content == content


def resource_json(resource):
    return json.dumps(resource).encode()


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        pytest.param(b"{", "application/fhir+json", 400, id="a FHIR body that is none"),
        pytest.param(b'{"resourceType":"Nonsense"}', "application/fhir+json", 400, id="a resource that is none"),
        pytest.param(b'{"resourceType":"Binary"}', "application/fhir+json", 400, id="a Binary without content type"),
        pytest.param(b'<Binary xmlns="http://hl7.org/fhir"><x/></Binary>', "application/fhir+xml", 400, id="XML that is wrong"),
        pytest.param(b"{}", "application/fhir+json; charset=latin-1", 415, id="another charset"),
        pytest.param(b"x", "", 415, id="no content type"),
        pytest.param(b"x", "no type at all", 422, id="a content type that is none"),
    ],
)  # fmt: skip
async def test_what_is_no_content_is_refused(client, content, content_type, status):
    answer = await client.post("Binary", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert issue_of(answer)["severity"] == "error"


async def test_content_type_parameters_are_kept(client):
    binary = await sent(client, "é".encode("latin-1"), "text/plain;  charset=iso-8859-1")
    assert binary["contentType"] == "text/plain; charset=iso-8859-1"
    answer = await client.get(f"Binary/{binary['id']}", headers={"Accept": "text/plain"})
    assert (answer.headers["content-type"], answer.content) == ("text/plain; charset=iso-8859-1", b"\xe9")


async def test_empty_content_is_content(client):
    binary = await sent(client, b"", "text/plain")
    assert "data" not in binary
    answer = await client.get(f"Binary/{binary['id']}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


async def test_a_content_type_that_no_header_may_be_is_told_as_unknown(client):
    binary = await made(client, {"resourceType": "Binary", "contentType": "pdf", "data": "aGk="})
    assert (await client.get(f"Binary/{binary['id']}")).headers["content-type"] == "application/octet-stream"


async def test_the_security_context_goes_in_and_out_as_a_header(client, patient):
    name = (await made(client, patient))["id"]
    for context in (f"Patient/{name}", f"{BASE}/Patient/{name}", "https://elsewhere.example.org/fhir/Patient/1"):
        binary = await sent(client, **{"X-Security-Context": context})
        assert binary["securityContext"] == {"reference": context}
        answer = await client.get(f"Binary/{binary['id']}")
        assert answer.headers["x-security-context"] == context


@pytest.mark.parametrize(
    "context", ["", "Nonsense/1", "nobody", "#x", "urn:uuid:1", "Patient?name=x", "javascript:alert(1)"]
)
async def test_a_security_context_that_is_no_reference_is_refused(client, context):
    headers = {"Content-Type": "text/plain", "X-Security-Context": context}
    answer = await client.post("Binary", content=b"x", headers=headers)
    assert (answer.status_code, issue_of(answer)["expression"]) == (400, ["Binary.securityContext"])


async def test_a_resource_says_its_security_context_itself(client):
    inner = {"resourceType": "Binary", "contentType": "text/plain", "securityContext": {"reference": "Patient/1"}}
    for context, status in (("Patient/1", 201), ("Patient/2", 400)):
        headers = {**FHIR, "X-Security-Context": context}
        assert (await client.post("Binary", content=resource_json(inner), headers=headers)).status_code == status


async def test_raw_content_is_updated_by_version(client):
    binary = await sent(client)
    url = f"Binary/{binary['id']}"
    headers = {"Content-Type": "text/plain", "If-Match": 'W/"1"'}
    updated = await client.put(url, content=b"second", headers=headers)
    assert (updated.status_code, updated.json()["meta"]["versionId"]) == (200, "2")
    assert (await client.put(url, content=b"third", headers=headers)).status_code == 412
    assert (await client.get(url)).content == b"second"
    assert (await client.get(f"{url}/_history/1")).content == PDF
    assert (await client.get(f"{url}/_history/1")).headers["content-type"] == "application/pdf"
    created = await client.put("Binary/raw-new", content=b"x", headers={"Content-Type": "text/plain"})
    assert (created.status_code, created.json()["id"]) == (201, "raw-new")


async def test_reads_are_conditional_and_head_tells_the_length(client):
    binary = await sent(client)
    url = f"Binary/{binary['id']}"
    held = await client.get(url, headers={"If-None-Match": 'W/"1"'})
    assert (held.status_code, held.content) == (304, b"")
    head = await client.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(PDF)))
    assert head.headers["content-type"] == "application/pdf"
    await client.delete(url)
    assert issue_of(await client.get(url))["code"] == "deleted"
    assert (await client.get("Binary/never")).status_code == 404


async def test_a_binary_cannot_be_patched(client):
    binary = await sent(client)
    for content_type in ("application/json-patch+json", "application/fhir+json", "application/pdf"):
        answer = await client.patch(f"Binary/{binary['id']}", content=b"[]", headers={"Content-Type": content_type})
        assert (answer.status_code, issue_of(answer)["code"]) == (405, "not-supported")


async def test_inside_bundles_a_binary_is_fhir(client):
    binary = await sent(client, b"hi", "text/plain")
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": f"Binary/{binary['id']}"}}],
    }
    answer = await client.post("", content=resource_json(batch), headers=FHIR)
    assert answer.json()["entry"][0]["resource"] == binary
    found = (await client.get(f"Binary?_id={binary['id']}")).json()
    assert found["entry"][0]["resource"] == binary
    assert (await client.get(f"Binary/{binary['id']}/_history")).json()["entry"][0]["resource"] == binary


async def test_content_beyond_the_limit_is_refused(tmp_path):
    async with serving(tmp_path, body_limit=1000) as client:
        headers = {"Content-Type": "application/pdf"}
        assert (await client.post("Binary", content=b"x" * 1001, headers=headers)).status_code == 413
        binary = await client.post("Binary", content=b"x" * 1000, headers=headers)
        assert (await client.get(f"Binary/{binary.json()['id']}")).content == b"x" * 1000


async def test_compressed_content_is_refused(client):
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    assert (await client.post("Binary", content=b"x", headers=headers)).status_code == 415


async def test_a_conditional_create_takes_raw_content(client):
    headers = {"Content-Type": "text/plain", "If-None-Exist": "_id=nobody"}
    assert (await client.post("Binary", content=b"x", headers=headers)).status_code == 201


async def test_a_content_type_that_is_absent_for_a_reason_is_told_as_unknown(client):
    reason = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
    binary = await made(client, {"resourceType": "Binary", "_contentType": {"extension": [reason]}, "data": "aGk="})
    answer = await client.get(f"Binary/{binary['id']}")
    assert (answer.content, answer.headers["content-type"]) == (b"hi", "application/octet-stream")
