"""Attacks by writing: into other records, out of one's own, over what is hidden (8), and around granular scopes (9)."""

import json

import pytest

from tests.attacks.verdicts import alike, bundle, entry, ids, is_refused, is_unknown, tells_nothing

pytestmark = pytest.mark.anyio

ANN, DOCTOR, DESK, ENGINE = "ann-writing", "doctor-writing", "receptionist", "integration"
PATCH = {"Content_Type": "application/json-patch+json"}
NOTE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "pulse"},
    "subject": {"reference": "Patient/ann"},
    "performer": [{"reference": "Patient/ann"}],
}
PROBLEM = {"resourceType": "Condition", "code": {"text": "cough"}, "subject": {"reference": "Patient/ann"}}


def about(resource: dict, subject: object) -> str:
    """The resource as JSON, about somebody else."""
    return json.dumps({**resource, "subject": subject})


async def made(hospital, who: str, resource: dict) -> str:
    """`Type/id` of the resource, created."""
    answer = await hospital.ask(who, "POST", resource["resourceType"], json.dumps(resource))
    assert answer.status_code == 201, answer.text
    return f"{resource['resourceType']}/{answer.json()['id']}"


def edited(path: str, value: object) -> str:
    """A JSON Patch of one replacement."""
    return json.dumps([{"op": "add", "path": path, "value": value}])


@pytest.mark.parametrize(
    ("who", "resource"), [(ANN, NOTE), (DOCTOR, NOTE), (DOCTOR, PROBLEM)], ids=["patient", "doctor", "doctor-problem"]
)
@pytest.mark.parametrize("name", ["quagga", "okapi", "donor", "nowhere"])
async def test_attack_08_nothing_is_filed_under_another_patient(hospital, who, resource, name):
    answer = await hospital.ask(
        who, "POST", resource["resourceType"], about(resource, {"reference": f"Patient/{name}"})
    )
    assert answer.status_code == 403
    assert tells_nothing(answer, "quagga", "okapi")


@pytest.mark.parametrize(("who", "resource"), [(ANN, NOTE), (DOCTOR, PROBLEM)], ids=["patient", "doctor"])
async def test_attack_08_nothing_is_moved_out_of_a_record_or_into_it(hospital, who, resource):
    here = await made(hospital, who, resource)
    kind, _, name = here.partition("/")
    for other in ("quagga", "okapi", "nowhere"):
        moved = {**resource, "id": name, "subject": {"reference": f"Patient/{other}"}}
        assert (await hospital.ask(who, "PUT", here, json.dumps(moved))).status_code == 403
        assert (
            await hospital.ask(who, "PATCH", here, edited("/subject/reference", f"Patient/{other}"), **PATCH)
        ).status_code == 403
        assert is_refused(await hospital.ask(who, "POST", "", bundle("transaction", entry("PUT", here, moved))))
    for hidden in (f"{kind}/okapi-{'laboratory' if kind == 'Observation' else 'problem-list-item'}",):
        taken = {**resource, "id": hidden.partition("/")[2]}
        assert is_unknown(await hospital.ask(who, "PUT", hidden, json.dumps(taken)))
        assert is_unknown(
            await hospital.ask(who, "PATCH", hidden, edited("/subject/reference", "Patient/ann"), **PATCH)
        )
    assert (await hospital.ask(who, "GET", here)).json()["meta"]["versionId"] == "1"


@pytest.mark.parametrize(
    "subject",
    [
        {"display": "Bob"},
        {"identifier": {"value": "quagga-mrn"}},
        {"reference": "http://elsewhere.example.org/fhir/Patient/1"},
        {"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"},
        {"reference": "Group/quagga-group"},
        {"reference": "Device/x"},
        {"reference": "Patient/ann", "identifier": {"value": "quagga-mrn"}},
        None,
    ],
    ids=str,
)
async def test_attack_08_a_patient_writes_about_themselves_alone(hospital, subject):
    posted = {name: value for name, value in NOTE.items() if name != "subject"} | (
        {"subject": subject} if subject else {}
    )
    assert (await hospital.ask(ANN, "POST", "Observation", json.dumps(posted))).status_code == 403


