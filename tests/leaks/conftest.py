"""The leak suite drives applications through ASGI."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
