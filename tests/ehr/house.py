"""A hospital that serves: `fhir-server serve` with access control, its records, users and clients made on the command line."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
from joserfc.jwk import ECKey, RSAKey
from typer.testing import CliRunner

from fhir_server.cli import app as product
from tests.ehr import records
from tests.ehr.apps import App
from tests.ehr.people import Browser
from tests.servers import CLEAN, PRODUCT, Server

BACK = "https://app.example.org/back?kept=1"
START = "https://app.example.org/start"
SECRET = "a:secret%of+the app"
PASSWORD = "seven green umbrellas"
EHR_LAUNCH = "launch openid fhirUser offline_access user/*.rs patient/*.rs"

HURRIED = {"FHIR_RATES__AUTH": "1000"}
"""The tests send in a minute what people send in an hour."""
PEOPLE = {
    "doctor": ("doctor", records.DOCTOR),
    "other": ("doctor", "Practitioner/other"),
    "ana": ("patient", "Patient/a"),
    "bo": ("patient", "Patient/b"),
    "nobody": ("admin", ""),
}
"""User -> role, fhirUser."""


@dataclass
class Ehr:
    """`public` is the public URL, `base` the FHIR base; `app` gives a client by name, `browser` a browser of a person."""

    server: Server
    keys: dict[str, Any] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return self.server.url

    @cached_property
    def public(self) -> str:
        """As the server calls itself: by name, not by address."""
        return self.discovery["authorization_endpoint"].removesuffix("/auth/authorize")

    @cached_property
    def discovery(self) -> dict[str, Any]:
        return httpx2.get(f"{self.server.url}/.well-known/smart-configuration").json()

    @cached_property
    def http(self) -> httpx2.Client:
        """A connection without cookies or credentials."""
        return httpx2.Client(timeout=60)

    def cli(self, *arguments: object, stdin: str = "", public_url: str = "") -> dict[str, Any]:
        """What a command that went well tells. It runs in this process, for the sake of speed."""
        command = [*map(str, arguments), "--json", "--data-dir", str(self.server.folder)]
        variables: dict[str, str | None] = {name: None for name in os.environ if name.startswith("FHIR_")}
        done = CliRunner().invoke(
            product, command, input=stdin, env=variables | {"FHIR_PUBLIC_URL": public_url or None}
        )
        assert done.exit_code == 0, (done.stderr, done.exception)
        return json.loads(done.stdout.splitlines()[-1])

    def user(self, name: str, *arguments: object) -> None:
        """Add a user with the password of the tests."""
        self.cli("user", "add", name, "--password-stdin", *arguments, stdin=f"{PASSWORD}\n")

    def app(self, name: str, kind: str, *arguments: object) -> App:
        """Add a client, or give the one of that name."""
        if name not in self.apps:
            self.apps[name] = self._added(name, kind, arguments)
        return self.apps[name]

    def _added(self, name: str, kind: str, arguments: tuple[object, ...]) -> App:
        command: list[object] = ["client", "add", "--id", name, "--name", f"App {name}", "--type", kind]
        if kind != "backend":
            command += ["--redirect", BACK, "--launch", START]
        if kind == "symmetric":
            command.append("--secret-stdin")
        key = None
        if kind in ("asymmetric", "backend"):
            key = ECKey.generate_key("P-384", {"kid": f"{name}-ec", "alg": "ES384", "use": "sig"}, private=True)
            rsa = RSAKey.generate_key(2048, {"kid": f"{name}-rsa", "alg": "RS384", "use": "sig"}, private=True)
            self.keys[name] = rsa
            path = self.server.folder.with_name(f"{name}.jwks.json")
            path.write_text(json.dumps({"keys": [one.as_dict(private=False) for one in (key, rsa)]}))
            if "--jwks-url" not in arguments:
                command += ["--jwks", path]
        self.cli(*command, *arguments, stdin=f"{SECRET}\n")
        return App(self, name, kind, BACK, SECRET if kind == "symmetric" else "", key)

    def browser(self, user: str = "doctor", password: str = PASSWORD) -> Browser:
        """A browser in the hands of a person."""
        return Browser(self.public, user, password)

    def launch(self, app: str, *arguments: object) -> str:
        """A launch handle."""
        return str(self.cli("launch", "--client", app, *arguments)["launch"])

    def token(self, scope: str, *arguments: object) -> str:
        """An access token made on the command line."""
        return str(self.cli("token", "--scope", scope, *arguments)["access_token"])

    def fhir(self, path: str, token: str | None, method: str = "GET", **options: Any) -> httpx2.Response:
        """A request to the FHIR API."""
        headers = {"Accept": "application/fhir+json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        headers |= options.pop("headers", {})
        return self.http.request(method, f"{self.base}/{path}", headers=headers, **options)


def furnished(folder: Path, workers: int = 1, arguments: Sequence[str] = ()) -> Ehr:
    """A hospital that serves, with records, users and a client of each kind."""
    folder.mkdir()
    path = folder.with_name(f"{folder.name}.ndjson")
    records.write(path)
    command = [*PRODUCT, "load", str(path), "--processes", "1", "--data-dir", str(folder)]
    subprocess.run(command, capture_output=True, env=CLEAN, timeout=60, check=True)
    ehr = Ehr(Server(folder, workers, HURRIED, arguments).start())
    for name, (role, who) in PEOPLE.items():
        ehr.user(name, "--role", role, "--organization", records.HOSPITAL, *(("--fhir-user", who) if who else ()))
    for kind in ("public", "symmetric", "asymmetric"):
        ehr.app(kind, kind)
    ehr.app("backend", "backend", "--scope", "system/*.rs", "--organization", records.HOSPITAL)
    return ehr
