"""Invitations: an initial access token (RFC 7591), made by the operator, with which a developer registers one app.

Rules. An invitation is kept under the hash of its token, holds for a time and once, and bounds the scope that the app may be registered for.

Specification: https://www.rfc-editor.org/rfc/rfc7591#section-3
"""

from dataclasses import dataclass
from typing import Final

from smart_auth.model import handle, hashed
from smart_auth.ports import AuthStore

_PREFIX: Final = "initial-access/"


@dataclass(frozen=True, slots=True)
class Invitation:
    """`scope` bounds what the app may ask for ("": anything); `expires` in seconds since 1970."""

    name: str
    scope: str
    expires: int


def invite(store: AuthStore, scope: str, expires: int) -> str:
    """A new initial access token."""
    token = handle()
    store.put_setting(_name(token), {"scope": scope, "expires": expires})
    return token


def invited(store: AuthStore, token: str, now: int) -> Invitation | None:
    """The invitation of a token, None when there is none that holds."""
    row = store.setting(_name(token))
    if row is None or row["expires"] <= now:
        return None
    return Invitation(_name(token), row["scope"], row["expires"])


def use(store: AuthStore, invitation: Invitation) -> bool:
    """Use it up; False when somebody else did."""
    if not store.use_once("initial-access", invitation.name, invitation.expires):
        return False
    store.put_setting(invitation.name, None)
    return True


def _name(token: str) -> str:
    return f"{_PREFIX}{hashed(token)}"
