"""Ways around: tokens, cursors, operations, emergencies, shared records, private details, and what an answer tells by its form.

Each is an attack that a request makes with a good token, or without one.
"""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fhir_server import operations
from fhir_server.storage.sqlite import reading
from search.narrowing import EVERYTHING
from smart_auth.model import User
from tests.access.hospital import LABORATORY, OPERATOR, coded, observation, patient, ref

pytestmark = pytest.mark.anyio
ANNE = ("anne", "patient/*.rs", "anne")
BASE = "https://fhir.example.org"


# ---- tokens


async def test_without_a_token_the_server_asks_for_one(hospital):
    for url in ("Patient/anne", "Patient", "Nonsense", "", "_history", "Patient/anne/$everything", "metadata/x", "Patient/anne?access_token=x"):  # fmt: skip
        answer = await hospital.client.get(url)
        assert answer.status_code == 401, url
        assert answer.headers["www-authenticate"] == f'Bearer realm="{BASE}/fhir"'
        assert answer.json()["issue"][0]["code"] == "login"
    assert (await hospital.client.get("metadata")).status_code == 200
    assert (await hospital.client.get("metadata?mode=terminology")).status_code < 500


@pytest.mark.parametrize("text", ["Bearer nonsense", "Bearer ", "Bearer", "Basic YTpi", "bearer a.b.c", "Bearer é"])
async def test_a_bad_token_is_told(hospital, text):
    answer = await hospital.client.get("Patient/anne", headers={"Authorization": text.encode()})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


async def test_two_tokens_are_none(hospital):
    good = hospital.as_(*ANNE)["Authorization"]
    answer = await hospital.client.get("Patient/anne", headers=[("Authorization", good), ("Authorization", good)])
    assert answer.status_code == 401


async def test_a_token_ends_with_its_grant_and_with_its_user(fresh):
    dora = fresh.as_("dora", "user/*.rs")
    assert (await fresh.get("Patient/anne", dora)).status_code == 200
    fresh.pass_second()
    fresh.auth.store.revoke([fresh.auth.store.grants("dora")[0].id])
    answer = await fresh.get("Patient/anne", dora)
    assert answer.status_code == 401
    assert answer.json()["issue"][0]["diagnostics"] == "the access token was revoked"


async def test_a_role_that_is_taken_away_ends(fresh):
    dora = fresh.as_("dora", "user/*.rs")
    assert (await fresh.get("Patient/anne", dora)).status_code == 200
    fresh.auth.store.put_user(replace(fresh.auth.store.user("dora"), roles=("receptionist",)))
    fresh.pass_second()
    assert (await fresh.get("Observation/lab-anne", dora)).status_code == 403


# ---- cursors


async def test_a_cursor_is_good_for_whom_it_was_given_to(hospital):
    anne, bert = hospital.as_(*ANNE), hospital.as_("bert", "patient/*.rs", "bert")
    first = (await hospital.get("Observation?_count=1", anne)).json()
    url = next(link["url"] for link in first["link"] if link["relation"] == "next")
    assert (await hospital.get(url, anne)).status_code == 200
    narrower = hospital.as_("anne", "patient/Observation.rs", "anne")
    again = hospital.as_("anne", "patient/*.rs", "anne", "app")
    assert again == anne
    for other in (bert, narrower, hospital.as_("", OPERATOR)):
        assert (await hospital.get(url, other)).status_code == 400


# ---- operations


