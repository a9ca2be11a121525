"""The application through ASGI, without a network: one store for the session, resources of their own for each test."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from fhir_server.app import create_app
from fhir_server.interactions.options import RestOptions
from fhir_server.settings import Settings
from fhir_server.storage.sqlite import SqliteOptions

BASE = "https://fhir.example.org/fhir"
FHIR = {"Content-Type": "application/fhir+json"}


@asynccontextmanager
async def serving(folder: Path, store: SqliteOptions | None = None, **options) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application over the store in `folder`."""
    settings = Settings(
        data_dir=folder,
        public_url="https://fhir.example.org",
        aliases=("http://alias.example.org",),
        auth="off",
        rest=RestOptions(access_log=False, **options),
        store=store or SqliteOptions(),
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=f"{BASE}/") as client:
            yield client


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def client(anyio_backend, tmp_path_factory) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(tmp_path_factory.mktemp("store")) as client:
        yield client


@pytest.fixture
def patient() -> dict:
    return {"resourceType": "Patient", "active": True, "name": [{"family": "Chalmers", "given": ["Peter"]}]}


async def made(client: httpx2.AsyncClient, resource: dict) -> dict:
    """The resource as created, with its id."""
    answer = await client.post(resource["resourceType"], content=json.dumps(resource), headers=FHIR)
    assert answer.status_code == 201, answer.text
    return answer.json()


def issue_of(answer: httpx2.Response) -> dict:
    """The first issue of an OperationOutcome answer."""
    assert answer.headers["content-type"].startswith("application/fhir+json")
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome", body
    return body["issue"][0]
