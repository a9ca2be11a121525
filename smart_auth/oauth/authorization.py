"""The authorization request from its arrival to the redirect back: `begin` and `finish`, with the pages in between.

Rules.
1. As long as client and redirect URI are not known to belong together the answer is an error page (`Refused`) and never a redirect; from
   then on every fault goes back to the app, with `state` byte for byte and `iss` (RFC 9207). The checks are `requested.CHECKS`.
2. A launch handle is used up when the request begins; what it stands for stays with the request.
3. What is granted was ticked and is derivable from what was asked; the patient is the launch's, or one the person may choose. Both are
   decided here again, whatever the page has sent.
4. The functions are called in a worker thread of the event loop that serves the directory.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html, https://www.rfc-editor.org/rfc/rfc6749#section-4.1,
https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote, urlencode

import anyio.from_thread

from smart_auth.model import Client, Code, Grant, Launch, LaunchContext, Pending, User, handle
from smart_auth.oauth.hints import person_of
from smart_auth.oauth.parameters import Parameters
from smart_auth.oauth.requested import CHECKS, Denied
from smart_auth.parts import AuthParts
from smart_auth.redirects import matches
from smart_auth.scopes import chosen, parse

PENDING_SECONDS = 900
"""How long a person may take from the app to the consent."""
_KEPT = (
    "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "prompt", "max_age", "login_hint",
)  # fmt: skip
"""The parameters that are needed after the request was checked."""

Reason = Literal["invalid_client", "invalid_redirect_uri", "expired_tx"]


class Refused(Exception):  # noqa: N818  (rendered as the error page, status 400)
    """A request that cannot be answered by a redirect. `reason` is the page's `data-error`."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Asked:
    """What an authorization request under way asks for, as the pages need it.

    `scopes` as asked, in their order. `user`: who alone may approve ("" anybody); `session`: the hash of the session it is bound to.
    `needs_patient`: a patient must be chosen, for the launch brought none. `prompt` and `max_age` (seconds) are OpenID's.
    """

    tx: str
    client: Client
    scopes: tuple[str, ...]
    redirect_uri: str
    context: LaunchContext
    needs_patient: bool
    user: str = ""
    session: str = ""
    prompt: frozenset[str] = frozenset()
    max_age: int | None = None
    login_hint: str = ""


def begin(parts: AuthParts, parameters: Parameters) -> str:
    """Store the request; the URL to go to: the login page, or the app with an error. Raises Refused."""
    client, values = _known(parts, parameters)
    try:
        _check(parts, client, parameters)
        launch = _launch(parts, client, values)
    except Denied as denied:
        return _back_with_error(parts, values, denied)
    tx = handle()
    kept = {name: values[name] for name in _KEPT if name in values}
    context, until = launch.context, parts.now() + PENDING_SECONDS
    user = launch.user or person_of(parts, client, values.get("id_token_hint", ""))
    pending = Pending(kept, until, context=context, launch=context.patient, user=user)
    parts.store.put_pending(tx, pending)
    return f"{parts.public}/auth/login?tx={tx}"


def asked(parts: AuthParts, tx: str) -> Asked:
    """What the request under way asks for. Raises Refused when there is none."""
    return _under_way(parts, tx, parts.store.pending(tx))[1]


def finish(
    parts: AuthParts,
    tx: str,
    user: User,
    granted: Sequence[str],
    context: LaunchContext,
    *,
    approved: bool,
    auth_time: int,
) -> str:
    """End the request: the URL of the app with a code, or with an error. `granted` are the posted scopes. Raises Refused.

    Of `context` only the patient counts, and only where the launch brought none. `auth_time`: when the person signed in.
    """
    pending, wanted = _under_way(parts, tx, parts.store.use_pending(tx))
    try:
        patient = pending.context.patient or context.patient
        scope = _granted(user, wanted, granted if approved else ())
        _check_person(parts, user, pending, patient, scope)
    except Denied as denied:
        return _back_with_error(parts, pending.parameters, denied)
    grant = Grant(
        id=handle(),
        client=wanted.client.id,
        scope=scope,
        created=parts.now(),
        user=user.name,
        context=replace(pending.context, patient=patient),
        nonce=pending.parameters.get("nonce", ""),
        auth_time=auth_time,
    )
    code = _coded(parts, grant, pending.parameters)
    return _back(parts, pending.parameters, code=code)


def refuse(parts: AuthParts, tx: str, error: str, description: str) -> str:
    """End the request with an error of OpenID (`login_required`): the URL of the app. Raises Refused."""
    pending, _ = _under_way(parts, tx, parts.store.use_pending(tx))
    return _back_with_error(parts, pending.parameters, Denied(error, description))


