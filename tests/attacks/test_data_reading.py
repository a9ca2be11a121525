"""Attacks by reading and searching: Ann's apps reach for Bob's and Cid's records (1-5, 11, 13, 14)."""

import asyncio
import base64

import pytest

from tests.attacks.verdicts import alike, ids, is_refused, is_unknown, tells_nothing

pytestmark = pytest.mark.anyio

ALL, OBSERVATIONS = "ann-with-all", "ann-with-observations"
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("who", [ALL, OBSERVATIONS])
@pytest.mark.parametrize(
    "name", ["quagga-laboratory", "okapi-vital-signs", "numbat-laboratory", "quagga-laboratory-gone"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("below", ["", "/_history", "/_history/1", "?_summary=true", "?_elements=id", "?_format=xml"])
async def test_attack_01_another_persons_resource_is_not_there(hospital, who, name, method, below):
    missing = "z" + name[1:]
    hidden = await hospital.ask(who, method, f"Observation/{name}{below}")
    assert hidden.status_code == 404
    assert alike(hidden, await hospital.ask(who, method, f"Observation/{missing}{below}"), name, missing)


@pytest.mark.parametrize("held", ['W/"1"', "*"])
async def test_attack_01_an_etag_does_not_tell_of_a_version(hospital, held):
    assert is_unknown(await hospital.ask(ALL, "GET", "Patient/quagga", If_None_Match=held))
    when = {"If_Modified_Since": "Tue, 01 Dec 2037 00:00:00 GMT"}
    assert is_unknown(await hospital.ask(ALL, "GET", "Patient/quagga", **when))


@pytest.mark.parametrize("path", ["_history", "Observation/_history", "Patient/_history", "_history?_count=1000"])
async def test_attack_01_history_of_a_type_and_of_all_has_nothing_of_others(hospital, path):
    answer = await hospital.ask(ALL, "GET", path)
    assert ids(answer)
    assert tells_nothing(answer)


async def test_attack_01_a_type_without_a_scope_is_refused_whoever_it_is_about(hospital):
    for name in ("ann", "quagga", "nowhere"):
        assert (await hospital.ask(OBSERVATIONS, "GET", f"Patient/{name}")).status_code == 403
    assert set(ids(await hospital.ask(OBSERVATIONS, "GET", "_history"))) <= {
        "Observation/ann-laboratory", "Observation/ann-vital-signs", "Observation/ann-donor",
    }  # fmt: skip


@pytest.mark.parametrize("who", [ALL, OBSERVATIONS])
@pytest.mark.parametrize(
    "query",
    [
        "_include=Observation:focus",
        "_include=Observation:has-member",
        "_include=Observation:subject",
        "_include=*",
        "_include:iterate=*&_include=*",
        "_revinclude=Observation:derived-from",
        "_revinclude=Provenance:target",
        "_revinclude=*",
        "_revinclude:iterate=*&_revinclude=*&_include:iterate=*",
    ],
)
async def test_attack_02_includes_do_not_lead_out_of_the_compartment(hospital, who, query):
    answer = await hospital.ask(who, "GET", f"Observation?_id=ann-donor,ann-laboratory&{query}")
    found = ids(answer)
    assert found[:2] == ["Observation/ann-laboratory", "Observation/ann-donor"]
    assert not {"Patient/donor", "Observation/donor-value", "Provenance/quagga-both"} & set(found)
    assert tells_nothing(answer)
    if who == OBSERVATIONS:
        assert all(one.startswith("Observation/") for one in found)


@pytest.mark.parametrize(
    "path",
    [
        "Observation?focus:Patient.name=quaggadonor",
        "Observation?focus:Patient.identifier=quagga-donor",
        "Observation?subject:Patient.name=quagga",
        "Patient?_has:Condition:patient:code=quagga-problem-list-item-code",
        "Patient?_has:Group:member:_id=quagga-group",
        "Observation?performer:Practitioner.name=quagga",
        "Observation?_has:Observation:derived-from:_id=donor-value",
        "Observation?_has:Provenance:target:agent=Practitioner/quagga-doctor",
        "Observation?has-member:Observation.code=quagga-code",
        "Observation?has-member.subject:Patient.name=quaggadonor",
    ],
)
async def test_attack_03_chains_and_has_do_not_look_through_hidden_resources(hospital, path):
    answer = await hospital.ask(ALL, "GET", path)
    assert ids(answer) == []
    assert tells_nothing(answer)


async def test_attack_03_a_hidden_birth_date_is_not_found_by_halving(hospital):
    answers = [
        await hospital.ask(ALL, "GET", f"Observation?focus:Patient.birthdate={prefix}{year}&_total=accurate")
        for year in (1950, 1955, 1960, 1965)
        for prefix in ("lt", "ge", "eq")
    ]
    assert {answer.json()["total"] for answer in answers} == {0}


async def test_attack_03_a_type_without_a_scope_is_not_looked_through(hospital):
    """`patient.name` of one's own name: the token sees no Patient at all."""
    assert ids(await hospital.ask(OBSERVATIONS, "GET", "Observation?patient.name=annfamily")) == []
    assert ids(await hospital.ask(ALL, "GET", "Observation?patient.name=annfamily"))


@pytest.mark.parametrize(
    "query", ["_total=accurate", "_total=estimate", "_count=0", "_summary=count", "_total=accurate&_count=1"]
)
@pytest.mark.parametrize(
    "of", ["", "subject=Patient/quagga&", "code=quagga-laboratory-code&", "_id=quagga-laboratory&"]
)
async def test_attack_04_totals_count_what_is_seen(hospital, query, of):
    answer = await hospital.ask(ALL, "GET", f"Observation?{of}{query}")
    assert answer.json()["total"] == (0 if of else 3)
    assert "last-modified" not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        "_filter=subject%20re%20Patient/quagga",
        "_filter=code%20eq%20quagga-laboratory-code",
        "_text=quagga",
        "_content=quagga",
        "_list=quagga-both",
        "code-value-string=quagga-laboratory-code$quagga%20value",
        "component-code-value-concept=a$b",
    ],
)
async def test_attack_05_other_ways_of_asking_find_nothing_hidden(hospital, query):
    answer = await hospital.ask(ALL, "GET", f"Observation?{query}")
    assert is_refused(answer) or ids(answer) == []
    assert tells_nothing(answer)


