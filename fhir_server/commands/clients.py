"""`fhir-server client add | invite | list | disable | enable | rotate`: apps and services that may ask for tokens."""

import asyncio
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from fhir_server.commands import AsJson, DataDir, refuse
from fhir_server.commands.desk import Desk, desk, from_stdin, misused, warn
from fhir_server.commands.users import require_role
from resources.model import instant
from smart_auth import invitations, keys, redirects
from smart_auth.model import Client, handle, hashed
from smart_auth.scopes import ScopeFault, parse

clients = typer.Typer(help="Apps and services that may ask for tokens.", no_args_is_help=True)

ClientId = Annotated[str, typer.Argument(metavar="ID", help="Client id.")]

_ID = re.compile(r"[\x21-\x7E]{1,200}")
_SHORT = 32
_LONGEST_NAME = 200


class Kind(Enum):
    """How a client proves itself."""

    PUBLIC = "public"
    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"
    BACKEND = "backend"


@clients.command("add")
def add(
    name: Annotated[str, typer.Option(help="What people are shown.")],
    kind: Annotated[Kind, typer.Option("--type", help="How it proves itself.")],
    client_id: Annotated[str, typer.Option("--id", help="Its client_id; made up unless given.")] = "",
    redirect: Annotated[list[str] | None, typer.Option(help="A redirect URI; more by repeating.")] = None,
    launch: Annotated[str, typer.Option(help="Where it is launched from an EHR.")] = "",
    scope: Annotated[str, typer.Option(help="What it may ask for; anything unless given.")] = "",
    jwks: Annotated[Path | None, typer.Option(help="File with its public keys.")] = None,
    jwks_url: Annotated[str, typer.Option(help="Where its public keys are.")] = "",
    secret_stdin: Annotated[bool, typer.Option("--secret-stdin", help="Read its secret from stdin.")] = False,
    introspect: Annotated[bool, typer.Option("--introspect", help="It may introspect tokens of others.")] = False,
    trusted: Annotated[bool, typer.Option("--trusted", help="People are not asked for consent.")] = False,
    organization: Annotated[str, typer.Option(help="Organization/ID whose data a service works with.")] = "",
    role: Annotated[str, typer.Option(help="Role of a service.")] = "",
    access_ttl: Annotated[
        int | None, typer.Option(min=1, max=keys.LONGEST, help="Seconds its access tokens live.")
    ] = None,
    legacy_no_pkce: Annotated[bool, typer.Option("--legacy-no-pkce", help="It cannot do PKCE (confidential).")] = False,
    replace_it: Annotated[bool, typer.Option("--replace", help="Replace the client of this id.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Register an app or a service."""
    _consistent(kind, redirect or [], jwks, jwks_url, secret_stdin=secret_stdin, no_pkce=legacy_no_pkce)
    if client_id and not _ID.fullmatch(client_id):
        misused(f"{client_id!r} is no client id: visible ASCII, at most 200")
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        misused(f"--name: what people are shown has 1 to {_LONGEST_NAME} characters that can be shown")
    with desk(data_dir, as_json=as_json, does="client add", about=client_id or name, makes=True) as here:
        if client_id and not replace_it and here.store.client(client_id) is not None:
            refuse(f"there is a client {client_id} already; --replace replaces it", 1)
        if role:
            require_role(here, role)
        secret = _new_secret(stdin=secret_stdin) if kind is Kind.SYMMETRIC else ""
        client = Client(
            id=client_id or secrets.token_urlsafe(12),
            name=name,
            kind=kind.value,
            secret=hashed(secret) if secret else "",
            redirect_uris=_redirects(redirect or [], kind),
            launch_uri=_launch_uri(launch),
            scope=_scope(scope),
            jwks=_keys_of(jwks) if jwks is not None else {},
            jwks_url=_keys_url(here, jwks_url),
            organization=_organization(here, organization),
            role=role,
            trusted=trusted,
            introspect=introspect,
            legacy_no_pkce=legacy_no_pkce,
            access_seconds=access_ttl or 0,
            created=here.now,
        )
        here.store.put_client(client)
        if legacy_no_pkce:
            warn(f"the client {client.id} may leave PKCE out: whoever steals one of its codes can use it")
        here.answer(_told(client, secret), f"client {client.id} added", *_secret_line(secret))


@clients.command("list")
def show(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show all clients."""
    with desk(data_dir, as_json=as_json) as here:
        rows = [_told(client) | _state(client) for client in here.store.clients()]
        here.answer({"clients": rows}, *(_line(row) for row in rows))


@clients.command("disable")
def disable(client_id: ClientId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Refuse the client and its tokens, within a second everywhere."""
    _switch(client_id, data_dir, as_json=as_json, disabled=True)


@clients.command("enable")
def enable(client_id: ClientId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Take a disabled client's requests again."""
    _switch(client_id, data_dir, as_json=as_json, disabled=False)


@clients.command("rotate")
def rotate(
    client_id: ClientId,
    secret_stdin: Annotated[bool, typer.Option("--secret-stdin", help="Read the new secret from stdin.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give a symmetric client another secret; the one before is refused from now on."""
    with desk(data_dir, as_json=as_json, does="client rotate", about=client_id) as here:
        client = here.client(client_id)
        if client.kind != "symmetric":
            refuse(f"the client {client_id} is {client.kind}: it has no secret", 1)
        secret = _new_secret(stdin=secret_stdin)
        here.store.put_client(replace(client, secret=hashed(secret)))
        here.answer(_told(client, secret), f"client {client_id} has another secret", *_secret_line(secret))


@clients.command("invite")
def invite(
    scope: Annotated[str, typer.Option(help="What the app may ask for; anything unless given.")] = "",
    ttl: Annotated[int, typer.Option(min=1, max=keys.LONGEST, help="Seconds for which it holds.")] = 86400,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make an initial access token, with which one app may register itself (RFC 7591)."""
    with desk(data_dir, as_json=as_json, does="client invite", makes=True) as here:
        token = invitations.invite(here.store, _scope(scope), here.now + ttl)
        expires = instant((here.now + ttl) * 1_000_000)
        here.answer({"initialAccessToken": token, "scope": scope, "expiresAt": expires}, token)


def _switch(client_id: str, data_dir: Path | None, *, as_json: bool, disabled: bool) -> None:
    word = "disable" if disabled else "enable"
    with desk(data_dir, as_json=as_json, does=f"client {word}", about=client_id) as here:
        client = replace(here.client(client_id), disabled=disabled)
        here.store.put_client(client)
        here.answer({**_told(client), "disabled": disabled}, f"client {client_id} {word}d")


def _consistent(
    kind: Kind, uris: list[str], jwks: Path | None, jwks_url: str, *, secret_stdin: bool, no_pkce: bool
) -> None:
    """Exit code 2 for options that do not go together."""
    keyed = kind in (Kind.ASYMMETRIC, Kind.BACKEND)
    if keyed and (jwks is None) == (not jwks_url):
        misused(f"a client of type {kind.value} needs either --jwks FILE or --jwks-url URL")
    if not keyed and (jwks is not None or jwks_url):
        misused(f"a client of type {kind.value} has no keys")
    if secret_stdin and kind is not Kind.SYMMETRIC:
        misused(f"a client of type {kind.value} has no secret")
    if no_pkce and kind not in (Kind.SYMMETRIC, Kind.ASYMMETRIC):
        misused("--legacy-no-pkce is for confidential apps (symmetric, asymmetric) alone")
    if kind is Kind.PUBLIC and not uris:
        misused("a public client needs a --redirect")
    if kind is Kind.BACKEND and uris:
        misused("a backend service is never sent back to: it has no --redirect")


def _new_secret(*, stdin: bool) -> str:
    if not stdin:
        return handle()
    secret = from_stdin("secret")
    if len(secret) < _SHORT:
        warn(f"the secret has {len(secret)} characters; one made by this command has 256 random bits")
    return secret


def _redirects(uris: list[str], kind: Kind) -> tuple[str, ...]:
    for uri in uris:
        try:
            redirects.check(uri, kind.value)
        except ValueError as error:
            refuse(str(error), 1)
    return tuple(dict.fromkeys(uris))


def _launch_uri(uri: str) -> str:
    if not uri:
        return ""
    try:
        redirects.check(uri, "symmetric")
    except ValueError as error:
        refuse(str(error).replace("redirect URI", "launch URI"), 1)
    return uri


def _scope(text: str) -> str:
    try:
        parse(text)
    except ScopeFault as fault:
        misused(f"--scope: {fault}")
    return text


def _keys_of(path: Path) -> dict[str, Any]:
    """The public keys in the file; exit code 1 when it cannot be read or must not be used."""
    try:
        return keys.client_keys(json.loads(path.read_bytes()))
    except OSError as error:
        refuse(f"cannot read {path}: {error.strerror}", 1)
    except (ValueError, RecursionError) as error:  # among them KeyFault
        refuse(f"{path}: {error}", 1)


def _keys_url(here: Desk, url: str) -> str:
    """The JWKS URL: https, or on a server for this machine alone also an address of this machine."""
    if not url:
        return ""
    try:
        parts, public = urlsplit(url), urlsplit(here.settings.public)
        plain = (
            parts.scheme == "http" and parts.hostname in redirects.LOOPBACK and public.hostname in redirects.LOOPBACK
        )
    except ValueError:
        misused(f"--jwks-url {url}: it cannot be read")
    if not parts.hostname or parts.username is not None or (parts.scheme != "https" and not plain):
        refuse(f"--jwks-url {url}: it must be an https URL (http on this machine alone, for a server on it)", 1)
    return url


def _organization(here: Desk, given: str) -> str:
    if not given:
        return ""
    reference = here.reference(given, "Organization")
    if asyncio.run(here.read(reference)) is None:
        warn(f"{reference} is not in the store yet")
    return reference


def _told(client: Client, secret: str = "") -> dict[str, Any]:
    found = {
        "clientId": client.id,
        "name": client.name,
        "type": client.kind,
        "redirectUris": list(client.redirect_uris),
        "scope": client.scope,
    }
    return found | ({"clientSecret": secret} if secret else {})


def _state(client: Client) -> dict[str, Any]:
    return {
        "launchUri": client.launch_uri or None,
        "jwksUrl": client.jwks_url or None,
        "keys": [key["kid"] for key in client.jwks.get("keys", ())],
        "organization": client.organization or None,
        "role": client.role or None,
        "trusted": client.trusted,
        "introspect": client.introspect,
        "legacyNoPkce": client.legacy_no_pkce,
        "accessTtl": client.access_seconds or None,
        "disabled": client.disabled,
        "created": client.created,
    }


def _line(row: Mapping[str, Any]) -> str:
    marks = [mark for mark in ("trusted", "introspect", "legacyNoPkce", "disabled") if row[mark]]
    return "  ".join([row["clientId"], row["type"], row["name"], *row["redirectUris"], *marks])


def _secret_line(secret: str) -> tuple[str, ...]:
    return (f"secret: {secret}",) if secret else ()
