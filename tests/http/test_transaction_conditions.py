"""Conditions of the entries of a Bundle, and identities that clash: https://hl7.org/fhir/R4/http.html#trules"""

import asyncio
import base64
import json
import uuid

import pytest

from fhir_server.interactions import clashes
from tests.http.conftest import FHIR, issue_of, made, serving
from tests.http.test_bundles import done, entry, identified, observation, send, statuses, stored

pytestmark = pytest.mark.anyio


@pytest.fixture
def mark():
    return str(uuid.uuid4())


def by(mark):
    return f"Patient?identifier=urn:test|{mark}"


def condition(mark):
    return f"identifier=urn:test|{mark}"


def urn():
    return f"urn:uuid:{uuid.uuid4()}"


def fhirpath_patch(**value):
    parts = [{"name": "type", "valueCode": "add"}, {"name": "path", "valueString": "Patient"},
             {"name": "name", "valueString": "birthDate"}, {"name": "value", **value}]  # fmt: skip
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}


def json_patch(*operations):
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}


PATCHES = [
    pytest.param(fhirpath_patch(valueDate="2000-01-01"), id="FHIRPath Patch"),
    pytest.param(json_patch({"op": "add", "path": "/birthDate", "value": "2000-01-01"}), id="JSON Patch in a Binary"),
]


async def count(client, query):
    return (await client.get(f"{query}&_total=accurate&_count=0")).json()["total"]


# ---- every kind of entry, in both kinds of Bundle


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize("patch", PATCHES)
async def test_every_kind_of_entry(client, mark, kind, patch):
    marks = [f"{mark}-{n}" for n in range(8)]
    old = [await made(client, identified(one)) for one in marks[:5]]
    got = await done(
        client,
        entry("HEAD", f"Patient/{old[0]['id']}"),
        entry("GET", by(marks[6])),
        entry("PATCH", by(marks[0]), patch),
        entry("PATCH", f"Patient/{old[1]['id']}", patch, ifMatch='W/"1"'),
        entry("PUT", by(marks[2]), identified(marks[2], active=True)),
        entry("PUT", by(marks[5]), identified(marks[5])),
        entry("PUT", f"Patient/new-{mark[:8]}", identified(marks[7], id=f"new-{mark[:8]}"), ifNoneMatch="*"),
        entry("POST", "Patient", identified(marks[6]), ifNoneExist=condition(marks[6])),
        entry("POST", "Patient", identified(marks[3]), ifNoneExist=condition(marks[3])),
        entry("DELETE", by(marks[4])),
        entry("DELETE", by(f"{mark}-none")),
        kind=kind,
    )
    assert statuses(got) == ["200", "200", "200", "200", "200", "201", "201", "201", "200", "204", "204"]
    assert got[1]["resource"]["total"] == 1
    for item, one in ((got[2], old[0]), (got[3], old[1])):
        assert item["response"]["location"] == f"Patient/{one['id']}/_history/2"
        assert (await stored(client, item))["birthDate"] == "2000-01-01"
    assert got[4]["response"]["location"] == f"Patient/{old[2]['id']}/_history/2"
    assert got[8]["response"]["location"] == f"Patient/{old[3]['id']}/_history/1"
    assert got[9]["response"]["etag"] == 'W/"2"'
    assert "etag" not in got[10]["response"]
    assert (await client.get(f"Patient/{old[4]['id']}")).status_code == 410
    methods = {
        item["request"]["method"] for item in (await client.get(f"Patient/{old[0]['id']}/_history")).json()["entry"]
    }
    assert methods == {"POST", "PATCH"}


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_reads_may_be_operations(client, patient, kind):
    old = await made(client, patient)
    got = await done(client, entry("GET", f"Patient/{old['id']}/$everything"), kind=kind)
    assert statuses(got) == ["200"]
    assert got[0]["resource"]["entry"][0]["resource"] == old


