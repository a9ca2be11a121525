"""What an authorization request may ask for: one check per function, raising the protocol's error.

Rules.
1. No parameter may be given twice. Unknown ones are ignored; `request`, `request_uri` and `registration` are refused by name, so that
   nothing is ever fetched for an authorization request.
2. PKCE with S256, always; only a confidential client registered with `legacy_no_pkce` may leave it out.
3. `aud` is the FHIR base, with or without a slash at its end; it may be left out where no FHIR or launch scope is asked for.
4. A scope that means nothing here, is for services, or goes beyond what the app is registered for is an error that names it.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#obtain-authorization-code,
https://www.rfc-editor.org/rfc/rfc7636, https://www.rfc-editor.org/rfc/rfc9700
"""

import re
from collections.abc import Callable, Mapping

from smart_auth.model import Client
from smart_auth.scopes import LAUNCH, WORDS, ScopeFault, is_derivable, parse

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_PROMPTS = frozenset({"none", "login", "consent", "select_account"})
_SECONDS = re.compile(r"\d{1,9}")
_PRINTABLE = re.compile(r"[^\x20\x21\x23-\x5B\x5D-\x7E]")
_LONGEST = 200


class Denied(Exception):  # noqa: N818  (goes back to the app as an error of RFC 6749)
    """`error` is a code of the protocol; `description` has only characters that may stand in one."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = described(description)


def described(text: str) -> str:
    """A text as it may stand in `error_description`: printable ASCII without quotes and backslashes, not too long."""
    return _PRINTABLE.sub("?", text)[:_LONGEST]


def check_scope(client: Client, scope: str, context: str) -> None:
    """Raise Denied for a scope that cannot be given. `context`: `user` (people, with patient/ and user/) or `system`."""
    if not scope.strip():
        raise Denied("invalid_scope", "no scope is asked for")
    try:
        scopes = parse(scope)
        beyond = [one for one in scope.split() if client.scope and not is_derivable(one, client.scope)]
    except ScopeFault as fault:
        raise Denied("invalid_scope", str(fault)) from None
    foreign = [one.text for one in scopes.resource if (one.context == "system") != (context == "system")]
    unknown = [one for one in scopes.words if one not in WORDS or context == "system"]
    for wrong, why in ((foreign, "not for this grant type"), (unknown, "not known"), (beyond, "not registered")):
        if wrong:
            raise Denied("invalid_scope", f"{wrong[0][:100]}: {why}")


def _no_object(_client: Client, values: Mapping[str, str], _base: str) -> None:
    for name in ("request", "request_uri", "registration"):
        if name in values:
            raise Denied(f"{name}_not_supported", f"{name} is not supported")


def _response(_client: Client, values: Mapping[str, str], _base: str) -> None:
    if "response_type" not in values:
        raise Denied("invalid_request", "response_type is missing")
    if values["response_type"] != "code":
        raise Denied("unsupported_response_type", "response_type is code")
    if values.get("response_mode", "query") != "query":
        raise Denied("invalid_request", "response_mode is query")


def _challenge(client: Client, values: Mapping[str, str], _base: str) -> None:
    challenge, method = values.get("code_challenge"), values.get("code_challenge_method")
    if challenge is None and method is None and client.legacy_no_pkce and client.kind != "public":
        return
    if challenge is None or method != "S256":
        raise Denied("invalid_request", "code_challenge with code_challenge_method=S256 is required")
    if not _CHALLENGE.fullmatch(challenge):
        raise Denied("invalid_request", "code_challenge is not 43 characters of base64url")


def _scope(client: Client, values: Mapping[str, str], _base: str) -> None:
    check_scope(client, values.get("scope", ""), "user")


def _audience(_client: Client, values: Mapping[str, str], base: str) -> None:
    scopes = parse(values["scope"])
    audience = values.get("aud")
    if audience is None and not scopes.resource and not LAUNCH.intersection(scopes.words):
        return
    if audience not in (base, f"{base}/"):
        raise Denied("invalid_request", f"aud is to be {base}")


def _prompt(_client: Client, values: Mapping[str, str], _base: str) -> None:
    prompt = set(values.get("prompt", "").split())
    if prompt - _PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise Denied("invalid_request", "prompt is none, or some of login, consent and select_account")
    if "max_age" in values and not _SECONDS.fullmatch(values["max_age"]):
        raise Denied("invalid_request", "max_age is a number of seconds")


CHECKS: tuple[Callable[[Client, Mapping[str, str], str], None], ...] = (
    _no_object,
    _response,
    _challenge,
    _scope,
    _audience,
    _prompt,
)
"""In this order; each is given the client, the parameters and the FHIR base."""
