"""Consent resources keep out whom they name, and nobody else.

Specification: https://hl7.org/fhir/R4/consent.html
"""

import pytest

from tests.access.hospital import OPERATOR, coded, observation, opened, ref

pytestmark = pytest.mark.anyio
TYPES = "http://hl7.org/fhir/resource-types"
ACTIONS = "http://terminology.hl7.org/CodeSystem/consentaction"
REASONS = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESTRICTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
ALL = {"Observation/lab-anne", "Condition/condition-anne", "Observation/restricted"}
LAB = ALL - {"Condition/condition-anne"}


def consent(provision, of="anne", **more):
    return {
        "resourceType": "Consent",
        "id": f"consent-{of}",
        "status": "active",
        "scope": coded("patient-privacy", "http://terminology.hl7.org/CodeSystem/consentscope"),
        "category": [coded("59284-0")],
        "patient": ref(f"Patient/{of}"),
        "policyRule": coded("OPTIN", "http://terminology.hl7.org/CodeSystem/v3-ActCode"),
        **({"provision": provision} if provision is not None else {}),
        **more,
    }


def actor(name):
    return {"role": coded("PRCP", "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"), "reference": ref(name)}


DENY = {"type": "deny"}
SEEN = {
    "nothing said": (None, {}, ALL),
    "everything denied": (DENY, {}, set()),
    "denied, but not active": (DENY, {"status": "inactive"}, ALL),
    "denied, but for research": (DENY, {"scope": coded("research")}, ALL),
    "denied to her": ({**DENY, "actor": [actor("Practitioner/dora")]}, {}, set()),
    "denied to another": ({**DENY, "actor": [actor("Practitioner/nora")]}, {}, ALL),
    "denied to all but her": (
        {**DENY, "provision": [{"type": "permit", "actor": [actor("Practitioner/dora")]}]}, {}, ALL,
    ),
    "one type denied": ({**DENY, "class": [{"system": TYPES, "code": "Condition"}]}, {}, LAB),
    "all but one type denied": (
        {**DENY, "provision": [{"type": "permit", "class": [{"system": TYPES, "code": "Observation"}]}]}, {}, LAB,
    ),
    "what bears a label denied": ({**DENY, "securityLabel": [RESTRICTED]}, {}, ALL - {"Observation/restricted"}),
    "all but what bears a label": (
        {**DENY, "provision": [{"type": "permit", "securityLabel": [RESTRICTED]}]}, {}, {"Observation/restricted"},
    ),
    "denied in the past": ({**DENY, "period": {"end": "2020"}}, {}, ALL),
    "denied in the future": ({**DENY, "period": {"start": "2999"}}, {}, ALL),
    "denied from some day on": ({**DENY, "period": {"start": "2020-01-01"}}, {}, set()),
    "correcting denied": ({**DENY, "action": [coded("correct", ACTIONS)]}, {}, ALL),
    "access denied": ({**DENY, "action": [coded("access", ACTIONS)]}, {}, set()),
    "denied for treatment": ({**DENY, "purpose": [{"system": REASONS, "code": "TREAT"}]}, {}, set()),
    "denied for payment": ({**DENY, "purpose": [{"system": REASONS, "code": "HPAYMT"}]}, {}, ALL),
}  # fmt: skip


async def seen(hospital, who):
    return {name for name in ALL if (await hospital.get(name, who)).status_code == 200}


@pytest.fixture(scope="module")
async def consenting(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("consenting")) as hospital:
        restricted = observation("restricted", "anne", meta={"security": [RESTRICTED]})
        answer = await hospital.send("PUT", "Observation/restricted", restricted, hospital.as_("", OPERATOR))
        assert answer.status_code == 201
        yield hospital


