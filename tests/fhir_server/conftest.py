"""A small store with one of everything that has rows of its own, made once and copied for each test."""

import json
import shutil
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fhir_server.interactions.assembly import DATABASE, compose
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.prepare import checked, put
from fhir_server.settings import Settings
from fhir_server.storage.port import Delete, UnitOfWork
from fhir_server.storage.sqlite.connection import SqliteOptions, connect
from fhir_server.storage.sqlite.store import SqliteStore
from resources.json_format import decode
from resources.model import ResourceKey

ORGANIZATION = ResourceKey("Organization", "h")
PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "name": [{"family": "Chalmers"}],
    "birthDate": "1974-12-25",
    "generalPractitioner": [{"reference": "Practitioner/elsewhere"}],
    "managingOrganization": {"reference": "Organization/h"},
}
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o",
    "contained": [{"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "Careful"}]}],
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}], "text": "Body weight"},
    "subject": {"reference": "Patient/p"},
    "performer": [{"reference": "#doctor"}],
    "effectiveDateTime": "2026-05",
    "valueQuantity": {"value": 72.50, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
}
RISK = {
    "resourceType": "RiskAssessment",
    "id": "r",
    "status": "preliminary",
    "subject": {"reference": "Patient/p"},
    "prediction": [{"outcome": {"text": "x"}, "probabilityDecimal": 0.25}],
}
VALUE_SET = {"resourceType": "ValueSet", "id": "v", "status": "active", "url": "http://example.org/v"}
WRITES = (
    {"resourceType": "Organization", "id": "h", "name": "Hospital"},
    PATIENT,
    {**PATIENT, "gender": "male"},
    {**PATIENT, "gender": "female"},
    {**PATIENT, "id": "gone"},
    OBSERVATION,
    RISK,
    VALUE_SET,
)


@dataclass(frozen=True)
class SmallStore:
    """A store of its own: the folder, its settings, the row numbers by name."""

    folder: Path
    settings: Settings
    rids: dict[str, int]

    @property
    def database(self) -> Path:
        return self.folder / DATABASE

    def connect(self, **options):
        return closing(connect(self.database, SqliteOptions(), **options))


def fill(folder: Path, writes, settings: Settings) -> None:
    """Write the resources, each as it would come by PUT, all owned by one organization; `gone` is deleted at last."""
    parts = compose(settings.base, settings.base_aliases, RestOptions())
    preparer = replace(parts.preparer, organizations=(ORGANIZATION,))
    store = SqliteStore.open(folder / DATABASE)
    try:
        units = []
        for content in writes:
            resource = decode(json.dumps(content).encode())
            checked(preparer, resource)
            key = ResourceKey(resource["resourceType"], resource["id"])
            units.append(UnitOfWork((put(preparer, resource, key, "PUT"),)))
        units.append(UnitOfWork((Delete(ResourceKey("Patient", "gone")),)))
        assert not [outcome for outcome in store.commit_sync(units) if isinstance(outcome, BaseException)]
    finally:
        store.close_sync()


@pytest.fixture(scope="session")
def _filled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    fill(folder, WRITES, Settings(data_dir=folder))
    return folder


@pytest.fixture
def small_store(_filled, tmp_path) -> SmallStore:
    folder = tmp_path / "small"
    shutil.copytree(_filled, folder)
    names = {
        "patient": ("Patient", "p"),
        "gone": ("Patient", "gone"),
        "observation": ("Observation", "o"),
        "risk": ("RiskAssessment", "r"),
        "valueset": ("ValueSet", "v"),
        "stub": ("Practitioner", "elsewhere"),
    }
    sql = "SELECT rid FROM resource JOIN type ON type.number = resource.type WHERE name = ? AND id = ?"
    with closing(connect(folder / DATABASE, SqliteOptions())) as connection:
        rids = {name: connection.execute(sql, key).fetchone()[0] for name, key in names.items()}
    return SmallStore(folder, Settings(data_dir=folder), rids)
