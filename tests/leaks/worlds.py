"""Two hospitals that differ in what one person may not see: the application over each, asked the same, must answer the same.

Rules. Time and new ids are made the same in both, so that answers can be compared byte for byte; what stays apart is put aside by `Answer`: the date of
the answer, the request's id, and the text of cursors, which holds row numbers. SQL statements are compared by their form, without values.
"""

import atexit
import itertools
import json
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import httpx2
import pytest
from msgspec.structs import replace

from fhir_server import app as composition
from fhir_server.app import create_app
from fhir_server.audit.options import AuditOptions
from fhir_server.http import access
from fhir_server.interactions import assembly
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.prepare import put
from fhir_server.settings import Settings
from fhir_server.storage.port import Delete, Put, UnitOfWork
from fhir_server.storage.sqlite import SqliteOptions, batch
from fhir_server.storage.sqlite.auth import SqliteAuthStore
from resources.model import ResourceKey
from search.limits import SearchLimits
from smart_auth import keys
from smart_auth.break_glass import MOST_MINUTES, open_record
from smart_auth.model import Grant, Principal
from smart_auth.options import SmartOptions
from smart_auth.tokens import Tokens
from tests.leaks.hospital import Seed, seeds
from tests.leaks.people import PEOPLE, Person

PUBLIC = "http://localhost:8000"
BASE = f"{PUBLIC}/fhir"
FHIR = {"Content-Type": "application/fhir+json"}
_START = 1_793_500_000_000_000
"""Microseconds: 2026-11-01."""
_NOW = _START + 20 * 86_400_000_000
_APART = frozenset({"date", "x-request-id"})
_CURSOR = re.compile(rb"_cursor=[A-Za-z0-9_-]+")
_NEXT = re.compile(rb'"relation":"next","url":"http://localhost:8000/fhir/([^"]+)"')
_CATALOG = (
    *(f"SELECT {what} FROM {table}" for what in ("number", "name") for table in ("type", "parameter", "term")),
    "SELECT rid FROM resource WHERE type = ",
)
"""Statements that look up the numbers of names and ids: once, and again while there are none."""
_SIZE = re.compile(r"SELECT count\(\*\) FROM \(.* LIMIT [0-9]+\)", re.DOTALL)
"""How much there is under an index, up to some number: kept for seconds, for the order of a search's steps."""
_AMBIGUOUS = "SELECT r.rid FROM json_each("
"""Which of the resources that a bare id may mean are seen."""
_VALUE = re.compile(r"x?'(?:[^']|'')*'|-?\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b", re.IGNORECASE)


class Clock:
    """The time of both hospitals, in microseconds; a list of moments while they are filled."""

    def __init__(self) -> None:
        self.moments: Iterable[int] = itertools.repeat(_NOW)

    def time_ns(self) -> int:
        return next(iter(self.moments)) * 1000

    def monotonic(self) -> float:
        return self.micros() / 1_000_000

    def micros(self) -> int:
        return next(iter(self.moments))

    def at(self, moment: int) -> None:
        """It is this moment until told otherwise."""
        self.moments = itertools.repeat(moment)


class Ask(NamedTuple):
    """A request; `path` below the FHIR base, percent-encoded as sent."""

    method: str
    path: str
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def says(self, word: str) -> bool:
        """Whether the word is in it, so that an answer may have it too."""
        return word in self.path or word in self.body or any(word in value for _, value in self.headers)

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body[:200]} {dict(self.headers) or ''}".strip()


