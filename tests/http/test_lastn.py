"""https://hl7.org/fhir/R4/observation-operation-lastn.html: of each kind the latest."""

import importlib
import itertools
import json
import random

import pytest

from search.values import time_range
from tests.http.conftest import BASE, FHIR, issue_of, serving

pytestmark = pytest.mark.anyio
operation = importlib.import_module("fhir_server.operations.lastn")
TURNS = itertools.count()
SYSTEM = "http://example.org/codes"
VITAL = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}]
OTHER = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}]


def observation(name, codes, when=None, *, text=None, patient="a", category=None, **more):
    """An observation of the codes (letters of one system, or of `system|code`)."""
    codings = [
        dict(zip(("system", "code"), (f"{SYSTEM}|{c}" if "|" not in c else c).split("|"), strict=True)) for c in codes
    ]
    code = ({"coding": codings} if codings else {}) | ({"text": text} if text else {})
    when = {"effectiveDateTime": when} if isinstance(when, str) else when or {}
    return {"resourceType": "Observation", "id": name, "status": "final", "code": code, "category": category or VITAL,
            "subject": {"reference": f"Patient/{patient}"}, **when, **more}  # fmt: skip


async def put(client, *resources):
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await client.post("", content=json.dumps(bundle), headers=FHIR)
    assert answer.status_code == 200, answer.text


