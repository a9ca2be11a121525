"""The part of the composition that authorizes: the store of users and keys, the tokens, the routes of the authorization server.

It is made in each serving process, after the fork, with the store of resources. With `--auth off` there is none of it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable

import structlog
from starlette.datastructures import State
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_server.http.address import address_of
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.auth import SqliteAuthStore
from resources.errors import FhirError
from smart_auth.pages.routes import routes as page_routes
from smart_auth.parts import AuthParts
from smart_auth.ports import AuthStore, Directory
from smart_auth.tokens import Tokens

SWEEP_EVERY = 30.0
_log = structlog.get_logger()


def seconds() -> int:
    """Whole seconds since 1970."""
    return int(time.time())


def tokens_of(store: AuthStore, settings: Settings, base: str) -> Tokens:
    """What signs and checks the tokens for a FHIR base."""
    return Tokens(store, base, base, settings.smart, seconds)


def compose_auth(settings: Settings, store: AuthStore, directory: Directory) -> AuthParts:
    """What endpoints and pages work with."""
    return AuthParts(
        store=store,
        tokens=tokens_of(store, settings, settings.base),
        options=settings.smart,
        directory=directory,
        public=settings.public,
        base=settings.base,
        now=seconds,
        address=address_of(settings.trusted_proxies),
    )


def auth_routes(parts: AuthParts) -> list[BaseRoute]:
    """Everything that the authorization server answers."""
    from smart_auth.oauth.break_glass import routes as break_glass_routes  # noqa: PLC0415
    from smart_auth.oauth.endpoints import routes as oauth_routes  # noqa: PLC0415  (Authlib and cryptography, for this alone)

    return [*oauth_routes(parts), *page_routes(parts), *break_glass_routes(parts)]


@contextlib.asynccontextmanager
async def authorizing(state: State, settings: Settings, directory: Directory) -> AsyncIterator[None]:
    """Open the store of authorization while the application serves; drop what has expired now and then.

    Sets `state.auth` (AuthParts) and `state.auth_router` (an ASGI application); with `--auth off` both are None.
    """
    state.auth, state.auth_router = None, None
    if settings.auth == "off":
        yield
        return
    store = await asyncio.to_thread(SqliteAuthStore.open, settings.data_dir)
    state.auth = compose_auth(settings, store, directory)
    state.auth_router = ExceptionMiddleware(Router(auth_routes(state.auth), redirect_slashes=False))
    sweeping = asyncio.create_task(_sweep(store))
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.to_thread(store.close)


async def _sweep(store: AuthStore) -> None:
    while True:
        try:
            await asyncio.to_thread(store.sweep, seconds())
        except FhirError as error:  # the disk is full or the file is locked: later it may not be
            _log.error("auth_store_unavailable", reason=str(error))
        await asyncio.sleep(SWEEP_EVERY)


def beside(app: ASGIApp, prefix: str) -> ASGIApp:
    """What is the authorization server's, also below the FHIR base's prefix, goes to `app.state.auth_router` when there is one."""
    own = ("/auth/", "/.well-known/", f"{prefix}/.well-known/")

    def layer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        own_app: ASGIApp | None = scope["app"].state.auth_router if scope["path"].startswith(own) else None
        return (own_app or app)(scope, receive, send)

    return layer
