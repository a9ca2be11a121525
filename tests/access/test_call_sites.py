"""That the tests would notice: with the narrowing taken away from any one place, a patient's questions tell of somebody else, or fail.

The probe asks what `anne` may ask; it is clean as things are, and must not be with a place changed.
"""

import pytest

from fhir_server.interactions import criteria, guarded, search, sections
from fhir_server.storage.sqlite import everything, history, includes, labels, queries, reading, searching
from fhir_server.storage.sqlite.store import SqliteStore
from search.dialects.sqlite import contained
from search.dialects.sqlite import everything as everything_dialect
from search.narrowing import EVERYTHING
from tests.access.hospital import OPERATOR, observation, opened, patient, ref

pytestmark = pytest.mark.anyio
EMPTY = (
    "Observation?subject:Patient.name=Bert",
    "Practitioner?_has:Observation:performer:subject=Patient/bert",
    "Observation?_id=lab-bert",
    "Observation?patient=bert",
    "Patient/bert/Observation",
    "Observation?code=inner&_contained=true",
)
SECRETS = (
    "Observation/lab-bert",
    "Observation/lab-bert/_history",
    "Observation/lab-bert/_history/1",
    "_history?_count=1000",
    "Observation/_history?_count=1000",
    "Observation?_count=1000",
    "?_count=1000",
    "Practitioner?_revinclude=Observation:performer&_count=1000",
    "Observation?_id=lab-anne&_include=Observation:focus",
    "Patient/anne/$everything?_count=1000",
    "Observation/$lastn?patient=Patient/bert&category=laboratory",
    "Observation/$meta",
    "Patient/bert/$everything?_count=1000",
    "Observation/lab-bert/$meta",
)


@pytest.fixture(scope="module")
async def probed(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("probed")) as hospital:
        operator = hospital.as_("", OPERATOR)
        tagged = {"meta": {"tag": [{"code": "secret of bert"}]}}
        inside = {
            "contained": [dict(observation("in", "bert"), code={"coding": [{"code": "inner"}]})],
            "hasMember": [ref("#in")],
        }
        for one in (
            patient("linked", generalPractitioner=[ref("Practitioner/dora")]),
            observation("tagged", "bert", **tagged),
            observation("holding", "bert", **inside),
            observation("lab-anne", "anne", focus=[ref("Observation/lab-bert"), ref("Patient/bert")]),
            {"resourceType": "List", "id": "of-anne", "status": "current", "mode": "working", "subject": ref("Patient/anne"), "entry": [{"item": ref("Organization/insurer")}]},
        ):  # fmt: skip
            answer = await hospital.send("PUT", f"{one['resourceType']}/{one['id']}", one, operator)
            assert answer.status_code in (200, 201), answer.text
        yield hospital


async def leaks(hospital):
    """The questions whose answers tell of what is hidden, or fail."""
    anne = hospital.as_("anne", "patient/*.rs", "anne")
    found = []
    for url in EMPTY:
        answer = await hospital.get(f"{url}{'&' if '?' in url else '?'}_total=accurate", anne)
        if answer.status_code != 200 or answer.json()["total"] != 0:
            found.append(url)
    for url in SECRETS:
        answer = await hospital.get(url, anne)
        if answer.status_code >= 500 or "secret of bert" in answer.text:
            found.append(url)
    # a doctor sees several patients: what comes out is not asserted to be about one
    dora = hospital.as_("dora", "user/*.rs")
    for url in ("Observation/lab-bert/_history/1", "Observation?_id=lab-anne&_include=Observation:focus"):
        answer = await hospital.get(url, dora)
        if "secret of bert" in answer.text:
            found.append(url)
    # a write that must not find, or touch, what is hidden
    probe = {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": dict(observation("x", "anne"), id=None) | {"subject": ref("Patient?identifier=urn:mrn|mrn-bert")}, "request": {"method": "POST", "url": "Observation"}}
    ]}  # fmt: skip
    probe["entry"][0]["resource"].pop("id")
    answer = await hospital.send("POST", "", probe, hospital.as_("", "patient/*.cruds", "anne"))
    if answer.status_code != 412:
        found.append("conditional reference")
    new = observation("x", "anne")
    new.pop("id")
    told = {"If-None-Exist": "focus:Patient.identifier=urn:mrn|mrn-bert"}
    answer = await hospital.send("POST", "Observation", new, hospital.as_("", "patient/*.cruds", "anne"), **told)
    if answer.status_code != 201:
        found.append("conditional create")
    answer = await hospital.send("PUT", "Observation/lab-bert", observation("lab-bert", "anne"), hospital.as_("", "patient/*.cruds", "anne"))  # fmt: skip
    if answer.status_code != 404:
        found.append("update")
    return found


