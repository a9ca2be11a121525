"""The commands about access: `user`, `client`, `launch`, `token`, `grant`, `keys`. What all of them share is in `desk.py`."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from fhir_server.commands import AsJson, DataDir, refuse
from fhir_server.commands.clients import clients
from fhir_server.commands.desk import Desk, desk, misused
from fhir_server.commands.launches import launch, token
from fhir_server.commands.users import users
from resources.model import instant
from smart_auth import keys
from smart_auth.model import Grant, Key

grants = typer.Typer(help="What people and services have been granted.", no_args_is_help=True)
signing_keys = typer.Typer(name="keys", help="The server's signing keys.", no_args_is_help=True)

UserName = Annotated[str | None, typer.Option("--user", help="Whose.")]
ClientId = Annotated[str | None, typer.Option("--client", help="Only those of this client.")]


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for name, group in (("user", users), ("client", clients), ("grant", grants), ("keys", signing_keys)):
        app.add_typer(group, name=name)
    for command in (launch, token):
        app.command()(command)


@grants.command("list")
def list_grants(
    user: UserName = None, client: ClientId = None, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Show the grants that are not revoked: of a user, or with --client alone of a service itself."""
    with desk(data_dir, as_json=as_json) as here:
        rows = [_told(grant) for grant in _chosen(here, user, client)]
        lines = ("  ".join((row["created"], row["client"] or "-", row["patient"] or "-", row["scope"])) for row in rows)
        here.answer({"grants": rows}, *lines)


@grants.command("revoke")
def revoke(user: UserName = None, client: ClientId = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Revoke grants: their access and refresh tokens are refused within a second everywhere."""
    with desk(data_dir, as_json=as_json, does="grant revoke", about=user or client or "") as here:
        number = here.store.revoke([grant.id for grant in _chosen(here, user, client)])
        here.answer({"revoked": number}, f"{number} revoked")


@signing_keys.command("list")
def list_keys(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show the signing keys, newest first."""
    with desk(data_dir, as_json=as_json) as here:
        rows = [_described(key) for key in here.store.keys()]  # noqa: SIM118  (no mapping)
        here.answer(
            {"keys": rows}, *("  ".join((row["kid"], row["alg"], row["created"], row["state"])) for row in rows)
        )


@signing_keys.command("rotate")
def rotate(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Make new keys, which sign from now on; those before go on verifying what they signed."""
    with desk(data_dir, as_json=as_json, does="keys rotate") as here:
        made = [_described(key) for key in keys.rotate(here.store, here.now)]
        here.answer({"keys": made}, *(f"{row['kid']}  {row['alg']}" for row in made))


@signing_keys.command("disable")
def disable(
    kid: Annotated[str, typer.Argument(help="The key.")], as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Trust a key no more: all it signed is refused within a second everywhere. A key that is missing then is made."""
    with desk(data_dir, as_json=as_json, does="keys disable", about=kid) as here:
        found = next((key for key in here.store.keys() if key.kid == kid), None)  # noqa: SIM118  (no mapping)
        if found is None:
            refuse(f"there is no key {kid}", 1)
        gone = replace(found, retired=True, disabled=True)
        here.store.put_key(gone)
        keys.ensure(here.store, here.now)
        here.answer(_described(gone), f"key {kid} disabled")


def _chosen(here: Desk, user: str | None, client: str | None) -> list[Grant]:
    if user is None and client is None:
        misused("give --user NAME, --client ID or both")
    if client is not None:
        here.client(client)
    return list(here.store.grants(here.user(user).name if user is not None else "", client))


def _told(grant: Grant) -> dict[str, Any]:
    return {
        "id": grant.id,
        "user": grant.user or None,
        "client": grant.client,
        "scope": grant.scope,
        "patient": grant.context.patient or None,
        "created": instant(grant.created * 1_000_000),
    }


def _described(key: Key) -> dict[str, Any]:
    state = "disabled" if key.disabled else "retired" if key.retired else "in use"
    created = instant(key.created * 1_000_000)
    return {"kid": key.kid, "use": key.use, "alg": keys.ALGORITHMS[key.use], "created": created, "state": state}
