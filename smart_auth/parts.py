"""What the endpoints and pages of authorization are put together from; composed once per serving process."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope

from smart_auth.options import SmartOptions
from smart_auth.ports import AuthStore, Directory
from smart_auth.tokens import Tokens


def peer(scope: Scope) -> str:
    """The address a request comes from, as the connection says."""
    return scope["client"][0] if scope.get("client") else ""


@dataclass(frozen=True, slots=True)
class AuthParts:
    """`public`: how browsers reach the server, `base`: its FHIR base (also the issuer), both without a slash at the end.

    `now` gives seconds since 1970; `address` where a request comes from, behind trusted proxies too.
    """

    store: AuthStore
    tokens: Tokens
    options: SmartOptions
    directory: Directory
    public: str
    base: str
    now: Callable[[], int]
    address: Callable[[Scope], str] = peer
