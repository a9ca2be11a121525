"""An application of a test's own, with any settings, driven through ASGI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from fhir_server.app import create_app
from fhir_server.settings import Settings

BASE = "https://fhir.example.org/fhir/"
FHIR = {"Content-Type": "application/fhir+json"}


@asynccontextmanager
async def running(folder, **settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application over the store in `folder`; `client.app` is the application."""
    usual = {"public_url": "https://fhir.example.org", "auth": "off"}
    app = create_app(Settings(data_dir=folder, **(usual | settings)))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
            client.app = app
            yield client
