"""Who sees what, through every way of reading: a table of people and what each may know of.

For everybody the same questions are asked: read, vread, history, search by id and without, HEAD, in a batch. What they may not see must answer as
what is not there, letter by letter.
"""

import json

import pytest

from tests.access.hospital import LABORATORY, OPERATOR, WORLD

pytestmark = pytest.mark.anyio
TYPES = sorted({kind for kind, _ in WORLD})
LISTED = ["Location/bed-anne", "Location/bed-bert", "Location/ward-anne", "Location/ward-bert", "Organization/insurer", "Organization/other", "Practitioner/dora", "Practitioner/nora", "PractitionerRole/nora-at-work"]  # fmt: skip
ANNES = ["Patient/anne", "Observation/lab-anne", "Observation/vital-anne", "Condition/condition-anne", "Encounter/visit-anne", "Appointment/appointment-anne", "Coverage/coverage-anne", "Provenance/provenance-anne", "CareTeam/team-anne", "RelatedPerson/rita"]  # fmt: skip
HIDDEN = ["Observation/early-anne", "Observation/withheld-anne"]
PEOPLE_OF_ALL = ["Patient/anne", "Patient/bert", "Patient/linked", "RelatedPerson/rita"]
BOOKED = ["Appointment/appointment-anne", "Appointment/appointment-bert"]
COVERED = ["Coverage/coverage-anne", "Coverage/coverage-bert"]
DEFINED = ["ValueSet/values"]
EVERYTHING = [f"{kind}/{name}" for kind, name in WORLD]


def of_bert(names):
    return [name.replace("anne", "bert") for name in names if name.endswith("-anne") or name == "Patient/anne"]


SEES = {
    "an operator sees everything": ("", OPERATOR, "", EVERYTHING),
    "an operator in the context of a patient": ("", "patient/*.rs", "anne", ANNES + LISTED),
    "a patient sees what is about her": ("anne", "patient/*.rs", "anne", ANNES + LISTED),
    "another patient": ("bert", "patient/*.rs", "bert", of_bert(a for a in ANNES if "team" not in a) + LISTED),
    "a patient by user scopes": ("anne", "user/*.rs", "", ANNES + LISTED),
    "a related person in her context": ("rita", "patient/*.rs", "anne", ANNES + LISTED),
    "a related person in a foreign context": ("rita", "patient/*.rs", "bert", LISTED),
    "a patient in a foreign context": ("anne", "patient/*.rs", "bert", LISTED),
    "a patient who is linked to no record": ("stranger", "user/*.rs patient/*.rs", "", LISTED),
    "a patient without context": ("anne", "patient/*.rs", "", []),
    "a patient with v1 scopes": ("anne", "patient/*.read", "anne", ANNES + LISTED),
    "a patient with one scope": ("anne", "patient/Condition.rs", "anne", ["Condition/condition-anne"]),
    "a patient with a granular scope": (
        "anne", f"patient/Observation.rs?category={LABORATORY}", "anne", ["Observation/lab-anne"],
    ),
    "a patient with an encoded granular scope": (
        "anne", f"patient/Observation.rs?category={LABORATORY.replace('|', '%7C')}", "anne", ["Observation/lab-anne"],
    ),
    "a granular scope by a parameter that is not known": ("anne", "patient/Observation.rs?colour=red", "anne", []),
    "two granular parameters": ("anne", f"patient/Observation.rs?category={LABORATORY}&code=other", "anne", []),
    "system scopes in the hand of a person": ("dora", "system/*.cruds", "", []),
    "words alone": ("dora", "openid launch offline_access", "", []),
    "who somebody is": ("dora", "openid fhirUser", "", []),
    "a doctor sees whom she looks after": ("dora", "user/*.rs", "", [*ANNES, *HIDDEN, *LISTED, *DEFINED]),
    "a doctor in the context of a patient": ("dora", "patient/*.rs", "anne", [*ANNES, *HIDDEN, *LISTED]),
    "a doctor sees one type": ("dora", "user/Observation.rs", "", ["Observation/lab-anne", "Observation/vital-anne", *HIDDEN]),
    "a nurse sees who lies on her ward": (
        "nora", "user/*.rs", "", [a for a in [*ANNES, *HIDDEN] if "coverage" not in a] + LISTED + DEFINED,
    ),
    "a receptionist sees demographics": ("resi", "user/*.rs", "", [*PEOPLE_OF_ALL, *BOOKED, *COVERED, *LISTED, *DEFINED]),
    "a receptionist's app sees nothing clinical of a patient": (
        "resi", "patient/*.rs", "anne", ["Patient/anne", "RelatedPerson/rita", "Appointment/appointment-anne", "Coverage/coverage-anne", *LISTED],
    ),
    "an administrator sees the organization": ("adam", "user/*.rs", "", EVERYTHING),
    "a super-administrator sees everything": ("sue", "user/*.rs", "", EVERYTHING),
    "a pharmacist": ("phil", "user/*.rs", "", ["Patient/anne", "Patient/bert", "Patient/linked", "Condition/condition-anne", "Condition/condition-bert", *LISTED, *DEFINED]),
    "a technician without orders": ("lab", "user/*.rs", "", LISTED + DEFINED),
    "billing": ("bill", "user/*.rs", "", [*PEOPLE_OF_ALL, *COVERED, "Encounter/visit-anne", "Encounter/visit-bert", *LISTED, *DEFINED]),
    "an insurer": ("ines", "user/*.rs", "", COVERED + LISTED + DEFINED),
    "a person without a role": ("nobody", "user/*.rs patient/*.rs", "anne", LISTED),
    "a backend of the organization": ("-", "system/*.rs", "", EVERYTHING),
    "a backend with one scope": ("-", "system/Condition.rs", "", ["Condition/condition-anne", "Condition/condition-bert"]),
    "user scopes in the hand of a backend": ("-", "user/*.rs patient/*.rs", "anne", []),
}  # fmt: skip


