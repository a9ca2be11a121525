"""No bad input ends in a 500, and none leaves anything behind: https://hl7.org/fhir/R4/http.html#Status-Codes"""

import json

import pytest

from fhir_server.http.table import ROUTES
from tests.http.conftest import FHIR, issue_of, serving

pytestmark = pytest.mark.anyio

PATIENT = b'{"resourceType":"Patient","active":true}'

BODIES = [
    pytest.param(b"", 400, id="an empty body"),
    pytest.param(b"   ", 400, id="a blank body"),
    pytest.param(b"{", 400, id="cut short"),
    pytest.param(b"null", 400, id="null"),
    pytest.param(b"[]", 400, id="an array"),
    pytest.param(b'"Patient"', 400, id="a string"),
    pytest.param(b"{}", 400, id="no resourceType"),
    pytest.param(b'{"resourceType":5}', 400, id="a resourceType that is no string"),
    pytest.param(b'{"resourceType":["Patient"]}', 400, id="a resourceType that is an array"),
    pytest.param(b'{"resourceType":"Nonsense"}', 400, id="an unknown resourceType"),
    pytest.param(b'{"resourceType":"Observation"}', 400, id="another type than the URL's"),
    pytest.param(b'{"resourceType":"Patient","active":true,"active":false}', 400, id="a duplicate key"),
    pytest.param(b'{"resourceType":"Patient","multipleBirthInteger":NaN}', 400, id="NaN"),
    pytest.param(b'{"resourceType":"Patient","multipleBirthInteger":Infinity}', 400, id="Infinity"),
    pytest.param(
        b'{"resourceType":"Patient","multipleBirthInteger":' + b"9" * 5000 + b"}", 400, id="an endless integer"
    ),
    pytest.param(b'{"resourceType":"Patient","multipleBirthInteger":1e999999999}', 400, id="an endless exponent"),
    pytest.param(b'{"resourceType":"Patient","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, id="deep arrays"),
    pytest.param(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400, id="deep objects"),
    pytest.param(b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}', 400, id="a lone surrogate"),
    pytest.param(b'{"resourceType":"Patient","name":[{"family":"\\u0000"}]}', 400, id="U+0000"),
    pytest.param(b'{"resourceType":"Patient","name":[{"family":"\xff"}]}', 400, id="bad UTF-8"),
    pytest.param(b"\xef\xbb\xbf" + PATIENT, 400, id="a byte order mark"),
    pytest.param(PATIENT + b"x", 400, id="trailing text"),
    pytest.param(PATIENT + PATIENT, 400, id="two resources"),
    pytest.param(b'{"resourceType":"Patient","active":"true"}', 400, id="a wrong type"),
    pytest.param(b'{"resourceType":"Patient","active":null}', 400, id="a null"),
    pytest.param(b'{"resourceType":"Patient","name":[]}', 400, id="an empty array"),
    pytest.param(b'{"resourceType":"Patient","name":[{}]}', 400, id="an empty object"),
    pytest.param(b'{"resourceType":"Patient","name":{"family":"x"}}', 400, id="an object for an array"),
    pytest.param(b'{"resourceType":"Patient","birthDate":"2024-13-01"}', 400, id="no date"),
    pytest.param(b'{"resourceType":"Patient","meta":5}', 400, id="a meta that is no object"),
    pytest.param(b'{"resourceType":"Patient","meta":{"tag":5}}', 400, id="a tag that is no array"),
    pytest.param(b'{"resourceType":"Patient","id":5}', 400, id="an id that is no string"),
    pytest.param(b'{"resourceType":"Patient","contained":[5]}', 400, id="contained that is no resource"),
]


async def count(client):
    return (await client.get("_history?_count=0")).json()["total"]


@pytest.mark.parametrize(("body", "status"), BODIES)
@pytest.mark.parametrize("request_line", ["POST Patient", "PUT Patient/refused"])
async def test_a_bad_body_is_refused_and_leaves_nothing(client, body, status, request_line):
    method, url = request_line.split()
    before = await count(client)
    answer = await client.request(method, url, content=body, headers=FHIR)
    assert answer.status_code == status
    assert issue_of(answer)["severity"] == "error"
    assert await count(client) == before


@pytest.mark.parametrize(("body", "status"), BODIES)
async def test_a_bad_resource_in_a_bundle_undoes_the_whole(client, body, status):
    before = await count(client)
    good = b'{"resource":' + PATIENT + b',"request":{"method":"POST","url":"Patient"}}'
    bad = b'{"resource":' + (body or b"5") + b',"request":{"method":"POST","url":"Patient"}}'
    bundle = b'{"resourceType":"Bundle","type":"transaction","entry":[' + good + b"," + bad + b"]}"
    answer = await client.post("", content=bundle, headers=FHIR)
    assert answer.status_code == status
    assert issue_of(answer)["severity"] == "error"
    assert await count(client) == before


@pytest.mark.parametrize(
    ("method", "url", "status", "code"),
    [
        pytest.param("GET", "Nonsense/1", 404, "not-supported", id="an unknown type"),
        pytest.param("GET", "patient/1", 404, "not-supported", id="types have their case"),
        pytest.param("GET", "Patient/1/2/3/4", 404, "not-found", id="a path of no form"),
        pytest.param("GET", "Patient/1/nonsense", 404, "not-found", id="an unknown third segment"),
        pytest.param("GET", "Patient/1/$nothing", 404, "not-supported", id="an operation"),
        pytest.param("POST", "$nonsense", 404, "not-supported", id="an unknown operation"),
        pytest.param("GET", "nonsense", 404, "not-supported", id="an unknown word"),
        pytest.param("PATCH", "Binary/1", 405, "not-supported", id="PATCH of a Binary"),
        pytest.param("PUT", "Patient", 400, "invalid", id="a conditional update without criteria"),
        pytest.param("DELETE", "Patient", 400, "invalid", id="a conditional delete without criteria"),
        pytest.param("POST", "Patient/1", 405, "not-supported", id="POST on an instance"),
        pytest.param("DELETE", "metadata", 405, "not-supported", id="DELETE of the statement"),
        pytest.param("BREW", "Patient/1", 405, "not-supported", id="an unknown method"),
        pytest.param("GET", "Patient?nonsense=1", 400, None, id="an unknown search parameter"),
        pytest.param("GET", "Patient?name=%FF", 400, "invalid", id="a query that is no UTF-8"),
        pytest.param("GET", "Patient?birthdate=x", 400, None, id="a bad date"),
        pytest.param("GET", "Patient?_count=-1", 400, None, id="a negative count"),
        pytest.param("GET", "Patient?" + "&".join(["name=x"] * 1500), 400, "too-costly", id="endless parameters"),
        pytest.param("GET", "Patient/1?_format=html", 406, "not-supported", id="HTML by _format"),
        pytest.param("GET", "Patient/1?_format=ttl", 406, "not-supported", id="Turtle by _format"),
        pytest.param("GET", "Patient/1?_format=json&_format=json", 400, "invalid", id="a general parameter twice"),
        pytest.param("GET", "?_type=Nonsense", 400, "invalid", id="a search over an unknown type"),
        pytest.param("PUT", "Patient/a_b", 400, None, id="an id of other characters"),
        pytest.param("PUT", "Patient/" + "a" * 65, 400, None, id="an id that is too long"),
        pytest.param("GET", "Patient/" + "a" * 5000, 404, "not-found", id="a read of an id that is too long"),
        pytest.param("GET", "Patient/_history?_list=$current-problems", 400, "not-supported", id="a functional list"),
        pytest.param("GET", "Patient/_history?_since=x", 400, "invalid", id="a bad _since"),
        pytest.param("GET", "Patient/_history?_since=2020&_since=2021", 400, "invalid", id="_since twice"),
        pytest.param("GET", "Patient/_history?_cursor=forged", 400, None, id="a forged cursor"),
        pytest.param("GET", "Patient?_cursor=forged", 400, None, id="a forged search cursor"),
        pytest.param("GET", "metadata?mode=terminology", 400, "not-supported", id="TerminologyCapabilities"),
    ],
)
async def test_a_request_that_cannot_be_served_says_why(client, method, url, status, code):
    answer = await client.request(
        method, url, content=PATIENT if method in ("PUT", "POST", "PATCH") else None, headers=FHIR
    )
    assert answer.status_code == status, answer.text
    issue = issue_of(answer)
    assert code in (None, issue["code"])
    assert issue["diagnostics"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/fhir+json"}, 201),
        ({"Content-Type": "application/fhir+json; charset=UTF-8"}, 201),
        ({"Content-Type": "application/json;fhirVersion=4.0"}, 201),
        ({"Content-Type": "application/fhir+json; fhirVersion=3.0"}, 415),
        ({"Content-Type": "application/fhir+json; charset=latin-1"}, 415),
        ({"Content-Type": "application/fhir+xml"}, 400),
        ({"Content-Type": "application/fhir+turtle"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({**FHIR, "Content-Encoding": "identity"}, 201),
        ({**FHIR, "Content-Encoding": "gzip"}, 415),
        ({**FHIR, "Content-Encoding": "br"}, 415),
        ({**FHIR, "Accept": "application/fhir+json"}, 201),
        ({**FHIR, "Accept": "application/fhir+json; fhirVersion=4.0"}, 201),
        ({**FHIR, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, 201),
        ({**FHIR, "Accept": "application/fhir+xml;q=0.9, application/json;q=0.1"}, 201),
        ({**FHIR, "Accept": "application/fhir+json; fhirVersion=5.0"}, 406),
        ({**FHIR, "Accept": "application/fhir+xml"}, 201),
        ({**FHIR, "Accept": "application/fhir+xml; fhirVersion=3.0"}, 406),
        ({**FHIR, "Accept": "text/turtle"}, 406),
        ({**FHIR, "Accept": "application/json;q=0"}, 201),
        ({**FHIR, "Accept": "image/png, application/json;q=nonsense"}, 406),
        ({**FHIR, "Prefer": "return=nonsense"}, 400),
        ({**FHIR, "Prefer": "handling=nonsense"}, 400),
    ],
    ids=lambda value: " ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value),
)
async def test_headers_are_negotiated(client, headers, status):
    answer = await client.post("Patient", content=PATIENT, headers=headers)
    assert answer.status_code == status, answer.text


async def test_a_method_that_is_not_there_answers_what_is(client):
    for route in ROUTES:
        url = route.shape.strip("/").replace("{type}", "Patient").replace("{id}", "1")
        url = url.replace("{version}", "1").replace("{member}", "Observation")
        answer = await client.request("TRACE", url)
        assert answer.status_code == 405
        assert set(route.methods) <= set(answer.headers["allow"].split(", "))


async def test_a_body_beyond_the_limit_is_413_declared_or_not(tmp_path):
    async def streamed():
        for _ in range(40):
            yield b" " * 100

    async with serving(tmp_path, body_limit=2000) as client:
        for content in (b" " * 4000, streamed()):
            answer = await client.post("Patient", content=content, headers=FHIR)
            assert (answer.status_code, issue_of(answer)["code"]) == (413, "too-long")
        assert (await client.post("Patient", content=PATIENT, headers=FHIR)).status_code == 201


async def test_a_bundle_of_too_many_entries_is_413(tmp_path):
    entry = {"resource": json.loads(PATIENT), "request": {"method": "POST", "url": "Patient"}}
    async with serving(tmp_path, entry_limit=3) as client:
        for kind in ("batch", "transaction"):
            body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": [entry] * 4})
            assert (await client.post("", content=body, headers=FHIR)).status_code == 413


async def test_a_fault_of_the_server_tells_nothing(tmp_path, monkeypatch, capsys):
    async with serving(tmp_path) as client:
        app = client._transport.app

        async def broken(*_args):
            raise RuntimeError("the secret of Peter Chalmers")

        monkeypatch.setattr(type(app.state.service.store), "read", broken)
        answer = await client.get("Patient/1", headers={"X-Request-Id": "abc-1"})
        assert (answer.status_code, issue_of(answer)["code"]) == (500, "exception")
        assert "Chalmers" not in answer.text
        assert "abc-1" in answer.text
        logged = capsys.readouterr()
        assert "Chalmers" not in logged.out + logged.err
        assert "abc-1" in logged.out + logged.err
