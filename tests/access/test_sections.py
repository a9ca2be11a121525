"""Labelled parts of resources: who is shown them, who finds them, who may write what has them.

Anne's labelled resources have a part that patients are not shown (NOPAT) and one that she keeps from her doctor by a Consent (R). The secrets are words
that stand in these parts alone.

Specification: https://hl7.org/fhir/uv/security-label-ds4p/STU1.1/inline_security_labels.html
"""

import json

import pytest

from fhir_server.interactions import deciding, sections
from search.limits import SearchLimits
from smart_auth.access.sections import EXTENSION, MARK, MARK_SYSTEM
from tests.access.hospital import CATEGORY, OPERATOR, coded, observation, opened, patient, ref
from tests.access.test_consents import DENY, RESTRICTED, consent

pytestmark = pytest.mark.anyio
MARKED = {"security": [{"system": MARK_SYSTEM, "code": MARK}]}
NOPAT = {"system": MARK_SYSTEM, "code": "NOPAT"}


def label(coding, /, **more):
    return {"extension": [{"url": EXTENSION, "valueCoding": coding}], **more}


LABELLED = observation(
    "parts",
    "anne",
    meta=MARKED,
    text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">hushpatient hushdoctor</div>'},
    code={"coding": [{"system": "http://loinc.org", "code": "2339-0"}], "text": "plain"},
    effectiveDateTime="2026-01-01",
    note=[label(NOPAT, text="hushpatient"), label(RESTRICTED, text="hushdoctor"), {"text": "open"}],
    performer=[label(NOPAT, reference="Practitioner/nora", display="hushpatient"), ref("Practitioner/dora")],
    method=label(RESTRICTED, text="hushdoctor", coding=[{"code": "hushdoctor"}]),
    bodySite=label(NOPAT, text="hushpatient", coding=[{"code": "hushpatient"}]),
)
ANNE, DORA, OPERATORS = ("anne", "patient/*.cruds", "anne"), ("dora", "user/*.cruds", ""), ("", OPERATOR, "")
TOLD = {"hushpatient": (DORA, OPERATORS), "hushdoctor": (ANNE, OPERATORS)}
"""Secret -> to whom it is told."""
PATHS = (
    "Observation/parts",
    "Observation/parts/_history",
    "Observation/parts/_history/1",
    "Observation/parts/_history/2",
    "Observation/_history?_count=1000",
    "_history?_count=1000",
    "Observation?_id=parts",
    "Observation?patient=anne&_count=100",
    "Observation?subject=Patient/anne&status=amended&_sort=-_lastUpdated&_count=100",
    f"Observation?category={CATEGORY}|laboratory&patient=anne&_sort=-date&_count=100",
    "Observation?_security=PROCESSINLINELABEL",
    "Patient/anne/Observation?_count=100",
    "Patient/anne/$everything?_count=1000",
    "Patient/anne/*?_count=1000",
    "Observation?_id=parts&_include=Observation:subject",
    "Patient?_id=anne&_revinclude=Observation:subject&_count=100",
    "Observation/parts?_elements=note,method,bodySite",
    "Observation/parts?_summary=data",
    "Observation/parts?_format=xml",
    "Observation/parts/_history?_format=xml",
)


@pytest.fixture(scope="module")
async def labelled(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("labelled"), SearchLimits(full_text=True)) as hospital:
        operator = hospital.as_(*OPERATORS)
        said = consent({**DENY, "securityLabel": [RESTRICTED]})
        assert (await hospital.send("PUT", "Consent/consent-anne", said, operator)).status_code == 201
        for one in (LABELLED, dict(LABELLED, status="amended")):
            assert (await hospital.send("PUT", "Observation/parts", one, operator)).status_code in (200, 201)
        hospital.pass_second()
        yield hospital


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", [ANNE, DORA, OPERATORS], ids=["patient", "doctor", "operator"])
async def test_parts_are_shown_to_whom_their_labels_allow(labelled, path, who):
    answer = await labelled.get(path, labelled.as_(*who))
    assert answer.status_code == 200, answer.text
    assert "parts" in answer.text
    elements = "_elements" in path or "_summary" in path
    for secret, people in TOLD.items():
        assert (secret in answer.text) == (who in people), secret
    assert "open" in answer.text
    assert ("SUBSETTED" in answer.text) == (who is not OPERATORS or elements)