def unlike(answer):
    """What tells an answer about one resource from that about another that is not there: nothing may."""
    kept = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "date")}
    return answer.status_code, kept


@pytest.mark.parametrize("case", SEES)
async def test_searches_find(hospital, case):
    user, scope, context, wanted = SEES[case]
    who = hospital.as_(user, scope, context, "backend" if user == "-" else "app")
    found = set()
    for kind in TYPES:
        answer = await hospital.get(f"{kind}?_count=100&_total=accurate", who)
        if answer.status_code == 403:
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
            continue
        assert answer.status_code == 200, answer.text
        body = answer.json()
        names = {entry["fullUrl"].removeprefix("https://fhir.example.org/fhir/") for entry in body.get("entry", ())}
        assert body["total"] == len(names)
        found |= names
    assert found == set(wanted)


@pytest.mark.parametrize("case", SEES)
async def test_reads_show(hospital, case):
    user, scope, context, wanted = SEES[case]
    who = hospital.as_(user, scope, context, "backend" if user == "-" else "app")
    mine = {"Practitioner/dora"} if scope == "openid fhirUser" else set()
    for kind, name in sorted(WORLD):
        seen = f"{kind}/{name}" in wanted or f"{kind}/{name}" in mine
        missing = "q" * len(name)
        for path in ("{}", "{}/_history", "{}/_history/1"):
            answer = await hospital.get(f"{kind}/{path.format(name)}", who)
            if seen:
                assert answer.status_code == 200, (path, name, answer.text)
                continue
            unknown = await hospital.get(f"{kind}/{path.format(missing)}", who)
            assert answer.status_code in (403, 404), answer.text
            assert unlike(answer) == unlike(unknown)
            assert answer.text.replace(name, missing) == unknown.text
        head = await hospital.client.head(f"{kind}/{name}", headers=who)
        assert (head.status_code == 200) == seen


@pytest.mark.parametrize(
    "case",
    ["a patient sees what is about her", "a nurse sees who lies on her ward", "a receptionist sees demographics"],
)
async def test_the_system_and_batches_show_the_same(hospital, case):
    user, scope, context, wanted = SEES[case]
    who = hospital.as_(user, scope, context)
    assert await hospital.ids("?_count=7", who) == {one.partition("/")[2] for one in wanted}
    history = (await hospital.get("_history?_count=1000", who)).json()
    assert {entry["request"]["url"] for entry in history["entry"]} == set(wanted)
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"request": {"method": "GET", "url": f"{kind}/{name}"}} for kind, name in sorted(WORLD)],
    }
    answers = (await hospital.send("POST", "", batch, who)).json()["entry"]
    for (kind, name), answer in zip(sorted(WORLD), answers, strict=True):
        assert (answer["response"]["status"][:3] == "200") == (f"{kind}/{name}" in wanted), (kind, name)


async def test_no_answer_names_what_is_hidden(hospital):
    who = hospital.as_("anne", "patient/*.rs", "anne")
    for url in (
        "?_count=1000",
        "_history?_count=1000",
        "Observation?_include=*&_count=100",
        "Practitioner?_revinclude=*&_count=100",
        "Location?_revinclude=*&_revinclude:iterate=*&_count=100",
        "Patient/anne/$everything",
        "Patient/anne/*?_count=1000",
        "Observation?subject=Patient/bert",
        "Observation?subject=bert&_total=accurate",
        "Patient?_id=anne,bert",
        "Encounter?location:below=Location/ward-bert",
    ):
        answer = await hospital.get(url, who)
        assert answer.status_code == 200, (url, answer.text)
        text = json.dumps(answer.json().get("entry", []))
        for secret in (
            "secret of bert",
            "code-bert",
            "mrn-bert",
            "Bert",
            "visit-bert",
            "linked",
            "999",
            "Hometown",
            "1970-01-01",
        ):
            assert secret not in text, (url, secret)