@pytest.mark.parametrize(
    "author",
    [
        [],
        [{"reference": "Practitioner/doctor"}],
        [{"reference": "Patient/ann"}, {"reference": "Practitioner/doctor"}],
        [{"display": "a doctor"}],
        [{"reference": "Patient/ann"}, {"display": "a doctor"}],
        [{"reference": "Patient/ann"}, {"type": "Practitioner", "identifier": {"value": "doctor-number"}}],
        [{"reference": "http://elsewhere.example.org/Practitioner/1"}, {"reference": "Patient/ann"}],
    ],
    ids=str,
)
async def test_attack_08_a_patient_writes_in_their_own_name_alone(hospital, author):
    posted = {name: value for name, value in NOTE.items() if name != "performer"} | (
        {"performer": author} if author else {}
    )
    assert (await hospital.ask(ANN, "POST", "Observation", json.dumps(posted))).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "Observation/quagga-laboratory",
        "Observation/okapi-laboratory",
        "Observation/numbat-laboratory",
        "Patient/quagga",
        "Observation/quagga-laboratory-gone",
    ],
)
@pytest.mark.parametrize("who", [ANN, DOCTOR, DESK])
async def test_attack_08_update_as_create_over_a_hidden_id_is_a_404_like_over_any(hospital, who, path):
    if who == DOCTOR and "numbat" in path:
        return  # the doctor sees it
    kind, _, name = path.partition("/")
    word = name[:6]
    body = json.dumps({**(NOTE if kind == "Observation" else {"resourceType": "Patient"}), "id": name})
    for condition in ({}, {"If_Match": 'W/"1"'}, {"If_None_Match": "*"}):
        hidden = await hospital.ask(who, "PUT", path, body, **condition)
        absent = "z" + word[1:]
        missing = await hospital.ask(who, "PUT", path.replace(word, absent), body.replace(word, absent), **condition)
        assert hidden.status_code in (403, 404, 412)
        assert alike(hidden, missing, word, absent)


@pytest.mark.parametrize(
    "criterion",
    ["identifier=quagga-laboratory", "code=quagga-laboratory-code", "subject=Patient/quagga", "_id=quagga-laboratory"],
)
async def test_attack_08_conditional_writes_do_not_match_what_is_hidden(hospital, criterion):
    absent = criterion.replace("quagga", "zuagga")
    for method, headers in (("DELETE", {}), ("PATCH", PATCH)):
        body = edited("/language", "fr") if method == "PATCH" else None
        hidden = await hospital.ask(ANN, method, f"Observation?{criterion}", body, **headers)
        assert alike(
            hidden, await hospital.ask(ANN, method, f"Observation?{absent}", body, **headers), "quagga", "zuagga"
        )
    created = await hospital.ask(ANN, "POST", "Observation", json.dumps(NOTE), If_None_Exist=criterion)
    assert created.status_code == 201
    kept = await hospital.ask("other-house", "GET", "Observation/quagga-laboratory")
    assert kept.json()["meta"]["versionId"] == "1"
    assert "language" not in kept.json()


@pytest.mark.parametrize("who", [ANN, DOCTOR])
async def test_attack_08_a_link_between_patients_is_not_for_them(hospital, who):
    for value in ([{"other": {"reference": "Patient/quagga"}, "type": "seealso"}],):
        answer = await hospital.ask(who, "PATCH", "Patient/ann", edited("/link", value), **PATCH)
        assert answer.status_code == 403
        changed = {"resourceType": "Patient", "id": "ann", "link": value}
        assert (await hospital.ask(who, "PUT", "Patient/ann", json.dumps(changed))).status_code == 403


