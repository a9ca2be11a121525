"""Attacks on what a record said before: versions that were not released, in another category, about another patient, another house's (1, 9, 10)."""

import json

import pytest

from tests.attacks.verdicts import ids, is_unknown

pytestmark = pytest.mark.anyio

ALL, ENGINE = "ann-with-all", "integration"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
NOTE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "now"},
    "subject": {"reference": "Patient/ann"},
}


def category(code: str) -> dict:
    return {"category": [{"coding": [{"system": CATEGORY, "code": code}]}]}


PASTS = {
    "preliminary": ({"status": "preliminary"}, {}, (ALL, "ann-with-observations", "aunt", "ann-as-user")),
    "withheld": (
        {"meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "NOPAT"}]}},
        {},
        (ALL, "ann-with-observations", "aunt"),
    ),
    "another-patient": (
        {"subject": {"reference": "Patient/okapi"}},
        {},
        (ALL, "ann-with-observations", "doctor", "nurse", "technician"),
    ),
    "another-category": (category("survey"), category("laboratory"), ("ann-with-laboratory",)),
}


async def replaced(hospital, said: str, before: dict, after: dict) -> str:
    """`Observation/id` of what was `before`, with this text, and is `after`."""
    made = await hospital.ask(ENGINE, "POST", "Observation", json.dumps({**NOTE, "code": {"text": said}, **before}))
    assert made.status_code == 201, made.text
    name = made.json()["id"]
    changed = await hospital.ask(ENGINE, "PUT", f"Observation/{name}", json.dumps({**NOTE, **after, "id": name}))
    assert changed.status_code == 200, changed.text
    return f"Observation/{name}"


@pytest.mark.parametrize(("past", "who"), [(past, who) for past, (_, _, readers) in PASTS.items() for who in readers])
async def test_attack_01_what_was_hidden_then_is_not_shown_now(hospital, past, who):
    before, after, _ = PASTS[past]
    said = f"{past} of {who}"
    here = await replaced(hospital, said, before, after)
    assert (await hospital.ask(who, "GET", here)).status_code == 200
    assert is_unknown(await hospital.ask(who, "GET", f"{here}/_history/1"))
    for path in (
        f"{here}/_history",
        "Observation/_history?_count=100",
        "_history?_count=100",
        f"{here}/_history/1/$meta",
        f"{here}/$diff",
        f"$diff?from={here}/_history/1&to={here}",
    ):
        answer = await hospital.ask(who, "GET", path)
        assert said not in answer.text
        if answer.status_code == 200 and path.endswith("/_history"):
            told = answer.json()
            assert told.get("total", 1) == len(told["entry"]) == 1


@pytest.mark.parametrize("who", [ALL, "doctor"])
async def test_attack_02_an_included_version_is_one_that_may_be_seen(hospital, who):
    here = await replaced(hospital, "of another", {"subject": {"reference": "Patient/okapi"}}, {})
    pointing = {**NOTE, "hasMember": [{"reference": f"{here}/_history/1"}]}
    made = (await hospital.ask(ENGINE, "POST", "Observation", json.dumps(pointing))).json()
    for include in ("_include=Observation:has-member", "_include=*", "_include:iterate=*"):
        answer = await hospital.ask(who, "GET", f"Observation?_id={made['id']}&{include}")
        assert f"Observation/{made['id']}" in ids(answer)
        assert "of another" not in answer.text


async def test_attack_08_nothing_is_made_again_of_what_another_house_deleted(hospital):
    for name in ("quagga-laboratory-gone", "quagga-laboratory"):
        taken = json.dumps({**NOTE, "id": name})
        assert is_unknown(await hospital.ask(ENGINE, "PUT", f"Observation/{name}", taken))
        assert is_unknown(await hospital.ask(ENGINE, "GET", f"Observation/{name}/_history/1"))
        assert is_unknown(await hospital.ask(ENGINE, "GET", f"Observation/{name}/_history"))
