"""One hospital for each module of attacks on data."""

from collections.abc import AsyncIterator

import pytest

from tests.attacks.hospital import Hospital
from tests.leaks.hospital import seeds
from tests.leaks.worlds import Clock, house


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def hospital(anyio_backend, tmp_path_factory) -> AsyncIterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    async with house(folder, seeds(), Clock()) as made:
        yield Hospital(made, folder, {})