async def test_attack_08_a_link_shows_nothing_of_the_other_patient(hospital):
    """The desk may link: Ann still sees nothing of Cid."""
    link = [{"other": {"reference": "Patient/okapi"}, "type": "seealso"}]
    assert (await hospital.ask(DESK, "PATCH", "Patient/ann", edited("/link", link), **PATCH)).status_code == 200
    for path in ("Patient/okapi", "Observation/okapi-laboratory", "Patient/okapi/$everything"):
        assert is_unknown(await hospital.ask(ANN, "GET", path))
    assert "Patient/okapi" not in ids(await hospital.ask(ANN, "GET", "Patient?_include=Patient:link"))
    assert ids(await hospital.ask(ANN, "GET", "Patient/ann/$everything?_type=Patient")) == ["Patient/ann"]


@pytest.mark.parametrize("who", ["ann-with-all", "doctor", "nurse", "backend", "ann-as-user"])
async def test_attack_08_a_scope_of_reading_writes_nothing(hospital, who):
    for method, path, body in (
        ("POST", "Observation", json.dumps(NOTE)),
        ("PUT", "Observation/ann-laboratory", json.dumps({**NOTE, "id": "ann-laboratory"})),
        ("PATCH", "Observation/ann-laboratory", edited("/language", "fr")),
        ("DELETE", "Observation/ann-laboratory", None),
        ("DELETE", "Observation?_id=ann-laboratory", None),
        (
            "POST",
            "Observation/ann-laboratory/$meta-add",
            json.dumps(
                {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
            ),
        ),
    ):
        headers = PATCH if method == "PATCH" else {}
        assert (await hospital.ask(who, method, path, body, **headers)).status_code == 403


@pytest.mark.parametrize(
    ("who", "path"),
    [
        (ANN, "Observation/ann-laboratory"),
        (DOCTOR, "Observation/ann-laboratory"),
        (DESK, "Patient/ann"),
        ("admin", "Observation/ann-laboratory"),
    ],
)
async def test_attack_08_who_may_not_delete_does_not(hospital, who, path):
    assert (await hospital.ask(who, "DELETE", path)).status_code == 403


async def test_attack_08_a_receptionist_treats_nobody_and_a_doctor_registers_nobody(hospital):
    assert (await hospital.ask(DESK, "POST", "Condition", json.dumps(PROBLEM))).status_code == 403
    assert (await hospital.ask(DOCTOR, "POST", "Patient", json.dumps({"resourceType": "Patient"}))).status_code == 403
    assert (await hospital.ask("admin", "POST", "Condition", json.dumps(PROBLEM))).status_code == 403


async def test_attack_08_an_engine_of_one_house_writes_nothing_of_another(hospital):
    for method, path, body in (
        ("PUT", "Observation/quagga-laboratory", json.dumps({**NOTE, "id": "quagga-laboratory"})),
        ("PATCH", "Observation/quagga-laboratory", edited("/language", "fr")),
    ):
        headers = PATCH if method == "PATCH" else {}
        assert is_unknown(await hospital.ask(ENGINE, method, path, body, **headers))
    assert (
        await hospital.ask(ENGINE, "DELETE", "Observation/quagga-laboratory")
    ).status_code == 204  # like one that is not there
    assert (await hospital.ask("other-house", "GET", "Observation/quagga-laboratory")).status_code == 200


LABORATORY = "ann-with-laboratory"


@pytest.mark.parametrize("below", ["", "/_history", "/_history/1", "/$meta"])
async def test_attack_09_what_is_outside_of_a_category_is_not_read_by_id(hospital, below):
    assert (await hospital.ask(LABORATORY, "GET", f"Observation/ann-laboratory{below}")).status_code == 200
    hidden = await hospital.ask(LABORATORY, "GET", f"Observation/ann-vital-signs{below}")
    missing = await hospital.ask(LABORATORY, "GET", f"Observation/znn-vital-signs{below}")
    assert is_unknown(hidden)
    assert alike(hidden, missing, "ann-vital-signs", "znn-vital-signs")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "category=vital-signs",
        "category=laboratory,vital-signs",
        "category:not=laboratory",
        "_id=ann-vital-signs",
        "category:missing=false",
        "code=ann-vital-signs-code",
    ],
)
async def test_attack_09_what_is_outside_of_a_category_is_not_found(hospital, query):
    answer = await hospital.ask(LABORATORY, "GET", f"Observation?{query}&_total=accurate", Prefer="handling=lenient")
    assert "Observation/ann-vital-signs" not in ids(answer)
    assert answer.json()["total"] == len(ids(answer))


