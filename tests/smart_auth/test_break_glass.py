"""Breaking the glass over HTTP: who may, what is found, what is kept."""

import json

import pytest
from starlette.applications import Starlette

from smart_auth import break_glass
from smart_auth.model import Grant, Identified, Principal
from smart_auth.oauth.break_glass import routes
from smart_auth.tokens import Tokens
from tests.smart_auth.browsing import Browser, Clock, Patients, composed, person

pytestmark = pytest.mark.anyio

KNOWN = {
    "p1": Identified("p1", "Ana Nuñez", "1990-02-03", "M1"),
    "p2": Identified("p2", "Bo Berg", "1990-02-03", "M2"),
    "p3": Identified("p3", "Bo Berg", "1990-02-03", "M2"),
}
GIVEN = {"patient": "p1", "reason": "unconscious", "minutes": 60}


class Directory(Patients):
    async def identify(self, mrn, name, birth_date, asker):
        assert asker.user
        if mrn:
            return [row for row in KNOWN.values() if row.mrn == mrn]
        return [row for row in KNOWN.values() if (row.name, row.birth_date) == (name, birth_date)]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(world):
    return world.store


@pytest.fixture
def parts(store, clock):
    base = composed(store, clock)
    tokens = Tokens(store, base.base, base.base, base.options, clock)
    return type(base)(store, tokens, base.options, Directory(), base.public, base.base, clock)


@pytest.fixture
def http(parts):
    return Browser(Starlette(routes=routes(parts))).client


@pytest.fixture
def bearer(parts, store, clock):
    """Headers of an access token of a person with these roles."""

    def made(*roles, name="jane", operator=False, scope="user/*.rs"):
        if not operator:
            person(store, name, roles=roles)
        grant = f"g-{name}"
        if store.grant(grant) is None:
            store.add_grant(Grant(grant, "", "user/*.rs", clock(), "" if operator else name))
        principal = Principal("p", "", scope, user="" if operator else name, grant=grant, operator=operator)
        return {"Authorization": f"Bearer {parts.tokens.access(principal, 3600)}"}

    return made


async def test_a_doctor_opens_a_record_for_some_time(http, bearer, store, clock):
    answer = await http.post("/auth/break-glass", json=GIVEN, headers=bearer("doctor"))
    assert answer.status_code == 201
    assert answer.json() == {"patient": "Patient/p1", "until": "2027-01-15T09:00:00Z", "purpose": "BTG"}
    assert answer.headers["cache-control"] == "no-store"
    assert break_glass.opened(store, "JANE", clock()) == {"p1"}
    assert break_glass.opened(store, "other", clock()) == frozenset()
    clock.now += 3600
    assert break_glass.opened(store, "jane", clock()) == frozenset()
    (row,) = break_glass.reviewed(store)
    assert (row["user"], row["patient"], row["reason"], row["until"] - row["given"]) == (
        "jane",
        "p1",
        "unconscious",
        3600,
    )


@pytest.mark.parametrize(
    ("roles", "status"),
    [
        (("doctor",), 201), (("nurse",), 201), (("pharmacist",), 201), (("admin", "nurse"), 201),
        (("admin",), 403), (("super-admin",), 403), (("receptionist",), 403), (("patient",), 403), (("billing",), 403), ((), 403),
    ],
)  # fmt: skip
async def test_only_who_cares_for_patients_may(http, bearer, store, clock, roles, status):
    answer = await http.post("/auth/break-glass", json=GIVEN, headers=bearer(*roles))
    assert answer.status_code == status
    assert bool(break_glass.opened(store, "jane", clock())) == (status == 201)
    if status == 403:
        assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_the_operator_is_no_person(http, bearer):
    assert (await http.post("/auth/break-glass", json=GIVEN, headers=bearer(operator=True))).status_code == 403


async def test_the_token_of_an_app_for_one_patient_opens_no_other(http, bearer):
    headers = bearer("doctor", scope="launch/patient openid patient/*.rs")
    assert (await http.post("/auth/break-glass", json=GIVEN, headers=headers)).status_code == 403


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ("user/Patient.r", 201), ("user/Patient.rs user/Observation.rs", 201), ("user/*.cruds", 201), ("user/*.read", 201),
        ("user/Slot.r", 403), ("user/*.cud", 403), ("user/Patient.s", 403), ("user/Observation.rs patient/Patient.rs", 403),
        ("user/Patient.rs?gender=female", 403), ("openid fhirUser", 403),
    ],
)  # fmt: skip
async def test_the_token_reads_the_patients_who_are_looked_up_and_opened(http, bearer, store, clock, scope, status):
    headers = bearer("doctor", scope=scope)
    assert (await http.post("/auth/break-glass", json=GIVEN, headers=headers)).status_code == status
    found = await http.post("/auth/break-glass/lookup", json={"mrn": "M1"}, headers=headers)
    assert found.status_code == (200 if status == 201 else 403)
    assert bool(break_glass.opened(store, "jane", clock())) == (status == 201)


async def test_the_audit_is_told_who_opened_whose_record(parts, bearer):
    seen = []

    async def application(scope, receive, send):
        await Starlette(routes=routes(parts))(scope, receive, send)
        seen.append(scope)

    http = Browser(application).client
    await http.post("/auth/break-glass", json=GIVEN, headers=bearer("doctor"))
    await http.post("/auth/break-glass/lookup", json={"mrn": "M2"}, headers=bearer("doctor"))
    assert [(one["principal"].user, one["purpose"]) for one in seen] == [("jane", "BTG")] * 2
    assert [one["audit"]["keys"] for one in seen] == ["Patient/p1", "Patient/p2 Patient/p3"]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}])
