"""What the commands about access work at: the store of users and clients, the FHIR base, a look into the store of resources, the answer.

Rules.
1. A command works beside a running server or without one, from its data folder alone; nothing is ever asked on a terminal. A folder without a store
   is a mistyped one, unless the command makes something that a server may start with (a user, a client, a token) and the folder is new or empty.
2. Exit code 2: the command line cannot be meant (a missing option, no JSON, no scope); 1: it is well formed, but it cannot be done.
3. With `--json` the last line of stdout is one object; a secret is told once, by the command that made it. Everything else goes to stderr.
4. The FHIR base is the configured public URL's, else that of the server's last start in this folder.
5. What a command changes goes into the audit trail (`recording.py`).
"""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fhir_server.commands import refuse, settings_of
from fhir_server.commands.recording import recorded
from fhir_server.settings import Loaded, Settings
from fhir_server.storage.sqlite.auth import AUTH_DATABASE, SqliteAuthStore
from resources.errors import FhirError
from resources.model import ResourceKey, is_id
from smart_auth.model import Client, User

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fhir_server.storage.sqlite.store import SqliteStore

_REFERENCE = re.compile(r"(?:(?P<base>https?://\S+)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})")


@dataclass(frozen=True, slots=True)
class Desk:
    """`settings` have the public URL of the base; `now` in seconds since 1970."""

    settings: Settings
    store: SqliteAuthStore
    as_json: bool
    now: int

    def answer(self, found: Mapping[str, Any], *lines: str) -> None:
        """Tell the outcome: an object, or lines for people."""
        text = json.dumps(dict(found), ensure_ascii=False) if self.as_json else "\n".join(lines)
        sys.stdout.write(f"{text}\n" if text else "")

    def user(self, name: str) -> User:
        """The user; exit code 1 when there is none."""
        return self.store.user(name) or refuse(f"there is no user {name}", 1)

    def change(self, name: str, **members: Any) -> User:
        """Give a user other values; the user as it is now. Exit code 1 when there is none."""
        changed = self.store.change_user(name, lambda user: replace(user, **members))
        return changed or refuse(f"there is no user {name}", 1)

    def client(self, name: str) -> Client:
        """The client; exit code 1 when there is none."""
        return self.store.client(name) or refuse(f"there is no client {name}", 1)

    def live_client(self, name: str) -> Client:
        """The client; exit code 1 when there is none or it is disabled."""
        client = self.client(name)
        return refuse(f"the client {name} is disabled", 1) if client.disabled else client

    async def read(self, reference: str) -> dict[str, Any] | None:
        """The live resource of a relative reference, None when it is not in the store of resources."""
        from search.narrowing import EVERYTHING  # noqa: PLC0415

        async with self.resources() as opened:
            stored = None if opened is None else await opened.read(ResourceKey(*reference.split("/")), EVERYTHING)
        if stored is None or stored.deleted:
            return None
        found: dict[str, Any] = json.loads(stored.body)
        return found

    @asynccontextmanager
    async def resources(self) -> "AsyncIterator[SqliteStore | None]":
        """The store of resources, None when there is none yet."""
        from fhir_server.storage.sqlite.store import SqliteStore  # noqa: PLC0415  (rule 3 of the command line)
        from fhir_server.worker import database_path  # noqa: PLC0415

        if not database_path(self.settings).is_file():
            yield None
            return
        opened = SqliteStore.open(database_path(self.settings), self.settings.store)
        try:
            yield opened
        finally:
            await opened.close()

    def reference(self, text: str, *kinds: str) -> str:
        """A reference in its relative form; exit code 2 for what is none to a resource of these types here."""
        found = _REFERENCE.fullmatch(text)
        if found is None or found["type"] not in kinds or (found["base"] or self.settings.base) != self.settings.base:
            refuse(f"{text!r} is no reference to a {' or '.join(kinds)} of this server, like {kinds[0]}/ID", 2)
        return f"{found['type']}/{found['id']}"

    async def require(self, reference: str) -> None:
        """Exit code 1 unless the resource is there."""
        if await self.read(reference) is None:
            refuse(f"there is no {reference} in the store", 1)


@contextmanager
def desk(
    data_dir: Path | None,
    *,
    as_json: bool,
    does: str = "",
    about: str = "",
    keys: Sequence[str] = (),
    makes: bool = False,
) -> Iterator[Desk]:
    """Open the store of users of the data folder; ends the command when it cannot be used.

    `does`: the command, when it changes something; `about` whom or what, `keys` the resources that it is about, for the audit. `makes`: it may be done before
    the first start.
    """
    loaded = settings_of({"data_dir": data_dir})
    folder = loaded.settings.data_dir
    _require_store(folder, makes=makes)
    try:
        store = SqliteAuthStore.open(folder)
        try:
            settings = based(loaded, store)
            with recorded(settings, does, about, keys) if does else nullcontext():
                yield Desk(settings, store, as_json, int(time.time()))
        finally:
            store.close()
    except FhirError as error:
        refuse(f"cannot be done: {error}", 1)


def _require_store(folder: Path, *, makes: bool) -> None:
    """Exit code 1 unless there is a store, or one may be made."""
    from fhir_server.interactions.assembly import DATABASE  # noqa: PLC0415  (rule 3 of the command line)

    if any((folder / name).is_file() for name in (DATABASE, AUTH_DATABASE)):
        return
    if not makes or (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir())):
        refuse(f"there is no store in {folder}", 1)
    sys.stderr.write(f"fhir-server: there was no store in {folder}; this is the beginning of one\n")


def based(loaded: Loaded, store: SqliteAuthStore) -> Settings:
    """The settings with the FHIR base of the last start, unless a public URL is configured."""
    from fhir_server.first_start import BASE  # noqa: PLC0415  (rule 3 of the command line)

    base = None if "public_url" in loaded.sources else store.setting(BASE)
    if base is None:
        return loaded.settings
    return loaded.settings.model_copy(update={"public_url": base.removesuffix("/fhir")})


def checked_id(text: str, what: str) -> str:
    """The id; exit code 2 when it is none."""
    return text if is_id(text) else refuse(f"{text!r} is no id of {what}", 2)


def from_stdin(what: str) -> str:
    """The first line of stdin; exit code 2 when it is empty or no UTF-8."""
    try:
        text = sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        refuse(f"the {what} on stdin is not UTF-8", 2)
    return text or refuse(f"there is no {what} on stdin", 2)


def warn(message: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"fhir-server: {message}\n")


def misused(message: str) -> NoReturn:
    """End the command: these options cannot be meant together."""
    refuse(message, 2)