class Answer(NamedTuple):
    """What came back, without what may differ; `statements`: the SQL of it, `following`: the path of the next page."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    statements: tuple[str, ...]
    following: str

    @property
    def shown(self) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        """What who asks sees."""
        return self.status, self.headers, self.body

    def holds(self, word: str) -> bool:
        return word.encode() in self.body or any(word in value for _, value in self.headers)


@dataclass
class House:
    """The application over one store."""

    app: object
    http: httpx2.AsyncClient
    clock: Clock
    traced: list[str] = field(default_factory=list)
    made: int = 0

    async def ask(self, ask: Ask, token: str) -> Answer:
        """The answer to the bearer of the token."""
        self.traced.clear()
        self.made = 0
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept-Encoding": "identity",
            **(FHIR if ask.body else {}),
            **dict(ask.headers),
        }
        url = f"{BASE}/{ask.path}" if ask.path else BASE
        found = await self.http.request(ask.method, url, content=ask.body or None, headers=headers)
        kept = tuple(
            (name, _CURSOR.sub(b"_cursor=", value.encode()).decode())
            for name, value in found.headers.items()
            if name not in _APART
        )
        # how long the text of a cursor is depends on row numbers
        if b"_cursor=" in found.content:
            kept = tuple(pair for pair in kept if pair[0] != "content-length")
        body = _CURSOR.sub(b"_cursor=", found.content)
        statements = tuple(
            _VALUE.sub("?", one)
            for one in self.traced
            if not one.startswith((*_CATALOG, _AMBIGUOUS)) and not _SIZE.fullmatch(one)
        )
        following = _NEXT.search(found.content)
        return Answer(found.status_code, kept, body, statements, following[1].decode() if following else "")

    def _new_id(self) -> str:
        self.made += 1
        return f"new-{self.clock.micros() - _NOW:013}-{self.made}"


@dataclass
class Pair:
    """The whole hospital and a person's double of it; `token` is theirs in both."""

    person: Person
    token: str
    whole: House
    double: House
    clock: Clock
    moment: int = _NOW
    read_only: bool = False

    async def ask(self, ask: Ask) -> tuple[Answer, Answer]:
        """Both answers, given at one moment. After a write what the server remembers for a second is forgotten."""
        self.moment += 1_000 if self.read_only else 2_000_000
        self.read_only = ask.method in ("GET", "HEAD")
        self.clock.at(self.moment)
        return await self.whole.ask(ask, self.token), await self.double.ask(ask, self.token)


@cache
def _composed():
    """What needs no store, once for all applications."""
    made = {}
    original = assembly.compose

    def compose(base, aliases, options, limits=None, *others):
        key = (base, tuple(aliases), options, limits)
        if key not in made:
            made[key] = original(base, aliases, options, limits, *others)
        return made[key]

    return compose


@cache
def parts():
    """The definitions, parameters and readers that all hospitals share."""
    return _composed()(BASE, settings(Path()).base_aliases, settings(Path()).rest, settings(Path()).search)


def settings(folder: Path, **rest) -> Settings:
    return Settings(
        data_dir=folder,
        public_url=PUBLIC,
        auth="required",
        audit=AuditOptions(enabled=False),
        rest=RestOptions(**{"access_log": False, **rest}),
        search=SearchLimits(full_text=True),
        store=SqliteOptions(inline=60.0, cache=4, mmap=0, readers=1),
    )


def fill(service, kept: Iterable[Seed], clock: Clock) -> None:
    """Write the seeds and their second versions, each at the moment that it has in every hospital."""
    keep = {seed.reference for seed in kept}
    whole = len(keep) == len(seeds())
    first, second, gone = _puts()
    rows = [(moment, one) for moment, one in enumerate(first) if str(one.key) in keep]
    rows += [(moment, one) for moment, one in enumerate(second, 10_000) if str(one.key) in keep]
    for moment, one in enumerate(gone if whole else (), 20_000):
        rows += [(moment, one), (moment, Delete(one.key))]
    clock.moments = iter([_START + moment * 1_000_000 for moment, _ in rows])
    service.store.commit_sync([UnitOfWork((write,)) for _, write in rows])
    clock.at(_NOW)


@cache
def _puts() -> tuple[tuple[Put, ...], ...]:
    """First and second versions, and what is deleted again."""
    return tuple(tuple(_put(seed) for seed in written) for written in (seeds(), _changed(), _gone()))


def _put(seed: Seed) -> Put:
    key = ResourceKey(seed.type, seed.resource["id"])
    kind, _, name = seed.owner.partition("/")
    return replace(put(parts().preparer, seed.resource, key, "PUT"), organizations=(ResourceKey(kind, name),))