async def test_a_batch_shows_the_same(labelled):
    entries = [{"request": {"method": "GET", "url": path}} for path in PATHS if "_format" not in path]
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    for who in (ANNE, DORA):
        text = (await labelled.send("POST", "", bundle, labelled.as_(*who))).text
        assert text.count("open") >= len(entries)
        for secret, people in TOLD.items():
            assert (secret in text) == (who in people)


async def test_differences_are_told_of_what_is_shown(labelled):
    for who in (ANNE, DORA):
        text = (await labelled.get("Observation/parts/$diff?fromVersion=1", labelled.as_(*who))).text
        assert "amended" in text
        assert not any(secret in text for secret, people in TOLD.items() if who not in people)


FINDING = {
    "Observation?performer=Practitioner/nora": "hushpatient",
    "Observation?performer:Practitioner.family=Nora": "hushpatient",
    "Practitioner?_id=nora&_has:Observation:performer:subject=Patient/anne": "hushpatient",
    "Practitioner/nora/Observation": "hushpatient",
    "Observation?_content=hushpatient": "hushpatient",
    "Observation?_text=hushpatient": "hushpatient",
    "Observation?_content=hushdoctor": "hushdoctor",
    "Observation?method=hushdoctor": "hushdoctor",
    "Observation?patient=anne&method=hushdoctor": "hushdoctor",
    "Observation?method:missing=false": "hushdoctor",
    "Observation?method:text=hush": "hushdoctor",
    "Patient?_has:Observation:patient:method=hushdoctor": "hushdoctor",
    "Observation?_filter=method eq hushdoctor": "hushdoctor",
}


@pytest.mark.parametrize("path", FINDING)
async def test_nobody_finds_what_they_are_not_shown(labelled, path):
    secret = FINDING[path]
    for who in (ANNE, DORA, OPERATORS):
        joined = "&" if "?" in path else "?"
        answer = await labelled.get(f"{path}{joined}_total=accurate", labelled.as_(*who))
        assert answer.status_code == 200, answer.text
        found = answer.json()["total"]
        if who is OPERATORS:
            assert found, "the question finds it"
        elif who not in TOLD[secret]:
            assert found == 0


async def test_negations_do_not_tell_either(labelled):
    for path in ("Observation?method:not=hushdoctor", "Observation?method:missing=true"):
        ids = await labelled.ids(path, labelled.as_(*DORA))
        assert "parts" not in ids
        assert "lab-anne" in ids


async def test_order_and_includes_do_not_tell(labelled):
    anne = labelled.as_(*ANNE)
    assert "parts" not in await labelled.ids("Observation?_sort=performer&patient=anne", anne)
    found = await labelled.ids("Observation?_id=parts&_include=Observation:performer", anne)
    assert found == set()
    assert "nora" not in await labelled.ids("Observation?patient=anne&_include=*", anne)
    everything = await labelled.ids("Patient/anne/$everything", anne)
    assert {"parts", "dora"} <= everything
    assert "nora" not in everything
    assert "nora" in await labelled.ids("Patient/anne/$everything", labelled.as_(*OPERATORS))


async def test_no_page_of_everything_tells_of_what_only_a_withheld_part_refers_to(labelled):
    anne, operator = labelled.as_(*ANNE), labelled.as_(*OPERATORS)
    for query in ("_count=1", "_count=2", "_type=Practitioner", "_type=Practitioner&_count=1", "_since=2020-01-01"):
        assert "nora" in await labelled.ids(f"Patient/anne/$everything?{query}", operator)
        found = await labelled.ids(f"Patient/anne/$everything?{query}", anne)
        assert "dora" in found
        assert "nora" not in found


async def test_dates_of_care_pass_over_labelled_parts(labelled):
    path = "Patient/anne/$everything?start=2025-12-01&end=2026-02-01"
    assert "parts" in await labelled.ids(path, labelled.as_(*OPERATORS))
    assert "parts" not in await labelled.ids(path, labelled.as_(*ANNE))
    assert "anne" in await labelled.ids(path, labelled.as_(*ANNE))