async def test_a_batch_may_post_operations_and_a_transaction_may_not(client, patient):
    old = await made(client, patient)
    tag = {"name": "meta", "valueMeta": {"tag": [{"system": "urn:test", "code": "x"}]}}
    asked = [
        entry("POST", f"Patient/{old['id']}/$meta-add", {"resourceType": "Parameters", "parameter": [tag]}),
        entry("POST", "Patient/$validate", {**patient, "surprise": 1}),
        entry("POST", "Patient/$nonsense", {"resourceType": "Parameters"}),
    ]
    got = await done(client, *asked, kind="batch")
    assert statuses(got) == ["200", "200", "404"]
    assert (await client.get(f"Patient/{old['id']}")).json()["meta"]["tag"] == tag["valueMeta"]["tag"]
    for one in asked:
        answer = await send(client, one)
        assert (answer.status_code, issue_of(answer)["expression"]) == (400, ["Bundle.entry[0].request.url"])


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize(
    ("method", "conditions", "status"),
    [
        pytest.param("PUT", {"ifMatch": 'W/"1"'}, "200", id="PUT of the current version"),
        pytest.param("PUT", {"ifMatch": 'W/"2"'}, "412", id="PUT of another version"),
        pytest.param("PUT", {"ifNoneMatch": "*"}, "412", id="PUT where nothing should be"),
        pytest.param("PUT", {"ifNoneExist": "name=x"}, "400", id="ifNoneExist on PUT"),
        pytest.param("PATCH", {"ifMatch": 'W/"1"'}, "200", id="PATCH of the current version"),
        pytest.param("PATCH", {"ifMatch": 'W/"2"'}, "412", id="PATCH of another version"),
        pytest.param("PATCH", {"ifNoneMatch": "*"}, "400", id="ifNoneMatch on PATCH"),
        pytest.param("DELETE", {"ifMatch": 'W/"1"'}, "204", id="DELETE of the current version"),
        pytest.param("DELETE", {"ifMatch": 'W/"2"'}, "412", id="DELETE of another version"),
        pytest.param("GET", {"ifNoneMatch": 'W/"1"'}, "304", id="GET of what the client holds"),
        pytest.param("GET", {"ifModifiedSince": "2999-01-01T00:00:00Z"}, "304", id="GET of what did not change since"),
        pytest.param("GET", {"ifModifiedSince": "2000-01-01T00:00:00+02:00"}, "200", id="GET of what changed since"),
        pytest.param("GET", {"ifMatch": 'W/"1"'}, "400", id="ifMatch on GET"),
        pytest.param("HEAD", {"ifNoneMatch": 'W/"1"'}, "304", id="HEAD of what the client holds"),
        pytest.param("DELETE", {"ifModifiedSince": "2999-01-01T00:00:00Z"}, "400", id="ifModifiedSince on DELETE"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("conditional", [False, True], ids=["by id", "by criteria"])
async def test_conditions_of_an_entry(client, mark, kind, method, conditions, status, conditional):
    if conditional and method in ("GET", "HEAD"):
        return
    old = await made(client, identified(mark))
    resource = {"PUT": {**old, "active": True}, "PATCH": fhirpath_patch(valueDate="2000-01-01")}.get(method)
    asked = entry(method, by(mark) if conditional else f"Patient/{old['id']}", resource, **conditions)
    if kind == "transaction" and status[0] == "4":
        answer = await send(client, entry("POST", "Patient", identified(f"{mark}-other")), asked)
        assert answer.status_code == int(status), answer.text
        assert issue_of(answer)["expression"][0].startswith("Bundle.entry[1]")
        assert await count(client, by(f"{mark}-other")) == 0
    else:
        assert statuses(await done(client, asked, kind=kind)) == [status]
    if status[0] == "4":
        assert (await client.get(f"Patient/{old['id']}")).json() == old


async def test_if_modified_since_is_told_to_the_microsecond(client, patient):
    old = await made(client, patient)
    moment = old["meta"]["lastUpdated"]
    before = f"{moment[:-2]}{(int(moment[-2]) - 1) % 10}Z"
    got = await done(
        client,
        entry("GET", f"Patient/{old['id']}", ifModifiedSince=moment),
        entry("GET", f"Patient/{old['id']}", ifModifiedSince=before),
    )
    assert statuses(got) == ["304", "200" if before < moment else "304"]


@pytest.mark.parametrize(
    ("number", "asked", "status"),
    [
        pytest.param(0, lambda mark: entry("PATCH", by(mark), fhirpath_patch(valueDate="2000")), 404, id="PATCH of none"),
        pytest.param(2, lambda mark: entry("PATCH", by(mark), fhirpath_patch(valueDate="2000")), 412, id="PATCH of several"),
        pytest.param(2, lambda mark: entry("PUT", by(mark), identified(mark)), 412, id="PUT of several"),
        pytest.param(2, lambda mark: entry("DELETE", by(mark)), 412, id="DELETE of several"),
        pytest.param(1, lambda mark: entry("PUT", by(mark), identified(mark, id="another")), 400, id="PUT of another id"),
        pytest.param(1, lambda mark: entry("PATCH", by(mark), fhirpath_patch(valueDate="x")), 400, id="PATCH to a bad value"),
        pytest.param(1, lambda mark: entry("PATCH", by(mark), json_patch({"op": "test", "path": "/active", "value": 1})), 422, id="PATCH whose test fails"),
    ],
)  # fmt: skip
async def test_a_condition_that_fails_undoes_the_whole(client, mark, number, asked, status):
    for _ in range(number):
        await made(client, identified(mark))
    answer = await send(client, entry("POST", "Patient", identified(f"{mark}-other")), asked(mark))
    assert answer.status_code == status, answer.text
    assert issue_of(answer)["expression"][0].startswith("Bundle.entry[1]")
    assert await count(client, by(f"{mark}-other")) == 0
    assert await count(client, by(mark)) == number


async def test_several_are_deleted_together_where_that_is_allowed(tmp_path, mark):
    async with serving(tmp_path, conditional_delete="multiple", conditional_delete_limit=3) as client:
        for number in (3, 4):
            old = [await made(client, identified(f"{mark}-{number}")) for _ in range(number)]
            asked = [entry("POST", "Patient", identified(f"{mark}-new")), entry("DELETE", by(f"{mark}-{number}"))]
            answer = await send(client, *asked)
            assert answer.status_code == (200 if number == 3 else 412)
            assert await count(client, by(f"{mark}-{number}")) == (0 if number == 3 else len(old))
        assert await count(client, by(f"{mark}-new")) == 1
        got = await done(client, entry("DELETE", f"Patient/{old[0]['id']}"), entry("DELETE", by(f"{mark}-new")))
        assert statuses(got) == ["204", "204"]


# ---- links to what conditions mean


@pytest.mark.parametrize("there", [True, False], ids=["that finds", "that creates"])
async def test_links_lead_to_what_a_conditional_update_means(client, mark, there):
    old = await made(client, identified(mark)) if there else None
    link = urn()
    got = await done(
        client,
        entry("POST", "Observation", observation(link)),
        entry("PUT", by(mark), identified(mark, active=True), link),
    )
    here = got[1]["response"]["location"].partition("/_history")[0]
    assert (await stored(client, got[0]))["subject"]["reference"] == here
    assert old is None or here == f"Patient/{old['id']}"


async def test_links_in_what_a_patch_adds_are_rewritten(client, patient):
    old, link = await made(client, patient), urn()
    add = json_patch({"op": "add", "path": "/managingOrganization", "value": {"reference": link}})
    got = await done(
        client,
        entry("PATCH", f"Patient/{old['id']}", add),
        entry("POST", "Organization", {"resourceType": "Organization", "name": "x"}, link),
    )
    reference = (await client.get(f"Patient/{old['id']}")).json()["managingOrganization"]["reference"]
    assert got[1]["response"]["location"].startswith(reference)


async def test_a_versioned_link_to_what_a_condition_found_names_the_version_found(client, mark):
    old = await made(client, identified(mark))
    await client.put(f"Patient/{old['id']}", content=json.dumps({**old, "active": True}), headers=FHIR)
    link = urn()
    got = await done(
        client,
        entry("POST", "Patient", identified(mark), link, ifNoneExist=condition(mark)),
        entry("POST", "Observation", observation(f"{link}/_history/1")),
    )
    assert (await stored(client, got[1]))["subject"]["reference"] == f"Patient/{old['id']}/_history/2"


# ---- one identity, or one meaning, twice: https://github.com/hapifhir/hapi-fhir/issues/8183

CLASHES = [
    pytest.param(1, lambda m, old: [entry("PUT", by(m), identified(m)), entry("PUT", by(m), identified(m))], id="two updates by one criterion that finds"),
    pytest.param(0, lambda m, old: [entry("PUT", by(m), identified(m)), entry("PUT", by(m), identified(m))], id="two updates by one criterion that finds nothing"),
    pytest.param(1, lambda m, old: [entry("PUT", by(m), identified(m)), entry("PUT", f"Patient?_id={old}", identified(m))], id="two updates by two criteria that find one"),
    pytest.param(1, lambda m, old: [entry("PUT", f"Patient/{old}", identified(m, id=old)), entry("PUT", by(m), identified(m))], id="by id and by criteria"),
    pytest.param(1, lambda m, old: [entry("DELETE", f"Patient/{old}"), entry("PUT", by(m), identified(m))], id="deleted by id and updated by criteria"),
    pytest.param(1, lambda m, old: [entry("DELETE", by(m)), entry("PATCH", f"Patient/{old}", fhirpath_patch(valueDate="2000"))], id="deleted by criteria and patched"),
    pytest.param(1, lambda m, old: [entry("DELETE", by(m)), entry("DELETE", f"Patient/{old}")], id="deleted twice"),
    pytest.param(1, lambda m, old: [entry("DELETE", by(m)), entry("POST", "Patient", identified(m), ifNoneExist=condition(m))], id="deleted, and found by a create"),
    pytest.param(1, lambda m, old: [entry("PUT", f"Patient/{old}", identified(m, id=old)), entry("POST", "Patient", identified(m), ifNoneExist=condition(m))], id="updated, and found by a create"),
    pytest.param(0, lambda m, old: [entry("POST", "Patient", identified(m), ifNoneExist=condition(m)), entry("PUT", by(m), identified(m))], id="a create and an update by one criterion"),
    pytest.param(
        0,
        lambda m, old: [
            entry("POST", "Patient", identified(m, active=True), ifNoneExist=condition(m)),
            entry("POST", "Patient", identified(m, active=True), ifNoneExist=f"{condition(m)}&active=true"),
        ],
        id="two creates whose criteria overlap",
    ),
    pytest.param(0, lambda m, old: [entry("POST", "Patient", identified(m)), entry("POST", "Patient", identified(m), ifNoneExist=condition(m))], id="a plain create that satisfies the criteria of another"),
    pytest.param(1, lambda m, old: [entry("POST", "Patient", identified(m)), entry("PUT", by(m), identified(m))], id="a plain create that satisfies the criteria of an update that finds"),
    pytest.param(0, lambda m, old: [entry("PUT", f"Patient/own-{m[:8]}", identified(m, id=f"own-{m[:8]}")), entry("POST", "Patient", identified(m), ifNoneExist=condition(m))], id="an update-as-create that satisfies the criteria of a create"),
    pytest.param(0, lambda m, old: [entry("POST", "Patient", identified(m, name=[{"family": f"F{m}"}])), entry("PUT", f"Patient?family=F{m}", identified(m))], id="criteria that are no token"),
    pytest.param(0, lambda m, old: [entry("POST", "Patient", identified(m, gender="female")), entry("PUT", f"{by(m)}&gender:not=male", identified(m))], id="criteria with a negation"),
    pytest.param(0, lambda m, old: [entry("POST", "Patient", identified(m)), entry("PUT", f"Patient?identifier=urn:test|none,urn:test|{m}", identified(m))], id="criteria with alternatives"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "entries"), CLASHES)
@pytest.mark.parametrize("turned", [False, True], ids=["", "the other way round"])
async def test_one_meaning_twice_is_refused(client, mark, number, entries, turned):
    there = [await made(client, identified(mark)) for _ in range(number)]
    asked = entries(mark, there[0]["id"] if there else None)
    answer = await send(client, *(reversed(asked) if turned else asked))
    assert (answer.status_code, issue_of(answer)["code"]) == (400, "duplicate"), answer.text
    found = (await client.get(by(mark))).json().get("entry", [])
    assert [item["resource"] for item in found] == there


@pytest.mark.parametrize(
    ("number", "entries", "expected"),
    [
        pytest.param(1, lambda m: [entry("DELETE", by(m)), entry("POST", "Patient", identified(m))], ["204", "201"], id="one is replaced by another"),
        pytest.param(0, lambda m: [entry("DELETE", by(m)), entry("PUT", by(m), identified(m))], ["204", "201"], id="nothing is deleted and one is made"),
        pytest.param(1, lambda m: [entry("POST", "Patient", identified(m), ifNoneExist=condition(m))] * 2, ["200", "200"], id="two creates find one"),
        pytest.param(
            0,
            lambda m: [
                entry("POST", "Patient", identified(m), ifNoneExist=condition(m)),
                entry("POST", "Patient", identified(f"{m}-b"), ifNoneExist=condition(f"{m}-b")),
                entry("PUT", by(f"{m}-c"), identified(f"{m}-c")),
            ],
            ["201", "201", "201"],
            id="criteria that mean different things",
        ),
    ],
)  # fmt: skip
async def test_what_is_no_clash(client, mark, number, entries, expected):
    for _ in range(number):
        await made(client, identified(mark))
    assert statuses(await done(client, *entries(mark))) == expected
    assert await count(client, by(mark)) == 1


async def test_criteria_that_look_at_other_resources_cannot_be_compared(client, mark):
    criteria = f"subject:Patient.identifier=urn:test|{mark}"
    alone = [entry("POST", "Observation", observation("Patient/x"), ifNoneExist=criteria)]
    assert statuses(await done(client, *alone)) == ["201"]
    answer = await send(client, *alone, entry("POST", "Observation", observation("Patient/y")))
    assert (answer.status_code, issue_of(answer)["code"]) == (400, "not-supported")
    assert issue_of(answer)["expression"] == ["Bundle.entry[0].request.ifNoneExist"]
    assert "the resource of entry 1" in issue_of(answer)["diagnostics"]


@pytest.mark.parametrize(
    "more", ["status=registered", "date=1999", "code:not=x-1"], ids=["a token", "a date", "a negation"]
)
@pytest.mark.parametrize(
    "criteria",
    ["subject:Patient.identifier=urn:test|{}", "_has:Provenance:target:_id={}", "category:below=laboratory"],
    ids=["a chain", "a reverse chain", "a hierarchy"],
)
async def test_criteria_that_look_at_other_resources_go_with_others_that_decide(client, mark, criteria, more):
    other = observation("Patient/y") | {"effectiveDateTime": "2001", "code": {"coding": [{"code": "x-1"}]}}
    criteria = criteria.format(mark)
    for joined in (f"{criteria}&{more}", f"{more}&{criteria}"):
        entries = [
            entry("POST", "Observation", observation("Patient/x") | {"status": "amended"}, ifNoneExist=joined),
            entry("POST", "Observation", other),
        ]
        answer = await send(client, *entries)
        assert answer.status_code == 200, answer.text


async def test_endless_comparisons_are_refused(client, mark, monkeypatch):
    monkeypatch.setattr(clashes, "_MOST", 10)
    entries = [
        entry("POST", "Patient", identified(f"{mark}-{n}", name=[{"family": f"{mark}-{n}"}]), ifNoneExist=f"family:exact={mark}-{n}")
        for n in range(4)
    ]  # fmt: skip
    answer = await send(client, *entries)
    assert (answer.status_code, issue_of(answer)["code"]) == (413, "too-costly")
    assert len(await done(client, *entries[:3])) == 3
    by_two = [
        entry("POST", "Patient", identified(f"{mark}-b{n}", gender="male"), ifNoneExist=f"gender=male&{condition(f'{mark}-b{n}')}")
        for n in range(8)
    ]  # fmt: skip
    assert len(await done(client, *by_two)) == 8, "the rarest code of the criteria counts"


# ---- races


async def test_parallel_transactions_by_one_criterion_make_one_resource(client, mark):
    link = urn()

    def entries(n):
        return (
            entry("PUT", by(mark), identified(mark, language=f"x-{n}"), link),
            entry("POST", "Observation", observation(link)),
        )

    answers = await asyncio.gather(*(send(client, *entries(n)) for n in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    versions = [answer.json()["entry"][0]["response"]["etag"] for answer in answers]
    assert sorted(versions) == sorted(f'W/"{n}"' for n in range(1, 21))
    found = (await client.get(by(mark))).json()["entry"]
    assert len(found) == 1
    assert await count(client, f"Observation?subject=Patient/{found[0]['resource']['id']}") == 20


async def test_parallel_patches_in_transactions_are_all_kept(client, mark):
    old = await made(client, identified(mark, name=[{"family": "x"}]))

    def add(n):
        return json_patch({"op": "add", "path": "/name/-", "value": {"family": f"n{n}"}})

    answers = await asyncio.gather(*(send(client, entry("PATCH", f"Patient/{old['id']}", add(n))) for n in range(8)))
    done = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 409}
    names = {name["family"] for name in (await client.get(f"Patient/{old['id']}")).json()["name"]}
    assert names == {"x", *(f"n{n}" for n in done)}


async def test_a_batch_entry_may_not_refer_to_what_another_creates_by_criteria(client, mark):
    link = urn()
    got = await done(
        client,
        entry("PUT", by(mark), identified(mark), link),
        entry("POST", "Observation", observation(link)),
        kind="batch",
    )
    assert statuses(got) == ["201", "400"]
