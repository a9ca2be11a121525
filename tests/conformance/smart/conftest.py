"""Launches that many rows look at, each made once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.ehr.apps import App
from tests.ehr.house import EHR_LAUNCH

ORIGIN = "https://app.example.org"


@dataclass(frozen=True)
class Launched:
    """A launch: the app, what came back in the redirect, the answer of the token endpoint."""

    app: App
    redirected: dict[str, str]
    answer: httpx2.Response

    @property
    def body(self) -> dict[str, Any]:
        assert self.answer.status_code == 200, self.answer.text
        return self.answer.json()

    @property
    def token(self) -> str:
        return self.body["access_token"]

    def refreshed(self, **form: str | None) -> httpx2.Response:
        """A refresh of a launch of its own, so that this one stays as it is."""
        return self.app.refresh(self.app.launched(self.app.ehr.browser())["refresh_token"], **form)


@pytest.fixture(scope="session")
def standalone(ehr) -> Callable[[str], Launched]:
    """A standalone launch of an app of a kind, by GET."""
    made: dict[str, Launched] = {}

    def launched(kind: str) -> Launched:
        if kind not in made:
            made[kind] = _launch(ehr.apps[kind], "GET")
        return made[kind]

    return launched


@pytest.fixture(scope="session")
def from_ehr(ehr) -> Callable[[str], Launched]:
    """A launch of an app of a kind from the EHR, by POST, with an encounter and the G10 scopes."""
    made: dict[str, Launched] = {}

    def launched(kind: str) -> Launched:
        if kind not in made:
            context = '{"reference": "DiagnosticReport/diagnosticreport-a"}'
            handle = ehr.launch(
                kind, "--patient", "a", "--encounter", "encounter-a", "--fhir-context", context, "--banner", "false"
            )
            made[kind] = _launch(ehr.apps[kind], "POST", launch=handle, scope=EHR_LAUNCH)
        return made[kind]

    return launched


def _launch(app: App, method: str, **changed: str) -> Launched:
    redirected = app.ehr.browser().authorize(app, {"method": method}, **changed)
    headers = {"Origin": ORIGIN} if app.kind == "public" else {}
    return Launched(app, redirected, app.exchange(redirected["code"], headers))
