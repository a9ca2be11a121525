"""What the endpoints and pages of authorization are put together from; composed once per serving process."""

from collections.abc import Callable
from dataclasses import dataclass

from smart_auth.options import SmartOptions
from smart_auth.ports import AuthStore, Directory
from smart_auth.tokens import Tokens


@dataclass(frozen=True, slots=True)
class AuthParts:
    """`public`: how browsers reach the server, `base`: its FHIR base (also the issuer), both without a slash at the end.

    `now` gives seconds since 1970.
    """

    store: AuthStore
    tokens: Tokens
    options: SmartOptions
    directory: Directory
    public: str
    base: str
    now: Callable[[], int]
