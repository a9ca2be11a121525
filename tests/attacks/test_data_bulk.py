"""Attacks on bulk export (33): there is none yet, so each of its addresses is a 404; these fail when it comes and must then be written out."""

import pytest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("who", ["ann-with-all", "doctor", "admin", "backend", "integration"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "$export"),
        ("POST", "$export"),
        ("GET", "Patient/$export?_type=Patient&_typeFilter=Observation%3Fpatient%3Dquagga"),
        ("POST", "Patient/$export?patient=Patient/quagga"),
        ("GET", "Group/quagga-group/$export"),
        ("GET", "$export-status/1"),
        ("DELETE", "$export-status/1"),
        ("GET", "$export-file/1/Patient.ndjson"),
        ("GET", "$export-file/..%2f..%2fauth.sqlite"),
        ("GET", "bulk/1"),
        ("DELETE", "bulk/1"),
        ("GET", "bulk/1/Patient.ndjson"),
        ("POST", "$import"),
    ],
)
async def test_attack_33_there_is_no_export_whose_files_could_be_guessed(hospital, who, method, path):
    headers = {"Prefer": "respond-async", "Accept": "application/fhir+json"}
    answer = await hospital.ask(who, method, path, "{}" if method == "POST" else None, **headers)
    assert answer.status_code in (404, 501)
    assert "content-location" not in answer.headers


async def test_attack_33_no_part_of_the_data_folder_is_served(hospital):
    for path in ("fhir.sqlite", "auth.sqlite", "..%2fauth.sqlite", "audit", "..%2f..%2fetc%2fpasswd"):
        for base in ("", "../", "../auth/", "../auth/static/", "../.well-known/"):
            status, _ = await hospital.raw("admin", "GET", f"{base}{path}")
            assert status in (400, 401, 404, 405)
    (hospital.folder / "fhir.sqlite").stat()
