"""`fhir-server user add | list | disable | enable | passwd | second-factor | assign`: people who can sign in."""

import asyncio
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from fhir_server.commands import AsJson, DataDir, refuse
from fhir_server.commands.desk import Desk, checked_id, desk, from_stdin, misused, warn
from smart_auth import passwords
from smart_auth.model import User
from smart_auth.roles import PERSONAL, RoleFault, Roles, roles_with

users = typer.Typer(help="People who can sign in.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="User name.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it.")]
MustChange = Annotated[bool, typer.Option("--must-change", help="It must be changed at the next sign-in.")]

_NAME = re.compile(r"[\w@.+\-]{1,100}")
_PEOPLE = ("Practitioner", "PractitionerRole", "Patient", "RelatedPerson")


@users.command("add")
def add(
    name: Name,
    role: Annotated[list[str], typer.Option(help="A role; more than one by repeating.")],
    fhir_user: Annotated[str, typer.Option(help="Who it is: Practitioner/ID, Patient/ID or RelatedPerson/ID.")] = "",
    organization: Annotated[str, typer.Option(help="Organization/ID the person works for.")] = "",
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
    totp: Annotated[bool, typer.Option("--totp", help="Ask for a second factor; its secret is printed.")] = False,
    must_change: MustChange = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add a user."""
    if not _NAME.fullmatch(unicodedata.normalize("NFC", name)):
        misused(f"{name!r} is no user name: letters, digits and @ . + - _, at most 100")
    with desk(data_dir, as_json=as_json, does="user add", about=name, makes=True) as here:
        if here.store.user(name) is not None:
            refuse(f"there is a user {name} already", 1)
        roles = _roles(here, role)
        linked = asyncio.run(_person(here, fhir_user)) if fhir_user else ""
        _warn_of_missing(here, roles, linked=bool(linked), employed=bool(organization))
        works_for = here.reference(organization, "Organization") if organization else ""
        if works_for and asyncio.run(here.read(works_for)) is None:
            warn(f"{works_for} is not in the store yet")
        password = _password(here, name, from_stdin_wanted=password_stdin, generate=generate)
        user = User(
            unicodedata.normalize("NFC", name),
            roles,
            password=passwords.hash_password(password),
            totp=passwords.totp_secret() if totp else "",
            fhir_user=linked,
            organization=works_for,
            must_change=must_change,
            created=here.now,
        )
        here.store.put_user(user)
        told = _told(user) | ({"password": password} if generate else {}) | ({"totpSecret": user.totp} if totp else {})
        uri = passwords.totp_uri(user.totp, user.name, here.settings.public) if totp else ""
        here.answer(
            told, f"user {user.name} added", *_secret("password", password, generate), *_secret("TOTP", uri, totp)
        )


@users.command("list")
def show(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Show all users."""
    with desk(data_dir, as_json=as_json) as here:
        rows = [_told(user) | _state(user) for user in here.store.users()]
        here.answer({"users": rows}, *(_line(row) for row in rows))


@users.command("disable")
def disable(name: Name, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Let a user in no more: sessions end and grants are revoked, within a second everywhere."""
    with desk(data_dir, as_json=as_json, does="user disable", about=name) as here:
        user = here.user(name)
        here.store.change_user(user.name, lambda known: replace(known, disabled=True))
        _sign_out(here, user)
        revoked = here.store.revoke([grant.id for grant in here.store.grants(user.name)])
        here.answer({**_told(user), "disabled": True, "revoked": revoked}, f"user {user.name} disabled")


@users.command("enable")
def enable(name: Name, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Let a disabled user in again; failed logins are forgotten."""
    with desk(data_dir, as_json=as_json, does="user enable", about=name) as here:
        user = here.user(name)
        here.store.change_user(user.name, lambda known: replace(known, disabled=False))
        _forgive(here, user)
        here.answer({**_told(user), "disabled": False}, f"user {user.name} enabled")


@users.command("passwd")
def passwd(
    name: Name,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
    must_change: MustChange = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give a user another password; sessions end, failed logins are forgotten."""
    with desk(data_dir, as_json=as_json, does="user passwd", about=name) as here:
        user = here.user(name)
        password = _password(here, name, from_stdin_wanted=password_stdin, generate=generate)
        kept = passwords.hash_password(password)
        here.store.change_user(user.name, lambda known: replace(known, password=kept, must_change=must_change))
        _sign_out(here, user)
        _forgive(here, user)
        told: dict[str, Any] = {"username": user.name} | ({"password": password} if generate else {})
        here.answer(told, f"the password of {user.name} is changed", *_secret("password", password, generate))


@users.command("second-factor")
def second_factor(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Ask for none any more.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give a user a new second factor and ten recovery codes, printed once; what they had is good no more. Sessions end."""
    with desk(data_dir, as_json=as_json, does="user second-factor", about=name) as here:
        user = here.user(name)
        secret = "" if off else passwords.totp_secret()
        codes, kept = ((), ()) if off else passwords.recovery_codes()
        here.store.change_user(user.name, lambda known: replace(known, totp=secret, recovery=kept))
        _sign_out(here, user)
        told: dict[str, Any] = {"username": user.name}
        told |= {} if off else {"totpSecret": secret, "recoveryCodes": list(codes)}
        uri = "" if off else passwords.totp_uri(secret, user.name, here.settings.public)
        changed = f"the second factor of {user.name} is {'off' if off else 'new'}"
        here.answer(told, changed, *_secret("TOTP", uri, not off), *codes)


@users.command("assign")
def assign(
    name: Name,
    patient: Annotated[str, typer.Option(help="Id of the patient.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a user a member of a patient's care team: writes a CareTeam unless one says so already."""
    with desk(
        data_dir, as_json=as_json, does="user assign", about=name, keys=(f"Patient/{checked_id(patient, 'a patient')}",)
    ) as here:
        user = here.user(name)
        if not user.fhir_user:
            refuse(f"the user {name} is linked to no resource (--fhir-user), so no care team can name them", 1)
        asyncio.run(here.require(f"Patient/{checked_id(patient, 'a patient')}"))
        team = asyncio.run(_assigned(here, user, patient))
        here.answer({"careTeam": f"CareTeam/{team}"}, f"CareTeam/{team}")


async def _assigned(here: Desk, user: User, patient: str) -> str:
    """The id of an active CareTeam of the patient with the user in it, written as a request to the server would write it."""
    from fhir_server.http.negotiation import Prefer  # noqa: PLC0415  (rule 3 of the command line)
    from fhir_server.http.request import FhirRequest, Payload  # noqa: PLC0415
    from fhir_server.interactions.assembly import assemble, compose  # noqa: PLC0415
    from resources.model import ResourceKey  # noqa: PLC0415
    from search.narrowing import EVERYTHING  # noqa: PLC0415

    settings = here.settings
    composed = compose(settings.base, settings.base_aliases, settings.rest, settings.search)
    if user.organization:
        owner = ResourceKey(*user.organization.split("/"))
        composed = replace(composed, preparer=replace(composed.preparer, organizations=(owner,)))
    service = await assemble(composed, settings.data_dir, settings.store)
    try:

        async def asked(method: str, query: tuple[tuple[str, str], ...], payload: Payload) -> Mapping[str, Any]:
            request = FhirRequest(method, ("CareTeam",), query, {}, payload, EVERYTHING, Prefer())
            found: Mapping[str, Any] = json.loads((await service.run(service, request)).body)
            return found

        wanted = {"subject": f"Patient/{patient}", "participant": user.fhir_user, "status": "active", "_count": "1"}
        known = (await asked("GET", tuple(wanted.items()), b"")).get("entry", ())
        team = {
            "resourceType": "CareTeam",
            "status": "active",
            "subject": {"reference": f"Patient/{patient}"},
            "participant": [{"member": {"reference": user.fhir_user}}],
        }
        written = known[0]["resource"] if known else await asked("POST", (), team)
    finally:
        await service.store.close()
    return str(written["id"])


def _roles(here: Desk, asked: list[str]) -> tuple[str, ...]:
    """The roles; exit code 1 for one that does not exist."""
    for role in asked:
        require_role(here, role)
    return tuple(dict.fromkeys(asked))


def _warn_of_missing(here: Desk, roles: tuple[str, ...], *, linked: bool, employed: bool) -> None:
    """Say that a role reaches nothing, or less, for who is linked to nobody or works for nobody."""
    known = _known_roles(here)
    for role in roles:
        reaches = {permission.reach for permission in known[role]}
        if not linked and not reaches.isdisjoint(PERSONAL):
            reached = ", ".join(sorted(reaches & PERSONAL))
            warn(f"the role {role} reaches patients as {reached}: without --fhir-user that is nobody")
        if not employed and "payer" in reaches:
            warn(f"the role {role} sees what its organization pays: without --organization that is nothing")


def require_role(here: Desk, role: str) -> None:
    """Exit code 1 for a role that does not exist."""
    known = _known_roles(here)
    if role not in known:
        refuse(f"there is no role {role}; there are {', '.join(known)}", 1)


def _known_roles(here: Desk) -> Roles:
    from fhir_server.http.access import EDITED  # noqa: PLC0415  (rule 3 of the command line)

    try:
        return roles_with(here.store.setting(EDITED))
    except RoleFault as fault:
        refuse(f"the roles cannot be read: {fault}", 1)


async def _person(here: Desk, given: str) -> str:
    """Whom the user is linked to; of a PractitionerRole its Practitioner. Exit code 1 when it is not in the store."""
    reference = here.reference(given, *_PEOPLE)
    found = await here.read(reference)
    if found is not None and found["resourceType"] == "PractitionerRole":
        reference = here.reference(found.get("practitioner", {}).get("reference", ""), "Practitioner")
        found = await here.read(reference)
    if found is None:
        refuse(f"there is no {reference} in the store", 1)
    return reference


def _password(here: Desk, name: str, *, from_stdin_wanted: bool, generate: bool) -> str:
    """The password of the command line. What people may not choose is told and taken: whoever can run this can do anything."""
    if from_stdin_wanted == generate:
        misused("give either --password-stdin or --generate")
    if generate:
        return passwords.generated_password()
    password = from_stdin("password")
    if len(password) > passwords.LONGEST:
        misused(f"a password has at most {passwords.LONGEST} characters")
    if fault := passwords.password_fault(password, name, here.settings.smart.password_length):
        warn(f"{fault}; it is taken nevertheless")
    return password


def _sign_out(here: Desk, user: User) -> None:
    here.store.end_sessions([name for name, _ in here.store.sessions(user.name)])


def _forgive(here: Desk, user: User) -> None:
    from smart_auth.attempts import subject, succeeded  # noqa: PLC0415

    for kind in ("user", "otp"):
        succeeded(here.store, subject(kind, user.name), here.now)


def _told(user: User) -> dict[str, Any]:
    return {
        "username": user.name,
        "roles": list(user.roles),
        "fhirUser": user.fhir_user or None,
        "organization": user.organization or None,
    }


def _state(user: User) -> dict[str, Any]:
    return {
        "disabled": user.disabled,
        "mustChange": user.must_change,
        "totp": bool(user.totp),
        "recoveryCodes": len(user.recovery),
        "created": user.created,
    }


def _line(row: Mapping[str, Any]) -> str:
    parts = (row["username"], ",".join(row["roles"]), row["fhirUser"] or "-", row["organization"] or "-")
    return "  ".join([*parts, *(["disabled"] if row["disabled"] else [])])


def _secret(what: str, secret: str, wanted: bool) -> tuple[str, ...]:
    return (f"{what}: {secret}",) if wanted else ()
