"""What every contract test works with: an open store of each kind, and records made by hand."""

import json
import os

import pytest

from fhir_server.storage.port import Put, UnitOfWork
from fhir_server.storage.sqlite import SqliteOptions, SqliteStore
from resources.json_format import Template
from resources.model import ResourceKey
from search.entries import Entries, ReferenceEntry, TokenEntry


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=["sqlite"])
def open_store(request, tmp_path):
    """Opens the store of this test; every call gives another process's view of it."""

    def make(**options):
        return SqliteStore.open(tmp_path / "store.db", SqliteOptions(**{"deadline": 20.0, **options}))

    return make


@pytest.fixture
async def store(open_store, anyio_backend):
    opened = open_store()
    yield opened
    await opened.close()


def content(key, **members):
    """The template of a resource with these members."""
    head = json.dumps({"resourceType": key.type, "id": key.id, **members}).encode()
    return Template(head[:-1] + b',"meta":{"versionId":', b"}}")


def put(name, *, method="PUT", expected=None, entries=None, **members):
    """A Put of `Type/id`."""
    key = ResourceKey(*name.split("/"))
    found = entries if entries is not None else Entries()
    return Put(key, content(key, **members), found, method, expected)


def unit(*writes, guards=(), follow_ups=()):
    return UnitOfWork(tuple(writes), tuple(guards), tuple(follow_ups))


def tagged(code, *references):
    """Entries with one token of `code` and references of `subject`."""
    return Entries(
        tokens=[TokenEntry("code", "s", code)],
        references=[ReferenceEntry("subject", ResourceKey(*name.split("/")), "") for name in references],
    )


@pytest.fixture(scope="session")
def make():
    """The makers of this module, for tests."""

    class Makers:
        content = staticmethod(content)
        put = staticmethod(put)
        unit = staticmethod(unit)
        tagged = staticmethod(tagged)
        pid = staticmethod(os.getpid)

    return Makers
