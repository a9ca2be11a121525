"""The routes of the pages, and the frame around every handler: read, check the form, answer, or show the error page.

Specification: the pages and their fields in docs/signing-in.md
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from resources.errors import FhirError
from smart_auth import sessions
from smart_auth.pages.account import apps, devices
from smart_auth.pages.consent import consent
from smart_auth.pages.factor import factor
from smart_auth.pages.login import login, otp, password
from smart_auth.pages.patient import patient
from smart_auth.pages.visit import STALE, PageFault, Visit, is_csrf, read
from smart_auth.parts import AuthParts

Handler = Callable[[Visit], Response]

PAGES: dict[str, Handler] = {
    "login": login,
    "otp": otp,
    "password": password,
    "patient": patient,
    "consent": consent,
    "apps": apps,
    "sessions": devices,
    "factor": factor,
}


HASHING = frozenset({"login", "password", "factor"})
AT_ONCE = 4
"""Forms whose passwords are looked at at one time in a process: each takes 19 MiB, and a flood of them must not take the memory."""


def routes(parts: AuthParts) -> list[Route]:
    """The routes under `/auth/`."""
    hashing = CapacityLimiter(AT_ONCE)
    pages = [_route(name, handler, parts, hashing) for name, handler in PAGES.items()]
    return [*pages, Route("/auth/style.css", _style, methods=["GET"])]


def _route(name: str, handler: Handler, parts: AuthParts, hashing: CapacityLimiter) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope["route_shape"] = f"/auth/{name}"
        try:
            visit = await read(parts, request)
        except PageFault as fault:
            return error_page(parts, fault)
        except ClientDisconnect:
            return Response(status_code=400)
        request.scope["audit"] = visit.told
        limiter = hashing if visit.posted and name in HASHING else None
        return await to_thread.run_sync(_answer, name, handler, visit, request.cookies, limiter=limiter)

    return Route(f"/auth/{name}", endpoint, methods=["GET", "POST"])


def _answer(name: str, handler: Handler, visit: Visit, cookies: dict[str, str]) -> Response:
    try:
        visit = replace(visit, signed_in=sessions.current(visit.parts, cookies))
        if visit.signed_in is not None:
            visit.told["user"] = visit.signed_in[2].name
        if visit.posted and visit.signed_in is None and name != "login":
            return visit.redirect(visit.path("login"))
        if visit.posted and not is_csrf(visit.text("csrf"), visit.secret(name)):
            raise STALE
        return handler(visit)
    except PageFault as fault:
        visit.told["note"] = fault.error
        return error_page(visit.parts, fault)
    except FhirError as error:  # the store cannot be used at the moment, or the search was not to be understood
        answer = error_page(visit.parts, PageFault(error.status, "unavailable", "This is not possible at the moment."))
        answer.headers.update(error.headers)
        return answer


def error_page(parts: AuthParts, fault: PageFault) -> Response:
    """The error page: `main#auth-error[data-error=...]`."""
    visit = Visit(parts, posted=False, query={}, form={}, address="", device="", early="", signed_in=None)
    return visit.page("error", fault.status, code=fault.error, text=fault.message)


async def _style(_request: Request) -> Response:
    text = files("smart_auth.pages").joinpath("static/style.css").read_bytes()
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(text, media_type="text/css", headers=headers)
