"""The routes of OAuth 2.0 and OpenID Connect: a thin shell that reads a request, calls its function in a worker thread, and answers.

Rules.
1. Machines send their parameters as a form, never in the URL, each once; what cannot be read is `invalid_request`.
2. Discovery is JSON whatever `Accept` says.

Specification: https://www.rfc-editor.org/rfc/rfc6749#section-3, https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2 import OAuth2Error
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from resources.errors import FhirError
from smart_auth.oauth.answers import NO_STORE, answered, fault, refused, unavailable
from smart_auth.oauth.authentication import Authentication, MachineRequest
from smart_auth.oauth.authorization import Refused, begin
from smart_auth.oauth.client_keys import ClientKeys
from smart_auth.oauth.discovery import STYLE, openid_configuration, smart_configuration
from smart_auth.oauth.fetching import fetch
from smart_auth.oauth.inspection import Inspection
from smart_auth.oauth.parameters import MOST_BYTES, ParameterFault, Parameters, read
from smart_auth.oauth.registration import Registration
from smart_auth.oauth.server import TokenEndpoint
from smart_auth.oauth.session_end import end_session
from smart_auth.pages.routes import error_page
from smart_auth.pages.visit import PageFault, refusal
from smart_auth.parts import AuthParts
from smart_auth.redirects import LOOPBACK

_FORM = "application/x-www-form-urlencoded"
_CACHED = {"Cache-Control": "public, max-age=300"}


def routes(parts: AuthParts) -> list[Route]:
    """The routes under `/auth/` and `.well-known`."""
    keys = ClientKeys(partial(fetch, loopback=urlsplit(parts.public).hostname in LOOPBACK), parts.now)
    authentication = Authentication(parts.store, keys, f"{parts.public}/auth/token", parts.now)
    inspection = Inspection(parts, authentication)
    page = partial(_page_fault, parts)
    prefix = urlsplit(parts.base).path.removeprefix(urlsplit(parts.public).path)
    return [
        _route("/auth/authorize", partial(_authorize, parts), ("GET", "POST"), page),
        _route("/auth/logout", partial(_logout, parts), ("GET", "POST"), page),
        _route("/auth/token", partial(_machine, TokenEndpoint(parts, authentication).answer)),
        _route("/auth/introspect", partial(_machine, inspection.introspect)),
        _route("/auth/revoke", partial(_machine, inspection.revoke)),
        _route("/auth/userinfo", partial(_machine, inspection.userinfo), ("GET", "POST")),
        _route("/auth/register", partial(_register, Registration(parts))),
        _document("/auth/jwks", parts.tokens.jwks),
        _document("/auth/smart-style.json", lambda: STYLE),
        _document(f"{prefix}/.well-known/smart-configuration", partial(smart_configuration, parts)),
        _document("/.well-known/smart-configuration", partial(smart_configuration, parts)),
        _document(f"{prefix}/.well-known/openid-configuration", partial(openid_configuration, parts)),
    ]


def _machine_fault(error: ParameterFault) -> Response:
    return refused(fault("invalid_request", str(error)))


def _page_fault(parts: AuthParts, error: ParameterFault) -> Response:
    return error_page(parts, PageFault(400, "invalid_request", f"The request cannot be read: {error}."))


def _route(
    path: str,
    answer: Callable[[Request], Awaitable[Response]],
    methods: Sequence[str] = ("POST",),
    unreadable: Callable[[ParameterFault], Response] = _machine_fault,
) -> Route:
    """A route with the frame around every endpoint: faults become answers."""

    async def endpoint(request: Request) -> Response:
        request.scope["route_shape"] = path
        try:
            return await answer(request)
        except ParameterFault as error:
            return await run_in_threadpool(unreadable, error)
        except OAuth2Error as error:
            request.scope.setdefault("audit", {})["note"] = error.error
            return refused(error)
        except FhirError as error:
            return unavailable(error)

    return Route(path, endpoint, methods=list(methods))


def _document(path: str, made: Callable[[], Mapping[str, Any]]) -> Route:
    """A public document that may be kept for some minutes."""

    async def answer(_request: Request) -> Response:
        return answered(await run_in_threadpool(made), headers=_CACHED)

    return _route(path, answer, ("GET",))


async def _machine(handler: Callable[[MachineRequest], Response], request: Request) -> Response:
    """The form of a machine, given to its handler."""
    if request.url.query:
        raise ParameterFault("parameters are sent in the body, not in the URL")
    parameters = await _parameters(request)
    if parameters.repeated:
        raise ParameterFault("a parameter is given more than once")
    machine = MachineRequest(request.headers.getlist("authorization"), parameters.values)
    request.scope["audit"] = machine.audit
    return await run_in_threadpool(handler, machine)


async def _authorize(parts: AuthParts, request: Request) -> Response:
    parameters = await _parameters(request)
    try:
        url = await run_in_threadpool(begin, parts, parameters)
    except Refused as error:
        return await run_in_threadpool(error_page, parts, refusal(error))
    return RedirectResponse(url, 303, headers={**NO_STORE, "Referrer-Policy": "no-referrer"})


async def _logout(parts: AuthParts, request: Request) -> Response:
    return await run_in_threadpool(end_session, parts, await _parameters(request), request.cookies)


async def _register(registration: Registration, request: Request) -> Response:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise fault("invalid_token", "an initial access token is needed, as Authorization: Bearer", 401)
    if _media_type(request) != "application/json":
        raise fault("invalid_client_metadata", "the body is to be application/json")
    return await run_in_threadpool(registration, token.strip(), await _body(request))


async def _parameters(request: Request) -> Parameters:
    """The parameters of the query and, when posted, of the form."""
    query: bytes = request.scope["query_string"]
    if request.method != "POST":
        return read(query)
    body = await _body(request)
    if body and _media_type(request) != _FORM:
        raise ParameterFault(f"the body is to be {_FORM}")
    return read(query, body)


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                raise ParameterFault(f"the body has more than {MOST_BYTES} bytes")
    except ClientDisconnect:
        raise ParameterFault("the client went away") from None
    return bytes(body)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