async def test_a_token_is_needed(http, header):
    for path in ("/auth/break-glass", "/auth/break-glass/lookup"):
        answer = await http.post(path, json=GIVEN, headers=header)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")


REFUSED = [
    ("no minutes", {"patient": "p1", "reason": "x"}, 400),
    ("too long", GIVEN | {"minutes": 241}, 400),
    ("no time", GIVEN | {"minutes": 0}, 400),
    ("minutes that are no number", GIVEN | {"minutes": True}, 400),
    ("part of a minute", GIVEN | {"minutes": 1.5}, 400),
    ("minutes as text", GIVEN | {"minutes": "60"}, 400),
    ("no reason", GIVEN | {"reason": "  "}, 400),
    ("an endless reason", GIVEN | {"reason": "x" * 1001}, 400),
    ("a reason that is no text", GIVEN | {"reason": ["x"]}, 400),
    ("no patient", {"reason": "x", "minutes": 5}, 400),
    ("an unknown patient", GIVEN | {"patient": "p9"}, 404),
    ("an unknown number", GIVEN | {"patient": "M9"}, 404),
    ("a number of several", GIVEN | {"patient": "M2"}, 409),
    ("another type", GIVEN | {"patient": "Practitioner/p1"}, 404),
    ("an unknown member", GIVEN | {"user": "other"}, 400),
    ("a list", [], 400),
    ("a number", 1, 400),
]


@pytest.mark.parametrize(("body", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_is_refused(http, bearer, store, body, status):
    answer = await http.post("/auth/break-glass", json=body, headers=bearer("doctor"))
    assert answer.status_code == status
    assert answer.json()["error"]
    assert break_glass.reviewed(store) == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'"' + b"x" * 20_000 + b'"'])
async def test_what_is_no_json_is_refused(http, bearer, body):
    answer = await http.post("/auth/break-glass", content=body, headers=bearer("doctor"))
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize("named", ["p1", "Patient/p1", "M1"])
async def test_a_patient_is_named_by_id_or_number(http, bearer, named):
    answer = await http.post("/auth/break-glass", json=GIVEN | {"patient": named}, headers=bearer("nurse"))
    assert answer.json()["patient"] == "Patient/p1"


async def test_looking_up_tells_name_birth_date_and_number_alone(http, bearer):
    for body in ({"mrn": "M1"}, {"name": "Ana Nuñez", "birthDate": "1990-02-03"}):
        answer = await http.post("/auth/break-glass/lookup", json=body, headers=bearer("doctor"))
        assert answer.status_code == 200
        assert answer.json() == {"patients": [{"name": "Ana Nuñez", "birthDate": "1990-02-03", "mrn": "M1"}]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"mrn": ""},
        {"name": "Ana"},
        {"birthDate": "1990-02-03"},
        {"mrn": "M1", "name": "x"},
        {"mrn": 1},
        {"id": "p1"},
    ],
)
async def test_looking_up_needs_a_number_or_name_and_birth_date(http, bearer, body):
    answer = await http.post("/auth/break-glass/lookup", json=body, headers=bearer("doctor"))
    assert answer.status_code == 400


async def test_numbers_cannot_be_tried_out(http, bearer, clock):
    headers = bearer("doctor")
    for number in range(20):
        answer = await http.post("/auth/break-glass/lookup", json={"mrn": f"X{number}"}, headers=headers)
        assert json.loads(answer.text) == {"patients": []}
    assert (await http.post("/auth/break-glass/lookup", json={"mrn": "M1"}, headers=headers)).status_code == 429
    assert (await http.post("/auth/break-glass", json=GIVEN | {"patient": "M1"}, headers=headers)).status_code == 429
    clock.now += 900
    assert (await http.post("/auth/break-glass/lookup", json={"mrn": "M1"}, headers=headers)).status_code == 200


async def test_a_number_that_is_known_buys_no_further_tries(http, bearer, clock):
    headers, statuses = bearer("doctor"), []
    for number in range(30):
        for mrn in ("M1", f"X{number}"):
            answer = await http.post("/auth/break-glass/lookup", json={"mrn": mrn}, headers=headers)
            statuses.append(answer.status_code)
    assert statuses == [200] * 40 + [429] * 20
    clock.now += 901  # a long quiet is forgiven
    for number in range(20):
        answer = await http.post("/auth/break-glass/lookup", json={"mrn": f"Y{number}"}, headers=headers)
        assert answer.status_code == 200


async def test_numbers_that_are_known_may_be_looked_up_as_often_as_needed(http, bearer):
    headers = bearer("doctor")
    for _ in range(60):
        answer = await http.post("/auth/break-glass/lookup", json={"mrn": "M1"}, headers=headers)
        assert answer.status_code == 200


async def test_a_patient_whose_number_is_known_can_be_opened_while_lookups_wait(http, bearer):
    headers = bearer("doctor")
    for number in range(20):
        await http.post("/auth/break-glass/lookup", json={"mrn": f"X{number}"}, headers=headers)
    assert (await http.post("/auth/break-glass", json=GIVEN, headers=headers)).status_code == 201