async def test_operations_need_what_they_give(hospital):
    anne = hospital.as_(*ANNE)
    everything = await hospital.get("Patient/anne/$everything?_count=1000", anne)
    names = {entry["resource"]["id"] for entry in everything.json()["entry"]}
    assert "lab-anne" in names
    assert not names & {"early-anne", "withheld-anne", "linked", "both", "provenance-of-both"}
    for url, status in (
        ("Patient/bert/$everything", 404),
        ("Patient/nobo/$everything", 404),
        ("Encounter/visit-bert/$everything", 404),
        ("Observation/$lastn?patient=Patient/bert&category=laboratory", 200),
        ("Observation/lab-bert/$meta", 404),
        ("Observation/$meta", 200),
        ("$meta", 200),
        ("$diff?from=Observation/lab-anne&to=Observation/lab-bert", 404),
        ("Observation/lab-bert/$diff", 404),
        ("SearchParameter/x/$reindex", 403),
        ("Patient/$export", 404),
        ("$export", 404),
    ):
        answer = await hospital.get(url, anne)
        assert answer.status_code == status, (url, answer.text)
        assert "secret of bert" not in answer.text
        assert "NOPAT" not in answer.text
    for url in ("$expunge", "Observation/$expunge", "Observation/lab-anne/$expunge"):
        for who in (anne, hospital.as_("adam", "user/*.cruds"), hospital.as_("", "patient/*.cruds", "anne")):
            body = {
                "resourceType": "Parameters",
                "parameter": [{"name": "expungeDeletedResources", "valueBoolean": True}],
            }
            assert (await hospital.send("POST", url, body, who)).status_code == 403
    few = hospital.as_("anne", "patient/Observation.rs", "anne")
    assert (await hospital.get("Patient/anne/$everything", few)).status_code == 403


async def test_an_operation_that_says_nothing_is_for_nobody(hospital, monkeypatch):
    silent = tuple(replace(row, needs=None) for row in operations.OPERATIONS)
    monkeypatch.setattr(operations, "OPERATIONS", silent)
    for url in ("Observation/$meta", "Patient/anne/$everything", "$diff?from=Patient/anne&to=Patient/anne"):
        assert (await hospital.get(url, hospital.as_("", OPERATOR))).status_code == 403


