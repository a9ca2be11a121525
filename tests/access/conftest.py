"""One hospital for the session, for tests that leave it as it is; one for those that add to it, and one of its own for those that change it."""

import pytest

from tests.access.hospital import opened


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def hospital(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("hospital")) as made:
        yield made


@pytest.fixture(scope="session")
async def workshop(anyio_backend, tmp_path_factory):
    """Another one, for tests that add what no other test minds."""
    async with opened(tmp_path_factory.mktemp("workshop")) as made:
        yield made


@pytest.fixture
async def fresh(anyio_backend, tmp_path):
    async with opened(tmp_path) as made:
        yield made
