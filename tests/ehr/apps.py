"""An app of each kind, as a client of its own: it proves itself, asks for authorization, trades codes, refreshes."""

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import httpx2
from joserfc import jws

if TYPE_CHECKING:
    from tests.ehr.house import Ehr
    from tests.ehr.people import Browser

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
STANDALONE = "launch/patient openid fhirUser offline_access patient/*.rs"
VERIFIER = "verifier-of-the-tests_0123456789-0123456789-~."


@dataclass
class App:
    """A registered client. `key` is its private key, `secret` its secret."""

    ehr: "Ehr"
    id: str
    kind: str
    redirect: str
    secret: str = ""
    key: Any = None

    def parameters(self, **changed: str | None) -> dict[str, str]:
        """Those of an authorization request; None leaves one out."""
        usual: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": self.redirect,
            "scope": STANDALONE,
            "state": "3f2c1a00-0000-4000-8000-00805f9b34fb",
            "aud": self.ehr.discovery["issuer"],
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def assertion(self, header: dict | None = None, key: Any = None, **claims: Any) -> str:
        """A client assertion; None leaves a claim or member out."""
        key = key or self.key
        head = {"alg": "ES384" if key.key_type == "EC" else "RS384", "kid": key.kid, "typ": "JWT"} | (header or {})
        usual = {
            "iss": self.id, "sub": self.id, "aud": self.ehr.discovery["token_endpoint"], "exp": int(time.time()) + 300,
            "jti": secrets.token_urlsafe(16),
        }  # fmt: skip
        said = {name: value for name, value in (usual | claims).items() if value is not None}
        head = {name: value for name, value in head.items() if value is not None}
        return jws.serialize_compact(
            head, json.dumps(said), key, algorithms=["ES384", "RS384", "RS256", "ES256", "HS256"]
        )

    def proof(self) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form members by which it proves who it is."""
        if self.kind == "public":
            return {}, {"client_id": self.id}
        if self.kind == "symmetric":
            return basic(self.id, self.secret), {}
        return {}, {"client_assertion_type": ASSERTION, "client_assertion": self.assertion()}

    def post(self, endpoint: str, headers: dict | None = None, **form: str | None) -> httpx2.Response:
        """A form to an endpoint named as in discovery; its own proof unless the form has another."""
        own, members = self.proof()
        given = {name: value for name, value in (members | form).items() if value is not None}
        return self.ehr.http.post(self.ehr.discovery[endpoint], data=given, headers=own | (headers or {}))

    def token(self, headers: dict | None = None, **form: str | None) -> httpx2.Response:
        """A request to the token endpoint."""
        return self.post("token_endpoint", headers, **form)

    def exchange(self, code: str, headers: dict | None = None, **changed: str | None) -> httpx2.Response:
        """Trade a code."""
        usual = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": VERIFIER,
        }
        return self.token(headers, **(usual | changed))

    def refresh(self, token: str, headers: dict | None = None, **form: str | None) -> httpx2.Response:
        """Use a refresh token."""
        return self.token(headers, grant_type="refresh_token", refresh_token=token, **form)

    def service(self, scope: str = "system/*.rs", **changed: str | None) -> httpx2.Response:
        """A token for the service itself."""
        return self.token(None, **({"grant_type": "client_credentials", "scope": scope} | changed))

    def code(self, browser: "Browser", choices: dict | None = None, **changed: str | None) -> str:
        """A code that the person of the browser gave."""
        found = browser.authorize(self, choices, **changed)
        assert "code" in found, found
        return found["code"]

    def launched(self, browser: "Browser", choices: dict | None = None, **changed: str | None) -> dict[str, Any]:
        """The token response of a whole launch."""
        answer = self.exchange(self.code(browser, choices, **changed))
        assert answer.status_code == 200, answer.text
        return answer.json()


def basic(name: str, secret: str) -> dict[str, str]:
    """HTTP Basic as RFC 6749 has it: both parts form-encoded."""
    text = f"{quote_plus(name)}:{quote_plus(secret)}"
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier."""
    return segment(hashlib.sha256(verifier.encode()).digest())


def query_of(url: str) -> dict[str, str]:
    """The parameters of a URL, each of which it has once."""
    found = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in found.values()), url
    return {name: values[0] for name, values in found.items()}


def segment(value: object) -> str:
    """A part of a JWT."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def opened(jwt: str, part: int = 1) -> dict[str, Any]:
    """The claims of a JWT (0: its header), unchecked."""
    text = jwt.split(".")[part]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