async def test_meta_add_and_validate_tell_nothing(fresh):
    anne = fresh.as_("", "patient/*.cruds", "anne")
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
    for name, status in (("lab-anne", 200), ("lab-bert", 404), ("unheard-of", 404)):
        assert (await fresh.send("POST", f"Observation/{name}/$meta-add", meta, anne)).status_code == status
    told = set()
    for name in ("lab-bert", "lab-nobo"):
        checked = {"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "delete"}]}
        answer = await fresh.send("POST", f"Observation/{name}/$validate", checked, anne)
        told.add(answer.text.replace(name, ""))
    assert len(told) == 1


async def test_explain_is_for_operators(hospital):
    for who in (hospital.as_(*ANNE), hospital.as_("dora", "user/*.rs"), hospital.as_("adam", "user/*.cruds")):
        assert (await hospital.get("Observation?_explain=true", who)).status_code == 403
    assert (await hospital.get("Observation?_explain=true", hospital.as_("", OPERATOR))).status_code == 200


# ---- questions whose answers would tell


@pytest.mark.parametrize(
    "query",
    [
        "Observation?subject:Patient.name=Bert",
        "Observation?patient.identifier=urn:mrn|mrn-bert",
        "Patient?_has:Condition:patient:code=code-bert",
        "Practitioner?_has:Observation:performer:subject=Patient/bert",
        "Practitioner?_has:Observation:performer:_id=lab-bert",
        "Location?_has:Encounter:location:_id=visit-bert",
        "Observation?_id=lab-bert",
        "Observation?_id=lab-bert,early-anne,withheld-anne",
        "Observation?status=preliminary",
        "Observation?_security=http://terminology.hl7.org/CodeSystem/v3-ActCode|NOPAT",
        "Observation?encounter.location=Location/bed-bert",
        "Observation?_filter=subject eq Patient/bert",
        "Patient?link=Patient/anne",
        "Provenance?target=Observation/lab-bert",
        "Provenance?_id=provenance-of-both",
        "Observation?subject=Patient/bert",
        "Observation?subject=https://fhir.example.org/fhir/Patient/bert",
        "Observation?subject=Patient/bert/_history/1",
        "Observation?subject:identifier=urn:mrn|mrn-bert",
        "Observation?patient=bert&patient=anne",
        "Patient/bert/Observation",
        "Patient/bert/*",
        "Encounter/visit-bert/Observation",
        "Practitioner/dora/Observation?subject=Patient/bert",
    ],
)
async def test_no_question_finds_what_is_hidden(hospital, query):
    joined = "&" if "?" in query else "?"
    answer = await hospital.get(f"{query}{joined}_total=accurate", hospital.as_(*ANNE))
    assert answer.status_code == 200, answer.text
    assert answer.json()["total"] == 0, answer.text
    counted = await hospital.get(f"{query}{joined}_summary=count", hospital.as_(*ANNE))
    assert counted.json()["total"] == 0


@pytest.mark.parametrize("kind", ["Observation", "Condition", "Patient"])
async def test_sorting_and_counting_are_of_what_is_seen(hospital, kind):
    for query in ("_sort=_lastUpdated", "_sort=-_id", "_count=0", "_summary=count", "_total=estimate"):
        answer = (await hospital.get(f"{kind}?{query}&_total=accurate" if "_total" not in query else f"{kind}?{query}", hospital.as_(*ANNE))).json()  # fmt: skip
        assert answer["total"] == {"Observation": 2, "Condition": 1, "Patient": 1}[kind]


async def test_leniency_widens_no_scope(hospital):
    who = hospital.as_("anne", "patient/Observation.rs?colour=red", "anne")
    answer = await hospital.get("Observation?_total=accurate", who, Prefer="handling=lenient")
    assert answer.status_code == 403
    who = hospital.as_("anne", f"patient/Observation.rs?category={LABORATORY}", "anne")
    answer = await hospital.get("Observation?colour=red&_total=accurate", who, Prefer="handling=lenient")
    assert answer.json()["total"] == 1


# ---- emergencies


async def test_breaking_the_glass_opens_one_record_for_a_while(fresh):
    dora = fresh.as_("dora", "user/*.rs")
    assert (await fresh.get("Observation/lab-bert", dora)).status_code == 404
    asked = {"patient": "bert", "reason": "found unconscious", "minutes": 10}
    opened = await fresh.send("POST", f"{BASE}/auth/break-glass", asked, dora)
    assert opened.status_code == 201, opened.text
    fresh.pass_second()
    assert (await fresh.get("Observation/lab-bert", dora)).status_code == 200
    assert (await fresh.get("Coverage/coverage-bert", dora)).status_code == 200
    assert (await fresh.get("Patient/linked", dora)).status_code == 404
    very = observation("very", "bert", meta={"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]})  # fmt: skip
    assert (await fresh.send("PUT", "Observation/very", very, fresh.as_("", OPERATOR))).status_code == 201
    assert (await fresh.get("Observation/very", dora)).status_code == 404
    assert (await fresh.get("Observation/lab-bert", fresh.as_("nora", "user/*.rs"))).status_code == 404
    row = next(iter(fresh.auth.store.settings("break-glass/").items()))
    fresh.auth.store.put_setting(row[0], {**row[1], "until": 0})
    fresh.pass_second()
    assert (await fresh.get("Observation/lab-bert", dora)).status_code == 404


async def test_an_emergency_ends_at_the_organization(fresh):
    store = fresh.auth.store
    made = patient("north") | {"name": [{"family": "North", "given": ["Nell"]}]}
    service = fresh.as_("-", "system/*.cruds", client="away")
    assert (await fresh.send("PUT", "Patient/north", made, service)).status_code == 201
    lookups = ({"mrn": "mrn-north"}, {"name": "Nell North", "birthDate": made["birthDate"]})
    for organization, theirs in (("insurer", False), ("other", True)):
        name = f"doctor-{organization}"
        store.put_user(User(name, ("doctor",), organization=f"Organization/{organization}"))
        doctor = fresh.as_(name, "user/*.cruds")
        for asked in lookups:
            found = await fresh.send("POST", f"{BASE}/auth/break-glass/lookup", asked, doctor)
            assert [one["mrn"] for one in found.json()["patients"]] == (["mrn-north"] if theirs else [])
        for named in ("north", "Patient/north", "mrn-north"):
            asked = {"patient": named, "reason": "found unconscious", "minutes": 10}
            opened = await fresh.send("POST", f"{BASE}/auth/break-glass", asked, doctor)
            assert opened.status_code == (201 if theirs else 404)
            assert theirs or "North" not in opened.text
        fresh.pass_second()
        assert (await fresh.get("Patient/north", doctor)).status_code == (200 if theirs else 403)  # 403: reaches nobody


async def test_an_emergency_is_for_who_may_read_patients(fresh):
    dora = fresh.as_("dora", "user/Slot.r")
    asked = {"patient": "bert", "reason": "found unconscious", "minutes": 10}
    for path, body in (("", asked), ("/lookup", {"mrn": "mrn-bert"})):
        assert (await fresh.send("POST", f"{BASE}/auth/break-glass{path}", body, dora)).status_code == 403


async def test_who_looks_after_whom_counts_at_once(fresh):
    operator, dora = fresh.as_("", OPERATOR), fresh.as_("dora", "user/*.rs")
    team = {
        "resourceType": "CareTeam",
        "id": "team-bert",
        "status": "active",
        "subject": ref("Patient/bert"),
        "participant": [{"member": ref("Practitioner/dora")}],
    }
    assert (await fresh.get("Patient/bert", dora)).status_code == 404
    assert (await fresh.send("PUT", "CareTeam/team-bert", team, operator)).status_code == 201
    assert (await fresh.get("Patient/bert", dora)).status_code == 200
    assert (await fresh.send("PUT", "CareTeam/team-bert", dict(team, status="inactive"), operator)).status_code == 200
    assert (await fresh.get("Patient/bert", dora)).status_code == 404


# ---- private details of a directory


async def test_home_addresses_are_for_those_who_keep_the_directory(hospital):
    seen = {}
    for who in (ANNE, ("dora", "user/*.rs", ""), ("resi", "user/*.rs", ""), ("adam", "user/*.rs", "")):
        body = (await hospital.get("Practitioner/dora", hospital.as_(*who))).json()
        found = (await hospital.get("Practitioner?_id=dora", hospital.as_(*who))).json()["entry"][0]["resource"]
        history = (await hospital.get("Practitioner/dora/_history", hospital.as_(*who))).json()["entry"][0]["resource"]
        assert body == found == history
        seen[who[0]] = body
    for who in ("anne", "resi"):
        assert "999" not in json.dumps(seen[who])
        assert "Hometown" not in json.dumps(seen[who])
        assert "birthDate" not in seen[who]
        assert seen[who]["meta"]["tag"][0]["code"] == "SUBSETTED"
        assert "111" in json.dumps(seen[who])
    for who in ("dora", "adam"):  # one reads oneself whole
        assert "999" in json.dumps(seen[who])
        assert "tag" not in seen[who]["meta"]


@pytest.mark.parametrize(
    "query",
    [
        "Practitioner?phone=999",
        "Practitioner?telecom=999",
        "Practitioner?address=Hometown",
        "Practitioner?address-city=Hometown",
        "Practitioner?_sort=phone",
        "Observation?performer:Practitioner.phone=999",
        "Practitioner?_filter=phone eq 999",
        "PractitionerRole?practitioner.telecom=999",
        "Practitioner?phone:missing=false",
    ],
)
async def test_what_is_left_out_is_not_searched_by(hospital, query):
    assert (await hospital.get(query, hospital.as_(*ANNE))).status_code == 403
    assert (await hospital.get(query, hospital.as_("adam", "user/*.rs"))).status_code == 200


HOMES = [
    {"resourceType": "Location", "id": "flat", "name": "Flat", "managingOrganization": ref("Organization/practice"), "address": {"use": "home", "city": "Hometown"}},
    {"resourceType": "Location", "id": "hall", "name": "Hall", "address": {"use": "work", "city": "Worktown"}},
    {
        "resourceType": "Organization",
        "id": "practice",
        "name": "Practice",
        "contact": [{"telecom": [{"system": "phone", "use": "home", "value": "999"}, {"system": "phone", "use": "work", "value": "111"}], "address": {"use": "home", "city": "Hometown"}}],
    },
    {
        "resourceType": "Practitioner",
        "id": "owner",
        "contained": [{"resourceType": "Organization", "id": "own", "name": "Homeclinic"}],
        "qualification": [{"code": {"text": "x"}, "issuer": {"reference": "#own"}}],
    },
]  # fmt: skip


async def test_a_home_address_is_none_to_those_who_look_things_up(fresh):
    operator, anne, adam = fresh.as_("", OPERATOR), fresh.as_(*ANNE), fresh.as_("adam", "user/*.rs")
    for one in HOMES:
        answer = await fresh.send("PUT", f"{one['resourceType']}/{one['id']}", one, operator)
        assert answer.status_code in (200, 201), answer.text
    for url, hers, his in (
        ("Location?address-city=Hometown", set(), {"flat"}),
        ("Location?address=Worktown", {"hall"}, {"hall"}),
        ("Location?name=Fla,Hal&address-city:missing=false", {"hall"}, {"flat", "hall"}),
        ("Location?_filter=address-city eq Hometown", set(), {"flat"}),
        ("Organization?_has:Location:organization:address-city=Hometown", set(), {"practice"}),
        ("Organization?_contained=true&name=Homeclinic", set(), {"owner"}),
        ("Organization?_contained=true&_containedType=contained&name=Homeclinic", set(), {"own"}),
        ("Organization?_contained=both&name=Homeclinic,Practice", {"practice"}, {"practice", "owner"}),
    ):
        assert await fresh.ids(url, anne) == hers, url
        assert await fresh.ids(url, adam) == his, url
    assert (await fresh.get("Location?_sort=address-city", anne)).status_code == 403
    body = (await fresh.get("Organization/practice", anne)).json()
    assert body["contact"] == [{"telecom": [{"system": "phone", "use": "work", "value": "111"}]}]
    assert body["meta"]["tag"][0]["code"] == "SUBSETTED"


async def test_headers_of_an_endpoint_are_not_told(fresh):
    endpoint = {
        "resourceType": "Endpoint",
        "id": "line",
        "status": "active",
        "connectionType": {"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest"},
        "payloadType": [coded("any")],
        "address": "https://partner.example.org/fhir",
        "header": ["Authorization: Bearer hush"],
    }  # fmt: skip
    assert (await fresh.send("PUT", "Endpoint/line", endpoint, fresh.as_("", OPERATOR))).status_code == 201
    for url in ("Endpoint/line", "Endpoint/line/_history/1", "Endpoint?_id=line", "Endpoint?_elements=header"):
        answer = await fresh.get(url, fresh.as_(*ANNE))
        assert (answer.status_code, "hush" in answer.text) == (200, False)
        assert "partner.example.org" in answer.text or "_elements" in url
        assert "hush" in (await fresh.get(url, fresh.as_("adam", "user/*.rs"))).text


# ---- history


async def test_a_version_that_was_about_somebody_else_is_not_shown(fresh):
    operator, anne = fresh.as_("", OPERATOR), fresh.as_(*ANNE)
    wrong = observation("moved", "bert")
    await fresh.send("PUT", "Observation/moved", wrong, operator)
    assert (await fresh.get("Observation/moved/_history", anne)).status_code == 404
    await fresh.send("PUT", "Observation/moved", observation("moved", "anne"), operator)
    assert (await fresh.get("Observation/moved", anne)).status_code == 200
    assert (await fresh.get("Observation/moved/_history/1", anne)).status_code == 404
    for url in ("Observation/moved/_history", "Observation/_history", "_history"):
        assert "secret of bert" not in (await fresh.get(url, anne)).text
    assert (await fresh.get("Observation/moved/_history", fresh.as_("bert", "patient/*.rs", "bert"))).status_code == 404


async def test_what_was_deleted_is_told_to_those_from_whom_nothing_is_hidden(fresh):
    operator = fresh.as_("", OPERATOR)
    await fresh.send("DELETE", "Observation/lab-anne", None, operator)
    assert (await fresh.get("Observation/lab-anne", operator)).status_code == 410
    for who in (ANNE, ("dora", "user/*.rs", ""), ("adam", "user/*.rs", "")):
        assert (await fresh.get("Observation/lab-anne", fresh.as_(*who))).status_code == 404
        history = (await fresh.get("Observation/_history?_count=1000", fresh.as_(*who))).json()
        assert not any(entry["fullUrl"].endswith("/lab-anne") for entry in history["entry"])


# ---- the form of an answer


@contextmanager
def statements(hospital):
    """The statements that the store runs inline meanwhile."""
    noted: list[str] = []
    connection = hospital.app.state.service.store.reader._inline.connection
    connection.set_trace_callback(noted.append)
    try:
        yield noted
    finally:
        connection.set_trace_callback(None)


@pytest.mark.parametrize("who", [ANNE, ("dora", "user/*.rs", ""), ("nora", "user/*.rs", ""), ("resi", "user/*.rs", "")])
async def test_hidden_and_missing_cost_the_same_statements(hospital, who):
    token = hospital.as_(*who)
    for path in ("Observation/{}", "Observation/{}/_history/1", "Observation/{}/_history", "Observation?_id={}"):
        await hospital.get(path.format("lab-anne"), token)  # what is looked up once a second is
        counts = []
        for name in ("lab-bert", "lab-nobo", "lab-bert", "lab-nobo"):
            with statements(hospital) as noted:
                await hospital.get(path.format(name), token)
            counts.append([text.partition("WHERE")[0].split("(SELECT")[0][:60] for text in noted if "resource" in text])
        assert counts[2] == counts[3], path


async def test_a_row_that_got_past_the_narrowing_is_no_answer(hospital, monkeypatch):
    """The last assertion: should a read verb forget its narrowing, the server fails instead of telling."""
    real = reading.read

    def careless(catalog, key, narrowing):
        del narrowing
        return real(catalog, key, EVERYTHING)

    monkeypatch.setattr(reading, "read", careless)
    answer = await hospital.get("Observation/lab-bert", hospital.as_(*ANNE))
    assert answer.status_code == 500
    assert "secret" not in answer.text


# ---- what hangs on other resources


async def test_a_binary_is_seen_by_those_who_see_what_it_is_attached_to(fresh):
    operator = fresh.as_("", OPERATOR)
    for who in ("anne", "bert"):
        for name, more in (
            ("attached", {}),
            ("context", {"securityContext": ref(f"Condition/condition-{who}")}),
            ("context-too", {"securityContext": ref(f"Condition/condition-{who}")}),
            ("loose", {}),
        ):
            binary = {
                "resourceType": "Binary",
                "id": f"{name}-{who}",
                "contentType": "text/plain",
                "data": "c2VjcmV0",
                **more,
            }
            answer = await fresh.send("PUT", f"Binary/{name}-{who}", binary, operator)
            assert answer.status_code == 201, answer.text
        document = {
            "resourceType": "DocumentReference",
            "status": "current",
            "subject": ref(f"Patient/{who}"),
            "content": [
                {"attachment": {"url": f"Binary/attached-{who}"}},
                {"attachment": {"url": f"Binary/context-too-{who}"}},
                {"attachment": {"url": f"{BASE}/fhir/Binary/context-{'bert' if who == 'anne' else 'anne'}"}},
            ],
        }
        assert (await fresh.send("POST", "DocumentReference", document, operator)).status_code == 201
    for who in (ANNE, ("dora", "user/*.rs", "")):
        token = fresh.as_(*who)
        for name, status in (
            ("attached-anne", 200),
            ("context-too-anne", 200),
            ("context-anne", 404),
            ("loose-anne", 404),
            ("attached-bert", 404),
            ("context-bert", 404),
            ("unheard-of", 404),
        ):
            for accept in ("application/fhir+json", "*/*"):
                answer = await fresh.get(f"Binary/{name}", token, Accept=accept)
                assert answer.status_code == status, (name, answer.text)
    few = fresh.as_("anne", "patient/Binary.r", "anne")
    assert (
        await fresh.get("Binary/attached-anne", few)
    ).status_code == 404  # the document itself is not within the scope


async def test_what_a_value_set_holds_is_for_those_who_may_read_it(hospital):
    gender = "http://hl7.org/fhir/ValueSet/administrative-gender"
    for url in (f"Patient?gender:in={gender}", "Observation?code:below=http://loinc.org|x", "Patient?gender:in=http://example.org/values"):  # fmt: skip
        assert (await hospital.get(url, hospital.as_(*ANNE))).status_code == 403
    assert (await hospital.get(f"Patient?gender:in={gender}", hospital.as_("dora", "user/*.rs"))).status_code == 200
