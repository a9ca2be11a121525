"""Clients that others wrote, against a real server with its real pages: requests-oauthlib, and fhirclient in Chromium on another origin."""

import html
import shutil
import time
from importlib.util import find_spec
from urllib.parse import urlencode

import pytest
import requests
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from tests.conftest import ROOT
from tests.ehr.apps import STANDALONE
from tests.ehr.house import BACK, PASSWORD, SECRET
from tests.ehr.listener import listening

FHIRCLIENT = ROOT / ".venv" / "browser" / "package" / "build" / "fhir-client.js"
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
in_chromium = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None or not FHIRCLIENT.is_file(),
    reason="there is no Chromium, Playwright or fhirclient; scripts/setup-browser installs them",
)


@pytest.mark.parametrize("kind", ["public", "symmetric"])
def test_requests_oauthlib_launches_reads_refreshes_and_revokes(ehr, monkeypatch, kind):
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # http to this machine
    found = requests.get(f"{ehr.base}/.well-known/smart-configuration", timeout=30).json()
    proof = {"auth": HTTPBasicAuth(kind, SECRET)} if kind == "symmetric" else {"include_client_id": True}
    with OAuth2Session(kind, redirect_uri=BACK, scope=STANDALONE.split(), pkce="S256") as app:
        url, state = app.authorization_url(found["authorization_endpoint"], aud=found["issuer"])
        browser = ehr.browser()
        page = browser.send(browser.to_consent(browser.open(url)), action="approve")
        location = page.answer.headers["location"]
        assert f"state={state}" in location
        token = app.fetch_token(found["token_endpoint"], authorization_response=location, **proof)
        patient = f"{found['issuer']}/Patient/{token['patient']}"
        assert app.get(patient).json()["name"][0]["family"] == "Alpha"
        with_id = {"client_id": kind} if kind == "public" else {"auth": proof["auth"]}
        again = app.refresh_token(found["token_endpoint"], **with_id)
        assert again["refresh_token"] != token["refresh_token"]
        assert app.get(patient).status_code == 200
        form = {"token": again["refresh_token"]} | ({"client_id": kind} if kind == "public" else {})
        answer = requests.post(found["revocation_endpoint"], data=form, auth=proof.get("auth"), timeout=30)
        assert answer.status_code == 200
        time.sleep(1.1)
        assert app.get(patient).status_code == 401


APP = """<!doctype html><html><head><meta charset="utf-8"><script src="/fhir-client.js"></script></head><body><script>
const told = (name, value) => {{
  const row = document.createElement("p"); row.id = name; row.textContent = value; document.body.append(row);
}};
const own = location.origin, query = new URLSearchParams(location.search);
(async () => {{
  if (location.pathname === "/launch") {{
    const scope = query.get("launch") ? "launch openid fhirUser offline_access patient/*.rs" : {scope!r};
    await FHIR.oauth2.authorize({{
      clientId: "browser-app", redirectUri: own + "/app", scope, iss: query.get("iss") || {base!r}, pkceMode: "required",
    }});
    return;
  }}
  const client = await FHIR.oauth2.ready();
  told("family", (await client.patient.read()).name[0].family);
  told("user", (await client.user.read()).resourceType);
  const found = await client.request("Observation?patient=" + client.patient.id, {{ pageLimit: 0, flat: true }});
  told("observations", found.length);
  const before = client.state.tokenResponse.access_token;
  await client.refresh();
  told("refreshed", before !== client.state.tokenResponse.access_token);
  told("again", (await client.request("Patient/" + client.patient.id)).name[0].family);
  told("patient", client.patient.id);
}})().catch((error) => told("fault", String(error)));
</script></body></html>
"""


@pytest.fixture(scope="module")
def origin(ehr):
    """The origin of an app in the browser, which is not the server's."""

    def answer(request):
        if request.path == "/fhir-client.js":
            body, kind = FHIRCLIENT.read_bytes(), "text/javascript"
        else:
            body = APP.format(scope=STANDALONE, base=ehr.discovery["issuer"]).encode()
            kind = "text/html"
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    with listening(answer) as listener:
        ehr.cli(
            "client", "add", "--id", "browser-app", "--name", "Browser app", "--type", "public", "--redirect", f"{listener.url}/app",
            "--launch", f"{listener.url}/launch", "--replace",
        )  # fmt: skip
        yield listener.url


@pytest.fixture
def launch_url(ehr, origin):
    """A launch from the EHR (made before there is a page, whose driver has the thread's event loop)."""
    return ehr.cli("launch", "--client", "browser-app", "--patient", "a")["url"]


@pytest.fixture
def page(origin):
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (it may be missing)

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_context().new_page()
        opened.set_default_timeout(20_000)
        yield opened
        browser.close()


def through(page, user, patient=""):
    """The pages of the server, as a person goes through them."""
    page.wait_for_selector("body[data-page=login]")
    page.fill("[name=username]", user)
    page.fill("[name=password]", PASSWORD)
    page.click("[name=action][value=login]")
    if patient:
        page.wait_for_selector("body[data-page=patient]")
        page.check(f"[name=patient][value={patient}]")
        page.click("[name=action][value=select]")
    page.wait_for_selector("body[data-page=consent]")
    page.click("[name=action][value=approve]")


def shown(page) -> dict[str, str]:
    """What the app found out."""
    page.wait_for_selector("#patient, #fault", state="attached")
    return {row.get_attribute("id"): row.text_content() for row in page.query_selector_all("p[id]")}


@in_chromium
@pytest.mark.browser
@pytest.mark.serial
@pytest.mark.parametrize(("user", "kind"), [("doctor", "Practitioner"), ("ana", "Patient")])
def test_fhirclient_launches_standalone_in_chromium(ehr, origin, page, user, kind):
    page.goto(f"{origin}/launch?{urlencode({'iss': ehr.discovery['issuer']})}")
    through(page, user, "a" if user == "doctor" else "")
    found = shown(page)
    assert found | {"observations": ""} == {
        "family": "Alpha", "user": kind, "observations": "", "refreshed": "true", "again": "Alpha", "patient": "a",
    }  # fmt: skip
    assert int(found["observations"]) >= 5


@in_chromium
@pytest.mark.browser
@pytest.mark.serial
def test_fhirclient_is_launched_by_the_ehr_in_chromium(launch_url, page):
    page.goto(launch_url)
    through(page, "doctor")
    found = shown(page)
    assert (found.get("family"), found.get("patient"), found.get("refreshed")) == ("Alpha", "a", "true"), html.unescape(
        str(found)
    )


@in_chromium
@pytest.mark.browser
@pytest.mark.serial
def test_fhirclient_is_told_that_the_person_denied(ehr, origin, page):
    page.goto(f"{origin}/launch?{urlencode({'iss': ehr.discovery['issuer']})}")
    page.wait_for_selector("body[data-page=login]")
    page.fill("[name=username]", "ana")
    page.fill("[name=password]", PASSWORD)
    page.click("[name=action][value=login]")
    page.wait_for_selector("body[data-page=consent]")
    page.click("[name=action][value=deny]")
    assert "did not approve" in shown(page)["fault"]
