"""The directory over a real store: whom people may choose, and how a patient is identified."""

import json

import pytest

from fhir_server.directory import StoreDirectory
from fhir_server.http.access import Admitted
from search.narrowing import Narrowing
from search.query import HasId, Nothing
from smart_auth.model import User
from tests.http.application import FHIR, running

pytestmark = pytest.mark.anyio

MR = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}
SSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "SS"}]}
RESOURCES = [
    {
        "resourceType": "Patient", "id": "ana", "birthDate": "1990-02-03",
        "name": [{"given": ["Ana", "María"], "family": "Nuñez"}, {"use": "nickname", "text": "Anita"}],
        "identifier": [{"type": MR, "system": "urn:h", "value": "M1"}, {"type": SSN, "value": "S1"}],
    },
    {
        "resourceType": "Patient", "id": "bo", "birthDate": "1990-02-03", "name": [{"given": ["Bo"], "family": "Berg"}],
        "identifier": [{"system": "urn:old", "value": "M2"}],
    },
    {"resourceType": "Patient", "id": "cy", "name": [{"text": "Cy"}], "identifier": [{"system": "urn:old", "value": "M2"}]},
    {"resourceType": "RelatedPerson", "id": "r-ana", "patient": {"reference": "Patient/ana"}},
    {"resourceType": "RelatedPerson", "id": "r-bo", "patient": {"reference": "Patient/bo"}},
    {"resourceType": "RelatedPerson", "id": "past", "patient": {"reference": "Patient/ana"}, "period": {"end": "2020"}},
    {"resourceType": "RelatedPerson", "id": "later", "patient": {"reference": "Patient/ana"}, "period": {"start": "2199-01"}},
    {"resourceType": "RelatedPerson", "id": "now", "patient": {"reference": "Patient/ana"}, "period": {"start": "2020", "end": "2199-12-31T00:00:00Z"}},
    {"resourceType": "RelatedPerson", "id": "off", "active": False, "patient": {"reference": "Patient/ana"}},
    {"resourceType": "RelatedPerson", "id": "unsure", "patient": {"reference": "Patient/cy"}},
    {
        "resourceType": "Person", "id": "p", "link": [
            {"target": {"reference": "RelatedPerson/r-ana"}, "assurance": "level3"},
            {"target": {"reference": "RelatedPerson/r-bo"}, "assurance": "level4"},
            {"target": {"reference": "RelatedPerson/unsure"}, "assurance": "level2"},
        ],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def service(anyio_backend, tmp_path_factory):
    async with running(tmp_path_factory.mktemp("directory")) as client:
        for resource in RESOURCES:
            path = f"{resource['resourceType']}/{resource['id']}"
            answer = await client.put(path, content=json.dumps(resource), headers=FHIR)
            assert answer.status_code == 201, answer.text
        assert (
            await client.put("Patient/gone", content='{"resourceType":"Patient","id":"gone"}', headers=FHIR)
        ).status_code == 201
        assert (await client.delete("Patient/gone")).status_code < 300
        yield client.app.state.service


@pytest.fixture
def directory(service):
    return StoreDirectory(service)


def user(fhir_user: str) -> User:
    return User("someone", ("doctor",), fhir_user=fhir_user)


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("Patient/ana", True),
        ("Patient/gone", False),
        ("Patient/never", False),
        ("Patient", False),
        ("https://else.where/Patient/ana", False),
        ("", False),
    ],
)
async def test_whether_something_is_there(directory, reference, there):
    assert await directory.exists(reference, None) is there


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", {"ana", "bo", "cy"}), ("ana", {"ana"}), ("NUÑ", {"ana"}), ("nunez", {"ana"}), ("be", {"bo"}), ("bo", {"bo"}), ("zzz", set()),
        ("a,b", set()), ("  cy ", {"cy"}), ("gone", set()), ("$", set()), ("\\", set()),
    ],
)  # fmt: skip
async def test_staff_search_by_id_or_name(directory, search, found):
    rows = await directory.patients(user("Practitioner/d"), search)
    assert {name for name, _ in rows} == found


