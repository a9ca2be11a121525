"""Apps and services for the tests of the OAuth endpoints: they talk HTTP, and the person approves through `finish` instead of the pages."""

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache
from urllib.parse import parse_qs, urlsplit

import httpx2
from anyio import to_thread
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from starlette.applications import Starlette

from smart_auth import keys
from smart_auth.model import Client, Launch, LaunchContext, User, handle, hashed
from smart_auth.oauth.authorization import asked, finish
from smart_auth.oauth.endpoints import routes
from smart_auth.options import SmartOptions
from smart_auth.parts import AuthParts
from smart_auth.tokens import TokenFault, Tokens
from tests.smart_auth.browsing import Clock, Patients

PUBLIC = "http://localhost:8000"
BASE = f"{PUBLIC}/fhir"
BACK = "https://app.example.org/back"
TOKEN = f"{PUBLIC}/auth/token"
SCOPE = "launch/patient openid fhirUser offline_access patient/*.rs"
VERIFIER = "v" * 43
SECRET = "correct-horse_battery"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

DOCTOR = User("jane", ("doctor",), fhir_user="Practitioner/d1")
PATIENT = User("ana", ("patient",), fhir_user="Patient/p1")


@cache
def ec_key() -> ECKey:
    return ECKey.generate_key("P-384", {"kid": "ec-1", "alg": "ES384", "use": "sig"}, private=True)


@cache
def rsa_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "rsa-1", "alg": "RS384", "use": "sig"}, private=True)


@cache
def signing_keys():
    return tuple(keys.generate(use, 1_700_000_000) for use in keys.USES)


def jwks(*held) -> dict:
    return {"keys": [one.as_dict(private=False) for one in held]}


def challenge(verifier: str = VERIFIER) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"}


def segment(value) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def opened(jwt: str) -> dict:
    """The claims of a JWT, unchecked."""
    part = jwt.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}


@dataclass
class World:
    """An authorization server and what its tests do with it."""

    store: object
    clock: Clock = field(default_factory=Clock)
    public: str = PUBLIC
    options: SmartOptions = field(default_factory=SmartOptions)

    def __post_init__(self):
        base = f"{self.public}/fhir"
        for key in signing_keys():
            self.store.put_key(key)
        tokens = Tokens(self.store, base, base, self.options, self.clock)
        self.directory = Patients()
        self.parts = AuthParts(self.store, tokens, self.options, self.directory, self.public, base, self.clock)
        self.audited = []
        application = Starlette(routes=routes(self.parts))

        async def watched(scope, receive, send):
            await application(scope, receive, send)
            self.audited.append(scope.get("audit"))

        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=watched), base_url=self.public)
        for user in (DOCTOR, PATIENT):
            self.store.put_user(user)
        self.client("app", "public")
        self.client("secret-app", "symmetric", secret=hashed(SECRET))
        self.client("key-app", "asymmetric", jwks=jwks(ec_key(), rsa_key()))
        self.client("service", "backend", redirect_uris=(), jwks=jwks(ec_key(), rsa_key()), scope="system/*.rs")

    def client(self, name, kind, **fields) -> Client:
        made = Client(**{"id": name, "name": name.title(), "kind": kind, "redirect_uris": (BACK,)} | fields)
        self.store.put_client(made)
        return made

    def change_client(self, name, **fields):
        self.store.put_client(replace(self.store.client(name), **fields))

    def change_user(self, name, **fields):
        self.store.put_user(replace(self.store.user(name), **fields))

    def wanted(self, **changed) -> dict[str, str]:
        """The parameters of an authorization request; None leaves one out."""
        usual = {
            "response_type": "code", "client_id": "app", "redirect_uri": BACK, "scope": SCOPE, "state": "s 1",
            "aud": f"{self.public}/fhir", "code_challenge": challenge(), "code_challenge_method": "S256",
        }  # fmt: skip
        return {name: value for name, value in (usual | changed).items() if value is not None}

    async def authorize(self, **changed) -> httpx2.Response:
        return await self.http.get("/auth/authorize", params=self.wanted(**changed))

    async def begun(self, **changed) -> str:
        """The tx of a request that went well."""
        answer = await self.authorize(**changed)
        assert answer.status_code == 303, answer.text
        url = answer.headers["location"]
        assert url.startswith(f"{self.public}/auth/login?tx="), url
        return query_of(url)["tx"]

    async def decide(self, tx, user=DOCTOR, *, granted=None, patient="p1", approved=True) -> str:
        """The person decides; the URL they are sent to. `granted` None: all that was asked."""

        def answer():
            wanted = asked(self.parts, tx)
            context = replace(wanted.context, patient=wanted.context.patient or patient)
            scopes = wanted.scopes if granted is None else granted.split()
            return finish(self.parts, tx, user, scopes, context, approved=approved, auth_time=self.clock() - 10)

        return await to_thread.run_sync(answer)

    async def approved(self, user=DOCTOR, *, granted=None, patient="p1", **changed) -> str:
        """The URL of the app after the person approved."""
        return await self.decide(await self.begun(**changed), user, granted=granted, patient=patient)

    async def code(self, user=DOCTOR, **changed) -> str:
        return query_of(await self.approved(user, **changed))["code"]

    async def token(self, headers=None, **form) -> httpx2.Response:
        form = {name: value for name, value in form.items() if value is not None}
        return await self.http.post("/auth/token", data=form, headers=headers or {})

    async def exchange(self, given, headers=None, **changed) -> httpx2.Response:
        usual = {
            "grant_type": "authorization_code", "code": given, "redirect_uri": BACK, "client_id": "app",
            "code_verifier": VERIFIER,
        }  # fmt: skip
        return await self.token(headers, **(usual | changed))

    async def tokens(self, user=DOCTOR, **changed) -> dict:
        """The token response of a launch of the public app."""
        answer = await self.exchange(await self.code(user, **changed))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refresh(self, token, headers=None, **form) -> httpx2.Response:
        return await self.token(headers, grant_type="refresh_token", refresh_token=token, **form)

    def assertion(self, name="service", key=None, header=None, **claims) -> str:
        key = key or ec_key()
        algorithm = "ES384" if isinstance(key, ECKey) else "RS384"
        head = {"alg": algorithm, "kid": key.kid, "typ": "JWT"} | (header or {})
        usual = {
            "iss": name,
            "sub": name,
            "aud": f"{self.public}/auth/token",
            "exp": self.clock() + 300,
            "jti": handle(),
        }
        said = {name: value for name, value in (usual | claims).items() if value is not None}
        head = {name: value for name, value in head.items() if value is not None}
        return jws.serialize_compact(head, json.dumps(said), key, algorithms=["ES384", "RS384", "RS256", "ES256"])

    def proof(self, assertion) -> dict[str, str]:
        return {"client_assertion_type": ASSERTION, "client_assertion": assertion}

    async def service(self, assertion=None, **form) -> httpx2.Response:
        usual = {"grant_type": "client_credentials", "scope": "system/*.rs"}
        return await self.token(**(usual | self.proof(assertion or self.assertion()) | form))

    def launched(self, client="app", user="", seconds=300, **context) -> str:
        """A launch handle."""
        name = handle()
        self.store.add_launch(name, Launch(client, LaunchContext(**context), self.clock() + seconds, user))
        return name

    def is_good(self, access: str) -> bool:
        """Whether the access token is taken, a second from now, in this process."""
        self.clock.now += 1
        try:
            self.parts.tokens.verify(access)
        except TokenFault:
            return False
        return True
