"""A real browser over a real server: the demonstration app launched both ways, through every page, with the policies of the pages in force."""

import re
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers import CLEAN, PRODUCT

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.serial,
    pytest.mark.skipif(
        CHROMIUM is None or find_spec("playwright") is None,
        reason="there is no Chromium, or no Playwright; scripts/setup-browser installs them",
    ),
]

OWN = "a kettle full of lilacs"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`serve --demo`: its public URL, the one-time passwords by user, its data folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("demo")
    command = [*PRODUCT, "serve", "--demo", "--port", str(port), "--data-dir", str(folder / "data")]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=CLEAN) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Listening on "), (folder / "log").read_text()
            yield f"http://localhost:{port}", Passwords(process.stdout, folder / "log"), folder / "data"
        finally:
            process.terminate()
            process.wait(30)


class Passwords:
    """The one-time passwords that the server prints; `PRINTED` says how."""

    PRINTED = re.compile(r"User (\S+) \(.*one-time password: (\S+)")

    def __init__(self, stdout, log: Path) -> None:
        self.known: dict[str, str] = {}
        self.stdout, self.log = stdout, log

    def of(self, name: str) -> str:
        while name not in self.known:
            self.known |= dict(self.PRINTED.findall(self.log.read_text()))
            if name in self.known:
                break
            found = self.PRINTED.match(self.stdout.readline())
            assert found, "the server printed no such password"
            self.known[found[1]] = found[2]
        return self.known[name]


@pytest.fixture
def page(server):
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (it may be missing)

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        opened = context.new_page()
        opened.set_default_timeout(15_000)
        said = []
        opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        yield opened
        browser.close()
        assert [text for text in said if "Content Security Policy" in text] == []


def sign_in(page, name: str, passwords: Passwords) -> None:
    """Sign in; who has a one-time password changes it, others have the changed one."""
    page.wait_for_selector("body[data-page=login]")
    known = passwords.of(name)
    page.fill("[name=username]", name)
    page.fill("[name=password]", known)
    page.click("[name=action][value=login]")
    if known == OWN:
        return
    page.wait_for_selector("body[data-page=password]")
    page.fill("[name=current]", known)
    page.fill("[name=password]", OWN)
    page.fill("[name=again]", OWN)
    page.click("[name=action][value=change]")
    passwords.known[name] = OWN


def test_a_patient_launches_the_demonstration_app(server, page):
    url, passwords, _ = server
    page.goto(f"{url}/demo-app/")
    page.click("#launch")
    sign_in(page, "patient-1", passwords)
    page.wait_for_selector("body[data-page=consent]")
    assert page.is_checked("input[value='patient/Patient.rs']")
    page.click("[name=action][value=approve]")
    page.wait_for_selector("#record:not([hidden])")
    assert page.url == f"{url}/demo-app/"
    assert page.text_content("#name")
    assert page.text_content("#user") == "patient-1"
    assert "patient/Condition.rs" in page.text_content("#granted")
    page.click("#refresh")
    page.wait_for_selector("#refreshed:not(:empty)")


def test_a_person_denies(server, page):
    url, passwords, _ = server
    page.goto(f"{url}/demo-app/")
    page.click("#launch")
    sign_in(page, "patient-2", passwords)
    page.wait_for_selector("body[data-page=consent]")
    page.click("[name=action][value=deny]")
    page.wait_for_selector("#fault:not([hidden])")
    assert page.url == f"{url}/demo-app/"


def test_staff_choose_a_patient_and_allow_less(server, page):
    url, passwords, _ = server
    page.goto(f"{url}/demo-app/")
    page.click("#launch")
    sign_in(page, "admin", passwords)
    page.wait_for_selector("body[data-page=patient]")
    page.locator("[name=patient]").first.check()
    page.click("[name=action][value=select]")
    page.wait_for_selector("body[data-page=consent]")
    page.uncheck("input[value='patient/Condition.rs']")
    page.uncheck("input[value=offline_access]")
    page.click("[name=action][value=approve]")
    page.wait_for_selector("#record:not([hidden])")
    granted = page.text_content("#granted").split()
    assert "patient/Patient.rs" in granted
    assert not {"patient/Condition.rs", "offline_access"} & set(granted)
    assert page.is_hidden("#refresh")


def test_the_record_launches_the_app(server, page):
    url, passwords, folder = server
    page.goto(f"{url}/demo-app/")
    page.click("#launch")
    sign_in(page, "admin", passwords)
    page.wait_for_selector("[name=patient]")
    patient = page.locator("[name=patient]").first.get_attribute("value")
    done = subprocess.run(
        [*PRODUCT, "launch", "--client", "demo-app", "--patient", patient, "--data-dir", str(folder)],
        capture_output=True, text=True, check=True, env=CLEAN | {"FHIR_PUBLIC_URL": url},
    )  # fmt: skip
    page.goto(done.stdout.split()[-1])
    page.wait_for_selector("body[data-page=consent]")
    page.click("[name=action][value=approve]")
    page.wait_for_selector("#record:not([hidden])")
    assert page.text_content("#patient") == f"Patient/{patient}"
    page.goto(f"{url}/auth/apps")
    page.click("#revoke-demo-app [name=action]")
    page.wait_for_selector("#revoke-demo-app", state="detached")


def test_a_wrong_password_is_told(server, page):
    url, _, _ = server
    page.goto(f"{url}/auth/login")
    page.fill("[name=username]", "doctor")
    page.fill("[name=password]", "wrong")
    page.click("[name=action][value=login]")
    page.wait_for_selector("[role=alert][data-error=bad_credentials]")


def test_an_unknown_launch_of_an_app_is_told_by_the_app(server, page):
    url, _, _ = server
    page.goto(f"{url}/demo-app/launch?iss={url}/fhir&launch=guessed")
    page.wait_for_selector("#fault:not([hidden])")
    page.goto(f"{url}/demo-app/launch?iss=https://evil.example/fhir&launch=x")
    page.wait_for_selector("#fault:not([hidden])")
    assert "another server" in page.text_content("#fault")
