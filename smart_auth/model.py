"""The things that authorization is about, as frozen values: people, apps, launches, grants, tokens, sessions.

Rules.
1. Times are whole seconds since 1970. Handles that open something (codes, refresh tokens, launches, sessions, secrets) are 256 random
   bits in [A-Za-z0-9_-]; what is stored and compared is their SHA-256 (`hashed`), so that a copy of the store opens nothing.
2. A `Grant` is what a person (or a client on its own) has allowed: codes, refresh tokens and access tokens name it, and revoking it ends
   them all.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html, https://www.rfc-editor.org/rfc/rfc6749
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ClientKind = Literal["public", "symmetric", "asymmetric", "backend"]


def handle() -> str:
    """A new secret handle, 43 characters."""
    return secrets.token_urlsafe(32)


def hashed(text: str) -> str:
    """What is stored of a handle: its SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class User:
    """A person who can sign in. `fhir_user` is relative (`Practitioner/1`); `organization` too. `recovery` holds hashed codes.

    `password` is an argon2id hash, "" for none; `totp` the base32 secret of the second factor, "" for none.
    """

    name: str
    roles: tuple[str, ...]
    password: str = ""
    totp: str = ""
    recovery: tuple[str, ...] = ()
    fhir_user: str = ""
    organization: str = ""
    must_change: bool = False
    disabled: bool = False
    created: int = 0


@dataclass(frozen=True, slots=True)
class Client:
    """An app. `scope` bounds what it may ask for ("": anything); `secret` is hashed; `jwks` its public keys or `jwks_url` where they are.

    `role` and `organization` are those of its own work (backend services). `access_seconds` 0: the server's default.
    """

    id: str
    name: str
    kind: ClientKind
    secret: str = ""
    redirect_uris: tuple[str, ...] = ()
    launch_uri: str = ""
    scope: str = ""
    jwks: Mapping[str, Any] = field(default_factory=dict)
    jwks_url: str = ""
    organization: str = ""
    role: str = ""
    trusted: bool = False
    introspect: bool = False
    legacy_no_pkce: bool = False
    access_seconds: int = 0
    disabled: bool = False
    created: int = 0


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What an app is told about where it runs. `patient` and `encounter` are ids; `fhir_context` objects of SMART 2.2."""

    patient: str = ""
    encounter: str = ""
    intent: str = ""
    fhir_context: tuple[Mapping[str, Any], ...] = ()
    banner: bool | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch that was prepared for one client (and one user, when named), used once."""

    client: str
    context: LaunchContext
    expires: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What was allowed. `user` "" for a client on its own; `scope` as granted, byte for byte; `auth_time` when the person signed in."""

    id: str
    client: str
    scope: str
    created: int
    user: str = ""
    context: LaunchContext = LaunchContext()
    nonce: str = ""
    auth_time: int = 0
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code, stored under its hash; used once within 60 s. `challenge` is S256, "" for a legacy client."""

    grant: str
    client: str
    redirect_uri: str
    challenge: str
    expires: int
    used: bool = False


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token, stored under its hash. `successor`: the handle that replaced it at `rotated` (kept for 60 s, then "")."""

    grant: str
    client: str
    expires: int
    rotated: int = 0
    successor: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser, stored under the hash of its cookie. `device` is shown to its owner; `csrf` binds its forms."""

    user: str
    created: int
    seen: int
    device: str
    csrf: str
    auth_time: int
    pending: str = ""
    """What is still missing: `otp`, `change`, or ""."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An authorization request on its way through the pages, stored under the hash of its `tx`; bound to the first session it meets.

    `launch`: the patient for whom the launch vouches; `user`: who alone may approve, when the launch or a hint named somebody.
    """

    parameters: Mapping[str, str]
    expires: int
    session: str = ""
    context: LaunchContext = LaunchContext()
    launch: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key pair as a private JWK. `use`: `access` (ES256, access tokens) or `id` (RS256, id_tokens).

    `retired`: verifies only; `disabled`: not even that.
    """

    kid: str
    use: Literal["access", "id"]
    jwk: Mapping[str, Any]
    created: int
    retired: bool = False
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, as an access token says: the input of every decision about access.

    `id` binds cursors: it differs for every grant and user. `level` is `operator` for tokens made on the command line without a user.
    `fhir_user` relative; `patient` and `encounter` ids of the launch; `scope` as granted. `organization` is whose data it works with.
    """

    id: str
    client: str
    scope: str
    user: str = ""
    roles: tuple[str, ...] = ()
    fhir_user: str = ""
    organization: str = ""
    patient: str = ""
    encounter: str = ""
    grant: str = ""
    expires: int = 0
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Identified:
    """A patient as told to who may not yet see the record: `birth_date` as YYYY-MM-DD, `mrn` the medical record number; "" where unknown."""

    id: str
    name: str
    birth_date: str
    mrn: str