async def test_attack_05_a_named_query_is_refused(hospital):
    assert is_refused(await hospital.ask(ALL, "GET", "Patient?_query=quagga"))


@pytest.mark.parametrize("key", ["code", "-date", "subject", "value-string", "_id", "_lastUpdated"])
async def test_attack_05_an_order_places_only_what_is_seen(hospital, key):
    found = ids(await hospital.ask(ALL, "GET", f"Observation?_sort={key}"))
    assert sorted(found) == ["Observation/ann-donor", "Observation/ann-laboratory", "Observation/ann-vital-signs"]


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("patient=Patient/ann", "patient=Patient/quagga"),
        ("patient=Patient/quagga", "patient=Patient/ann"),
        ("", "patient=Patient/quagga"),
        ("", "patient=http%3A%2F%2Flocalhost%3A8000%2Ffhir%2FPatient%2Fquagga"),
        ("", "patient=Patient%2Fquagga%2F_history%2F1"),
        ("", "subject:Group=quagga-group"),
        ("", "subject:identifier=http%3A%2F%2Fquagga.example.org%2Fmrn%7Cquagga-mrn"),
        ("", "patient=quagga"),
    ],
)
async def test_attack_11_a_form_and_a_url_that_disagree_show_nothing_more(hospital, url, form):
    answer = await hospital.ask(ALL, "POST", f"Observation/_search?{url}", form, **FORM)
    assert is_refused(answer) or ids(answer) == []
    assert tells_nothing(answer)


async def test_attack_11_one_of_several_patients_is_oneself(hospital):
    found = ids(await hospital.ask(ALL, "GET", "Observation?patient=Patient/quagga,Patient/ann,okapi"))
    assert sorted(found) == ["Observation/ann-donor", "Observation/ann-laboratory", "Observation/ann-vital-signs"]


