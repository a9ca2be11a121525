"""Index rows of an update: whatever was there before, afterwards the tables hold what a store has that saw the last version alone."""

import itertools
import random

import pytest

from fhir_server.interactions.assembly import compose
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.prepare import put
from fhir_server.storage.port import Delete, UnitOfWork
from fhir_server.storage.sqlite.store import SqliteStore
from resources.model import ResourceKey
from search.dialects.sqlite.layout import INDEX_TABLES

TABLES = (*INDEX_TABLES, "compartment", "owner")
KEYS = [ResourceKey("Observation", name) for name in ("a", "b", "c")]
KNOWN = ("Patient/p", "Patient/q", "Practitioner/elsewhere", "Encounter/e")
CODES = [{"system": "http://loinc.org", "code": code, "display": f"Weight {code}"} for code in ("29463-7", "3141-9")]
DOCTOR = {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Careful"}]}
NURSE = {"resourceType": "Practitioner", "id": "nurse", "name": [{"family": "Kind"}]}
CHOICES = {
    "status": ["final", "preliminary"],
    "code": [{"coding": [CODES[0]]}, {"coding": CODES}, {"text": "Body weight"}],
    "subject": [None, {"reference": "Patient/p"}, {"reference": "Patient/q"}],
    "encounter": [None, {"reference": "Encounter/e"}],
    "performer": [None, [{"reference": "Practitioner/elsewhere"}], [{"reference": "#doctor"}]],
    "contained": [None, [DOCTOR], [DOCTOR, NURSE]],
    "effectiveDateTime": [None, "2026-05", "2026-05-07T10:00:00Z"],
    "valueQuantity": [
        None,
        {"value": 72.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
        {"value": 1},
    ],
    "identifier": [None, [{"system": "urn:x", "value": "1"}, {"value": "2"}]],
}


@pytest.fixture(scope="module")
def parts():
    return compose("http://localhost:8000/fhir", (), RestOptions())


def observation(chance, key):
    members = {name: chance.choice(values) for name, values in CHOICES.items()}
    return {"resourceType": "Observation", "id": key.id, **{n: v for n, v in members.items() if v is not None}}


def commit(store, *units):
    for outcome in store.commit_sync([UnitOfWork(tuple(unit)) for unit in units]):
        assert not isinstance(outcome, BaseException), outcome


def opened(path, parts):
    """A store in which every resource that any version refers to has its row number."""
    store = SqliteStore.open(path)
    resources = [
        {"resourceType": key.type, "id": key.id} for key in (*(ResourceKey(*name.split("/")) for name in KNOWN), *KEYS)
    ]
    everything = {**observation(random.Random(1), KEYS[0]), "contained": [DOCTOR, NURSE]}
    for resource in resources:
        commit(store, [put(parts.preparer, resource, ResourceKey(resource["resourceType"], resource["id"]), "PUT")])
    for key in KEYS:
        commit(store, [put(parts.preparer, {**everything, "id": key.id}, key, "PUT")])
    return store


def rows(store):
    connection = store.writer._connection
    names = {0: "", **dict(connection.execute("SELECT number, code FROM parameter"))}
    found = {
        table: [
            ((names[abs(param)], param < 0) if table in INDEX_TABLES else param, *rest)
            for param, *rest in connection.execute(f"SELECT * FROM {table}")
        ]
        for table in TABLES
    }
    found["resource"] = sorted(connection.execute("SELECT rid, state, container FROM resource"))
    return found


def test_an_update_leaves_the_rows_of_its_last_version(tmp_path, parts, rounds):
    chance = random.Random(2)
    serial = itertools.count()
    for _ in range(5 * rounds):
        many, one = (opened(tmp_path / f"{next(serial)}.db", parts) for _ in range(2))
        last = {}
        for _ in range(6):
            keys = chance.sample(KEYS, chance.randint(1, 3))
            versions = {key: None if chance.random() < 0.1 else observation(chance, key) for key in keys}
            last |= versions
            commit(many, *([_write(parts, key, version)] for key, version in versions.items()))
        for key, version in last.items():
            if version is not None:
                commit(one, [Delete(key)])  # so that nothing of what was there before can stay
            commit(one, [_write(parts, key, version)])
        left, right = rows(many), rows(one)
        for store in (many, one):
            store.close_sync()
        assert _named(left) == _named(right)


def _named(found):
    """Parameters, texts and systems are numbered in the order of their coming: compare without those numbers."""
    wordings = {"token": (3, 5), "reference": (6,), "quantity": (4, 5, 6)}
    return {
        table: sorted(tuple(v for at, v in enumerate(row) if at not in wordings.get(table, ())) for row in listed)
        for table, listed in found.items()
    }


def _write(parts, key, version):
    return Delete(key) if version is None else put(parts.preparer, version, key, "PUT")


def test_an_update_of_one_value_writes_the_rows_of_that_value_alone(tmp_path, parts):
    store = opened(tmp_path / "store.db", parts)
    seen = []
    base = observation(random.Random(3), KEYS[0]) | {"valueQuantity": {"value": 1}, "status": "final"}
    base.pop("contained", None)
    commit(store, [put(parts.preparer, base, KEYS[0], "PUT")])
    store.writer._connection.set_trace_callback(seen.append)
    commit(store, [put(parts.preparer, {**base, "valueQuantity": {"value": 2}}, KEYS[0], "PUT")])
    store.writer._connection.set_trace_callback(None)
    store.close_sync()
    written = {sql.split()[2] for sql in seen if sql.startswith(("INSERT INTO", "DELETE FROM"))}
    assert written == {"history", "quantity"}