@pytest.mark.parametrize("case", SEEN)
async def test_a_consent_keeps_out(consenting, case):
    provision, more, wanted = SEEN[case]
    operator = consenting.as_("", OPERATOR)
    answer = await consenting.send("PUT", "Consent/consent-anne", consent(provision, **more), operator)
    assert answer.status_code in (200, 201), answer.text
    assert await seen(consenting, consenting.as_("dora", "user/*.rs")) == wanted
    assert await seen(consenting, consenting.as_("dora", "patient/*.rs", "anne")) == wanted
    # never the patient, nor who runs the server
    assert await seen(consenting, consenting.as_("anne", "patient/*.rs", "anne")) == ALL
    assert await seen(consenting, operator) == ALL
    await consenting.send("DELETE", "Consent/consent-anne", None, operator)
    assert await seen(consenting, consenting.as_("dora", "user/*.rs")) == ALL


async def test_it_counts_for_payers_and_backends(consenting):
    operator = consenting.as_("", OPERATOR)
    for purpose, insurer in (("HPAYMT", 404), ("TREAT", 200)):
        provision = {**DENY, "purpose": [{"system": REASONS, "code": purpose}]}
        await consenting.send("PUT", "Consent/consent-anne", consent(provision), operator)
        ines = consenting.as_("ines", "user/*.rs")
        assert (await consenting.get("Coverage/coverage-anne", ines)).status_code == insurer
    await consenting.send("PUT", "Consent/consent-anne", consent(DENY), operator)
    backend = consenting.as_("-", "system/*.cruds", "", "backend")
    assert "lab-anne" not in await consenting.ids("Observation", backend)
    assert "lab-bert" in await consenting.ids("Observation", backend)
    body = {key: value for key, value in observation("x", "anne").items() if key != "id"}
    assert (await consenting.send("POST", "Observation", body, backend)).status_code == 403
    await consenting.send("DELETE", "Consent/consent-anne", None, operator)


@pytest.mark.parametrize("who", ["adam", "sue"])
async def test_the_audit_trail_stays_whole(consenting, who):
    operator, reader = consenting.as_("", OPERATOR), consenting.as_(who, "user/*.rs")
    before = (await consenting.get("AuditEvent?_summary=count", reader)).json()["total"]
    await consenting.send("PUT", "Consent/consent-anne", consent(DENY), operator)
    assert (await consenting.get("Observation/lab-anne", reader)).status_code == 404
    assert (await consenting.get("AuditEvent?_summary=count", reader)).json()["total"] > before > 0
    await consenting.send("DELETE", "Consent/consent-anne", None, operator)


async def test_an_emergency_is_not_kept_out(fresh):
    operator, dora = fresh.as_("", OPERATOR), fresh.as_("dora", "user/*.rs")
    await fresh.send("PUT", "Consent/consent-anne", consent(DENY), operator)
    assert (await fresh.get("Observation/lab-anne", dora)).status_code == 404
    asked = {"patient": "anne", "reason": "found unconscious", "minutes": 10}
    assert (await fresh.send("POST", "https://fhir.example.org/auth/break-glass", asked, dora)).status_code == 201
    fresh.pass_second()
    assert (await fresh.get("Observation/lab-anne", dora)).status_code == 200


