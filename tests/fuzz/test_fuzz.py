"""No request ends in a 500, a refused one leaves nothing behind, and afterwards the server still answers.

Quick: 2,000 requests. Full: 100,000 searches and 100,002 others. `--rounds N` multiplies either. A failure shows the request, and its seed repeats it.
"""

import json
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from random import Random
from urllib.parse import unquote, urlsplit

import pytest

from fhir_server.app import create_app
from fhir_server.interactions.assembly import DATABASE
from fhir_server.interactions.options import RestOptions
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import SqliteOptions
from resources.xml_format import decode
from search.limits import SearchLimits
from tests.fuzz.requests import DEMO, FHIR, Fuzz, Request

pytestmark = pytest.mark.anyio
QUICK = 500
FULL = {"write": 100_000 // 3 + 1, "search": 100_000, "anything": 100_000 // 3 + 1, "xml": 100_000 // 3 + 1}
KINDS = tuple(FULL)
KEPT = 200


class Site:
    """The application without a network, and an eye on its database that sees every commit."""

    def __init__(self, app, watch):
        self.app, self.watch = app, watch

    def commits(self):
        """A number that changes with every commit of the application."""
        return self.watch.execute("PRAGMA data_version").fetchone()[0]

    def rows(self):
        """How many rows there are of what clients write. (Searches put the concepts they ask for into tables of their own.)"""
        return [
            self.watch.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("resource", "history", "follow_up", "token", "string", "reference")
        ]

    async def ask(self, request):
        """Status, headers and body of the answer."""
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "https", "server": ("fhir.example.org", 443),
            "client": ("127.0.0.1", 1), "root_path": "", "method": request.method, "path": request.path,
            "raw_path": request.path.encode("utf-8", "replace"), "query_string": request.query, "headers": list(request.headers), "state": {},
        }  # fmt: skip
        given = [{"type": "http.request", "body": request.body, "more_body": False}]
        told = []

        async def receive():
            return given.pop() if given else {"type": "http.disconnect"}

        async def send(message):
            told.append(message)

        await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in told[0]["headers"]}
        return told[0]["status"], headers, b"".join(message.get("body", b"") for message in told[1:])


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@asynccontextmanager
async def site_in(folder):
    settings = Settings(
        data_dir=folder,
        public_url="https://fhir.example.org",
        auth="off",
        rest=RestOptions(access_log=False),
        store=SqliteOptions(deadline=60.0),
        search=SearchLimits(full_text=True),
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as watch:
            site = Site(app, watch)
            before = site.commits()
            status, _, body = await site.ask(Request("POST", "/fhir", headers=FHIR, body=DEMO.read_bytes()))
            assert status == 200, body
            assert site.commits() != before
            yield site


@pytest.fixture(scope="module")
async def site(anyio_backend, tmp_path_factory):
    async with site_in(tmp_path_factory.mktemp("store")) as site:
        yield site


def read(headers, body):
    """The resource that an answer is."""
    return decode(body) if headers["content-type"].startswith("application/fhir+xml") else json.loads(body)


def faults_of(request, status, headers, body):
    """What an answer does wrong, or None."""
    if status >= 500 and status != 501:
        return f"status {status}"
    plain = headers.get("content-encoding") is None and request.method != "HEAD"
    if status >= 400 and plain and request.path.startswith("/fhir/"):
        outcome = read(headers, body)
        if outcome["resourceType"] != "OperationOutcome" or not outcome["issue"]:
            return "an error without OperationOutcome"
        if any(word in body.decode().lower() for word in ("traceback", "select ", "sqlite")):
            return "an outcome that tells of the inside"
    if status == 200 and plain and body and headers["content-type"].startswith("application/fhir+"):
        told = read(headers, body)
        for entry in told.get("entry", ()):
            if entry.get("response", {}).get("status", "").startswith("5"):
                return f"an entry with status {entry['response']['status']}"
    return None


async def attack(site, kind, seed, count):
    """Send `count` requests; the faults found and how often each status came."""
    service = site.app.state.service
    fuzz = Fuzz(service.registry, sorted(service.types))
    await site.ask(
        Request("PUT", "/fhir/Patient/fuzz", headers=FHIR, body=b'{"resourceType":"Patient","id":"fuzz","active":true}')
    )
    statuses: Counter[int] = Counter()
    faults, rows = [], None
    for number in range(count):
        rng = Random(f"{kind} {seed} {number}")
        request = getattr(fuzz, kind)(rng)
        before = site.commits()
        rows = rows or site.rows()
        try:
            status, headers, body = await site.ask(request)
            fault = faults_of(request, status, headers, body)
        except Exception as error:  # noqa: BLE001  (whatever reaches the server's loop is a fault of the application)
            status, headers, body, fault = 0, {}, b"", f"{type(error).__name__} reached the server: {error}"
        if (
            fault is None
            and status == 200
            and b':"searchset"' in body
            and request.method == "GET"
            and rng.random() < 0.2
        ):
            fault = await broken_link(site, body)
        if site.commits() != before:
            left = site.rows()
            if fault is None and left != rows and (status >= 400 or request.method in ("GET", "HEAD")):
                fault = f"status {status}, and yet rows {rows} became {left}"
            rows = left
        if fault is not None:
            faults.append((seed, number, fault, shown(request), body[:500]))
        statuses[status] += 1
        remember(fuzz, rng, headers, body)
    return faults, statuses


async def broken_link(site, body):
    """What is wrong with a page's own links: each must answer as the page did."""
    told = json.loads(body)
    for link in told.get("link", ()):
        address = urlsplit(link["url"])
        status, _, page = await site.ask(Request("GET", unquote(address.path), address.query.encode()))
        if status == 414:  # percent-encoding made it longer than the request was
            continue
        if status != 200:
            return f"the link {link} answers {status} {page[:300]!r}"
        again = json.loads(page)
        if link["relation"] == "self" and "total" in told and again.get("total") != told["total"]:
            return f"the link {link} has the total {again.get('total')}, the page {told['total']}"
    return None


def remember(fuzz, rng, headers, body):
    """Keep what exists now, and links to pages, for later requests."""
    if "location" in headers:
        fuzz.ids.append("/".join(headers["location"].split("/")[-4:-2]))
    if b'"next"' in body and headers["content-type"].startswith("application/fhir+json"):
        for link in json.loads(body).get("link", ()):
            if link["relation"] == "next":
                fuzz.cursors.append(urlsplit(link["url"]).query.encode())
    for kept in (fuzz.ids, fuzz.cursors):
        if len(kept) > KEPT:
            kept.pop(rng.randrange(len(kept)))


def shown(request):
    return {name: value[:600] if isinstance(value, bytes) else value for name, value in vars(request).items()}


async def withstand(site, kind, seed, count):
    faults, statuses = await attack(site, kind, seed, count)
    assert not faults, "\n".join(map(str, faults[:10]))
    if kind != "anything":
        assert statuses[200] + statuses[201] > count / 50, statuses
    assert statuses[400] > count / 50, statuses
    status, _, body = await site.ask(Request("GET", "/fhir/Patient/fuzz"))
    assert status in (200, 410), body
    created = await site.ask(Request("POST", "/fhir/Patient", headers=FHIR, body=b'{"resourceType":"Patient"}'))
    assert created[0] == 201


@pytest.mark.parametrize("kind", KINDS)
async def test_bad_requests_never_end_in_a_500_and_leave_nothing(site, kind, rounds):
    await withstand(site, kind, 1, QUICK * rounds)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
async def test_100_000_bad_requests_never_end_in_a_500_and_leave_nothing(site, kind, rounds):
    await withstand(site, kind, 2, FULL[kind] * rounds)