async def test_nothing_leaks(probed):
    assert await leaks(probed) == []


def of_verb(verb, position):
    """A store's verb that forgets the narrowing it is given."""
    real = getattr(SqliteStore, verb)

    async def careless(self, *arguments):
        given = list(arguments)
        given[position] = EVERYTHING
        return await real(self, *given)

    return SqliteStore, verb, careless


def of_function(module, name, position):
    """A function that forgets the narrowing it is given."""
    real = getattr(module, name)

    def careless(*arguments):
        given = list(arguments)
        given[position] = EVERYTHING
        return real(*given)

    return module, name, careless


PLACES = {
    "read": lambda: of_verb("read", 1),
    "read_version": lambda: of_verb("read_version", 2),
    "history": lambda: of_verb("history", 1),
    "everything": lambda: of_verb("everything", 1),
    "labelled": lambda: of_verb("labelled", 2),
    "the statement of a read": lambda: of_function(reading, "read", 2),
    "the rewriting of a search": lambda: of_function(search, "rewrite", 1),
    "the rewriting of a criterion": lambda: of_function(criteria, "rewrite", 1),
    "the access of a history": lambda: of_function(history, "_access", 2),
    "the owner of everything": lambda: of_function(everything, "read", 2),
    "the members of everything": lambda: of_function(everything_dialect, "members", 2),
    "what everything refers to": lambda: of_function(everything_dialect, "referred", 2),
    "what is included": lambda: of_function(includes, "rows_of", 1),
    "the container of what is contained": lambda: of_function(contained, "_visible", 1),
    "labels": lambda: of_function(labels, "labelled", 3),
}
DOUBLED = {"read_version", "the owner of everything", "what everything refers to", "what is included"}
"""Places behind or before another one that narrows the same: taking one away shows nothing yet."""


@pytest.mark.parametrize("place", [place for place in PLACES if place not in DOUBLED])
async def test_taking_the_narrowing_away_is_noticed(probed, monkeypatch, place):
    module, name, careless = PLACES[place]()
    monkeypatch.setattr(module, name, careless)
    if name == "labelled" and module is labels:
        monkeypatch.setattr("fhir_server.storage.sqlite.store.labelled", careless)
    if module in (search, criteria):  # for the sake of labelled parts they are rewritten once more
        monkeypatch.setattr(sections, "rewrite", of_function(sections, "rewrite", 1)[2])
    assert await leaks(probed)


async def test_taking_it_away_from_versions_is_noticed(probed, monkeypatch):
    """The store looks at what is current, and what comes out of it at the version: both have to go."""

    async def careless_of_content(*_):
        return True

    module, name, careless = PLACES["read_version"]()
    monkeypatch.setattr(module, name, careless)
    monkeypatch.setattr(guarded, "satisfies", careless_of_content)
    assert await leaks(probed)


async def test_taking_it_away_from_includes_is_noticed(probed, monkeypatch):
    for name, position in (("_seen", 1), ("rows_of", 1)):
        module, place, careless = of_function(includes, name, position)
        monkeypatch.setattr(module, place, careless)
        if name == "rows_of":
            monkeypatch.setattr(searching, name, careless)
    assert await leaks(probed)


async def test_taking_it_away_from_whole_searches_is_noticed(probed, monkeypatch):
    """The rewriting and the store both narrow a search: both have to go."""
    module, name, careless = of_function(search, "rewrite", 1)
    monkeypatch.setattr(module, name, careless)
    monkeypatch.setattr(queries, "narrowed", lambda query, _: query)
    found = await leaks(probed)
    assert "Observation?_count=1000" in found