async def test_a_patient_without_a_record_chooses_nobody(directory):
    assert await directory.patients(User("new", ("patient",)), "") == []


async def test_a_patient_is_shown_by_official_name_and_birth_date(directory):
    assert await directory.patients(user(""), "ana") == [("ana", "Ana María Nuñez, 1990-02-03")]


@pytest.mark.parametrize(
    ("node", "found"), [(Nothing(), []), (HasId(("bo",)), ["bo"])], ids=["who may see nobody", "who may see one"]
)
async def test_staff_choose_among_those_they_may_see(service, node, found):
    class Access:
        def narrowing(self, _letters):
            return Narrowing("x", lambda _type: node)

    class Gate:
        async def admitted(self, principal):
            assert (principal.user, principal.scope) == ("someone", "user/Patient.rs")
            return Admitted(Access(), service, 0)

    directory = StoreDirectory(service, Gate)
    for search in ("", "bo", "ana"):
        rows = await directory.patients(user("Practitioner/d"), search)
        assert [name for name, _ in rows] == (found if search != "ana" else [])


@pytest.mark.parametrize(
    ("fhir_user", "found"),
    [
        ("Patient/ana", {"ana"}),
        ("Patient/gone", set()),
        ("RelatedPerson/now", {"ana"}),
        ("RelatedPerson/past", set()),
        ("RelatedPerson/later", set()),
        ("RelatedPerson/off", set()),
        ("RelatedPerson/never", set()),
        ("RelatedPerson/r-ana", {"ana", "bo"}),
        ("RelatedPerson/unsure", {"cy"}),
    ],
)
async def test_whom_patients_and_relatives_have(directory, fhir_user, found):
    for search in ("", "cy"):
        assert {name for name, _ in await directory.patients(user(fhir_user), search)} == found


ODD = [
    "\0",
    "a\0b",
    "|",
    "a|b|c",
    ",",
    "$",
    "\\",
    "\\,",
    "%",
    "_",
    "*",
    "'",
    '"',
    ";--",
    "a" * 5000,
    "\u202e",
    "\ufffe",
    "😀",
    "é" * 300,
    "&_count=0",
    ":exact",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
async def test_odd_texts_find_nobody_and_break_nothing(directory, text):
    assert await directory.patients(user("Practitioner/d"), text) == []
    assert await directory.identify(text, "", "", None) == []
    assert await directory.identify("", text, "1990-02-03", None) == []


@pytest.mark.parametrize(
    ("mrn", "found"),
    [
        ("M1", ["ana"]),
        ("urn:h|M1", ["ana"]),
        ("urn:x|M1", []),
        ("S1", []),
        ("m1", []),
        ("M", []),
        ("M2", ["bo", "cy"]),
        ("M1,M2", []),
        ("|", []),
        ("*", []),
    ],
)
async def test_a_medical_record_number_is_exact(directory, mrn, found):
    assert sorted(row.id for row in await directory.identify(mrn, "", "", None)) == found


@pytest.mark.parametrize(
    ("name", "birth_date", "found"),
    [
        ("Ana Nuñez", "1990-02-03", ["ana"]),
        ("nunez ana maria", "1990-02-03", ["ana"]),
        ("Nuñez", "1990-02-03", []),
        ("Ana", "1990-02-03", []),
        ("An Nuñez", "1990-02-03", []),
        ("Ana Nuñez", "1990-02", []),
        ("Ana Nuñez", "1990-02-04", []),
        ("Ana Nuñez", "ge1990-02-03", []),
        ("", "1990-02-03", []),
        ("Ana Berg", "1990-02-03", []),
    ],
)
async def test_name_and_birth_date_are_exact(directory, name, birth_date, found):
    rows = await directory.identify("", name, birth_date, None)
    assert [row.id for row in rows] == found
    assert all((row.birth_date, row.mrn) == ("1990-02-03", "M1") for row in rows)
