"""The composition root: settings in, application out. Everything is put together here, by explicit arguments.

The application is FastAPI's; the FHIR API is one ASGI endpoint, and the layers around every answer stand before both: a request for a resource
never enters FastAPI. The store is opened when the application starts (in the serving process, after any fork) and closed when it ends.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_server.audit.reading import TYPE as AUDIT_EVENT
from fhir_server.audit.reading import AuditReader
from fhir_server.audit.trail import audited, recording
from fhir_server.auth import authorizing, beside
from fhir_server.demo_app import demo_app_routes
from fhir_server.directory import StoreDirectory
from fhir_server.http.access import Gate
from fhir_server.http.address import address_of
from fhir_server.http.endpoint import FhirEndpoint
from fhir_server.http.health import health_routes
from fhir_server.http.limits import admission
from fhir_server.http.middleware import body_limit, cors, gzip, observed, request_id
from fhir_server.http.rates import Rates, limited
from fhir_server.http.routes import table_of
from fhir_server.http.table import ROUTES
from fhir_server.http.transport import secured
from fhir_server.interactions.assembly import UNGUARDED, assemble, compose
from fhir_server.observability.board import Board
from fhir_server.openapi.routes import openapi_routes
from fhir_server.settings import Settings
from fhir_server.watch import compose_watch, watching
from smart_auth.oauth import OPEN

PREFIX = "/fhir"


class Application(FastAPI):
    """FastAPI behind `layers`, the first of which is the outermost. HTTP requests alone come to them."""

    def __init__(self, layers: Sequence[Middleware], **settings: Any) -> None:
        super().__init__(**settings)
        self.layers = tuple(layers)
        self._layered: ASGIApp = super().__call__
        for cls, args, kwargs in reversed(self.layers):
            self._layered = cls(self._layered, *args, **kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            scope["app"] = self
            await self._layered(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def below(app: ASGIApp, prefix: str, endpoint: FhirEndpoint) -> ASGIApp:
    """Everything at and below a prefix is the endpoint's; the rest of the application never sees it."""
    deeper = f"{prefix}/"

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path: str = scope["path"]
        inner = endpoint if path.startswith(deeper) or path == prefix else app
        return inner(scope, receive, send)

    return layer


def create_app(settings: Settings, board: Board | None = None) -> Application:
    """The application for `settings`. Definitions are loaded now, so that forked workers share them.

    `board` shows what this process counts to the server's other processes.
    """
    options = settings.rest
    reader = AuditReader(settings.data_dir, settings.store)
    projected = {AUDIT_EVENT: reader.projected()} if settings.recorded else {}
    security: Mapping[str, Any] = UNGUARDED
    if settings.auth != "off":
        from smart_auth.oauth.discovery import capability_security  # noqa: PLC0415  (Authlib takes a third of a second)

        security = capability_security(settings.public)
    parts = compose(settings.base, settings.base_aliases, options, settings.search, projected, security)
    parts.statement()  # now rather than in the first request: it takes a third of a second
    watch = compose_watch(settings, parts, board or Board(("worker-1",)), PREFIX)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await assemble(parts, settings.data_dir, settings.store)
        app.state.service = service
        try:
            async with (
                watching(watch, service),
                recording(watch.trail),
                authorizing(app.state, settings, StoreDirectory(service, lambda: app.state.gate)),
            ):
                app.state.gate = None if app.state.auth is None else Gate(service, app.state.auth)
                yield
        finally:
            await service.store.close()

    rates = None
    if settings.auth != "off":
        rates = Rates(settings.rates, settings.workers, address_of(settings.trusted_proxies))
    endpoint = FhirEndpoint(table_of(ROUTES, projected), PREFIX, watch.trail.begin, rates)
    app = Application(
        (
            Middleware(request_id),
            Middleware(observed, observe=watch.observer),
            Middleware(secured, https=settings.public.startswith("https://")),
            Middleware(cors, prefixes=(PREFIX, *OPEN)),
            Middleware(limited, rates=rates, prefix=PREFIX),
            Middleware(audited, trail=watch.trail),
            Middleware(admission, guard=watch.guard, prefix=PREFIX),
            Middleware(body_limit, limit=options.body_limit),
            Middleware(gzip),
            Middleware(beside, prefix=PREFIX),
            Middleware(below, prefix=PREFIX, endpoint=endpoint),
        ),
        title="fhir-server",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # its spans would carry paths, which name records
        lifespan=lifespan,
        routes=[
            *health_routes(lambda: watch.watched),
            *openapi_routes(settings.public, projected, guarded=settings.auth != "off"),
            *(demo_app_routes(settings.public, settings.base) if settings.demo and settings.auth == "required" else ()),
        ],
    )

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process serves."""
        return {"status": "ok"}

    return app
