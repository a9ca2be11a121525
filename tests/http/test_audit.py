"""The audit trail through HTTP: what is recorded of each kind of request, and AuditEvent as administrators and patients see it."""

import base64
import errno
import json
import os
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from fhir_server.audit.keeper import extractor_for, fold_now
from fhir_server.audit.ledger import FOLDER, opened
from fhir_server.audit.options import AuditOptions
from fhir_server.audit.query import patients_of
from fhir_server.audit.record import decode
from fhir_server.http import endpoint
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import SqliteOptions
from resources.definitions import load
from resources.model import ResourceKey
from resources.validation import Validator
from resources.validation.invariants import Invariants
from search.narrowing import Narrowing
from search.query import All, And, HasId, InCompartment, Nothing, Or, OwnedBy, Released
from smart_auth.model import Principal
from tests.http.application import FHIR, running

pytestmark = pytest.mark.anyio
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MARK = "zqchalmers"


def patient(name, **more):
    return {"resourceType": "Patient", "id": name, "name": [{"family": MARK}], **more}


def observation(name, of):
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"text": MARK},
        "subject": {"reference": f"Patient/{of}"},
    }


def bundle(kind, *rows):
    entries = [
        {**({"resource": resource} if resource else {}), "request": {"method": method, "url": url}}
        for method, url, resource in rows
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


async def put(client, resource):
    answer = await client.put(
        f"{resource['resourceType']}/{resource['id']}", content=json.dumps(resource), headers=FHIR
    )
    assert answer.status_code in (200, 201), answer.text


@asynccontextmanager
async def hospital(folder, **settings):
    """A server with two patients, p and q, and an observation of each."""
    async with running(folder, **{"audit": AuditOptions(enabled=True), **settings}) as client:
        client.folder = folder
        for name in ("p", "q"):
            await put(client, patient(name))
            await put(client, observation(f"o{name}", name))
        yield client


@pytest.fixture
async def client(tmp_path):
    async with hospital(tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
async def settled(anyio_backend, tmp_path_factory):
    """The same for tests that do not look at what was recorded before."""
    async with hospital(tmp_path_factory.mktemp("settled")) as client:
        yield client


def records(client):
    """Everything recorded, in order: (record, patients, shown)."""
    settings = Settings(data_dir=client.folder, auth="off")
    fold_now(client.folder, SqliteOptions(), lambda: extractor_for(settings))
    with opened(client.folder / FOLDER, read_only=True) as connection:
        rows = connection.execute("SELECT body, about, shown FROM record ORDER BY seq").fetchall()
    return [(decode(body), json.loads(about)[0], bool(shown)) for body, about, shown in rows]


def last(client):
    record, patients, shown = records(client)[-1]
    assert shown
    return record, patients


async def events(client, query=""):
    answer = await client.get(f"AuditEvent?{query}")
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


TRANSACTION = bundle("transaction", ("PUT", "Patient/p", patient("p", active=True)), ("GET", "Observation/oq", None))
BATCH = bundle("batch", ("GET", "Observation/op", None), ("GET", "Patient/none", None))
REQUESTS = {
    "read": ("GET", "Observation/op", None, {}, 200, "read", {"Observation/op"}, ["p"]),
    "HEAD": ("HEAD", "Patient/q", None, {}, 200, "read", {"Patient/q"}, ["q"]),
    "vread": ("GET", "Observation/op/_history/1", None, {}, 200, "vread", {"Observation/op"}, ["p"]),
    "a resource that is not there": ("GET", "Observation/none", None, {}, 404, "read", {"Observation/none"}, []),
    "a resource that did not change": (
        "GET", "Patient/p", None, {"If-None-Match": 'W/"1"'}, 304, "read", {"Patient/p"}, ["p"],
    ),
    "a search of one patient": (
        "GET", "Observation?patient=p", None, {}, 200, "search-type", {"Patient/p", "Observation/op"}, ["p"],
    ),
    "a search of all": (
        "GET", "Observation", None, {}, 200, "search-type", {"Observation/op", "Observation/oq"}, ["p", "q"],
    ),
    "what a search includes": (
        "GET", "Observation?_id=op&_include=Observation:subject", None, {}, 200, "search-type",
        {"Observation/op", "Patient/p"}, ["p"],
    ),
    "a search by POST": (
        "POST", "Observation/_search", "subject=Patient/q", FORM, 200, "search-type", {"Patient/q", "Observation/oq"}, ["q"],
    ),
    "a search that finds nothing about a patient": (
        "GET", "Condition?patient=p", None, {}, 200, "search-type", {"Patient/p"}, ["p"],
    ),
    "a compartment": (
        "GET", "Patient/p/Observation", None, {}, 200, "search-compartment", {"Patient/p", "Observation/op"}, ["p"],
    ),
    "everything about a patient": (
        "GET", "Patient/p/$everything", None, {}, 200, "operation", {"Patient/p", "Observation/op"}, ["p"],
    ),
    "the latest": (
        "GET", "Observation/$lastn?patient=p&code:text=zq", None, {}, 200, "operation", {"Patient/p", "Observation/op"}, ["p"],
    ),
    "a history": ("GET", "Observation/op/_history", None, {}, 200, "history-instance", {"Observation/op"}, ["p"]),
    "the history of the server": (
        "GET", "_history", None, {}, 200, "history-system",
        {"Patient/p", "Patient/q", "Observation/op", "Observation/oq"}, ["p", "q"],
    ),
    "a difference": (
        "GET", "$diff?from=Observation/op&to=Observation/oq", None, {}, 200, "operation",
        {"Observation/op", "Observation/oq"}, ["p", "q"],
    ),
    "an update": ("PUT", "Patient/p", json.dumps(patient("p", active=True)), FHIR, 200, "update", {"Patient/p"}, ["p"]),
    "a refused update": ("PUT", "Patient/p", "{", FHIR, 400, "update", {"Patient/p"}, ["p"]),
    "a conditional update": (
        "PUT", "Patient?_id=p", json.dumps(patient("p", active=True)), FHIR, 200, "update", {"Patient/p"}, ["p"],
    ),
    "a deletion": ("DELETE", "Observation/oq", None, {}, 204, "delete", {"Observation/oq"}, ["q"]),
    "a transaction": (
        "POST", "", json.dumps(TRANSACTION), FHIR, 200, "batch/transaction", {"Patient/p", "Observation/oq"}, ["p", "q"],
    ),
    "a batch": ("POST", "", json.dumps(BATCH), FHIR, 200, "batch/transaction", {"Observation/op"}, ["p"]),
    "a type that is none": ("GET", f"Nothing/{MARK}", None, {}, 404, "unknown", set(), []),
    "an id that is none": ("GET", f"Patient/{MARK}%20{MARK}", None, {}, 404, "read", set(), []),
    "a parameter that is none": ("GET", f"Patient?{MARK}=1", None, {}, 400, "search-type", set(), []),
    "a body that is too large for its type": ("POST", "Patient", "x", {"Content-Type": "image/png"}, 415, "create", set(), []),
}  # fmt: skip


@pytest.mark.parametrize("what", REQUESTS)
async def test_each_request_is_recorded_with_all_that_it_shows_or_writes(client, what):
    method, path, body, headers, status, code, keys, patients = REQUESTS[what]
    answer = await client.request(method, path, content=body, headers={"X-Request-Id": "my-request", **headers})
    assert answer.status_code == status, answer.text
    record, found = last(client)
    assert (record.request, record.method, record.status, record.code) == ("my-request", method, status, code)
    assert set(record.keys) == keys
    assert found == patients
    assert MARK not in repr(record)


WELL_KNOWN = "Patient/.well-known"
"""An id like any other, that is also in the path of public documents."""
HIDING = {
    "a read": ("GET", WELL_KNOWN, 200),
    "a read with a slash behind it": ("GET", f"{WELL_KNOWN}/", 200),
    "a read of HEAD": ("HEAD", f"{WELL_KNOWN}/", 200),
    "a compartment": ("GET", f"{WELL_KNOWN}/Observation?_include=Observation:subject", 200),
    "a history": ("GET", f"{WELL_KNOWN}/_history", 200),
    "a version": ("GET", f"{WELL_KNOWN}/_history/1", 200),
    "an operation": ("GET", f"{WELL_KNOWN}/$everything", 200),
    "an update": ("PUT", f"{WELL_KNOWN}/", 200),
    "a deletion": ("DELETE", f"{WELL_KNOWN}/", 204),
}


@pytest.mark.parametrize("what", HIDING)
async def test_no_id_and_no_slash_hides_from_the_trail(client, what):
    method, path, status = HIDING[what]
    await put(client, patient(".well-known"))
    await put(client, observation("hiding", ".well-known"))
    before = len(records(client))
    body = json.dumps(patient(".well-known", active=True)) if method == "PUT" else None
    answer = await client.request(method, path, content=body, headers=FHIR)
    assert answer.status_code == status, answer.text
    new = [record for record, _, shown in records(client)[before:] if shown]
    assert [(record.method, record.status) for record in new] == [(method, status)]
    assert WELL_KNOWN in new[0].keys


@pytest.mark.parametrize(
    "path", ["Practitioner//.well-known/", ".well-known/Patient/p", ".well-known/smart-configuration/"]
)
async def test_what_only_looks_like_a_public_document_is_recorded(client, path):
    before = len(records(client))
    assert (await client.get(path)).status_code == 404
    assert len(records(client)) == before + 1


async def test_a_create_is_recorded_under_the_id_it_was_given(client):
    answer = await client.post("Patient", content=json.dumps(patient("x")), headers=FHIR)
    record, patients = last(client)
    assert record.keys == (f"Patient/{answer.json()['id']}",)
    assert patients == [answer.json()["id"]]


async def test_of_a_query_the_names_of_parameters_alone_are_kept(client):
    await client.get(f"Patient?name={MARK}&birthdate=1974&{MARK}=1")
    record, _ = last(client)
    assert record.parameters == ("name", "birthdate", "?")
    (query,) = [entity["query"] for entity in (await events(client, "_count=1"))[0]["entity"] if "query" in entity]
    assert base64.b64decode(query) == b"Patient?name&birthdate&?"


async def test_public_documents_are_not_recorded(client):
    before = len(records(client))
    for path in ("metadata", *(f"https://fhir.example.org/{name}" for name in ("livez", "openapi.json", "metrics"))):
        assert (await client.get(path)).status_code == 200
    assert len(records(client)) == before


async def test_a_write_is_recorded_before_it_is_carried_out(client):
    before = len(records(client))
    await put(client, patient("r"))
    (begun, _, hidden), (answered, _, shown) = records(client)[before:]
    assert (begun.kind, begun.status, hidden) == ("begun", 0, False)
    assert (answered.kind, answered.status, shown) == ("request", 201, True)
    assert answered.begun == f"{begun.journal}.{begun.number}"


async def test_what_cannot_be_recorded_is_neither_written_nor_answered(client, monkeypatch):
    def full(descriptor, line):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        for method, path, body in (("GET", "Patient/p", None), ("PUT", "Patient/r", json.dumps(patient("r")))):
            answer = await client.request(method, path, content=body, headers=FHIR)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["issue"][0]["code"] == "transient"
            assert MARK not in answer.text
    assert (await client.get("Patient/r")).status_code == 404


async def test_without_the_setting_nothing_is_recorded_and_audit_events_are_resources_like_others(tmp_path):
    async with hospital(tmp_path, audit=AuditOptions(enabled=False)) as client:
        assert not (tmp_path / FOLDER).exists()
        assert (await client.get("AuditEvent")).json().get("entry") is None
        assert (await client.get("AuditEvent/1/_history")).status_code == 404


async def test_events_are_valid_resources(client):
    for method, path, body, headers, *_ in REQUESTS.values():
        await client.request(method, path, content=body, headers=headers)
    validator = Validator(load(), Invariants(load().types))
    found = await events(client, "_count=200")
    assert len(found) >= len(REQUESTS)
    for one in found:
        assert not validator.validate(one), one


SEARCHES = {
    "patient=q": {("update", "Patient/q"), ("update", "Observation/oq")},
    "patient=Patient/q&action=R": set(),
    "entity=Observation/op": {("update", "Observation/op"), ("read", "Observation/op")},
    "entity=Observation/op,Patient/q": {
        ("update", "Observation/op"), ("read", "Observation/op"), ("update", "Patient/q"), ("update", "Observation/oq"),
    },
    "action=D": set(),
    "action=R": {("read", "Observation/op"), ("read", "Observation/none")},
    "outcome=4": {("read", "Observation/none")},
    "outcome=0&action=R": {("read", "Observation/op")},
    "outcome:not=0": {("read", "Observation/none")},
    "subtype=read": {("read", "Observation/op"), ("read", "Observation/none")},
    "subtype=http://hl7.org/fhir/restful-interaction|read&outcome=4": {("read", "Observation/none")},
    "date=lt2020": set(),
    "agent-name=jane": set(),
    "agent=Practitioner/1": set(),
    "_id=0": set(),
}  # fmt: skip


@pytest.mark.parametrize("query", SEARCHES)
async def test_events_are_found_by(client, query):
    for path in ("Observation/op", "Observation/none"):
        await client.get(path)
    found = await events(client, query)
    assert {(one["subtype"][0]["code"], one["entity"][-2]["what"]["reference"]) for one in found} == SEARCHES[query]


async def test_by_date_one_finds_what_was_answered_before(client):
    whole = await events(client, "date=ge2020&_count=100")
    middle = whole[2]["recorded"]
    assert [one["id"] for one in await events(client, f"date=ge{middle}&date=le{whole[1]['recorded']}")] == [
        one["id"] for one in whole[1:3]
    ]


async def test_pages_hold_each_event_once_newest_first(client):
    answer = await client.get("AuditEvent?date=le2100&_count=2&subtype=update")
    found = []
    while True:
        body = answer.json()
        found += [int(entry["resource"]["id"]) for entry in body["entry"]]
        following = [link["url"] for link in body["link"] if link["relation"] == "next"]
        if not following:
            break
        answer = await client.get(following[0])
    assert found == sorted(found, reverse=True)
    assert len(found) == len(set(found)) == 4
    counted = (await client.get("AuditEvent?subtype=update&_total=accurate&_count=1")).json()
    assert counted["total"] == 4
    ascending = await events(client, "subtype=update&_sort=date")
    assert [int(one["id"]) for one in ascending] == sorted(found)


async def test_a_cursor_is_good_for_its_own_search_alone(settled):
    links = (await settled.get("AuditEvent?_count=1")).json()["link"]
    (following,) = [link["url"] for link in links if link["relation"] == "next"]
    cursor = following.partition("_cursor=")[2]
    assert (await settled.get(f"AuditEvent?_count=1&action=R&_cursor={cursor}")).status_code == 400


@pytest.mark.parametrize(
    "query",
    ["address=1", "agent.name=x", "patient.name=x", "_include=AuditEvent:agent", "_sort=agent", "type=rest", "nonsense=1", "agent:missing=true"],
)  # fmt: skip
async def test_what_the_trail_cannot_be_searched_by_is_refused_by_name(settled, query):
    answer = await settled.get(f"AuditEvent?{query}")
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    "path",
    [
        "?_type=AuditEvent",
        "?_type=Patient,AuditEvent",
        "Patient?_has:AuditEvent:patient:action=R",
        "Patient?_has:Observation:patient:_has:AuditEvent:entity:action=R",
        "Patient?_revinclude=AuditEvent:patient",
        "Patient?_revinclude:iterate=AuditEvent:entity",
    ],
)
async def test_searches_do_not_look_through_events(settled, path):
    answer = await settled.get(path)
    assert answer.status_code == 400
    assert "AuditEvent is searched by itself alone" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "AuditEvent", 405),
        ("PUT", "AuditEvent/1", 405),
        ("PATCH", "AuditEvent/1", 405),
        ("DELETE", "AuditEvent/1", 405),
        ("DELETE", "AuditEvent?_id=1", 405),
        ("GET", "AuditEvent/1/_history", 404),
        ("GET", "AuditEvent/1/_history/1", 404),
        ("GET", "AuditEvent/_history", 404),
        ("POST", "AuditEvent/1/$meta-add", 404),
    ],
)
async def test_nobody_writes_an_event(settled, method, path, status):
    body = json.dumps({"resourceType": "AuditEvent"}) if method in ("POST", "PUT", "PATCH") else None
    answer = await settled.request(method, path, content=body, headers=FHIR)
    assert answer.status_code == status, answer.text
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_nobody_writes_an_event_in_a_bundle(settled, kind):
    sent = bundle(kind, ("POST", "AuditEvent", {"resourceType": "AuditEvent"}))
    answer = await settled.post("", content=json.dumps(sent), headers=FHIR)
    status = answer.json()["entry"][0]["response"]["status"][:3] if kind == "batch" else str(answer.status_code)
    assert status == "405", answer.text


