"""A deterministic, plausible hospital as FHIR transactions: what `fhir-server generate` writes and `serve --demo` and the bench load.

Rules: the same patients, seed, size and moment give the same bytes; a patient's own resources do not depend on those of others.
First come the hospital's bundles (PUT with fixed ids, at most 1,000 entries each), then one bundle per patient (POST; references
by urn:uuid within, by id to the hospital). Nothing in it is about a real person.

Specification: https://hl7.org/fhir/R4/http.html#transaction
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from fhir_server.generator import care, hospital, office, registration
from fhir_server.generator import vocabulary as words
from fhir_server.generator.chart import Chart, open_chart

NOW = datetime(2026, 11, 2, 10, 0)  # noqa: DTZ001 - naive UTC throughout the package
"""The moment up to which the records go unless another is given (UTC)."""
RESOURCES_PER_PATIENT = 110
_OPEN_VISIT = 13
_INPATIENT = 0
_FEWEST = 0.4
_VISIT = 13
"""About how many resources a visit makes."""
_SHORTEST_GAP = 10
_HISTORY_DAYS = 1500


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: files, resources and bytes."""

    files: int
    resources: int
    bytes: int


def generate(
    patients: int, seed: int, *, resources_per_patient: int = RESOURCES_PER_PATIENT, now: datetime = NOW
) -> Iterator[bytes]:
    """The transaction Bundles as JSON: the hospital's first, then one per patient. `now` is naive UTC."""
    encode = msgspec.json.Encoder().encode
    for bundle in bundles(patients, seed, resources_per_patient=resources_per_patient, now=now):
        yield encode(bundle)


def bundles(
    patients: int, seed: int, *, resources_per_patient: int = RESOURCES_PER_PATIENT, now: datetime = NOW
) -> Iterator[dict[str, Any]]:
    """The same as dicts; values are shared between resources and are not to be changed."""
    if patients < 1 or resources_per_patient < 1:
        raise ValueError("patients and resources_per_patient are at least 1")
    plan = hospital.plan(patients, seed, now)
    rows = hospital.resources(plan)
    while chunk := list(islice(rows, hospital.BUNDLE_ENTRIES)):
        yield _transaction([_put(resource) for resource in chunk])
    for number in range(patients):
        yield _transaction(_patient(open_chart(plan, number), resources_per_patient))


def run(patients: int, seed: int, out: Path, *, resources_per_patient: int = RESOURCES_PER_PATIENT) -> Written:
    """Writes one file per bundle into `out`, which is made: `hospital-0001.json`..., `patient-000001.json`...

    Names sort in the order in which the bundles are to be loaded. Raises OSError.
    """
    out.mkdir(parents=True, exist_ok=True)
    encode = msgspec.json.Encoder().encode
    files = resources = size = parts = 0
    for bundle in bundles(patients, seed, resources_per_patient=resources_per_patient):
        if bundle["entry"][0]["request"]["method"] == "PUT":
            parts += 1
            name = f"hospital-{parts:04d}.json"
        else:
            name = f"patient-{files - parts + 1:06d}.json"
        body = encode(bundle)
        (out / name).write_bytes(body)
        files += 1
        resources += len(bundle["entry"])
        size += len(body)
    return Written(files, resources, size)


def _transaction(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _put(resource: dict[str, Any]) -> dict[str, Any]:
    return {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}}


def _patient(chart: Chart, wanted: int) -> list[dict[str, Any]]:
    """The entries of one patient: visits from the latest back until there are about as many resources as wanted."""
    random = chart.random
    registration.register(chart)
    chronic = care.history(chart)
    course = care.Course(chart)
    office.ahead(chart)
    target = max(_FEWEST * wanted, random.gauss(wanted, wanted / 4))
    place = chart.number % hospital.INPATIENT_EVERY
    if place in {_INPATIENT, _OPEN_VISIT}:
        kind = "inpatient" if place == _INPATIENT else "open"
        since = (
            timedelta(days=random.randint(1, 6)) if place == _INPATIENT else timedelta(minutes=random.randint(15, 50))
        )
        care.visit(
            chart, course, random.choice(words.ACUTE), chronic=False, start=chart.hospital.now - since, kind=kind
        )
    day = chart.hospital.now
    longest_gap = max(_SHORTEST_GAP, int(_HISTORY_DAYS * 2 * _VISIT / target))
    while len(chart.entries) + _VISIT / 2 < target:
        day -= timedelta(days=random.randint(_SHORTEST_GAP, longest_gap))
        time = day.replace(hour=random.randint(7, 17), minute=random.choice((0, 15, 30, 45)))
        known = bool(chronic) and random.random() < 0.6  # noqa: PLR2004 - most visits of the ill are about their illness
        disorder = random.choice(chronic if known else words.ACUTE)
        kind = "AMB" if known else random.choice(("AMB", "AMB", "EMER", "IMP"))
        seen = care.visit(chart, course, disorder, chronic=known, start=time, kind=kind)
        office.bill(chart, seen)
        if kind == "AMB":
            office.kept(chart, seen)
    return chart.entries
