"""What authorization asks of the outside: a store of its own things, a clock, a look into the FHIR store.

Rules. Verbs are synchronous and short (Authlib is synchronous): the adapters of HTTP call them in a worker thread, token checks read a
cache. Every change that must be visible to other processes raises `epoch`, which they look at at least once a second. A verb that uses
something up (`use_*`, `rotate`) is atomic over all processes: of fifty that try, one succeeds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from smart_auth.model import (
    Client,
    Code,
    Grant,
    Identified,
    Key,
    Launch,
    Pending,
    Principal,
    RefreshToken,
    Session,
    User,
)


class AuthStore(Protocol):
    """Users, clients, grants and what hangs on them. Handles are given as they are and stored hashed."""

    def epoch(self) -> int:
        """Grows with each revocation, disabling, key change and change of a user or client."""

    # users and clients
    def user(self, name: str) -> User | None:
        """A user by name (compared without case)."""

    def users(self) -> Sequence[User]:
        """All users by name."""

    def put_user(self, user: User) -> None:
        """Add or replace."""

    def change_user(self, name: str, change: Callable[[User], User]) -> User | None:
        """Replace a user by what `change` makes of it, atomically; the user as it is now, None when there is none."""

    def client(self, name: str) -> Client | None:
        """A client by id."""

    def clients(self) -> Sequence[Client]:
        """All clients by id."""

    def put_client(self, client: Client) -> None:
        """Add or replace."""

    # grants and tokens
    def add_grant(self, grant: Grant) -> None:
        """Keep a grant."""

    def grant(self, name: str) -> Grant | None:
        """A grant by id, revoked or not."""

    def grants(self, user: str, client: str | None = None) -> Sequence[Grant]:
        """The grants of a user that are not revoked."""

    def revoke(self, grants: Sequence[str]) -> int:
        """Revoke grants; how many were not yet."""

    def add_code(self, code: str, row: Code) -> None:
        """Keep an authorization code."""

    def use_code(self, code: str) -> Code | None:
        """Mark the code used; the row as it was before (`used` True: it was used already), None when unknown."""

    def add_refresh(self, token: str, row: RefreshToken) -> None:
        """Keep a refresh token."""

    def refresh(self, token: str) -> RefreshToken | None:
        """A refresh token."""

    def rotate(self, token: str, successor: str, row: RefreshToken, now: int) -> bool:
        """Replace `token` by `successor` with `row`, unless it was replaced already (False)."""

    def use_once(self, kind: str, key: str, until: int) -> bool:
        """Note that (kind, key) was used, until then; False when it was already. For the jti of assertions and TOTP steps."""

    # launches, sessions, requests under way
    def add_launch(self, handle: str, row: Launch) -> None:
        """Keep a launch."""

    def use_launch(self, handle: str, client: str, now: int) -> Launch | None:
        """Take a launch of that client that is not expired; it is gone then."""

    def put_session(self, cookie: str, row: Session) -> None:
        """Add or replace a session."""

    def session(self, cookie: str) -> Session | None:
        """A session."""

    def sessions(self, user: str) -> Sequence[tuple[str, Session]]:
        """The sessions of a user, each with the hash that names it."""

    def end_sessions(self, hashes: Sequence[str]) -> None:
        """End sessions by their hashes."""

    def put_pending(self, tx: str, row: Pending) -> None:
        """Add or replace an authorization request under way."""

    def pending(self, tx: str) -> Pending | None:
        """An authorization request under way."""

    def use_pending(self, tx: str) -> Pending | None:
        """Take it; it is gone then."""

    # keys, failures, roles
    def keys(self) -> Sequence[Key]:
        """All keys, newest first."""

    def put_key(self, key: Key) -> None:
        """Add or replace."""

    def failures(self, subject: str) -> tuple[int, int]:
        """Failed attempts in a row of a subject (`user:jane`), and when the last was."""

    def note_attempt(self, subject: str, now: int, *, failed: bool) -> None:
        """Count a failed attempt; a success sets the count to 0."""

    def setting(self, name: str) -> Any:
        """A small JSON value kept for authorization (edited roles, break-glass grants, initial access tokens), None when there is none."""

    def put_setting(self, name: str, value: Any) -> None:
        """Keep such a value; None removes it."""

    def settings(self, prefix: str) -> Mapping[str, Any]:
        """The values whose names begin so."""

    def sweep(self, now: int) -> None:
        """Drop what has expired."""


class Directory(Protocol):
    """What authorization needs to know of the FHIR store. Asynchronous: it is asked by the pages, never by token checks."""

    async def exists(self, reference: str, asker: Principal | None) -> bool:
        """Whether a relative reference names a live resource of the asker's organization; None: of any."""

    async def patients(self, user: User, search: str) -> Sequence[tuple[str, str]]:
        """Patients (id, what to show) that the user may choose: those whose id or name `search` begins, at most 20."""

    async def identify(self, mrn: str, name: str, birth_date: str, asker: Principal | None) -> Sequence[Identified]:
        """The patients with exactly this medical record number or, when it is "", with this name and birth date; at most 20.

        Those of the asker's organization; None: of any.
        """
