"""The pages as the application serves them, between its layers: with the store of resources, access, audit and CORS."""

import time
from ipaddress import ip_network

import pytest

from fhir_server.app import create_app
from fhir_server.settings import Settings
from smart_auth.model import Client
from tests.access.hospital import OPERATOR, opened
from tests.smart_auth.browsing import BACK, PASSWORD, Browser, landed, person, request

pytestmark = pytest.mark.anyio

ORIGIN = {"Origin": "https://evil.example"}
SCOPE = "launch/patient openid fhirUser patient/Patient.rs"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def hospital(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("hospital")) as made:
        store = made.auth.store
        for name in ("dora", "anne", "rita", "resi", "stranger"):
            known = store.user(name)
            person(store, name, roles=known.roles, fhir_user=known.fhir_user)
        store.put_client(Client("app", "App", "public", redirect_uris=(BACK,)))
        yield made


@pytest.fixture
def browser(hospital):
    return Browser(hospital.app)


@pytest.fixture
def tx(hospital, request_name):
    return request(hospital.auth.store, lambda: int(time.time()), request_name, scope=SCOPE)


@pytest.fixture
def request_name(request):
    return f"tx of {request.node.name}"


async def test_a_doctor_chooses_among_assigned_patients(browser, tx):
    page = await browser.sign_in(tx, "dora")
    assert (page.name, page.form["radios"]) == ("patient", ["anne"])
    assert (await browser.page(f"/auth/patient?tx={tx}&q=bert")).form["radios"] == []
    refused = await browser.send(page, patient="bert", action="select")
    assert refused.errors == ["no_patient"]
    page = await browser.send(page, patient="anne", action="select")
    assert "code" in landed(await browser.send(page, action="approve"))


async def test_who_is_shown_on_a_page_is_recorded(hospital, browser, tx):
    await browser.sign_in(tx, "dora")
    await browser.page(f"/auth/patient?tx={tx}&q=bert")
    page = await browser.page(f"/auth/patient?tx={tx}&q=an")
    await browser.send(page, patient="anne", action="select")
    answer = await hospital.get("AuditEvent?agent-name=dora&_count=100", hospital.as_("", OPERATOR))
    events = [one["resource"] for one in answer.json().get("entry", ()) if "resource" in one]
    shown = [(one["subtype"][0].get("display"), what(one)) for one in events]
    assert ("patient", {"Patient/anne"}) in shown
    assert ("consent", {"Patient/anne"}) in shown
    assert "bert" not in answer.text


async def test_who_is_tried_while_locked_is_recorded(hospital, browser):
    """Names that nobody has are not kept: they may be passwords in the wrong field."""
    person(hospital.auth.store, "lou")
    for name in ("lou", "hunter2-is-my-password"):
        refused = [await browser.sign_in("", name, "wrong") for _ in range(7)]
        assert refused[-1].errors == ["locked"]
    answer = await hospital.get("AuditEvent?agent-name=lou&outcome=4&_count=100", hospital.as_("", OPERATOR))
    said = [one["resource"]["outcomeDesc"] for one in answer.json()["entry"]]
    assert len(said) == 7
    assert said[0].endswith("locked")
    assert "hunter2" not in (await hospital.get("AuditEvent?_count=100", hospital.as_("", OPERATOR))).text


def what(event):
    return {one.get("what", {}).get("reference") for one in event.get("entity", ())} - {None}


async def test_a_receptionist_chooses_among_all(browser, tx):
    page = await browser.sign_in(tx, "resi")
    assert {"anne", "bert"} <= set(page.form["radios"])


@pytest.mark.parametrize("name", ["anne", "rita"])
async def test_patients_and_relatives_go_straight_to_the_consent(browser, tx, name):
    page = await browser.sign_in(tx, name)
    assert page.name == "consent"
    assert "Anne" in page.answer.text


async def test_a_patient_without_a_record_has_nobody_to_choose(browser, tx):
    page = await browser.sign_in(tx, "stranger")
    assert (page.name, page.form["radios"]) == ("patient", [])


