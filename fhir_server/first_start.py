"""What a start with access control needs: signing keys, a first user, and with `--demo` one user for each role and an app to try.

Rules.
1. Keys are there before the first worker is. Users are made when the server listens, and their one-time passwords are told then and there,
   once: a start that fails leaves no account behind whose password nobody knows.
2. The first user is `super-admin`; it is made when no user has that role. Each one-time password must be changed at the first sign-in.
3. The FHIR base is kept in the store, so that the command line makes links and tokens for the server as it was last started.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from fhir_server.family import Announce, CannotServe, nothing_more
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.auth import SqliteAuthStore
from resources.errors import FhirError
from smart_auth import keys
from smart_auth.model import Client, User
from smart_auth.ports import AuthStore

BASE: Final = "server/base"
"""The setting that holds the FHIR base of the last start."""
SUPER_ADMIN: Final = "super-admin"
DEMO_APP: Final = "demo-app"

_HOSPITAL: Final = "Organization/hospital"
_INSURER: Final = "Organization/insurer-1"
_DEMO_STAFF: Final = {
    "admin": "",
    "doctor": "Practitioner/practitioner-0002",
    "nurse": "Practitioner/practitioner-0008",
    "receptionist": "",
    "pharmacist": "",
    "lab-technician": "Practitioner/practitioner-0003",
    "billing": "",
    "insurer": "",
    "integration": "",
}
_DEMO_PATIENTS: Final = ("MRN-0000001", "MRN-0000002")


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    role: str
    fhir_user: str = ""
    organization: str = ""


def prepare_auth(settings: Settings, now: int) -> Announce:
    """Make what is missing before the workers start; the result makes the users when they serve. CannotServe when the store cannot be used."""
    if settings.auth == "off":
        return nothing_more
    with _opened(settings) as store:
        keys.ensure(store, now)
        if store.setting(BASE) != settings.base:
            store.put_setting(BASE, settings.base)
        if settings.demo:
            store.put_client(_demo_app(settings, now))
    demo = asyncio.run(_demo_accounts(settings)) if settings.demo else ()

    def announce() -> Iterator[str]:
        with _opened(settings) as store:
            missing = not any(SUPER_ADMIN in user.roles for user in store.users())
            first = (_Account(_free(store, SUPER_ADMIN), SUPER_ADMIN),) if missing else ()
            yield from _made(store, (*first, *(one for one in demo if store.user(one.name) is None)), now)
        yield f"FHIR base {settings.base}, sign in at {settings.public}/auth/login"
        if settings.demo:
            yield f"Demonstration app at {settings.public}/{DEMO_APP}/"

    return announce


@contextmanager
def _opened(settings: Settings) -> Iterator[AuthStore]:
    try:
        with closing(SqliteAuthStore.open(settings.data_dir)) as store:
            yield store
    except FhirError as error:
        raise CannotServe(f"cannot use the store of users in {settings.data_dir}: {error}") from None


def _made(store: AuthStore, accounts: Sequence[_Account], now: int) -> Iterator[str]:
    from smart_auth.passwords import generated_password, hash_password  # noqa: PLC0415  (only a first start needs it)

    for one in accounts:
        password = generated_password()
        store.put_user(
            User(
                one.name,
                (one.role,),
                password=hash_password(password),
                fhir_user=one.fhir_user,
                organization=one.organization,
                must_change=True,
                created=now,
            )
        )
        yield f"User {one.name} (role {one.role}), one-time password: {password}"


def _free(store: AuthStore, name: str) -> str:
    """The name, or with a number when somebody has it."""
    taken = {user.name.casefold() for user in store.users()}
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))) if one not in taken)


def _demo_app(settings: Settings, now: int) -> Client:
    home = f"{settings.public}/{DEMO_APP}/"
    return Client(
        DEMO_APP, "Demonstration app", "public", redirect_uris=(home,), launch_uri=f"{home}launch", created=now
    )


async def _demo_accounts(settings: Settings) -> tuple[_Account, ...]:
    """One account for each role, and two patients of the made-up hospital."""
    from fhir_server.directory import StoreDirectory  # noqa: PLC0415
    from fhir_server.generator.hospital import MRN  # noqa: PLC0415
    from fhir_server.interactions.assembly import assemble, compose  # noqa: PLC0415

    service = await assemble(
        compose(settings.base, settings.base_aliases, settings.rest, settings.search), settings.data_dir
    )
    try:
        directory = StoreDirectory(service)
        found = [await directory.identify(f"{MRN}|{number}", "", "", None) for number in _DEMO_PATIENTS]
    finally:
        await service.store.close()
    staff = (
        _Account(role, role, practitioner, _INSURER if role == "insurer" else _HOSPITAL)
        for role, practitioner in _DEMO_STAFF.items()
    )
    patients = (
        _Account(f"patient-{number}", "patient", f"Patient/{patients[0].id}", _HOSPITAL)
        for number, patients in enumerate(found, 1)
        if patients
    )
    return (*staff, *patients)