def _check(parts: AuthParts, client: Client, parameters: Parameters) -> None:
    if parameters.repeated:
        raise Denied("invalid_request", "a parameter is given more than once")
    for check in CHECKS:
        check(client, parameters.values, parts.base)


def _known(parts: AuthParts, parameters: Parameters) -> tuple[Client, Mapping[str, str]]:
    """The client and the parameters, when the redirect URI is one of the client's."""
    values = parameters.values
    client = parts.store.client(values.get("client_id", ""))
    if client is None or client.disabled or client.kind == "backend":
        raise Refused("invalid_client", "No app is registered under the client_id of this request.")
    if not matches(client, values.get("redirect_uri", "")):
        raise Refused("invalid_redirect_uri", "The redirect_uri of this request is not registered for the app.")
    return client, values


def _launch(parts: AuthParts, client: Client, values: Mapping[str, str]) -> Launch:
    given = values.get("launch")
    launch = Launch(client.id, LaunchContext(), 0)
    if given is not None:
        found = parts.store.use_launch(given, client.id, parts.now())
        if found is None:
            raise Denied("invalid_request", "the launch is unknown, used, expired, or of another app")
        launch = found
    if parse(values["scope"]).has("launch/encounter") and not launch.context.encounter:
        raise Denied("invalid_scope", "launch/encounter: the launch has no encounter and none can be chosen")
    return launch


def _under_way(parts: AuthParts, tx: str, pending: Pending | None) -> tuple[Pending, Asked]:
    """The request and what it asks; the client and its redirect URI are looked at again."""
    if pending is None or pending.expires <= parts.now():
        raise Refused("expired_tx", "This sign-in has expired or was finished. Please start again from the app.")
    values = pending.parameters
    client, _ = _known(parts, Parameters(values, frozenset()))
    scopes = parse(values["scope"])
    needs = scopes.has("launch/patient") or any(one.context == "patient" for one in scopes.resource)
    return pending, Asked(
        tx,
        client,
        tuple(dict.fromkeys(values["scope"].split())),
        values["redirect_uri"],
        pending.context,
        needs and not pending.context.patient,
        pending.user,
        pending.session,
        frozenset(values.get("prompt", "").split()),
        int(values["max_age"]) if "max_age" in values else None,
        values.get("login_hint", ""),
    )


def _granted(user: User, wanted: Asked, posted: Sequence[str]) -> str:
    """What is granted of the posted scopes: first those that were asked for as they are, in that order."""
    ticked = [one for one in posted if user.fhir_user or one != "fhirUser"]
    ordered = [one for one in wanted.scopes if one in ticked] + ticked
    scope = chosen(ordered, " ".join(wanted.scopes))
    if not scope:
        raise Denied("access_denied", "the person did not approve")
    return scope


def _check_person(parts: AuthParts, user: User, pending: Pending, patient: str, scope: str) -> None:
    """Whether the person may give this for this patient: staff for whom the launch names; others, and without a launch, by the directory."""
    if user.disabled or (pending.user and pending.user.casefold() != user.name.casefold()):
        raise Denied("access_denied", "the launch is for somebody else")
    if not patient:
        granted = parse(scope)
        if granted.has("launch/patient") or any(one.context == "patient" for one in granted.resource):
            raise Denied("access_denied", "no patient was chosen")
        return
    is_staff = set(user.roles) - {"patient"} and not user.fhir_user.startswith(("Patient/", "RelatedPerson/"))
    if user.fhir_user == f"Patient/{patient}" or (is_staff and pending.launch == patient):
        return
    if patient not in {known for known, _ in anyio.from_thread.run(parts.directory.patients, user, patient)}:
        raise Denied("access_denied", "the patient cannot be opened by this person")


def _coded(parts: AuthParts, grant: Grant, values: Mapping[str, str]) -> str:
    code = handle()
    row = Code(
        grant.id,
        grant.client,
        values["redirect_uri"],
        values.get("code_challenge", ""),
        grant.created + parts.options.code_seconds,
    )
    parts.store.add_grant(grant)
    parts.store.add_code(code, row)
    return code


def _back_with_error(parts: AuthParts, values: Mapping[str, str], denied: Denied) -> str:
    return _back(parts, values, error=denied.error, error_description=denied.description)


def _back(parts: AuthParts, values: Mapping[str, str], **members: str) -> str:
    """The redirect URI with the members, `iss` and `state`; its own query is kept."""
    uri = values["redirect_uri"]
    query = urlencode({**members, "iss": parts.base}, quote_via=quote, safe="")
    state = f"&state={quote(values['state'].encode('latin-1'), safe='')}" if "state" in values else ""
    return f"{uri}{'&' if '?' in uri else '?'}{query}{state}"
