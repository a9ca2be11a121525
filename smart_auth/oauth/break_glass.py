"""`POST /auth/break-glass` opens a record (`smart_auth.break_glass`), `POST /auth/break-glass/lookup` finds the patient.

Rules.
1. With an access token of a person who may, for the patients that the person may see (a `user/` scope that reads all of them). Both take
   and answer JSON.
2. A patient of the person's organization is found by exact medical record number, or by name and birth date; these three are all that is
   told. A search that finds nobody counts, whatever others find, so that numbers cannot be tried out; a long quiet is forgiven.
3. The answer names its purpose of use for the audit.

Specification: https://terminology.hl7.org/CodeSystem-v3-ActReason.html (BTG)
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import anyio.from_thread
from authlib.oauth2 import OAuth2Error
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from resources.errors import FhirError
from smart_auth import attempts
from smart_auth.break_glass import MOST_MINUTES, PURPOSE, open_record
from smart_auth.model import Identified, Principal
from smart_auth.oauth.answers import answered, fault, refused, unavailable
from smart_auth.oauth.authentication import MachineRequest
from smart_auth.oauth.inspection import bearer
from smart_auth.parts import AuthParts
from smart_auth.roles import BREAKING_GLASS
from smart_auth.scopes import parse

_LONGEST: Final = 8 * 1024
_REASON: Final = 1000
_LOOKUP_FACTOR: Final = 4
"""How many times more searches may find nobody than logins may fail."""

Verb = Callable[[AuthParts, Principal, Mapping[str, Any], dict[str, str]], Response]
"""The last: what the audit is told, `keys` of patients among it."""


def routes(parts: AuthParts) -> list[Route]:
    """The two routes."""
    return [
        _route("/auth/break-glass", _open, parts),
        _route("/auth/break-glass/lookup", _lookup, parts),
    ]


def _open(parts: AuthParts, principal: Principal, body: Mapping[str, Any], told: dict[str, str]) -> Response:
    _known_members(body, {"patient", "reason", "minutes"})
    minutes, reason = body.get("minutes"), _text(body, "reason")
    if type(minutes) is not int or not 1 <= minutes <= MOST_MINUTES:
        raise fault("invalid_request", f"minutes is a whole number from 1 to {MOST_MINUTES}")
    if len(reason) > _REASON:
        raise fault("invalid_request", f"reason has more than {_REASON} characters")
    patient = _patient(parts, principal, _text(body, "patient"))
    told |= {"keys": f"Patient/{patient}", "note": f"{minutes} min"}
    end = open_record(parts.store, principal.user, patient, reason, principal.client, parts.now(), minutes)
    until = datetime.fromtimestamp(end, UTC).isoformat().replace("+00:00", "Z")
    return answered({"patient": f"Patient/{patient}", "until": until, "purpose": PURPOSE}, 201)


def _lookup(parts: AuthParts, principal: Principal, body: Mapping[str, Any], told: dict[str, str]) -> Response:
    if body.keys() == {"mrn"}:
        found = _identified(parts, principal, mrn=_text(body, "mrn"))
    elif body.keys() == {"name", "birthDate"}:
        found = _identified(parts, principal, name=_text(body, "name"), birth_date=_text(body, "birthDate"))
    else:
        raise fault("invalid_request", "a patient is looked up by mrn, or by name and birthDate")
    told["keys"] = " ".join(f"Patient/{row.id}" for row in found)
    return answered({"patients": [{"name": row.name, "birthDate": row.birth_date, "mrn": row.mrn} for row in found]})


def _patient(parts: AuthParts, principal: Principal, named: str) -> str:
    """The id of the patient who is named by an id, a reference or a medical record number."""
    plain = named.removeprefix("Patient/")
    if "/" not in plain and anyio.from_thread.run(parts.directory.exists, f"Patient/{plain}", principal):
        return plain
    found = _identified(parts, principal, mrn=named)
    if not found:
        raise fault("invalid_request", "there is no such patient", 404)
    if len(found) > 1:
        raise fault("invalid_request", "several patients have this number; name one by id", 409)
    return found[0].id


def _identified(
    parts: AuthParts, principal: Principal, *, mrn: str = "", name: str = "", birth_date: str = ""
) -> list[Identified]:
    """The patients found; who finds nobody too often waits."""
    who, now = attempts.subject("break-glass", principal.user), parts.now()
    if attempts.wait(parts.store, who, parts.options.login_limit * _LOOKUP_FACTOR, now):
        raise fault("slow_down", "too many searches that found nobody; wait a while", 429)
    found = list(anyio.from_thread.run(parts.directory.identify, mrn, name, birth_date, principal))
    if not found:
        attempts.failed(parts.store, who, now)
    return found


def _route(path: str, verb: Verb, parts: AuthParts) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope["route_shape"] = path
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > _LONGEST:
                    break
        except ClientDisconnect:
            return Response(status_code=400)
        given = request.headers.getlist("authorization")
        return await run_in_threadpool(_answer, parts, verb, given, bytes(body), request.scope)

    return Route(path, endpoint, methods=["POST"])


def _answer(parts: AuthParts, verb: Verb, authorization: list[str], body: bytes, scope: Scope) -> Response:
    try:
        principal = bearer(parts, MachineRequest(authorization, {}))
        scope.update(principal=principal, purpose=PURPOSE, audit={})
        _require_carer(principal)
        return verb(parts, principal, _object(body), scope["audit"])
    except OAuth2Error as error:
        return refused(error)
    except FhirError as error:
        return unavailable(error)


def _require_carer(principal: Principal) -> None:
    """Raise unless it is a person who may break the glass, with a token for the patients whom the person may see."""
    if not principal.user or BREAKING_GLASS.isdisjoint(principal.roles):
        raise fault("insufficient_scope", f"only {', '.join(sorted(BREAKING_GLASS))} may open a record", 403)
    scopes = parse(principal.scope).of("Patient", "r")
    if not any(one.context == "user" and not one.query for one in scopes):
        raise fault("insufficient_scope", "the access token has no user/ scope that reads patients", 403)


def _object(body: bytes) -> Mapping[str, Any]:
    if len(body) > _LONGEST:
        raise fault("invalid_request", f"the body has more than {_LONGEST} bytes", 413)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise fault("invalid_request", "the body is no JSON") from None
    if not isinstance(found, dict):
        raise fault("invalid_request", "the body is no JSON object")
    return found


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise fault("invalid_request", f"{name} is a text that is not empty")
    return value.strip()


def _known_members(body: Mapping[str, Any], names: set[str]) -> None:
    if unknown := sorted(body.keys() - names):
        raise fault("invalid_request", f"{unknown[0]}: there is no such member")
