"""Requests that nobody should send: valid resources broken by structure and by bytes, query strings of every name and modifier.

`random_request` makes one from a `random.Random`, so that a seed and a number name it for good. It begins with what is valid
(`seeds`, the search registry's parameters, the route table's shapes) and changes a few things, because pure noise never
gets past the first check.
"""

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from resources.errors import FhirError
from resources.xml_format import encode
from search.parameters import Registry

DEMO = Path(__file__).resolve().parent / "hospital.json"
BASE = "https://fhir.example.org/fhir"

STRINGS = [
    "", " ", "x", "\x00", "\t", "\u2028", "\ud800", "é" * 300, "漢字 🩺", "a" * 70_000, "#", "#a", "?", "/", "//", "|", "\\", "'", '"', "%", ";--",
    "Patient/1", "Patient/fuzz", "Patient/", "Patient/1/_history/1", "Patient/1/_history/x", "Nonsense/1", "#contained", "urn:uuid:x",
    "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8", "urn:oid:1.2.3", "http://[", "http://[::1", "https://fhir.example.org/fhir/Patient/1",
    "https://fhir.example.org/fhir/", "Patient?identifier=a|b", "Patient?", "Patient?name=x&_sort=name", "Patient/?x", "http://x:99999999/Patient/1",
    "Observation?code:in=x", "http://example.org/a|1.0", "ftp://x", "mailto:a", "javascript:alert(1)", "data:,x", "Patient/../x", "../../etc/passwd",
    "2024", "2024-02", "2024-02-30", "0000-01-01", "9999-12-31T23:59:60Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00+14:00", "2024-01-01T00:00:00",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999999-12:00", "2024-02-29T00:00:00.000Z", "-2024", "24:00:00", "12:00", "P1D",
    "true", "false", "null", "NaN", "1e400", "-0", "1.00", "9" * 400, "1e999999999", "0x10", "٣", "\uff11\uff12", "mg", "[degF]", "{score}", "10*3/uL", "m/0", "%%",
    "<div>x</div>", '<div xmlns="http://www.w3.org/1999/xhtml">x</div>', '<div xmlns="http://www.w3.org/1999/xhtml"><script>1</script></div>',
    '<div xmlns="http://www.w3.org/1999/xhtml">&bomb;&#0;&#xD800;</div>', "<!DOCTYPE a [<!ENTITY b 'c'>]><div/>", "<div" * 3000, "aGVsbG8=", "aGVsbG8",
    "SUBSETTED", "final", "male", "transaction", "POST", "GET", 'W/"1"', "__proto__", "constructor", "resourceType", "{}", "[]", "${x}", "%s%n", "\r\nX: y",
]  # fmt: skip
SPECIALS: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, -(2**31) - 1, 2**53 + 1, 2**64, 10**400, -0.0, 0.1, 1e-300, 1.5e308, float("nan"), float("inf"), [], {}, [[]], [{}],
    [None], [None, "x"], {"": ""}, {"x": None}, [1, "a", {}], {"resourceType": "Patient"}, {"extension": []}, {"id": "x"}, {"url": "http://x"},
    {"reference": "Patient/1"}, {"reference": "#x"}, {"reference": None}, {"reference": 5}, {"identifier": {"system": "s", "value": "v"}}, {"value": 1, "unit": "mg"},
    {"value": 1, "system": "http://unitsofmeasure.org", "code": "mg"}, {"low": {"value": 1}, "high": {"value": 0}}, {"coding": [{"code": "x"}]}, {"start": "2024", "end": "2023"},
]  # fmt: skip
NAMES = [
    "resourceType", "id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension", "_id", "_status", "_value",
    "identifier", "status", "name", "subject", "code", "value", "valueString", "valueQuantity", "valueDateTime", "valueCodeableConcept", "valueInteger",
    "_birthDate", "birthDate", "active", "fhir_comments", "reference", "display", "period", "entry", "request", "resource", "url", "fullUrl", "method",
    "ifNoneExist", "ifMatch", "ifNoneMatch", "response", "link", "type", "total", "div", "system", "unit", "tag", "versionId", "lastUpdated", "", "\x00",
    "given", "component", "deceasedBoolean", "deceasedDateTime", "multipleBirthInteger", "$ref", "__class__", "a.b", "name[0]", "Ünicode",
]  # fmt: skip
PATCHES: list[dict[str, Any]] = [
    {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2xhbmd1YWdlIiwidmFsdWUiOiJ4In1d"},
    {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient"}, {"name": "name", "valueString": "language"}, {"name": "value", "valueCode": "x"}]}]},
    {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.name"}]}]},
]  # fmt: skip
ENTRY_URLS = [
    "Patient", "Patient/fuzz", "Patient/fuzz?x=y", "Patient?identifier=s|v", "Observation", "Patient/", "", "/", "?", "metadata", "_history", "Patient/_search",
    "Patient/fuzz/_history", "Patient/fuzz/_history/1", "Patient/fuzz/_history/0", f"{BASE}/Patient", f"{BASE}/Patient/fuzz", BASE, "http://elsewhere/fhir/Patient",
    "Nonsense", "$op", "Patient/$op", "Patient/a/b/c/d", "Patient/%00", "Patient/%zz", "Patient?%ff=1", "Patient?name=%ff", "?_type=Patient", "Patient?_count=-1",
]  # fmt: skip
MODIFIERS = [
    "missing", "exact", "contains", "not", "text", "in", "not-in", "above", "below", "of-type", "identifier", "iterate", "Patient", "Nonsense", "", "x",
    "Patient.name", "missing:exact", "not:missing",
]  # fmt: skip
PREFIXES = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap", "xx", "EQ", ""]
VALUES = [
    "1", "-1", "0", "1e2", "1e999999999", "-1e-999999999", "1e-400", ".5", "5.", "+5", "5.40", "9" * 5000, "NaN", "inf", "1|", "1||", "1|http://unitsofmeasure.org|mg",
    "5.4|http://unitsofmeasure.org|", "5.4||mg", "|||", "||||", "1|a|b|c", "2024", "2024-02-30", "2024-1-1", "9999-12-31", "9999", "0000", "0001", "10000-01-01",
    "2024-01-01T10", "2024-01-01T10:00", "2024-01-01T10:00:00.1234567890Z", "2024-01-01T10:00:00+14:00", "2024-01-01T10:00:00 02:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "T", "male", "s|v", "|v", "s|", "|", "||", "a|b|c", "true", "TRUE", "Patient/1", "Patient/", "/1", "1/2/3", "Patient/1/_history/2",
    "http://x/Patient/1|2", "http://[", "urn:uuid:x", "#1", "a,b", ",", ",,,", "a\\,b", "\\", "\\\\", "\\|", "\\$", "a$b", "$", "$$$", "a$b$c$d", "8480-6$gt100",
    "%", "_", "'", '"', "' OR 1=1 --", "\x00", "a\x00b", "\x1f", "é", "é", "ß", "\u0130", "ﬁ", "漢", "🩺", "\u200b", "\ud800", "x" * 40_000, ",".join(map(str, range(600))),
    "name", "-name", "--name", "name,-_id", "_id", "_lastUpdated", "Observation:subject", "Observation:subject:Patient", "Patient:*", "*", "*:*", "Patient:nonsense",
    "Observation:nonsense:x", ":", "::", "true,false", "accurate", "none", "estimate", "count", "data", "text", "json", "xml", "5", "1000", "999999999999999999999",
    "1,2", " 1", "1 ", "\uff11", "٣", "1_000", "0x1", "contained", "both", "Patient,Observation", "Nonsense",
]  # fmt: skip
FITTING = {
    "date": ["2024", "2024-02", "2024-02-29", "2024-02-29T10:00", "2024-02-29T10:00:00Z", "2024-02-29T10:00:00.5%2B14:00", "1900", "9999", "0001-01-01"],
    "number": ["1", "1.0", "1e2", "-5", "0", "0.00000001", "100000000000000000000", "1e-400", "1e400"],
    "quantity": ["5.4", "5.4||mg", "5.4|http://unitsofmeasure.org|mg", "100|http://unitsofmeasure.org|/min", "1e2|http://unitsofmeasure.org|mm[Hg]", "37|http://unitsofmeasure.org|Cel"],
    "token": ["final", "male", "http://loinc.org|8867-4", "http://loinc.org|", "|final", "true", "8867-4", "vital-signs", "finished", "AMB"],
    "reference": ["Patient/fuzz", "fuzz", f"{BASE}/Patient/fuzz", "http://elsewhere/Patient/1", "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8", "Patient/1/_history/1"],
    "string": ["a", "an", "Müller", "%", "_", "smith", "é"],
    "uri": ["http://example.org/a", "urn:oid:1.2.3", "http://example.org/a|1.0", "http://"],
    "composite": ["8480-6$gt100", "http://loinc.org|8480-6$120", "a$b", "8480-6$lt2024", "a$Patient/1"],
    "special": ["Patient/fuzz", "51.0|4.0|10|km", "51|4", "-90|180|1|[mi_us]", "a and b", "name eq a"],
}  # fmt: skip
SPECIAL_PARAMETERS = [
    "_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_text", "_content", "_list", "_has", "_type", "_filter", "_contained", "_containedType",
    "_sort", "_count", "_total", "_summary", "_elements", "_include", "_revinclude", "_include:iterate", "_revinclude:iterate", "_format", "_pretty", "_since",
    "_at", "_query", "_explain", "_cursor", "_page", "_has:Observation:patient:code", "_has:Observation:patient", "_has::::", "_has:Nonsense:x:y",
    "_has:Observation:patient:_has:Encounter:diagnosis:status", "subject.name", "subject:Patient.name", "subject.organization.name", "patient.", ".name", "near", "",
    ":", "name:", "x" * 3000, "name:exact:exact", "\x00", "_", "__", "%", "é",
]  # fmt: skip
HEADERS: dict[str, list[bytes]] = {
    "accept": [
        b"*/*", b"application/fhir+json", b"application/xml", b"text/turtle", b"", b",", b";", b"application/json;q=x", b"application/json;q=nan", b"*/*;q=inf",
        b"application/fhir+json; fhirVersion=5.0", b"application/fhir+json; fhirVersion=", b"\xff\xfe", b"a" * 9000, b"application/json;q=0", b"text/html, */*;q=0.1",
    ],
    "content-type": [
        b"application/fhir+json", b"application/json", b"application/fhir+json; charset=utf-16", b'application/fhir+json;charset="utf-8"', b"", b";", b"\xff",
        b"application/fhir+xml", b"application/json-patch+json", b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"text/plain", b"x" * 5000,
        b"application/fhir+json; fhirVersion=3.0", b"application/json; charset=" + b"u" * 500,
    ],
    "prefer": [
        b"return=minimal", b"return=representation", b"return=OperationOutcome", b"return=x", b"handling=lenient", b"handling=strict", b"handling=", b"handling",
        b"respond-async", b"=", b";;,,", b"return=minimal; handling=lenient", b"\xe9", b'return="minimal', b"wait=99999999999",
    ],
    "if-match": [b'W/"1"', b'"1"', b"W/1", b"*", b"", b'W/"0"', b'W/"-1"', b'W/"99999999999999999999"', b'W/"x"', b'W/"1", W/"2"', b"\xff", 'W/"\u0661"'.encode()],
    "if-none-match": [b"*", b'W/"1"', b"W/", b"", b",,", b"\xff", b'W/"1",' * 500],
    "if-modified-since": [
        b"Sat, 21 Nov 2026 00:00:00 GMT", b"Sat, 99 Nov 2026 99:99:99 GMT", b"0", b"", b"x", b"Sat, 21 Nov 99999 00:00:00 GMT", b"Mon, 01 Jan 0001 00:00:00 +1400",
        b"Fri, 31 Dec 9999 23:59:59 -2359", b"Mon, 01 Jan 0000 00:00:00 GMT", b"Sat, 21 Nov 2026 00:00:00 +99999999", b"\xff",
    ],
    "if-none-exist": [
        b"identifier=s|v", b"", b"?", b"&", b"name=x&_sort=name", b"nonsense=1", b"identifier=%ff", b"Patient?identifier=a", b"identifier=" + b"x" * 9000, b"\xff=\xff",
        b"_id=fuzz", b"birthdate=gt1", b"_has:Observation:patient:code=x",
    ],
    "accept-encoding": [b"gzip", b"gzip;q=0", b"*", b"br", b"\xff", b";;;", b"gzip;q=x"],
    "content-length": [b"0", b"-1", b"x", b"99999999999999999999", b"", b"\xb2"],
    "x-request-id": [b"a", b"\xff", b"a b", b"x" * 500, b"\r\n", b""],
    "origin": [b"https://app.example", b"null", b"\xff"],
    "host": [b"evil.example", b"", b"\xff"],
}  # fmt: skip
MARKUP = [
    b"<x/>", b"<name>", b"</name>", b"<Patient>", b"</Patient>", b'<contained><Patient xmlns="http://hl7.org/fhir"/></contained>', b"<contained/>", b"text", b"&amp;", b"&bomb;",
    b"&#0;", b"&#xD800;", b"<!-- x -->", b"<?x y?>", b"<![CDATA[x]]>", b"]]>", b"<!DOCTYPE a [<!ENTITY bomb 'x'>]>", b'<active value=""/>', b'<active value="yes"/>',
    b'<id value="fuzz"/>', b"<id/>", b'<extension url="x"><valueDecimal value="1e999999999999"/></extension>', b'<extension url="x">' * 120, b"<a>" * 2000,
    b'<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml"><script/></div></text>', b"<div>x</div>", b'<text xmlns="">', b'<x:a xmlns:x="y"/>', b"\xff", b"\x00",
]  # fmt: skip
CONTEXTS = [
    b"Patient/fuzz",
    b"Patient/fuzz",
    b"",
    b"#x",
    b"Nonsense/1",
    b"\xff",
    b"https://x/Patient/1#\xe9",
    b"javascript:x",
]
OPERATORS = [
    "eq",
    "ne",
    "co",
    "sw",
    "ew",
    "gt",
    "lt",
    "ge",
    "le",
    "ap",
    "sa",
    "eb",
    "pr",
    "po",
    "ss",
    "sb",
    "in",
    "ni",
    "re",
    "xx",
    "",
]
JOINS = [" and ", " or ", " and not ", "and", " ", ") or (", "]", " not(", ""]
METHODS = ["GET"] * 6 + ["POST"] * 5 + ["PUT"] * 4 + ["DELETE", "DELETE", "HEAD", "PATCH", "OPTIONS", "FOO", "get"]


@dataclass(frozen=True)
class Request:
    """What is sent: the path as the server decodes it, the query string and headers as bytes."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


@dataclass
class Fuzz:
    """The source of requests. `ids`: resources that exist; `cursors`: page links' queries that were given."""

    registry: Registry
    types: list[str]
    ids: list[str] = field(default_factory=lambda: ["Patient/fuzz"])
    cursors: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        entries = json.loads(DEMO.read_text())["entry"]
        by_type: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            by_type.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
        self.seeds = list(chain.from_iterable(resources[:8] for resources in by_type.values()))
        self.texts = sorted({text for resource in self.seeds for text in _texts(resource)})
        self.rows = {kind: list(self.registry.searchable(kind)) for kind in self.types}

    # ---- bodies

    def resource(self, rng: Random) -> dict[str, Any]:
        """A valid resource of the demonstration data, an own copy."""
        return deepcopy(rng.choice(self.seeds))

    def bundle(self, rng: Random) -> dict[str, Any]:
        """A batch or transaction of a few resources; its URLs may be anything."""
        entries = []
        for _ in range(rng.randint(0, 5)):
            resource = self.resource(rng)
            method = rng.choice(["POST", "POST", "PUT", "GET", "DELETE", "HEAD", "PATCH"])
            kind = resource["resourceType"]
            url = (
                kind
                if method == "POST"
                else rng.choice([f"{kind}/fuzz", f"{kind}/fuzz", f"{kind}?_id=fuzz", f"{kind}?_id=none"])
            )
            url = rng.choice(ENTRY_URLS) if rng.random() < 0.3 else url
            entry: dict[str, Any] = {"request": {"method": method, "url": url}}
            if method in ("POST", "PUT", "PATCH"):
                resource["id"] = "fuzz"
                entry["resource"] = (
                    deepcopy(rng.choice(PATCHES)) if method == "PATCH" and rng.random() < 0.8 else resource
                )
            if rng.random() < 0.5:
                entry["fullUrl"] = rng.choice([rng.choice(STRINGS), "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8"])
            if rng.random() < 0.2:
                name = rng.choice(["ifMatch", "ifNoneExist", "ifNoneMatch", "ifModifiedSince"])
                entry["request"][name] = rng.choice(list(chain(*HEADERS.values()))).decode("latin-1")
            if rng.random() < 0.3:
                entry["response"] = {"status": "200"}
            entries.append(entry)
        return {
            "resourceType": "Bundle",
            "type": rng.choice(["batch", "transaction", "transaction", "history"]),
            "entry": entries,
        }

    def body(self, rng: Random, resource: dict[str, Any]) -> bytes:
        """The resource with a few changes, encoded; sometimes with changed bytes."""
        try:
            for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 8])):
                mutate(rng, resource)
            body = json.dumps(resource, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        except RecursionError:  # deeper than this process can write
            return b'{"resourceType":"Patient","extension":' + b"[" * 2000 + b"]" * 2000 + b"}"
        return change_bytes(rng, body) if rng.random() < 0.3 else body

    def document(self, rng: Random, resource: dict[str, Any]) -> bytes:
        """The resource in XML, with a few changes of its text."""
        body = encode(resource)
        for _ in range(rng.choice([0, 1, 1, 2, 4])):
            tags = [found.span() for found in re.finditer(rb"<[^>]*>", body)]
            start, end = rng.choice(tags) if tags else (0, 0)
            other = body[slice(*rng.choice(tags))] if tags else b""
            new = rng.choice(MARKUP) if rng.random() < 0.6 else other
            body = body[:start] + rng.choice([b"", body[start:end]]) + new + body[end:]
        return change_bytes(rng, body) if rng.random() < 0.3 else body

    # ---- query strings

    def query(self, rng: Random, kind: str) -> bytes:
        """Parameters of `kind` with modifiers, prefixes and values that may not fit."""
        if self.cursors and rng.random() < 0.05:
            return change_bytes(rng, rng.choice(self.cursors))
        pairs = []
        for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 6])):
            row = rng.choice(self.rows[kind])
            name = row.code if rng.random() < 0.7 else rng.choice(SPECIAL_PARAMETERS)
            if rng.random() < 0.06:
                pairs.append(b"_filter=" + escaped(rng, self.filter(rng, kind)))
            if rng.random() < 0.06:
                pairs.append(self.include(rng, kind))
            if rng.random() < 0.25:
                name = f"{name}:{rng.choice(MODIFIERS)}"
            if rng.random() < 0.08:
                name = f"{name}.{rng.choice(self.rows[rng.choice(self.types)]).code}"
            value = rng.choice(FITTING[row.type]) if rng.random() < 0.4 else self.value(rng)
            if rng.random() < 0.3:
                value = rng.choice(PREFIXES) + value
            if rng.random() < 0.1:
                value = f"{value},{rng.choice(VALUES)}"
            pairs.append(escaped(rng, name) + rng.choice([b"=", b"=", b"=", b"=", b"==", b""]) + escaped(rng, value))
        text = rng.choice([b"&", b"&", b"&", b"&", b";", b"&&"]).join(pairs)
        return change_bytes(rng, text) if rng.random() < 0.1 else text

    def filter(self, rng: Random, kind: str) -> str:
        """A `_filter` of a few conditions, its brackets perhaps in the wrong places."""
        text = ""
        for _ in range(rng.choice([1, 1, 2, 3, 5, 60])):
            row = rng.choice(self.rows[kind])
            other = rng.choice(self.rows[rng.choice(self.types)]).code
            paths = [
                row.code,
                row.code,
                row.code,
                f"{row.code}.{other}",
                f"{row.code}[{other} pr true].{other}",
                f"_has:{kind}:{row.code}:{other}",
                "",
            ]
            value = rng.choice(FITTING[row.type]) if rng.random() < 0.6 else self.value(rng)
            value = json.dumps(value) if rng.random() < 0.3 else value
            condition = f"{rng.choice(paths)} {rng.choice(OPERATORS)} {value}"
            text += rng.choice(["{}", "{}", "({})", "not ({})", "not({})", "(({})", "[{}]"]).format(
                condition
            ) + rng.choice(JOINS[:3])
        return text.removesuffix(" and ").removesuffix(" or ") + (rng.choice(JOINS) if rng.random() < 0.2 else "")

    def include(self, rng: Random, kind: str) -> bytes:
        """An include that may follow anything."""
        name = rng.choice(["_include", "_revinclude"]) + rng.choice(["", "", ":iterate", ":recurse", ":x"])
        source = kind if rng.random() < 0.6 else rng.choice(self.types)
        references = [row.code for row in self.rows[source] if row.type == "reference"] or ["x"]
        target = rng.choice(["", "", f":{rng.choice(self.types)}", ":*"])
        value = f"{source}:{rng.choice([*references, '*'])}{target}"
        return f"{name}={value}".encode()

    def value(self, rng: Random) -> str:
        """A value that may fit nothing, or a text of the data."""
        choice = rng.random()
        if choice < 0.4:
            return rng.choice(VALUES)
        return rng.choice(STRINGS) if choice < 0.6 else rng.choice(self.texts)

    # ---- requests

    def path(self, rng: Random, kind: str) -> str:
        """A path of one of the server's shapes, or nearly."""
        known = rng.choice(self.ids)
        name = rng.choice(["fuzz", "x", "a" * 65, "%", "\x00", "é", "a/b", "_history", "$x", "..", " ", "1", "\ufffd"])
        return "/fhir" + rng.choice(
            [
                "", "/", "/metadata", "/_history", f"/{kind}", f"/{kind}", f"/{kind}", f"/{kind}", f"/{kind}/_search", f"/{kind}/_history", f"/{known}", f"/{known}",
                f"/{known}/_history", f"/{known}/_history/1", f"/{known}/_history/{name}", f"/{kind}/{name}", f"/{kind}/{name}/_history", f"/{known}/{kind}", f"/{known}/*",
                f"/{known}/{kind}/_search", f"/{kind}/{known}", f"/{name}", f"//{kind}", f"/{kind}/", f"/{kind}/$op", f"/{known}/$everything", "/_search", f"/{kind}/{name}/{name}/{name}",
            ]
        )  # fmt: skip

    def write(self, rng: Random) -> Request:
        """A create, update, batch or transaction of a broken body with a sound address and headers."""
        if rng.random() < 0.3:
            return Request("POST", "/fhir", headers=FHIR, body=self.body(rng, self.bundle(rng)))
        resource = self.resource(rng)
        kind = resource["resourceType"]
        if rng.random() < 0.6:
            headers = FHIR
            if rng.random() < 0.15:
                headers = (*FHIR, (b"if-none-exist", rng.choice(HEADERS["if-none-exist"])))
            return Request("POST", f"/fhir/{kind}", headers=headers, body=self.body(rng, resource))
        resource["id"] = "fuzz"
        return Request("PUT", f"/fhir/{kind}/fuzz", headers=FHIR, body=self.body(rng, resource))

    def xml(self, rng: Random) -> Request:
        """A create, update or Bundle of a broken document, raw content for a Binary, or a read of what there is."""
        shape = rng.random()
        wants = ((b"accept", b"application/fhir+xml"),) if rng.random() < 0.8 else ()
        if shape < 0.2:
            return Request(
                "GET", f"/fhir/{rng.choice(self.ids)}", rng.choice([b"", b"_pretty=true", b"_summary=true"]), wants
            )
        sent = ((b"content-type", b"application/fhir+xml"), *wants)
        resource = self.bundle(rng) if shape < 0.4 else self.resource(rng)
        kind = resource["resourceType"]
        try:
            body = self.document(rng, resource)
        except (FhirError, UnicodeEncodeError):  # a Bundle's URLs may hold what XML cannot
            body = b""
        if kind == "Bundle":
            return Request("POST", "/fhir", headers=sent, body=body)
        if shape < 0.5:
            headers = (
                (b"content-type", rng.choice(HEADERS["content-type"])),
                (b"x-security-context", rng.choice(CONTEXTS)),
            )
            return Request("POST", "/fhir/Binary", headers=(*headers, *wants), body=body)
        if shape < 0.8:
            return Request("POST", f"/fhir/{kind}", headers=sent, body=body)
        return Request("PUT", f"/fhir/{kind}/fuzz", headers=sent, body=body)

    def search(self, rng: Random) -> Request:
        """A search or history by GET or POST."""
        kind = rng.choice(self.types) if rng.random() < 0.5 else rng.choice(["Patient", "Observation", "Encounter"])
        query = self.query(rng, kind)
        shape = rng.random()
        if shape < 0.15:
            form = (b"content-type", b"application/x-www-form-urlencoded")
            return Request("POST", f"/fhir/{kind}/_search", headers=(form,), body=query)
        if shape < 0.3:
            return Request("GET", self.path(rng, kind), query)
        lenient = ((b"prefer", b"handling=lenient"),) if rng.random() < 0.3 else ()
        return Request("GET", f"/fhir/{kind}", query, lenient)

    def anything(self, rng: Random) -> Request:
        """Any method, path and headers with a body that was perhaps valid once."""
        kind = rng.choice(self.types)
        names = rng.sample(list(HEADERS), rng.randint(0, 4))
        headers = [(name.encode(), rng.choice(HEADERS[name])) for name in names]
        if "content-type" not in names and rng.random() < 0.7:
            headers += FHIR
        body = b"" if rng.random() < 0.3 else self.body(rng, self.resource(rng))
        query = self.query(rng, kind) if rng.random() < 0.3 else b""
        return Request(rng.choice(METHODS), self.path(rng, kind), query, tuple(headers), body)