@pytest.mark.parametrize(
    ("provision", "place"),
    [
        ({"code": [coded("x")]}, "Consent.provision.code"),
        ({"dataPeriod": {"start": "2020"}}, "Consent.provision.dataPeriod"),
        ({"data": [{"meaning": "instance", "reference": ref("Observation/lab-anne")}]}, "Consent.provision.data"),
        ({"class": [{"system": "http://loinc.org", "code": "x"}]}, "Consent.provision.class"),
        ({"provision": [{"type": "permit", "code": [coded("x")]}]}, "Consent.provision.provision[0].code"),
        ({"actor": [actor("Practitioner/dora/_history/1")]}, "Consent.provision.actor"),
        ({"actor": [actor("CareTeam/team-anne")]}, "Consent.provision.actor"),
        ({"actor": [actor("https://elsewhere.example.org/fhir/Practitioner/dora")]}, "Consent.provision.actor"),
        ({"actor": [{"role": coded("PRCP"), "reference": {"display": "Dora"}}]}, "Consent.provision.actor"),
        ({"action": [coded("look", ACTIONS)]}, "Consent.provision.action"),
        ({"action": [{"text": "look"}]}, "Consent.provision.action"),
        ({"securityLabel": [{**RESTRICTED, "code": "a|b"}]}, "Consent.provision.securityLabel"),
        ({"securityLabel": [{**RESTRICTED, "code": "R,N"}]}, "Consent.provision.securityLabel"),
        ({"securityLabel": [{**RESTRICTED, "code": "$\\"}]}, "Consent.provision.securityLabel"),
        ({"securityLabel": [{"display": "secret"}]}, "Consent.provision.securityLabel"),
        ({"class": [{"system": TYPES, "display": "notes"}]}, "Consent.provision.class"),
        ({"purpose": [{"display": "care"}]}, "Consent.provision.purpose"),
    ],
)
async def test_what_cannot_be_enforced_is_refused(workshop, provision, place):
    operator = workshop.as_("", OPERATOR)
    body = {key: value for key, value in consent(provision).items() if key != "id"}
    answer = await workshop.send("POST", "Consent", body, operator)
    assert answer.status_code == 422, answer.text
    assert answer.json()["issue"][0]["expression"] == [place]
    draft = await workshop.send("POST", "Consent", dict(body, status="draft"), operator)
    assert draft.status_code == 201
    assert (await workshop.send("DELETE", f"Consent/{draft.json()['id']}", None, operator)).status_code == 204


@pytest.mark.parametrize("provision", [None, {}, {"type": "permit"}, {"actor": [actor("Practitioner/dora")]}])
async def test_opting_out_without_a_denial_is_refused(workshop, provision):
    operator = workshop.as_("", OPERATOR)
    out = coded("OPTOUT", "http://terminology.hl7.org/CodeSystem/v3-ActCode")
    for given, status in ((provision, 422), ({**(provision or {}), "type": "deny"}, 201)):
        body = {key: value for key, value in consent(given or None, policyRule=out).items() if key != "id"}
        answer = await workshop.send("POST", "Consent", body, operator)
        assert answer.status_code == status, answer.text
    await workshop.send("DELETE", f"Consent/{answer.json()['id']}", None, operator)


async def test_one_of_nobody_is_refused(workshop):
    operator = workshop.as_("", OPERATOR)
    for patient in ({"identifier": {"value": "mrn-anne"}}, {"display": "Anne"}, None):
        body = {key: value for key, value in consent(DENY, patient=patient).items() if key != "id" and value}
        answer = await workshop.send("POST", "Consent", body, operator)
        assert answer.status_code == 422, answer.text
        assert answer.json()["issue"][0]["expression"] == ["Consent.patient"]


@pytest.mark.parametrize("name", ["urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a0f"], ids=["a urn"])
async def test_one_that_was_stored_all_the_same_keeps_everybody_out(consenting, name):
    operator = consenting.as_("", OPERATOR)
    body = consent({**DENY, "actor": [actor(name)]})
    answer = await consenting.send("PUT", "Consent/consent-anne", body, operator)
    assert answer.status_code in (200, 201), answer.text
    assert await seen(consenting, consenting.as_("dora", "user/*.rs")) == set()
    backend = consenting.as_("-", "system/*.rs", "", "backend")
    assert (await consenting.get("Observation/lab-bert", backend)).status_code == 200
    await consenting.send("DELETE", "Consent/consent-anne", None, operator)


async def test_those_in_a_bundle_may_name_what_is_written_with_them(workshop):
    one, two = (f"urn:uuid:0b1e2a52-9cbb-4e0b-9d7e-0d8a4e5e6a0{at}" for at in (1, 2))
    body = {
        key: value for key, value in consent({**DENY, "actor": [actor(two)]}, patient=ref(one)).items() if key != "id"
    }
    entries = [
        {"fullUrl": one, "resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}},
        {"fullUrl": two, "resource": {"resourceType": "Practitioner"}, "request": {"method": "POST", "url": "Practitioner"}},
        {"resource": body, "request": {"method": "POST", "url": "Consent"}},
    ]  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await workshop.send("POST", "", bundle, workshop.as_("", OPERATOR))
    assert answer.status_code == 200, answer.text
