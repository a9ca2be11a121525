"""Attacks by size, by form and by what is written into values (34-38); each ends in a 4xx or a plain answer, soon, and never in a 5xx."""

import asyncio
import gzip
import json
import time
from urllib.parse import quote

import pytest

from tests.attacks.verdicts import bundle, entry, ids, is_refused, tells_nothing

pytestmark = pytest.mark.anyio

ALL, ANN, DESK = "ann-with-all", "ann-writing", "receptionist"
NOTE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "pulse"},
    "subject": {"reference": "Patient/ann"},
    "performer": [{"reference": "Patient/ann"}],
}
SOON = 5.0
"""Seconds."""


async def _soon(asked):
    """The answer, which must not take long."""
    begun = time.monotonic()
    answer = await asked
    assert time.monotonic() - begun < SOON
    return answer


@pytest.mark.parametrize(
    "query",
    [
        "_count=1000000000",
        "_count=-1",
        "_count=0x10",
        "_count=" + "9" * 30,
        "_include:iterate=*&_revinclude:iterate=*",
        "_id=" + ",".join(f"x{n}" for n in range(10_000))[:30_000],
        "&".join(f"subject:Patient.name=a{n}" for n in range(500)),
        "subject:Patient.link:Patient.link:Patient.link:Patient.link:Patient.link:Patient.link:Patient.link:Patient.link:Patient.link:Patient.name=x",
        "_has:Observation:subject:_has:Observation:focus:_has:Observation:focus:_has:Observation:focus:_has:Observation:focus:_has:Observation:focus:_has:Observation:focus:_has:Observation:focus:_has:Observation:focus:code=x",
        "_sort=" + ",".join(["code", "-code"] * 20),
        "_include=" + "&_include=".join(["Observation:subject"] * 100),
        "_filter=" + "(" * 2000 + "code eq x" + ")" * 2000,
        "_filter=" + " and ".join(["code eq x"] * 2000),
        "x=" + "y" * 40_000,
    ],
    ids=lambda query: query[:40],
)
async def test_attack_34_costly_searches_are_refused_or_bounded(hospital, query):
    answer = await _soon(hospital.ask(ALL, "GET", f"Observation?{query}"))
    assert answer.status_code == 200 or is_refused(answer)
    assert tells_nothing(answer)


async def test_attack_34_a_huge_batch_is_refused(hospital):
    posted = bundle("batch", *[entry("GET", "Patient/ann")] * 10_001)
    assert (await _soon(hospital.ask(ALL, "POST", "", posted))).status_code == 413


async def test_attack_34_many_requests_at_once_are_all_answered(hospital):
    answers = await asyncio.gather(*[hospital.ask(ALL, "GET", "Observation?_count=1") for _ in range(50)])
    assert {answer.status_code for answer in answers} <= {200, 429, 503}


@pytest.mark.parametrize(
    "body",
    [
        '{"resourceType":"Observation","a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"resourceType":"Observation","contained":' + '[{"contained":' * 5000 + "[]" + "}]" * 5000 + "}",
        json.dumps(NOTE)[:-1] + ',"subject":{"reference":"Patient/quagga"}}',
        '{"resourceType":"Observation","resourceType":"Patient"}',
        json.dumps(NOTE)[:-1] + ',"valueInteger":' + "9" * 5000 + "}",
        json.dumps(NOTE)[:-1] + ',"valueQuantity":{"value":NaN}}',
        json.dumps(NOTE)[:-1] + ',"valueString":"\\ud800"}',
        json.dumps(NOTE)[:-1] + ',"__proto__":{"status":"x"}}',
        json.dumps(NOTE)[:-1] + ',"valueString":"\\u0000"}',
        "null",
        "[]",
        '"Observation"',
        "{",
        "",
    ],
    ids=lambda body: f"{body[:20]}..{body[-30:]}",
)
async def test_attack_35_odd_json_is_refused(hospital, body):
    answer = await _soon(hospital.ask(ANN, "POST", "Observation", body or " "))
    assert answer.status_code in (400, 413, 422)
    assert is_refused(answer)