@pytest.mark.parametrize(
    "row",
    [
        ("PUT", "AuditEvent/5", {"resourceType": "AuditEvent", "id": "5"}),
        ("POST", "AuditEvent", {"resourceType": "AuditEvent", "id": "5"}),
        ("PUT", "AuditEvent/5/_history/1", {"resourceType": "AuditEvent", "id": "5"}),
        ("DELETE", "AuditEvent/5", None),
    ],
    ids=str,
)
async def test_nobody_writes_an_event_by_telling_a_history(settled, row):
    sent = bundle("history", row, ("PUT", "Patient/never", patient("never")))
    for entry, name in zip(sent["entry"], ("AuditEvent/5", "Patient/never"), strict=True):
        entry |= {"fullUrl": f"http://other.example.org/{name}", "response": {"status": "200"}}
    answer = await settled.post("", content=json.dumps(sent), headers=FHIR)
    assert answer.status_code == 405, answer.text
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[0].request.method"]
    assert (await settled.get("Patient/never")).status_code == 404


async def test_events_can_be_read_in_a_batch_and_as_xml(settled):
    sent = bundle("batch", ("GET", "AuditEvent?action=U", None), ("GET", "AuditEvent/2", None))
    entries = (await settled.post("", content=json.dumps(sent), headers=FHIR)).json()["entry"]
    assert [entry["response"]["status"] for entry in entries] == ["200 OK", "200 OK"]
    assert (await settled.get("AuditEvent/2", headers={"Accept": "application/fhir+xml"})).status_code == 200
    assert set((await settled.get("AuditEvent/2?_elements=action")).json()) >= {"action", "type", "recorded"}