async def latest(client, query="patient=a&category=vital-signs", **headers):
    answer = await client.get(f"Observation/$lastn?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert (bundle["type"], bundle["total"]) == ("searchset", len(bundle.get("entry", ())) - bool(headers))
    return [entry["resource"]["id"] for entry in bundle.get("entry", ()) if entry["search"]["mode"] == "match"]


CASES = [
    pytest.param(
        [observation("1", "a", "2020-01-01"), observation("2", "b", "2020-01-02"), observation("3", "c", "2020-01-03")],
        1, ["3", "2", "1"], id="a, b, c are three groups",
    ),
    pytest.param(
        [observation("1", "a", "2020-01-01"), observation("2", "b", "2020-01-02"), observation("3", "ac", "2020-01-03")],
        1, ["3", "2"], id="a, b, a+c are two groups",
    ),
    pytest.param(
        [observation("1", "a", "2020-01-01"), observation("2", "b", "2020-01-02"), observation("3", "ab", "2020-01-03")],
        1, ["3"], id="a, b, a+b are one group",
    ),
    pytest.param(
        [observation("1", "ab", "2020-01-01"), observation("2", "b", "2020-01-02"), observation("3", "a", "2020-01-03")],
        1, ["3"], id="groups that an older one connects are one",
    ),
    pytest.param(
        [observation("1", "ab", "2020-01-01"), observation("2", "b", "2020-01-02"), observation("3", "a", "2020-01-03")],
        2, ["3", "2"], id="what is connected late is counted together",
    ),
    pytest.param(
        [observation("1", "", "2020-01-01", text=" textM"), observation("2", "", "2020-01-02", text="Text"),
         observation("3", "", "2020-01-03", text="t e x t"), observation("4", "", "2020-01-04", text="Text")],
        1, ["4", "3", "1"], id="text alone tells kinds as it is written",
    ),
    pytest.param(
        [observation("1", "a", "2020-01-01", text="x"), observation("2", "", "2020-01-02", text="x")],
        1, ["2", "1"], id="text beside a code tells nothing",
    ),
    pytest.param(
        [observation("1", ["http://one|a"], "2020-01-01"), observation("2", ["http://two|a"], "2020-01-02")],
        1, ["2", "1"], id="the system tells codes apart",
    ),
    pytest.param(
        [observation(str(day), "a", f"2020-01-0{day}") for day in (3, 1, 4, 2)], 3, ["4", "3", "2"], id="the latest three",
    ),
    pytest.param(
        [observation("1", "a", "2020-01-01"), observation("2", "a", "2020-01-01"), observation("3", "a", "2020-01-02")],
        2, ["1", "2", "3"], id="ties with the last one come too",
    ),
    pytest.param(
        [observation("1", "a", "2020-01-01T12:00:00Z"), observation("2", "a", "2020-01-01T13:00:00+01:00")],
        1, ["1", "2"], id="one moment in two zones is a tie",
    ),
    pytest.param(
        [observation("1", "a", {"effectivePeriod": {"start": "2020-01-02", "end": "2020-02-01"}}),
         observation("2", "a", "2020-01-03"), observation("3", "a", {"effectiveInstant": "2020-01-04T00:00:00Z"})],
        2, ["3", "2"], id="a period counts from where it begins",
    ),
    pytest.param(
        [observation("1", "a"), observation("2", "a"), observation("3", "a", "2020-01-01")], 1, ["3"], id="no time is oldest",
    ),
    pytest.param([observation("1", "a"), observation("2", "a")], 1, None, id="no times are no tie"),
    pytest.param(
        [observation("1", "a", "2020-01-01"), observation("2", "a", "2020-01-02", status="entered-in-error")],
        1, ["2"], id="entered in error counts",
    ),
    pytest.param(
        [observation("1", "a", "2020-01-01"), observation("2", "a", "2020-01-02", patient="b"),
         observation("3", "a", "2020-01-02", category=OTHER)],
        1, ["1"], id="of that subject and category alone",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("stored", "most", "expected"), CASES)
async def test_of_each_kind_come_the_latest(ward, stored, most, expected):
    turn = f"case{next(TURNS)}"
    patients = [{"resourceType": "Patient", "id": f"{turn}-{one}"} for one in "ab"]
    named = [
        {
            **one,
            "id": f"{turn}-{one['id']}",
            "subject": {"reference": f"Patient/{turn}-{one['subject']['reference'][-1]}"},
        }
        for one in stored
    ]
    await put(ward, *patients, *named)
    found = await latest(ward, f"patient={turn}-a&category=vital-signs&max={most}")
    found = [name.removeprefix(f"{turn}-") for name in found]
    if expected is None:
        assert len(found) == most
    else:
        assert sorted(found) == sorted(expected)
        times = {one["id"]: began(one) for one in stored}
        assert [times[name] for name in found] == sorted((times[name] for name in found), reverse=True)


def began(resource):
    """When the observation began, in microseconds; -1 without a time."""
    period = resource.get("effectivePeriod", {}).get("start")
    text = resource.get("effectiveDateTime") or resource.get("effectiveInstant") or period
    return time_range(text)[0] if text else -1


@pytest.fixture(scope="module")
async def ward(anyio_backend, tmp_path_factory):
    async with serving(tmp_path_factory.mktemp("lastn")) as client:
        rows = [observation(f"o{n}", "abc"[n % 3], f"2020-01-{n + 1:02}") for n in range(12)]
        rows.append(observation("final", "z", "2021-01-01", status="preliminary"))
        await put(client, {"resourceType": "Patient", "id": "a", "name": [{"family": "X"}]}, *rows)
        yield client


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(f"patient=a&code={SYSTEM}|a", ["o9"], id="by code"),
        pytest.param("subject=Patient/a&category=vital-signs&status=final", ["o11", "o10", "o9"], id="by status too"),
        pytest.param("subject:Patient=a&code=b,c&max=2", ["o11", "o10", "o8", "o7"], id="several codes"),
        pytest.param("patient.name=x&code=a&date=le2020-01-05", ["o3"], id="chained, and by date"),
        pytest.param("patient=a&code-value-concept=a$b", [], id="a composite over a code"),
        pytest.param("patient=nobody&category=vital-signs", [], id="nobody"),
        pytest.param("patient=a&code=a&max=99", ["o9", "o6", "o3", "o0"], id="more than there are"),
    ],
)
async def test_search_parameters_say_what_counts(ward, query, expected):
    assert await latest(ward, query) == expected


async def test_parameters_may_be_posted(ward):
    rows = [
        {"name": "max", "valuePositiveInt": 2},
        {"name": "patient", "valueString": "Patient/a"},
        {"name": "code", "valueCode": "a"},
        {"name": "date", "valueDate": "2020-01-04"},
    ]
    body = json.dumps({"resourceType": "Parameters", "parameter": rows})
    answer = await ward.post("Observation/$lastn", content=body, headers=FHIR)
    assert [entry["resource"]["id"] for entry in answer.json()["entry"]] == ["o3"]
    (link,) = answer.json()["link"]
    assert link["url"] == f"{BASE}/Observation/$lastn?max=2&patient=Patient/a&code=a&date=2020-01-04"