@pytest.mark.parametrize(
    "number", ["1e999999", "-1e999999", "1e-999999", "0." + "0" * 4000 + "1"], ids=lambda number: number[:10]
)
async def test_attack_35_a_huge_number_is_kept_or_refused_and_stops_no_search(hospital, number):
    posted = json.dumps(NOTE)[:-1] + f',"valueQuantity":{{"value":{number}}}}}'
    answer = await _soon(hospital.ask(ANN, "POST", "Observation", posted))
    assert answer.status_code == 201 or is_refused(answer)
    for query in (
        "",
        f"value-quantity={number}",
        "value-quantity=gt1",
        "_sort=value-quantity",
        "_sort=-value-quantity&_count=1",
    ):
        found = await _soon(hospital.ask(ANN, "GET", f"Observation?{query}"))
        assert found.status_code == 200 or is_refused(found)


async def test_attack_35_a_byte_order_mark_or_another_charset_changes_nothing(hospital):
    text = json.dumps({**NOTE, "subject": {"reference": "Patient/quagga"}})
    for body in (b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.encode("utf-32")):
        answer = await hospital.ask(ANN, "POST", "Observation", body)
        assert answer.status_code in (400, 403)
    assert (
        await hospital.ask(
            ANN, "POST", "Observation", json.dumps(NOTE), Content_Type="application/fhir+json; charset=utf-7"
        )
    ).status_code in (201, 400, 415)


async def test_attack_35_a_compressed_body_is_not_unpacked(hospital):
    bomb = gzip.compress(b" " * 10_000_000)
    answer = await _soon(hospital.ask(ANN, "POST", "Observation", bomb, Content_Encoding="gzip"))
    assert answer.status_code in (400, 413, 415)


XML = {"Content_Type": "application/fhir+xml"}
ROOT = '<Observation xmlns="http://hl7.org/fhir"><status value="final"/><code><text value="{}"/></code><subject><reference value="Patient/ann"/></subject><performer><reference value="Patient/ann"/></performer></Observation>'


@pytest.mark.parametrize(
    "body",
    [
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + ROOT.format("&e;"),
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + ROOT.format("x"),
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
        + ROOT.format("&c;"),
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]>' + ROOT.format("x"),
        ROOT.format("x").replace(
            "<status",
            '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/><status',
        ),
        "<a>" * 20_000 + "</a>" * 20_000,
    ],
    ids=["entity", "dtd", "laughs", "parameter-entity", "xinclude", "deep"],
)
async def test_attack_36_odd_xml_is_refused(hospital, body):
    answer = await _soon(hospital.ask(ANN, "POST", "Observation", body, **XML))
    assert answer.status_code in (400, 422)
    assert "root:" not in answer.text


async def test_attack_36_a_processing_instruction_is_not_carried_out(hospital):
    body = '<?xml-stylesheet type="text/xsl" href="http://127.0.0.1:9/x.xsl"?>' + ROOT.format("x")
    answer = await hospital.ask(ANN, "POST", "Observation", body, **XML, Accept="application/fhir+json")
    assert answer.status_code == 400 or "stylesheet" not in answer.text


@pytest.mark.parametrize(
    "div",
    [
        '<div xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><img src="x" onerror="alert(1)"/></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><a href="javascript:alert(1)">x</a></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><iframe src="//x"/></div>',
        '<div xmlns="http://www.w3.org/1999/xhtml"><object data="x"/></div>',
    ],
    ids=["script", "onerror", "javascript", "iframe", "object"],
)
async def test_attack_37_active_narrative_is_refused(hospital, div):
    posted = json.dumps({**NOTE, "text": {"status": "generated", "div": div}})
    assert (await hospital.ask(ANN, "POST", "Observation", posted)).status_code in (400, 422)