async def test_a_record_opened_in_an_emergency_can_be_read_with_the_token_in_hand(hospital):
    dora = hospital.as_("dora", "user/*.rs")
    assert (await hospital.get("Patient/bert", dora)).status_code == 404
    asked = {"patient": "mrn-bert", "reason": "unconscious", "minutes": 5}
    answer = await hospital.send("POST", "https://fhir.example.org/auth/break-glass", asked, dora)
    assert answer.status_code == 201, answer.text
    end = time.monotonic() + 5
    while (await hospital.get("Patient/bert", dora)).status_code != 200:
        assert time.monotonic() < end


async def test_scripts_of_other_sites_cannot_read_the_pages(browser):
    for path in ("/auth/login", "/auth/consent", "/auth/apps", "/auth/break-glass"):
        for method in ("GET", "OPTIONS", "POST"):
            answer = await browser.client.request(
                method, path, headers=ORIGIN | {"Access-Control-Request-Method": "POST"}
            )
            assert "access-control-allow-origin" not in answer.headers, (method, path)


async def test_the_session_cookie_opens_no_resource(browser, hospital):
    await browser.sign_in("", "resi")
    assert (await browser.client.get("/fhir/Patient")).status_code == 401


async def test_a_wrong_password_is_in_the_audit(browser, hospital):
    await browser.sign_in("", "dora", "wrong")
    await browser.sign_in("", "a password typed as a name", PASSWORD)
    admin = hospital.as_("sue", "user/*.rs")
    answer = await hospital.get("AuditEvent?outcome=4&_count=2", admin)
    assert "bad_credentials" in answer.text
    assert "typed as a name" not in answer.text


async def test_behind_a_trusted_proxy_the_address_is_the_clients(tmp_path):
    settings = Settings(
        data_dir=tmp_path, public_url="https://fhir.example.org", trusted_proxies=(ip_network("127.0.0.0/8"),)
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        browser = Browser(app)
        browser.client.headers["X-Forwarded-For"] = "192.0.2.9"
        await browser.sign_in("", "nobody", "wrong")
        assert app.state.auth.store.failures("address:192.0.2.9")[0] == 1


@pytest.mark.parametrize(
    ("settings", "status"), [({"demo": True}, 200), ({}, 404), ({"demo": True, "auth": "off"}, 404)]
)
async def test_the_demonstration_app_is_served_with_demo_alone(tmp_path, settings, status):
    app = create_app(Settings(data_dir=tmp_path, public_url="https://fhir.example.org", **settings))
    client = Browser(app).client
    for path in ("/demo-app/", "/demo-app/launch", "/demo-app/app.js", "/demo-app/style.css"):
        answer = await client.get(path)
        assert answer.status_code == status, path
        if status == 200:
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_demonstration_app_leads_to_the_public_url(tmp_path):
    app = create_app(Settings(data_dir=tmp_path, public_url="https://fhir.example.org", demo=True))
    answer = await Browser(app).client.get("http://127.0.0.1:8000/demo-app/launch?iss=x&launch=y")
    assert (answer.status_code, answer.headers["location"]) == (
        307,
        "https://fhir.example.org/demo-app/launch?iss=x&launch=y",
    )


async def test_the_demonstration_app_knows_the_base(tmp_path):
    app = create_app(Settings(data_dir=tmp_path, public_url="https://fhir.example.org/ehr", demo=True))
    text = (await Browser(app).client.get("/demo-app/")).text
    assert 'data-base="https://fhir.example.org/ehr/fhir"' in text
    assert 'data-home="https://fhir.example.org/ehr/demo-app/"' in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/auth/unknown", 404),
        ("GET", "/auth/", 404),
        ("GET", "/auth/login/", 404),
        ("GET", "/auth/break-glass", 405),
        ("PUT", "/auth/login", 405),
    ],
)
async def test_paths_and_methods_that_there_are_not(browser, method, path, status):
    assert (await browser.client.request(method, path)).status_code == status


async def test_without_access_control_there_are_no_pages(tmp_path):
    app = create_app(Settings(data_dir=tmp_path, auth="off"))
    async with app.router.lifespan_context(app):
        assert (await Browser(app, "http://localhost:8000").client.get("/auth/login")).status_code == 404
