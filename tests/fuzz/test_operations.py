"""No call of an operation ends in a 500, whatever its parameters, its body and the resources it finds are; nor does a history."""

import json
from copy import deepcopy
from random import Random
from urllib.parse import quote

import pytest

from fhir_server.operations import OPERATIONS
from fhir_server.operations.model import inputs
from tests.fuzz.requests import STRINGS, VALUES, mutate
from tests.http.conftest import FHIR, serving

pytestmark = pytest.mark.anyio
QUICK = 1500
META = {
    "profile": ["http://example.org/p"],
    "tag": [{"system": "urn:s", "code": "x", "display": "X"}],
    "security": [{"code": "R"}],
}
KEPT = {
    "Patient": {"name": [{"family": "X"}], "meta": META},
    "Observation": {
        "status": "final",
        "code": {"coding": [{"system": "urn:s", "code": "c"}], "text": "t"},
        "subject": {"reference": "Patient/kept", "display": "X"},
        "effectivePeriod": {"start": "2020"},
    },
    "Encounter": {"status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/kept"}},
    "List": {"status": "current", "mode": "working", "entry": [{"item": {"reference": "Patient/kept"}}]},
    "SearchParameter": {
        "url": "http://example.org/sp", "name": "n", "status": "active", "description": "d", "code": "own",
        "base": ["Patient"], "type": "string", "expression": "Patient.name.family",
    },
}  # fmt: skip
GIVEN = ["2020", "2020-01-01T00:00:00Z", "1", "true", "Patient", "Patient/kept", "update", "delete", "kept", "c", "x"]


def value(rng):
    return str(rng.choice(rng.choice([GIVEN, GIVEN, STRINGS, VALUES])))[:2000]


def body(rng, row):
    rows = []
    for name, parameter in inputs(row).items():
        if rng.random() < 0.6:
            kind = parameter.type
            if kind == "Resource":
                of = rng.choice(list(KEPT))
                rows.append({"name": name, "resource": {"resourceType": of, "id": "kept", **KEPT[of]}})
            elif kind == "Meta":
                rows.append({"name": name, "valueMeta": META})
            elif kind in ("integer", "positiveInt"):
                rows.append({"name": name, "valueInteger": rng.choice([1, 2, 1000, 0, -1])})
            elif kind == "boolean":
                rows.append({"name": name, "valueBoolean": rng.random() < 0.5})
            else:
                rows.append({"name": name, "valueString": rng.choice(GIVEN)})
    if row.open:
        rows += [{"name": "patient", "valueString": "kept"}, {"name": "code", "valueString": value(rng) or "c"}]
    root = deepcopy({"resourceType": "Parameters", "parameter": rows} if rows else {"resourceType": "Parameters"})
    for _ in range(rng.choice([0, 0, 1, 1, 3])):
        mutate(rng, root)
    return root


def query(rng, names):
    pairs = [(rng.choice(names), value(rng)) for _ in range(rng.choice([0, 1, 1, 2, 4]))]
    return "&".join(f"{name}={quote(text.encode('utf-8', 'replace'))}" for name, text in pairs)


def call(rng):
    """Method, URL and body of a call."""
    if rng.random() < 0.2:
        path = rng.choice(["_history", "Patient/_history", "Patient/kept/_history", "List/_history"])
        return "GET", f"{path}?{query(rng, ['_since', '_at', '_count', '_list', '_cursor', '_sort'])}", None
    row = rng.choice(OPERATIONS)
    kind = rng.choice(row.types or list(KEPT))
    level = rng.choice(row.levels)
    place = {"system": "", "type": f"{kind}/", "instance": f"{kind}/kept/", "version": f"{kind}/kept/_history/1/"}[
        level
    ]
    names = [*inputs(row), *(["patient", "code", "category", "date", "_sort"] if row.open else [])] or ["x"]
    method = rng.choice(["GET", "POST", "POST"])
    return method, f"{place}{row.name}?{query(rng, names)}", body(rng, row) if method == "POST" else None


async def test_no_call_ends_in_a_500(tmp_path, rounds):
    async with serving(tmp_path, expunge=True) as client:
        answered = set()
        for seed in range(QUICK * rounds):
            rng = Random(seed)
            if seed % 100 == 0:
                for kind, members in KEPT.items():
                    resource = {"resourceType": kind, "id": "kept", **members}
                    answer = await client.put(f"{kind}/kept", content=json.dumps(resource), headers=FHIR)
                    assert answer.status_code in (200, 201), answer.text
            method, url, sent = call(rng)
            content = None if sent is None else json.dumps(sent)
            answer = await client.request(method, url, content=content, headers=FHIR)
            told = f"seed {seed}: {method} {url} {content} -> {answer.text}"
            assert answer.status_code < 500, told
            if answer.status_code == 200:
                answered.add(url.partition("?")[0].rpartition("/")[2])
            assert answer.status_code == 200 or answer.json()["resourceType"] in ("OperationOutcome", "Parameters"), (
                told
            )
        assert answered == {"_history", *(row.name for row in OPERATIONS)}