FHIR = ((b"content-type", b"application/fhir+json"),)


def mutate(rng: Random, root: Any) -> None:
    """Change one place of a JSON value."""
    holder, key = _place(rng, root)
    if holder is None:
        return
    value = holder[key]
    match rng.randrange(10):
        case 0 | 1:
            holder[key] = deepcopy(rng.choice(SPECIALS))
        case 2 | 3:
            holder[key] = rng.choice(STRINGS)
        case 4:
            del holder[key]
        case 5:
            name = rng.choice(NAMES)
            new = rng.choice([value, deepcopy(rng.choice(SPECIALS)), rng.choice(STRINGS)])
            if isinstance(holder, dict):
                holder[name] = new
            else:
                holder.insert(key, {name: new})
        case 6:
            holder[key] = [value, deepcopy(value)] if rng.random() < 0.5 else [value]
        case 7:
            other, there = _place(rng, root)
            if other is not None:
                other[there] = deepcopy(value)
        case 8:
            for _ in range(rng.choice([1, 5, 60, 120])):
                value = (
                    {"extension": [{"url": "http://x", "valueString": "y", "extension": [value]}]}
                    if rng.random() < 0.5
                    else [value]
                )
            holder[key] = value
        case 9:
            if isinstance(value, str) and value:
                at = rng.randrange(len(value))
                holder[key] = value[:at] + rng.choice(STRINGS[:20]) + value[at:]
            elif isinstance(value, int | float):
                holder[key] = rng.choice([value * 10**20, -value, str(value)])
            elif isinstance(holder, dict) and not key.startswith("_"):
                holder["_" + key] = rng.choice(
                    [value, {"extension": [{"url": "x", "valueCode": "y"}]}, [None], {"id": "a"}]
                )


