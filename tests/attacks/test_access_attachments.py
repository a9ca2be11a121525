"""Attacks by attachments: a document of one's own that names somebody else's Binary (10), and a security context that is not understood."""

import pytest

from tests.access.hospital import BASE, OPERATOR, opened, ref

pytestmark = pytest.mark.anyio
PATIENT, DOCTOR = ("anne", "patient/*.cruds", "anne"), ("dora", "user/*.cruds", "")
AUTHOR = {"anne": "Patient/anne", "dora": "Practitioner/dora"}
WRITERS = pytest.mark.parametrize("who", [PATIENT, DOCTOR], ids=["a patient", "a doctor"])


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def hospital(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("attachments")) as made:
        for name in ("berts", "annes"):
            await put(made, binary(name))
        await put(made, document("Binary/annes", "dora") | {"id": "annes"})
        await put(made, document("Binary/berts", "dora", of="bert") | {"id": "berts"})
        yield made


def binary(name, **more):
    return {"resourceType": "Binary", "id": name, "contentType": "text/plain", "data": "c2VjcmV0", **more}


def document(url, by, of="anne"):
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": ref(f"Patient/{of}"),
        "author": [ref(AUTHOR[by])],
        "content": [{"attachment": {"contentType": "text/plain", "url": url}}],
    }


async def put(hospital, resource):
    url = f"{resource['resourceType']}/{resource['id']}"
    answer = await hospital.send("PUT", url, resource, hospital.as_("", OPERATOR))
    assert answer.status_code == 201, answer.text


@WRITERS
@pytest.mark.parametrize("form", ["Binary/{}", f"{BASE}/Binary/{{}}", "Binary/{}/_history/1", "Binary/{}#x"])
async def test_attack_10_who_names_a_binary_that_is_hidden_gains_nothing_by_it(hospital, who, form):
    token = hospital.as_(*who)
    hidden, missing = [
        await hospital.send("POST", "DocumentReference", document(form.format(name), who[0]), token)
        for name in ("berts", "never")
    ]
    assert hidden.status_code == 403
    assert (hidden.status_code, hidden.json()) == (missing.status_code, missing.json())
    assert (await hospital.get("Binary/berts", token)).status_code == 404


@WRITERS
async def test_attack_10_nor_by_a_change_or_a_bundle(hospital, who):
    token = hospital.as_(*who)
    made = await hospital.send("POST", "DocumentReference", document("Binary/annes", who[0]), token)
    assert made.status_code == 201
    url = f"DocumentReference/{made.json()['id']}"
    changed = document("Binary/berts", who[0]) | {"id": made.json()["id"]}
    patch = [{"op": "replace", "path": "/content/0/attachment/url", "value": "Binary/berts"}]
    json_patch = {"Content-Type": "application/json-patch+json"}
    entry = {"resource": document("Binary/berts", who[0]), "request": {"method": "POST", "url": "DocumentReference"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert (await hospital.send("PUT", url, changed, token)).status_code == 403
    assert (await hospital.send("PATCH", url, patch, token, **json_patch)).status_code == 403
    assert (await hospital.send("POST", "", bundle, token)).status_code == 403
    assert (await hospital.get("Binary/berts", token)).status_code == 404
    kept = document("Binary/annes", who[0]) | {"id": made.json()["id"], "description": "mine"}
    assert (await hospital.send("PUT", url, kept, token)).status_code == 200


async def test_who_makes_a_binary_may_attach_it_at_once(hospital):
    house = hospital.as_("-", "system/*.cruds", client="away")
    entries = [
        {"fullUrl": "urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a01", "resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}},
        {"fullUrl": "urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a02", "resource": {name: value for name, value in binary("x").items() if name != "id"}, "request": {"method": "POST", "url": "Binary"}},
        {
            "resource": document("urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a02", "dora") | {"subject": ref("urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a01")},
            "request": {"method": "POST", "url": "DocumentReference"},
        },
    ]  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await hospital.send("POST", "", bundle, house)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("context", [
    {"reference": f"{BASE}/Patient/bert"}, {"reference": "https://elsewhere.example.org/fhir/Patient/bert"}, {"reference": "Patient/never"},
    {"identifier": {"value": "mrn-bert"}}, {"display": "Bert"},
], ids=["absolute", "elsewhere", "missing", "logical", "a text"])  # fmt: skip
async def test_attack_10_a_security_context_that_is_not_understood_opens_nothing(hospital, context):
    name = f"context-{len(str(context))}"
    await put(hospital, binary(name, securityContext=context))
    await put(hospital, document(f"Binary/{name}", "dora") | {"id": name})
    for who in (PATIENT, DOCTOR):
        assert (await hospital.get(f"Binary/{name}", hospital.as_(*who))).status_code == 404