async def test_attack_09_two_categories_are_those_two(hospital):
    who = "ann-with-two-categories"
    assert ids(await hospital.ask(who, "GET", "Observation")) == ["Observation/ann-vital-signs"]
    assert ids(await hospital.ask(who, "GET", "Condition")) == ["Condition/ann-problem-list-item"]
    assert (await hospital.ask(who, "GET", "Patient")).status_code == 403  # `.r` alone
    assert (await hospital.ask(who, "GET", "Patient/ann")).status_code == 200
    assert (await hospital.ask(who, "GET", "AllergyIntolerance")).status_code == 403


CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def categorized(*codes: str) -> dict:
    """A note of Ann's own of these categories."""
    return {**NOTE, "category": [{"coding": [{"system": CATEGORY, "code": code}]} for code in codes]}


async def test_attack_09_a_category_is_not_written_out_of_scope_or_into_it(hospital):
    who = hospital.granted(f"patient/Observation.crus?category={CATEGORY}|vital-signs", ANN)
    lab = await made(hospital, ANN, categorized("laboratory"))
    assert (await hospital.ask(who, "POST", "Observation", json.dumps(categorized("laboratory")))).status_code == 403
    assert (await hospital.ask(who, "POST", "Observation", json.dumps(NOTE))).status_code == 403
    here = await made(hospital, who, categorized("vital-signs"))
    name = here.partition("/")[2]
    for body in (categorized("laboratory"), NOTE):
        assert (await hospital.ask(who, "PUT", here, json.dumps({**body, "id": name}))).status_code == 403
    assert (
        await hospital.ask(who, "PATCH", here, edited("/category/0/coding/0/code", "laboratory"), **PATCH)
    ).status_code == 403
    taken = {**categorized("vital-signs"), "id": lab.partition("/")[2]}
    assert is_unknown(await hospital.ask(who, "PUT", lab, json.dumps(taken)))
    both = {**categorized("vital-signs", "laboratory"), "id": name}
    assert (await hospital.ask(who, "PUT", here, json.dumps(both))).status_code == 200


@pytest.mark.parametrize(
    ("scope", "finds"),
    [
        (f"patient/Observation.rs?category={CATEGORY}%7Claboratory", True),
        (f"patient/Observation.rs?category={CATEGORY}|laboratory,{CATEGORY}|none", True),
        ("patient/Observation.rs?nonsense=laboratory", False),
        ("patient/Observation.rs?category=none%7Claboratory", False),
        ("patient/Observation.rs?_count=1000", False),
        ("patient/Observation.rs?_include=Observation:focus", False),
        ("patient/Observation.rs?date=nonsense", False),
        ("patient/Observation.rs?category=", False),
        ("patient/Observation.rs?category:not=vital-signs", False),
        ("patient/Observation.rs?subject.name=ann", False),
        ("patient/Observation.sr", False),
        ("patient/observation.rs", False),
        ("Patient/Observation.rs", False),
        ("patient/*.rs?category=laboratory", False),
    ],
)
async def test_attack_09_a_scope_that_is_not_understood_opens_nothing(hospital, scope, finds):
    answer = await hospital.ask(hospital.granted(scope, ANN), "GET", "Observation", Prefer="handling=lenient")
    if finds:
        assert "Observation/ann-laboratory" in ids(answer)
        assert "Observation/ann-vital-signs" not in ids(answer)
    else:
        assert answer.status_code in (401, 403) or ids(answer) == []