def _texts(value: Any) -> list[str]:
    """Every text and number in a JSON value."""
    if isinstance(value, dict | list):
        return [text for item in (value.values() if isinstance(value, dict) else value) for text in _texts(item)]
    return [str(value)]


def _place(rng: Random, root: Any) -> tuple[Any, Any]:
    """A random holder and key, the deeper ones as likely as the others."""
    places: list[tuple[Any, Any]] = []
    waiting = [root]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((value, key))
            if isinstance(value[key], dict | list):
                waiting.append(value[key])
    return rng.choice(places) if places else (None, None)


def change_bytes(rng: Random, body: bytes) -> bytes:
    """Flip, drop, insert, repeat or cut bytes."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(body) + 1)
        end = min(len(body), at + rng.choice([1, 1, 2, 10, 200]))
        match rng.randrange(6):
            case 0:
                body = body[:at] + bytes([rng.randrange(256)]) + body[end:]
            case 1:
                body = body[:at] + body[end:]
            case 2:
                body = (
                    body[:at]
                    + rng.choice(
                        [
                            b"\x00",
                            b"\xff",
                            b'"',
                            b"{",
                            b"}",
                            b"[",
                            b"]",
                            b",",
                            b":",
                            b"\\",
                            b"\\u",
                            b"\\ud800",
                            b"-",
                            b"e9",
                            b"\xef\xbb\xbf",
                            b"%",
                            b"&",
                            b"=",
                        ]
                    )
                    + body[at:]
                )
            case 3:
                body = body[:at] + body[at:end] * 2 + body[end:]
            case 4:
                body = body[:at]
            case 5:
                body = re.sub(
                    rb"[0-9]+", rng.choice([b"1e5", b"0.10", b"-0", b"00", b"1E+400", b"9" * 30]), body, count=1
                )
    return body


def escaped(rng: Random, text: str) -> bytes:
    """Percent-encoded well, not at all, doubly or wrongly."""
    raw = text.encode("utf-8", "surrogatepass")
    match rng.randrange(40):
        case 0 | 4:
            return raw
        case 1:
            return b"".join(b"%%%02x" % byte for byte in raw[:2000])
        case 2:
            return b"".join(b"%%25%02X" % byte for byte in raw[:2000])
        case 3:
            return text.encode("latin-1", "replace") + rng.choice(
                [b"%", b"%f", b"%ff", b"%zz", b"%c3", b"%00", b"%ed%a0%80", b"+"]
            )
    return b"".join(bytes([byte]) if 0x20 < byte < 0x7F and byte not in b"&=%+;#" else b"%%%02X" % byte for byte in raw)
