"""`fhir-server launch` and `token`: an app launched from outside, and an access token by the operator's own authority."""

import asyncio
import json
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from fhir_server.commands import AsJson, DataDir, refuse
from fhir_server.commands.desk import Desk, checked_id, desk, misused
from resources.model import instant
from smart_auth import keys
from smart_auth.model import Client, Grant, Launch, LaunchContext, Principal, User, handle
from smart_auth.scopes import WORDS, ScopeFault, Scopes, parse
from smart_auth.tokens import Tokens

_LONGEST_LAUNCH = 86400
_CONTEXT_MEMBERS = ("reference", "canonical", "identifier")


class Truth(Enum):
    """A truth that may also be left unsaid."""

    YES = "true"
    NO = "false"


def launch(
    client_id: Annotated[str, typer.Option("--client", help="The app.")],
    patient: Annotated[str, typer.Option(help="Id of the patient.")],
    encounter: Annotated[str, typer.Option(help="Id of the encounter.")] = "",
    user_name: Annotated[str, typer.Option("--user", help="Who alone may follow the link.")] = "",
    intent: Annotated[str, typer.Option(help="What is to be done (SMART `intent`).")] = "",
    fhir_context: Annotated[list[str] | None, typer.Option(help="A `fhirContext` object; more by repeating.")] = None,
    banner: Annotated[Truth | None, typer.Option(help="Whether the app has to show the patient's banner.")] = None,
    ttl: Annotated[int, typer.Option(min=1, max=_LONGEST_LAUNCH, help="Seconds for which it may be followed.")] = 300,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Prepare a launch of an app, to be followed once; the last line is its URL."""
    if not intent.isprintable():
        misused("--intent: has characters that cannot be shown")
    context = LaunchContext(
        patient=checked_id(patient, "a patient"),
        encounter=checked_id(encounter, "an encounter") if encounter else "",
        intent=intent,
        fhir_context=tuple(_fhir_context(text) for text in fhir_context or ()),
        banner=None if banner is None else banner is Truth.YES,
    )
    with desk(data_dir, as_json=as_json, does="launch", about=client_id, keys=(f"Patient/{patient}",)) as here:
        client = here.live_client(client_id)
        if not client.launch_uri:
            refuse(f"the client {client_id} has no launch URI (client add --launch)", 1)
        named = here.user(user_name).name if user_name else ""
        asyncio.run(here.require(f"Patient/{patient}"))
        if encounter:
            asyncio.run(here.require(f"Encounter/{encounter}"))
        opener, expires = handle(), here.now + ttl
        here.store.add_launch(opener, Launch(client_id, context, expires, named))
        query = urlencode({"iss": here.settings.base, "launch": opener}, quote_via=quote, safe="")
        url = f"{client.launch_uri}{'&' if '?' in client.launch_uri else '?'}{query}"
        told = {"url": url, "launch": opener, "iss": here.settings.base, "expiresAt": instant(expires * 1_000_000)}
        here.answer(told, url)


def token(
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces.")],
    patient: Annotated[str, typer.Option(help="Id of the patient in context.")] = "",
    encounter: Annotated[str, typer.Option(help="Id of the encounter in context.")] = "",
    user_name: Annotated[str, typer.Option("--user", help="For whom; the operator unless given.")] = "",
    client_id: Annotated[str, typer.Option("--client", help="In whose name.")] = "",
    ttl: Annotated[int | None, typer.Option(min=1, max=keys.LONGEST, help="Seconds it lives.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make an access token; the last line is the token. Without --user no role binds it: it may all that its scopes say."""
    scopes = _meant(_scopes(scope))
    with desk(data_dir, as_json=as_json, does="token", about=user_name or client_id, makes=True) as here:
        user = _live_user(here, user_name) if user_name else None
        client = here.live_client(client_id) if client_id else None
        if not patient and user is not None and user.fhir_user.startswith("Patient/"):
            patient = user.fhir_user.removeprefix("Patient/")
        if not patient and any(one.context == "patient" for one in scopes.resource):
            misused("a patient/ scope needs a --patient")
        context = LaunchContext(
            patient=checked_id(patient, "a patient") if patient else "",
            encounter=checked_id(encounter, "an encounter") if encounter else "",
        )
        for name, kind in ((patient, "Patient"), (encounter, "Encounter")):
            if name:
                asyncio.run(here.require(f"{kind}/{name}"))
        grant = Grant(
            handle(),
            client_id,
            scope,
            here.now,
            user=user.name if user else "",
            context=context,
            auth_time=here.now if user else 0,
        )
        keys.ensure(here.store, here.now)  # the server may not have been started with access control yet
        here.store.add_grant(grant)
        usual = client.access_seconds if client and client.access_seconds else here.settings.smart.access_seconds
        answer = _response(here, grant, user, client, ttl or usual, scopes)
        here.answer(answer, answer["access_token"])


def _response(
    here: Desk, grant: Grant, user: User | None, client: Client | None, seconds: int, scopes: Scopes
) -> dict[str, Any]:
    """The token response, as the token endpoint gives it."""
    base = here.settings.base
    tokens = Tokens(here.store, base, base, here.settings.smart, lambda: here.now)
    principal = Principal(
        id=grant.id,
        client=grant.client,
        scope=grant.scope,
        user=grant.user,
        patient=grant.context.patient,
        encounter=grant.context.encounter,
        grant=grant.id,
        operator=user is None,
    )
    answer: dict[str, Any] = {
        "access_token": tokens.access(principal, seconds),
        "token_type": "Bearer",
        "expires_in": seconds,
        "scope": grant.scope,
    }
    if grant.context.patient:
        answer |= {"patient": grant.context.patient, "need_patient_banner": True}
    if grant.context.encounter:
        answer["encounter"] = grant.context.encounter
    if user is not None and client is not None:
        if scopes.has("openid"):
            told = f"{here.settings.base}/{user.fhir_user}" if user.fhir_user and scopes.has("fhirUser") else ""
            answer["id_token"] = tokens.identity(grant, client, user, told)
        answer |= _refresh(here, grant)
    return answer


def _refresh(here: Desk, grant: Grant) -> dict[str, str]:
    """A refresh token, when the scopes ask for one."""
    from smart_auth.oauth.issuing import refresh_row  # noqa: PLC0415  (rule 3 of the command line)

    row = refresh_row(here.settings.smart, grant, here.now)
    if row is None:
        return {}
    opener = handle()
    here.store.add_refresh(opener, row)
    return {"refresh_token": opener}


def _live_user(here: Desk, name: str) -> User:
    user = here.user(name)
    return refuse(f"the user {name} is disabled", 1) if user.disabled else user


def _scopes(text: str) -> Scopes:
    try:
        scopes = parse(text)
    except ScopeFault as fault:
        misused(f"--scope: {fault}")
    return scopes if text.strip() else misused("--scope: no scope is given")


def _meant(scopes: Scopes) -> Scopes:
    """The scopes; exit code 2 for one that means nothing here: whoever asks for a token by hand has mistyped it."""
    from resources.definitions import load  # noqa: PLC0415  (rule 3 of the command line)

    known = load().resource_types
    for word in scopes.words:
        if word not in WORDS:
            misused(f"--scope: {word} means nothing here")
    for one in scopes.resource:
        if one.type != "*" and one.type not in known:
            misused(f"--scope: {one.text}: {one.type} is no resource type")
    return scopes


def _fhir_context(text: str) -> Mapping[str, Any]:
    """One object of `fhirContext`: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#fhircontext-exp."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # among them half a surrogate pair
        misused(f"--fhir-context {text}: is no JSON")
    if not isinstance(found, dict) or not any(name in found for name in _CONTEXT_MEMBERS):
        misused(f"--fhir-context {text}: is no object with one of {', '.join(_CONTEXT_MEMBERS)}")
    reference = found.get("reference", "")
    if not isinstance(reference, str):
        misused(f"--fhir-context {text}: its reference is no text")
    if reference.startswith(("Patient/", "Encounter/")) and found.get("role", "launch") == "launch":
        misused(f"--fhir-context {text}: patient and encounter of the launch have options of their own")
    return found
