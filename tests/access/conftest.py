"""One hospital for the session, for tests that leave it as it is; one of its own for those that write."""

import pytest

from tests.access.hospital import opened


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def hospital(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("hospital")) as made:
        yield made


@pytest.fixture
async def fresh(anyio_backend, tmp_path):
    async with opened(tmp_path) as made:
        yield made