# ---- who sees what

RULES = {
    "an administrator": (All(), {"p", "q", "both"}),
    "an administrator of the organization": (OwnedBy((ResourceKey("Organization", "h"),)), {"p", "q", "both"}),
    "an administrator of another organization": (OwnedBy((ResourceKey("Organization", "x"),)), set()),
    "a patient": (And((InCompartment(ResourceKey("Patient", "p")), Released())), {"p", "both"}),
    "a relative of two": (
        Or((InCompartment(ResourceKey("Patient", "p")), InCompartment(ResourceKey("Patient", "q")))), {"p", "q", "both"},
    ),
    "somebody without any right": (Nothing(), set()),
    "a rule that is not understood": (And((All(), HasId(("1",)))), set()),
    "a compartment of something else": (InCompartment(ResourceKey("Practitioner", "1")), set()),
}  # fmt: skip
JANE = Principal(
    "grant-1", "app", "user/*.rs", "jane", ("doctor",), "Practitioner/1", "Organization/h", "", "", "grant-1"
)


@pytest.fixture
def as_principal(client, monkeypatch):
    """Make the next requests those of a principal, as the check of its token would, with an access rule for AuditEvent."""
    before = endpoint.FhirEndpoint.__call__

    def become(principal, rule=None):
        async def call(self, scope, receive, send):
            scope["principal"] = principal
            await before(self, scope, receive, send)

        monkeypatch.setattr(endpoint.FhirEndpoint, "__call__", call)
        if rule is not None:
            narrowing = Narrowing("x", lambda kind: rule if kind == "AuditEvent" else All())
            monkeypatch.setattr(endpoint, "EVERYTHING", narrowing)

    return become


