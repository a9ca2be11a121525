"""A person at a browser: reads the pages of the server, fills in their forms, and ends where the app wants the browser sent back to."""

import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

import httpx2
import pyotp

from tests.ehr.apps import query_of
from tests.smart_auth.browsing import Page

if TYPE_CHECKING:
    from tests.ehr.apps import App

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_TLS = ssl.create_default_context()
_AT_ONCE = httpx2.Limits(max_keepalive_connections=0)
"""Browsers come and go: each closes its connection with the answer."""


class Browser:
    """Follows redirects on the server, keeps cookies, shows pages. `totp` is the secret of the person's second factor."""

    def __init__(self, public: str, user: str, password: str, totp: str = "") -> None:
        self.public = public
        self.user = user
        self.password = password
        self.totp = totp
        self.http = httpx2.Client(timeout=60, verify=_TLS, limits=_AT_ONCE)
        self.at = public

    def open(self, url: str, form: list[tuple[str, str]] | None = None, **headers: str) -> Page:
        """A page, or the redirect that leaves the server."""
        self.at = urljoin(self.at, url)
        if form is None:
            answer = self.http.get(self.at, headers=headers)
        else:
            answer = self.http.post(self.at, content=urlencode(form), headers=FORM | headers)
        while answer.status_code == 303:
            target = urljoin(self.at, answer.headers["location"])
            if not target.startswith(f"{self.public}/"):
                break
            self.at = target
            answer = self.http.get(self.at)
        return Page(answer)

    def send(self, page: Page, **values: Any) -> Page:
        """The last form of the page, with other values."""
        return self.open(page.form["attrs"].get("action") or self.at, page.filled(**values))

    def asked(self, app: "App", method: str = "GET", **changed: str | None) -> Page:
        """The first page of an authorization request, or the redirect that ends it."""
        endpoint, parameters = app.ehr.discovery["authorization_endpoint"], app.parameters(**changed)
        if method == "POST":
            return self.open(endpoint, list(parameters.items()), Origin="https://app.example.org")
        return self.open(f"{endpoint}?{urlencode(parameters)}")

    def sign_in(self, page: Page | None = None) -> Page:
        """Through the login page and the second factor."""
        page = page or self.open(f"{self.public}/auth/login")
        if page.name == "login":
            page = self.send(page, username=self.user, password=self.password, action="login")
        if page.name == "otp":
            page = self.send(page, otp=pyotp.TOTP(self.totp).now(), action="verify")
        return page

    def to_consent(self, page: Page, patient: str = "a") -> Page:
        """From any page to the consent, or to what comes instead of it."""
        page = self.sign_in(page)
        if page.name == "patient":
            page = self.send(self.open(f"{self.at}&q={patient}"), patient=patient, action="select")
        return page

    def authorize(self, app: "App", choices: dict[str, Any] | None = None, **changed: str | None) -> dict[str, str]:
        """All pages; the parameters with which the app gets the browser back.

        `choices`: `patient`, `scope` (the boxes ticked, instead of those that are), `action`, `method`.
        """
        chosen = {"action": "approve", "method": "GET", "patient": "a"} | (choices or {})
        page = self.to_consent(self.asked(app, chosen["method"], **changed), chosen["patient"])
        if page.name == "consent":
            ticked = {"scope": [*_given(page), *chosen["scope"]]} if "scope" in chosen else {}
            page = self.send(page, action=chosen["action"], **ticked)
        return back(page, app.redirect)


def _given(page: Page) -> list[str]:
    """The scopes that are not ticked."""
    return [value for name, value in page.form["fields"] if name == "scope"]


def back(page: Page, redirect: str) -> dict[str, str]:
    """The parameters of the redirect to the app."""
    assert page.status == 303, page.answer.text
    location = page.answer.headers["location"]
    assert location.startswith(redirect), location
    return query_of(location)