async def test_what_a_withheld_part_attaches_is_neither_read_nor_attached(fresh):
    operator, anne = fresh.as_(*OPERATORS), fresh.as_(*ANNE)
    for name, parts in (("secret", label(NOPAT)), ("open", {})):
        scan = {"resourceType": "Binary", "id": name, "contentType": "text/plain", "data": "aGk="}
        assert (await fresh.send("PUT", f"Binary/{name}", scan, operator)).status_code == 201
        document = {
            "resourceType": "DocumentReference",
            "id": name,
            "meta": MARKED if parts else {"tag": [{"code": "x"}]},
            "status": "current",
            "subject": ref("Patient/anne"),
            "author": [ref("Patient/anne")],
            "content": [{**parts, "attachment": {"url": f"Binary/{name}"}}],
        }
        assert (await fresh.send("PUT", f"DocumentReference/{name}", document, operator)).status_code == 201
        seen = parts == {}
        assert (await fresh.get(f"Binary/{name}", anne)).status_code == (200 if seen else 404)
        mine = dict(document, meta={"tag": [{"code": "x"}]}, content=[{"attachment": {"url": f"Binary/{name}"}}])
        mine.pop("id")
        assert (await fresh.send("POST", "DocumentReference", mine, anne)).status_code == (201 if seen else 403)


async def test_a_patient_with_labelled_parts_keeps_their_record(fresh):
    labelled_one = patient(
        "anne",
        meta=MARKED,
        telecom=[label(NOPAT, system="phone", value="555"), {"system": "phone", "value": "111"}],
        generalPractitioner=[label(NOPAT, reference="Practitioner/nora"), ref("Practitioner/dora")],
    )
    assert (await fresh.send("PUT", "Patient/anne", labelled_one, fresh.as_(*OPERATORS))).status_code == 200
    anne = fresh.as_(*ANNE)
    for query in ("", "?_count=3", "?start=2000-01-01", "?_type=Patient,Practitioner", "?_count=1"):
        path = f"Patient/anne/$everything{query}"
        found = await fresh.ids(path, anne)
        assert "anne" in found
        assert "dora" in found
        assert "nora" not in found
        assert "nora" in await fresh.ids(path, fresh.as_(*OPERATORS))
    for path in ("Patient/anne", "Patient?_id=anne", "Observation?_id=lab-anne&_include=Observation:subject"):
        text = (await fresh.get(path, anne)).text
        assert "111" in text
        assert "555" not in text
    assert "anne" not in await fresh.ids("Patient?phone=555", anne)
    assert "lab-anne" not in await fresh.ids("Observation?patient.phone=555", anne)
    assert "lab-anne" in await fresh.ids("Observation?patient=anne&code=2339-0", anne)


async def test_what_bears_no_label_is_found_by_everything(labelled):
    for who in (ANNE, DORA):
        assert "lab-anne" in await labelled.ids("Observation?code=2339-0&_sort=code", labelled.as_(*who))


async def test_what_bears_no_label_is_not_read_for_labels(fresh, monkeypatch):
    def read(*_):
        raise AssertionError("a body without labelled parts was decoded")

    monkeypatch.setattr(sections, "decode", read)
    monkeypatch.setattr(deciding, "labels", read)
    anne = fresh.as_(*ANNE)
    for path in (
        "Observation/lab-anne",
        "Observation?code=2339-0",
        "Observation/lab-anne/_history",
        "Patient/anne/$everything",
    ):
        assert (await fresh.get(path, anne)).status_code == 200


async def test_who_was_given_a_part_does_not_change_it(labelled):
    dora = labelled.as_(*DORA)
    before = (await labelled.get("Observation/parts", labelled.as_(*OPERATORS))).json()
    part = (await labelled.get("Observation/parts", dora)).json()
    whole = dict(part, meta=MARKED)
    patch = [{"op": "replace", "path": "/status", "value": "final"}]
    seen = [{"op": "test", "path": "/method/text", "value": "hushdoctor"}]
    put = {"request": {"method": "PUT", "url": "Observation/parts"}}

    def transaction(resource):
        return {"resourceType": "Bundle", "type": "transaction", "entry": [{**put, "resource": resource}]}

    json_patch = {"Content-Type": "application/json-patch+json"}
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
    for method, url, body, headers in (
        ("PUT", "Observation/parts", part, {}),
        ("PUT", "Observation/parts", whole, {}),
        ("PUT", "Observation?_id=parts", part, {}),
        ("PUT", "Observation?_id=parts", whole, {}),
        ("PATCH", "Observation/parts", patch, json_patch),
        ("PATCH", "Observation/parts", seen, json_patch),
        ("PATCH", "Observation?_id=parts", patch, json_patch),
        ("POST", "", transaction(part), {}),
        ("POST", "", transaction(whole), {}),
        ("POST", "Observation/parts/$meta-add", meta, {}),
    ):
        answer = await labelled.send(method, url, body, dora, **headers)
        assert answer.status_code == 403, (method, url, answer.text)
        assert "hushdoctor" not in answer.text
    assert (await labelled.get("Observation/parts", labelled.as_(*OPERATORS))).json() == before


