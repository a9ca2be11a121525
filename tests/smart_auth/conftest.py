"""An authorization server of its own for each test."""

import pytest

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from tests.smart_auth.apps import World


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def world(tmp_path):
    store = SqliteAuthStore.open(tmp_path)
    made = World(store)
    yield made
    await made.http.aclose()
    store.close()