async def _next(hospital, who: str, path: str) -> str:
    links = {link["relation"]: link["url"] for link in (await hospital.ask(who, "GET", path)).json()["link"]}
    return links["next"].removeprefix("http://localhost:8000/fhir/")


@pytest.mark.parametrize("path", ["Observation?_count=1", "Observation/_history?_count=1", "_history?_count=2"])
@pytest.mark.parametrize("other", ["doctor", "ann-with-observations", "ann-as-user", "aunt", "admin", "backend"])
async def test_attack_13_a_page_belongs_to_who_was_given_it(hospital, path, other):
    following = await _next(hospital, ALL, path)
    assert (await hospital.ask(ALL, "GET", following)).status_code == 200
    assert (await hospital.ask(other, "GET", following)).status_code == 400


async def test_attack_13_a_page_is_gone_with_the_grant_or_with_the_scope(hospital):
    wide = hospital.granted("patient/Observation.rs patient/Condition.rs", ALL)
    narrow = hospital.granted("patient/Observation.rs", ALL)
    following = await _next(hospital, wide, "Observation?_count=1")
    assert (await hospital.ask(wide, "GET", following)).status_code == 200
    assert (await hospital.ask(narrow, "GET", following)).status_code == 400
    hospital.revoke(wide)
    await asyncio.sleep(1.1)
    answer = await hospital.ask(wide, "GET", following)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_attack_13_an_altered_cursor_is_refused(hospital):
    following = await _next(hospital, ALL, "Observation?_count=1")
    path, _, cursor = following.partition("_cursor=")
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    for at in (0, 15, 16, len(raw) - 1):
        changed = bytearray(raw)
        changed[at] ^= 1
        text = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
        assert (await hospital.ask(ALL, "GET", f"{path}_cursor={text}")).status_code == 400
    assert (await hospital.ask(ALL, "GET", f"{following}&code=x")).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "Observation?Patient=Patient/quagga",
        "Observation?_ID=quagga-laboratory",
        "Patient/ann/../quagga",
        "Patient/ann/%2e%2e/quagga",
        "Patient/ann%2f..%2fquagga",
        "Patient/ann;/quagga",
        "Patient;x=1/quagga",
        "Patient/quagga%00",
        "Patient/%00quagga",
        "Patient//quagga",
        "/Patient/quagga",
        "patient/quagga",
        "Patient/quagga%20",
        "Patient/quagga/",
        "Patient/QUAGGA",
        "Patient/quagga?_pretty=true&_format=json",
        "metadata/../Patient/quagga",
        "metadata/%2e%2e/Patient/quagga",
        "metadata/Patient/quagga",
    ],
)
async def test_attack_14_odd_paths_and_names_lead_nowhere(hospital, path):
    for method in ("GET", "HEAD"):
        status, body = await hospital.raw(ALL, method, path)
        assert 400 <= status < 500
        assert "quaggafamily" not in body


@pytest.mark.parametrize(
    "path",
    [
        "Patient/ann",
        "metadata/../Patient/ann",
        "metadata/%2e%2e/Patient/ann",
        "metadata/Patient/ann",
        "metadata%2f..%2fPatient/ann",
        "/metadata/../Patient/ann",
        ".well-known/../Patient/ann",
        ".well-known/%2e%2e/Patient/ann",
        "Patient/ann?x=/metadata",
        "Patient/ann/metadata",
    ],
)
async def test_attack_14_what_is_open_opens_nothing_else(hospital, path):
    status, body = await hospital.raw("", "GET", path)
    assert status in (401, 404)
    assert "annfamily" not in body


async def test_attack_14_a_list_of_ids_shows_those_that_are_seen(hospital):
    answer = await hospital.ask(
        ALL, "GET", "Observation?_id=ann-laboratory,quagga-laboratory,okapi-laboratory,numbat-laboratory"
    )
    assert ids(answer) == ["Observation/ann-laboratory"]
    assert answer.json()["total"] == 1
