"""`/livez`, `/readyz`, `/metrics`: for the machines that watch over the server.

Rules: they stand outside the FHIR base, ask for no access token and are always let in, so they tell nothing of any resource; who may
reach them is the proxy's business. Alive: the event loop answers. Ready: the store can be read, its layout is this software's, writes
would be committed, the disk takes them; asked for again within a second, the answer is the same.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_server.observability.exposition import CONTENT_TYPE

REMEMBERED = 1.0
"""Seconds for which an answer about readiness holds."""

Faults = Mapping[str, str | None]
"""What was looked at, and what is wrong with it; None for nothing."""


@dataclass(slots=True)
class Watched:
    """What the probes ask: `faults` looks at everything, `scrape` gives the text of the metrics; None: not served."""

    faults: Callable[[], Awaitable[Faults]]
    scrape: Callable[[], Awaitable[bytes]] | None
    known: Faults = field(default_factory=dict)
    looked: float = float("-inf")


def health_routes(watched: Callable[[], Watched | None]) -> list[Route]:
    """The routes; `watched` gives None while the application is not (or no longer) serving."""

    async def livez(request: Request) -> Response:
        request.scope["route_shape"] = "/livez"
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        request.scope["route_shape"] = "/readyz"
        now = watched()
        if now is None:
            return JSONResponse({"status": "starting"}, 503)
        if time.monotonic() - now.looked > REMEMBERED:
            now.known = await now.faults()
            now.looked = time.monotonic()
        checks = {name: fault or "ok" for name, fault in now.known.items()}
        if any(now.known.values()):
            return JSONResponse({"status": "not ready", "checks": checks}, 503, headers={"Retry-After": "5"})
        return JSONResponse({"status": "ready", "checks": checks})

    async def metrics(request: Request) -> Response:
        request.scope["route_shape"] = "/metrics"
        now = watched()
        if now is None or now.scrape is None:
            return JSONResponse({"status": "no metrics"}, 404)
        return Response(await now.scrape(), headers={"Content-Type": CONTENT_TYPE})

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