@pytest.mark.parametrize("who", RULES)
async def test_events_are_shown_to(client, as_principal, who):
    rule, wanted = RULES[who]
    as_principal(JANE)
    paths = {"p": "Observation/op", "q": "Observation/oq", "both": "Observation"}
    for name, path in paths.items():
        await client.get(path, headers={"X-Request-Id": name})
    as_principal(replace(JANE, user="reader"), rule)
    names = {record.request: seq for seq, (record, _, _) in enumerate(records(client), 1) if record.request in paths}
    found = {one["id"] for one in await events(client, "agent-name=jane&_count=100")}
    assert found == {str(names[name]) for name in wanted}
    for name, seq in names.items():
        assert (await client.get(f"AuditEvent/{seq}")).status_code == (200 if name in wanted else 404)


async def test_hidden_and_missing_events_are_answered_alike(client, as_principal):
    await client.get("Observation/oq")
    seq = len(records(client))
    as_principal(JANE, InCompartment(ResourceKey("Patient", "p")))
    hidden = await client.get(f"AuditEvent/{seq}")
    missing = await client.get("AuditEvent/999999")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.text.replace(str(seq), "N") == missing.text.replace("999999", "N")


async def test_a_patient_learns_who_saw_the_record_and_nothing_of_other_patients(client, as_principal):
    as_principal(JANE)
    await client.get("Observation?code:text=zq", headers={"X-Request-Id": "both"})
    as_principal(None, InCompartment(ResourceKey("Patient", "p")))
    (one,) = await events(client, "agent-name=jane")
    assert one["agent"][0]["who"] == {"reference": "Practitioner/1", "identifier": {"value": "jane"}, "display": "jane"}
    assert [entity["what"]["reference"] for entity in one["entity"]] == ["Patient/p"]
    assert one["meta"]["tag"][0]["code"] == "SUBSETTED"
    text = json.dumps(one)
    assert "Patient/q" not in text
    assert "oq" not in text
    assert "127.0.0.1" not in text
    for query in ("patient=q", "entity=Patient/q", "entity=Observation/oq"):
        assert await events(client, f"agent-name=jane&{query}") == []


async def test_the_principal_is_told_in_full_to_administrators(client, as_principal):
    as_principal(JANE)
    await client.get("Observation/op")
    (one,) = await events(client, "agent=Practitioner/1&patient=p")
    user, app, server = one["agent"]
    assert user["role"] == [{"text": "doctor"}]
    assert (user["requestor"], app["requestor"], server["requestor"]) == (True, False, False)
    assert app["who"]["identifier"]["value"] == "app"
    assert app["network"] == {"address": "127.0.0.1", "type": "2"}
    assert one["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"
    ]


def test_a_rule_with_a_patient_in_it_reads_as_that_patient():
    rule = Or((And((InCompartment(ResourceKey("Patient", "p")), Released())), OwnedBy(())))
    assert patients_of(rule) == {"p"}
    assert patients_of(All()) is None