async def test_who_is_shown_everything_changes_it(fresh):
    operator = fresh.as_(*OPERATORS)
    for method, body in (("PUT", LABELLED), ("PUT", dict(LABELLED, status="amended"))):
        answer = await fresh.send(method, "Observation/parts", body, operator)
        assert answer.status_code in (200, 201)
        assert "hushdoctor" in answer.text
    marked = dict(LABELLED, meta={**MARKED, "tag": [{"code": "SUBSETTED"}]})
    assert (await fresh.send("PUT", "Observation/parts", marked, operator)).status_code == 422


async def test_without_a_consent_the_doctor_is_shown_everything(fresh):
    assert (await fresh.send("PUT", "Observation/parts", LABELLED, fresh.as_(*OPERATORS))).status_code == 201
    dora = fresh.as_(*DORA)
    assert "hushdoctor" in (await fresh.get("Observation/parts", dora)).text
    assert "parts" in await fresh.ids("Observation?method=hushdoctor", dora)


async def test_a_contained_part_is_kept(fresh):
    inner = label(NOPAT, resourceType="Practitioner", id="in", name=[{"family": "Hushpatient"}])
    body = observation("holding", "anne", meta=MARKED, contained=[inner], performer=[ref("#in")])
    assert (await fresh.send("PUT", "Observation/holding", body, fresh.as_(*OPERATORS))).status_code == 201
    anne = fresh.as_(*ANNE)
    shown = await fresh.get("Observation/holding", anne)
    assert shown.status_code == 200
    assert "Hushpatient" not in shown.text
    for url in (
        "Observation?performer.family=hushpatient",
        "Practitioner?_contained=true&_containedType=contained&name=hushpatient",
        "Practitioner?_contained=true&_containedType=contained",
    ):
        answer = await fresh.get(url, anne)
        assert answer.status_code in (200, 403), answer.text
        assert "hushpatient" not in json.dumps(answer.json().get("entry", [])).lower()


REFUSED = {
    "not marked": {**LABELLED, "meta": {"tag": [{"code": "x"}]}},
    "the resource itself": {**LABELLED, **label(NOPAT)},
    "whom it is about": {**LABELLED, "subject": label(NOPAT, reference="Patient/anne")},
    "its status": {**LABELLED, "_status": label(NOPAT)},
    "its date": {**LABELLED, "_effectiveDateTime": label(NOPAT)},
    "its category": {**LABELLED, "category": [label(NOPAT, **coded("laboratory", CATEGORY))]},
    "its tags": {**LABELLED, "meta": {**MARKED, "tag": [label(NOPAT, code="x")]}},
    "a label without a code": {**LABELLED, "note": [label({"display": "secret"}, text="x")]},
}


@pytest.mark.parametrize("case", REFUSED)
async def test_labels_that_cannot_be_enforced_are_refused(workshop, case):
    operator = workshop.as_(*OPERATORS)
    body = {name: value for name, value in REFUSED[case].items() if name != "id"}
    answer = await workshop.send("POST", "Observation", body, operator)
    assert answer.status_code == 422, answer.text
    assert "labels of parts" in answer.text


@pytest.mark.parametrize("criteria", ["method=hushdoctor", "method=hushnobody"], ids=["withheld", "nowhere"])
async def test_a_condition_of_a_write_does_not_tell(fresh, criteria):
    """What was not found by a criterion is not met by it in the commit either: a 409 would tell of it."""
    operator, dora = fresh.as_(*OPERATORS), fresh.as_(*DORA)
    said = consent({**DENY, "securityLabel": [RESTRICTED]})
    assert (await fresh.send("PUT", "Consent/consent-anne", said, operator)).status_code == 201
    assert (await fresh.send("PUT", "Observation/parts", LABELLED, operator)).status_code == 201
    fresh.pass_second()
    new = {name: value for name, value in observation("x", "anne").items() if name != "id"}
    created = await fresh.send("POST", "Observation", new, dora, **{"If-None-Exist": criteria})
    assert created.status_code == 201, created.text
    updated = await fresh.send("PUT", f"Observation?{criteria}", new, dora)
    assert updated.status_code == 201, updated.text
    deleted = await fresh.send("DELETE", f"Observation?{criteria}", None, operator)
    assert deleted.status_code == 204
    patch = [{"op": "add", "path": "/language", "value": "en"}]
    patched = await fresh.send(
        "PATCH", f"Observation?{criteria}", patch, dora, **{"Content-Type": "application/json-patch+json"}
    )
    assert patched.status_code == 404, patched.text