async def test_lenient_handling_tells_what_it_ignored(ward):
    query = "patient=a&code=a&colour=red"
    assert await latest(ward, query, Prefer="handling=lenient") == ["o9"]
    bundle = (await ward.get(f"Observation/$lastn?{query}", headers={"Prefer": "handling=lenient"})).json()
    assert "colour" not in bundle["link"][0]["url"]
    assert "colour" in bundle["entry"][-1]["resource"]["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("category=vital-signs", "patient or subject", id="no subject"),
        pytest.param("patient=&category=vital-signs", "patient or subject", id="a subject without value"),
        pytest.param("patient=a", "category, code", id="neither category nor code"),
        pytest.param("patient=a&status=final", "category, code", id="another parameter"),
        pytest.param("patient=a&code=a&max=0", "max=0", id="none of each"),
        pytest.param("patient=a&code=a&max=x", "max=x", id="no number"),
        pytest.param("patient=a&code=a&max=1&max=2", "max is given twice", id="max twice"),
        pytest.param("patient=a&code=a&_count=5", "_count", id="a page size"),
        pytest.param("patient=a&code=a&_sort=date", "_sort", id="another order"),
        pytest.param("patient=a&code=a&_include=Observation:patient", "_include", id="an include"),
        pytest.param("patient=a&code=a&colour=red", "colour", id="an unknown parameter"),
    ],
)
async def test_what_cannot_be_answered_is_named(ward, query, told):
    answer = await ward.get(f"Observation/$lastn?{query}")
    assert answer.status_code == 400
    assert told in issue_of(answer)["diagnostics"]


@pytest.mark.parametrize(("limit", "value"), [("MOST_READ", 11), ("MOST_SHOWN", 2)])
async def test_too_many_are_refused_rather_than_cut(ward, monkeypatch, limit, value):
    monkeypatch.setattr(operation, limit, value)
    answer = await ward.get("Observation/$lastn?patient=a&category=vital-signs&status=final")
    assert (answer.status_code, issue_of(answer)["code"]) == (403, "too-costly")


async def test_pages_of_the_store_make_no_difference(ward, monkeypatch):
    query = "patient=a&category=vital-signs&max=3"
    whole = await latest(ward, query)
    for page in (1, 2, 5):
        monkeypatch.setattr(operation, "_PAGE", page)
        assert await latest(ward, query) == whole


async def test_it_agrees_with_grouping_everything(ward, rounds):
    """Against the definition, word by word: groups by overlapping codes, then sorted, then cut with ties."""
    rng = random.Random(7)
    await put(ward, *({"resourceType": "Patient", "id": f"p{turn}"} for turn in range(6 * rounds)))
    for turn in range(6 * rounds):
        stored = [
            observation(f"t{turn}-{n}", rng.sample("abcdefgh", rng.choice((1, 1, 1, 2, 3))),
                        f"2020-01-{rng.randint(1, 9):02}", patient=f"p{turn}")
            for n in range(rng.randint(1, 30))
        ]  # fmt: skip
        await put(ward, *stored)
        most = rng.randint(1, 4)
        found = await latest(ward, f"patient=p{turn}&category=vital-signs&max={most}")
        assert sorted(found) == sorted(by_definition(stored, most))


def by_definition(stored, most):
    groups = []
    for one in stored:
        codes = {coding["code"] for coding in one["code"]["coding"]}
        same = [group for group in groups if group[0] & codes]
        groups = [group for group in groups if group not in same]
        groups.append((codes.union(*(group[0] for group in same)), [one, *(o for group in same for o in group[1])]))
    for _, members in groups:
        times = sorted((one["effectiveDateTime"] for one in members), reverse=True)
        yield from (one["id"] for one in members if one["effectiveDateTime"] >= times[:most][-1])
