"""A small SMART app to try a launch with, served under `/demo-app/` with `--demo` alone.

It is a public client without a server part: `app.js` discovers the endpoints, launches (standalone, or from `launch?iss=...&launch=...`), trades
the code with PKCE, and shows the patient. The page is static but for the FHIR base in it.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html
"""

from collections.abc import Awaitable, Callable
from html import escape
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

PATH: Final = "/demo-app"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def demo_app_routes(public: str, base: str) -> list[Route]:
    """The routes; `public` is the public URL and `base` the FHIR base, both without a slash at the end."""
    page = _read("index.html").replace("{base}", escape(base)).replace("{home}", escape(f"{public}{PATH}/"))
    return [
        Route(PATH, _moved, methods=["GET"]),
        Route(f"{PATH}/", _page(page, public), methods=["GET"]),
        Route(f"{PATH}/launch", _page(page, public), methods=["GET"]),
        Route(f"{PATH}/app.js", _serving(_read("app.js"), "text/javascript"), methods=["GET"]),
        Route(f"{PATH}/style.css", _serving(_read("style.css"), "text/css"), methods=["GET"]),
    ]


def _page(text: str, public: str) -> Callable[[Request], Awaitable[Response]]:
    """The page under the public URL; who came by another address (127.0.0.1 for localhost) is led there: apps are known by their origin."""
    serve = _serving(text, "text/html")
    host = urlsplit(public).hostname

    async def endpoint(request: Request) -> Response:
        if request.url.hostname != host:
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{public}{request.url.path}{query}", 307)
        return await serve(request)

    return endpoint


def _serving(text: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.scope["route_shape"] = PATH
        return Response(text, media_type=media_type, headers=_HEADERS)

    return endpoint


async def _moved(_request: Request) -> Response:
    return RedirectResponse("demo-app/", 308)


def _read(name: str) -> str:
    return files("fhir_server.demo_app").joinpath(name).read_text(encoding="utf-8")
