"""The generated hospital: the same every time, plausible, referring only to what is there, and valid."""

import json
from collections import Counter
from datetime import datetime

import pytest

from fhir_server.generator import bundles, generate, run
from resources import json_format
from resources.definitions import load
from resources.validation import Validator
from resources.validation.invariants import Invariants

PATIENTS = 60
SEED = 11


@pytest.fixture(scope="module")
def hospital():
    return [json.loads(body) for body in generate(PATIENTS, SEED)]


@pytest.fixture(scope="module")
def patients(hospital):
    return hospital[-PATIENTS:]


@pytest.fixture(scope="module")
def resources(hospital):
    return [entry["resource"] for bundle in hospital for entry in bundle["entry"]]


def of_type(resources, name):
    return [resource for resource in resources if resource["resourceType"] == name]


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def test_the_same_seed_gives_the_same_bytes():
    assert list(generate(5, 3)) == list(generate(5, 3))


def test_another_seed_gives_another_hospital():
    assert list(generate(5, 3))[-1] != list(generate(5, 4))[-1]


def test_everything_is_valid_and_keeps_all_invariants():
    validator = Validator(load(), Invariants(load().types))
    for body in generate(PATIENTS, SEED):
        assert validator.validate(json_format.decode(body)) == []


def test_a_patient_has_about_as_many_resources_as_wanted(patients):
    assert 90 <= sum(len(bundle["entry"]) for bundle in patients) / PATIENTS <= 130
    few = [len(bundle["entry"]) for bundle in bundles(40, 1, resources_per_patient=30)][-40:]
    assert 20 <= sum(few) / 40 <= 45