def _changed() -> Iterable[Seed]:
    """Second versions: one of each kind of secrecy."""
    wanted = {
        "Observation/ann-laboratory",
        "Observation/numbat-laboratory",
        "Observation/okapi-laboratory",
        "Patient/quagga",
    }
    for seed in seeds():
        if seed.reference in wanted:
            yield seed._replace(resource={**seed.resource, "language": "en"})


def _gone() -> Iterable[Seed]:
    """What was deleted: nobody here may know that it ever was."""
    for seed in seeds():
        if seed.reference in ("Observation/quagga-laboratory", "Condition/okapi-problem-list-item"):
            yield seed._replace(resource={**seed.resource, "id": f"{seed.resource['id']}-gone"})


@cache
def _users() -> Path:
    """A store of users with all people, their clients and grants. Tokens are good in every hospital: all have the same keys."""
    folder = Path(tempfile.mkdtemp(prefix="leaks-"))
    atexit.register(shutil.rmtree, folder)
    store = SqliteAuthStore.open(folder)
    for use in keys.USES:
        store.put_key(keys.generate(use, 1_700_000_000))
    for person in PEOPLE:
        if person.user is not None:
            store.put_user(person.user)
        store.put_client(person.client)
        user = person.user.name if person.user else ""
        now = int(time.time())
        store.add_grant(Grant(f"grant-{person.name}", person.client.id, person.scope, now, user=user))
        if person.emergency:
            open_record(store, user, person.emergency, "unconscious", person.client.id, now, MOST_MINUTES)
    store.close()
    return folder


def token(folder: Path, person: Person) -> str:
    """The person's access token."""
    store = SqliteAuthStore.open(folder)
    tokens = Tokens(store, BASE, BASE, SmartOptions(), lambda: int(time.time()))
    principal = Principal(
        f"grant-{person.name}",
        "" if person.operator else person.client.id,
        person.scope,
        user=person.user.name if person.user else "",
        patient=person.patient,
        grant=f"grant-{person.name}",
        operator=person.operator,
    )
    made = tokens.access(principal, 3600)
    store.close()
    return made


@asynccontextmanager
async def house(folder: Path, kept: Iterable[Seed], clock: Clock, **rest) -> AsyncIterator[House]:
    """A hospital with these seeds."""
    shutil.copytree(_users(), folder, dirs_exist_ok=True)
    app = create_app(settings(folder, **rest))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport) as http:
            made = House(app, http, clock)
            service = app.state.service
            if isinstance(ids := getattr(service.new_id, "__self__", None), _Ids):
                ids.house = made
            fill(service, kept, clock)
            service.store.reader._inline.connection.set_trace_callback(made.traced.append)
            yield made


class _Ids:
    """New ids that are the same in every hospital."""

    house: House

    def make(self) -> str:
        return self.house._new_id()


@asynccontextmanager
async def pair(folder: Path, person: Person, **rest) -> AsyncIterator[Pair]:
    """The whole hospital and the person's double."""
    clock = Clock()
    patch = pytest.MonkeyPatch()
    patch.setattr(composition, "compose", _composed())
    patch.setattr(assembly, "now", clock.micros)
    patch.setattr(assembly, "IdSource", lambda: _Ids().make)
    patch.setattr(batch, "time", SimpleNamespace(time_ns=clock.time_ns))
    patch.setattr(access, "time", SimpleNamespace(monotonic=clock.monotonic))
    (folder / "whole").mkdir()
    (folder / "double").mkdir()
    kept = [seed for seed in seeds() if person.keeps(seed)]
    try:
        async with (
            house(folder / "whole", seeds(), clock, **rest) as whole,
            house(folder / "double", kept, clock, **rest) as double,
        ):
            yield Pair(person, token(folder / "whole", person), whole, double, clock)
    finally:
        patch.undo()


def entries_of(answer: Answer) -> list[dict]:
    """The resources of an answer: of a Bundle its entries', else itself."""
    if not answer.body:
        return []
    body = json.loads(answer.body)
    if body.get("resourceType") != "Bundle":
        return [body]
    return [entry["resource"] for entry in body.get("entry", ()) if "resource" in entry]