async def test_attack_37_what_is_said_in_a_request_comes_back_as_data(hospital):
    for path in (
        "Observation?%3Cscript%3Ealert(1)%3C/script%3E=1",
        "Observation/%3Cscript%3E",
        "Patient?name=%3Cimg%20onerror%3D1%3E",
    ):
        for accept in ("text/html", "*/*", "application/fhir+json"):
            answer = await hospital.ask(ALL, "GET", path, Accept=accept)
            assert not answer.headers["content-type"].startswith("text/html")
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_attack_37_a_binary_is_never_run(hospital):
    page = {"resourceType": "Binary", "contentType": "text/html", "data": "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="}
    made = (await hospital.ask("integration", "POST", "Binary", json.dumps(page))).json()
    answer = await hospital.ask("integration", "GET", f"Binary/{made['id']}", Accept="text/html")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"].startswith("attachment")


INJECTIONS = (
    "' OR '1'='1",
    "'; DROP TABLE resource; --",
    '" OR ""="',
    "%",
    "_%",
    "\\",
    "\\|",
    "$.name",
    "a' UNION SELECT body FROM resource--",
    "x) OR 1=1 --",
    "*",
    "((((",
    "a" * 5000 + "!",
    "\u202e\u0000x",
    "{{7*7}}",
    "%s%n",
)


@pytest.mark.parametrize("value", INJECTIONS, ids=lambda value: value[:24].encode("unicode_escape").decode())
async def test_attack_38_values_are_values(hospital, value):
    for name in (
        "code",
        "subject",
        "_id",
        "identifier",
        "value-string",
        "value-quantity",
        "date",
        "_filter",
        "_sort",
        "_include",
        "_elements",
        "_list",
        "_lastUpdated",
        "_profile",
        "subject:Patient.name",
        "code:text",
        "code:in",
    ):
        answer = await _soon(hospital.ask(ALL, "GET", f"Observation?{name}={quote(value)}"))
        assert answer.status_code < 500
        assert tells_nothing(answer)
    assert len(ids(await hospital.ask(ALL, "GET", "Observation?_count=100"))) >= 3


@pytest.mark.parametrize(
    "patch",
    [
        {
            "resourceType": "Parameters",
            "parameter": [
                {
                    "name": "operation",
                    "part": [
                        {"name": "type", "valueCode": "replace"},
                        {
                            "name": "path",
                            "valueString": "Patient.repeat(descendants()).where("
                            + "repeat(descendants())." * 20
                            + "count() > 0)",
                        },
                        {"name": "value", "valueString": "x"},
                    ],
                }
            ],
        },
        {
            "resourceType": "Parameters",
            "parameter": [
                {
                    "name": "operation",
                    "part": [
                        {"name": "type", "valueCode": "delete"},
                        {"name": "path", "valueString": "Patient.name.where(family.matches('(a+)+$'))"},
                    ],
                }
            ],
        },
        {
            "resourceType": "Parameters",
            "parameter": [
                {
                    "name": "operation",
                    "part": [
                        {"name": "type", "valueCode": "delete"},
                        {"name": "path", "valueString": "%resource.resolve()"},
                    ],
                }
            ],
        },
    ],
    ids=["runaway", "regular-expression", "resolve"],
)
async def test_attack_38_paths_of_patches_stay_cheap(hospital, patch):
    answer = await _soon(hospital.ask(DESK, "PATCH", "Patient/ann", json.dumps(patch)))
    assert is_refused(answer) or answer.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/__proto__/x", "/name/99999999999999999999", "/name/-1", "/" + "a/" * 5000, "name", "/meta/versionId/..", "/~2"],
    ids=lambda path: path[:20],
)
async def test_attack_38_pointers_of_patches_stay_inside(hospital, path):
    patch = json.dumps([{"op": "replace", "path": path, "value": "x"}])
    answer = await _soon(hospital.ask(DESK, "PATCH", "Patient/ann", patch, Content_Type="application/json-patch+json"))
    assert is_refused(answer)