def test_the_hospital_is_written_in_parts_that_refer_only_backwards():
    known = set()
    for bundle in bundles(3000, SEED, resources_per_patient=1):
        entries = bundle["entry"]
        if entries[0]["request"]["method"] == "POST":
            break
        assert len(entries) <= 1000
        for entry in entries:
            resource = entry["resource"]
            known.add(f"{resource['resourceType']}/{resource['id']}")
            assert entry["request"] == {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
            assert set(references(resource)) <= known


def test_a_patients_bundle_refers_only_to_itself_and_the_hospital(hospital):
    fixed = {entry["request"]["url"] for bundle in hospital[:-PATIENTS] for entry in bundle["entry"]}
    for bundle in hospital[-PATIENTS:]:
        own = [entry["fullUrl"] for entry in bundle["entry"]]
        assert len(own) == len(set(own))
        assert set(references(bundle)) <= fixed | set(own)


def test_every_kind_of_resource_that_a_hospital_has_is_there(resources):
    wanted = """Organization HealthcareService Location Practitioner PractitionerRole Schedule Slot Patient Coverage RelatedPerson
        CareTeam Condition AllergyIntolerance Immunization MedicationRequest Encounter Observation ServiceRequest DiagnosticReport
        Procedure Claim ClaimResponse Appointment"""
    assert set(wanted.split()) == {resource["resourceType"] for resource in resources}


def test_there_are_open_encounters_for_access_rules_to_bite_on(resources):
    encounters = of_type(resources, "Encounter")
    open_now = [e for e in encounters if e["status"] == "in-progress"]
    assert len(open_now) == PATIENTS // 20 * 2
    assert all("end" not in e["period"] for e in open_now)
    assert all(e["period"]["start"] < e["period"]["end"] for e in encounters if e["status"] == "finished")


def test_a_bed_has_one_patient_and_is_then_occupied(resources):
    beds = [
        place["location"]["reference"]
        for encounter in of_type(resources, "Encounter")
        for place in encounter.get("location", ())
        if "/bed-" in place["location"]["reference"]
    ]
    assert len(beds) == len(set(beds)) == PATIENTS // 20
    occupied = {
        f"Location/{x['id']}"
        for x in of_type(resources, "Location")
        if x.get("operationalStatus", {}).get("code") == "O"
    }
    assert set(beds) == occupied


def test_a_slot_has_one_appointment_and_is_then_busy(resources):
    slots = {f"Slot/{slot['id']}": slot for slot in of_type(resources, "Slot")}
    taken = [(a["slot"][0]["reference"], a) for a in of_type(resources, "Appointment") if "slot" in a]
    assert len({name for name, _ in taken}) == len(taken) == PATIENTS // 3
    assert {name for name, _ in taken} == {name for name, slot in slots.items() if slot["status"] == "busy"}
    for name, appointment in taken:
        assert appointment["start"] == slots[name]["start"]
        doctor = slots[name]["schedule"]["reference"].replace("Schedule/schedule", "Practitioner/practitioner")
        assert doctor in set(references(appointment))


def test_nothing_that_is_on_record_lies_before_birth(patients):
    for bundle in patients:
        resources = [entry["resource"] for entry in bundle["entry"]]
        birth = of_type(resources, "Patient")[0]["birthDate"]
        assert all(birth < encounter["period"]["start"] for encounter in of_type(resources, "Encounter"))
        assert all(birth < condition["onsetDateTime"] for condition in of_type(resources, "Condition"))


def test_results_run_in_trends(patients):
    """A patient's own values lie closer together than those of all patients."""
    means = []
    spreads = []
    for bundle in patients:
        weights = [
            entry["resource"]["valueQuantity"]["value"]
            for entry in bundle["entry"]
            if entry["resource"]["resourceType"] == "Observation"
            and entry["resource"]["code"]["coding"][0]["code"] == "29463-7"
        ]
        if len(weights) > 2:
            means.append(sum(weights) / len(weights))
            spreads.append(max(weights) - min(weights))
    assert sum(spreads) / len(spreads) < max(means) - min(means)


def test_money_adds_up(resources):
    for claim in of_type(resources, "Claim"):
        assert round(sum(item["net"]["value"] for item in claim["item"]), 2) == claim["total"]["value"]
    for response in of_type(resources, "ClaimResponse"):
        paid = round(sum(item["adjudication"][0]["amount"]["value"] for item in response["item"]), 2)
        assert paid == response["total"][1]["amount"]["value"]
        assert ("payment" in response) == (paid > 0)


def test_codes_are_the_standards_own(resources):
    systems = Counter(
        coding["system"]
        for resource in resources
        for key in ("code", "medicationCodeableConcept", "vaccineCode")
        for coding in _codings(resource.get(key, []))
    )
    assert {
        "http://loinc.org",
        "http://snomed.info/sct",
        "http://www.nlm.nih.gov/research/umls/rxnorm",
        "http://hl7.org/fhir/sid/icd-10-cm",
        "http://hl7.org/fhir/sid/cvx",
    } <= set(systems)


def _codings(value):
    concepts = value if isinstance(value, list) else [value]
    return [coding for concept in concepts for coding in concept["coding"]]


def test_names_have_accents(resources):
    names = [patient["name"][0]["family"] for patient in of_type(resources, "Patient")]
    assert any(not name.isascii() for name in names)
    assert any(name.isascii() for name in names)


def test_run_writes_files_that_sort_in_the_order_of_loading(tmp_path):
    written = run(4, SEED, tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert [file.read_bytes() for file in files] == list(generate(4, SEED))
    assert written.files == len(files)
    assert written.bytes == sum(file.stat().st_size for file in files)
    assert written.resources == sum(len(json.loads(file.read_bytes())["entry"]) for file in files)


def test_another_moment_moves_the_records():
    moved = b"".join(generate(2, SEED, now=datetime(2020, 1, 1, 12)))  # noqa: DTZ001 - naive UTC by contract
    assert b"2026-" not in moved


@pytest.mark.parametrize(("patients", "size"), [(0, 100), (-1, 100), (1, 0)])
def test_a_hospital_of_nobody_is_refused(patients, size):
    with pytest.raises(ValueError, match="at least 1"):
        next(generate(patients, 1, resources_per_patient=size))
