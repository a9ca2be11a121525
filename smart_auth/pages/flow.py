"""Which page comes next: one decision, asked by every page before it shows or does anything.

The order: sign in, second factor, password that must change, patient, consent, back to the app. Pages that are not needed are skipped;
who asks for a later one is sent to the one that is missing.

Rules.
1. `prompt=login`, `prompt=select_account` and a sign-in older than `max_age` make the person sign in again; `prompt=consent` shows the consent
   page of a trusted app, too; with `prompt=none` no page is shown: what would need one goes back to the app as an error.
2. Who is a patient, or related to one alone, has that patient; others choose.
3. A launch for somebody else, or for a patient that a patient or relative may not see, goes no further: not even its names are shown.

Specification: https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest,
https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from anyio import from_thread
from starlette.responses import Response

from smart_auth.model import Session, User, hashed
from smart_auth.oauth.authorization import Asked, Refused, finish, refuse
from smart_auth.pages.visit import Visit, refusal

Stop = Literal["login", "otp", "password", "patient", "consent", "apps", "finish", "refuse"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a visitor belongs. `request`: what the app asks for, if any; `error`: what it is told when the stop is `refuse`."""

    stop: Stop
    request: Asked | None = None
    error: str = ""


def place_of(visit: Visit) -> Place:
    """Where the visitor belongs now. Raises PageFault when the request under way has expired or is another session's."""
    request = visit.request_under_way()
    place = _signing_in(visit, request)
    if place is None:
        assert visit.signed_in is not None
        cookie, _, user = visit.signed_in
        if request is None:
            return Place("apps")
        place = _allowing(visit, visit.bound(request, cookie), user)
    if place.stop in _ERRORS and place.request is not None and "none" in place.request.prompt:
        return Place("refuse", place.request, _ERRORS[place.stop])
    return place


def go(visit: Visit, place: Place) -> Response:
    """Send the browser where it belongs."""
    if place.stop == "refuse":
        try:
            return visit.redirect(refuse(visit.parts, visit.tx, place.error, _REASONS[place.error]))
        except Refused as refused:
            raise refusal(refused) from None
    if place.stop == "finish":
        assert place.request is not None
        return end(visit, place.request, place.request.scopes, approved=True)
    return visit.redirect(visit.path(place.stop))


def end(visit: Visit, request: Asked, granted: Sequence[str], *, approved: bool) -> Response:
    """Finish the request under way and send the browser back to the app."""
    assert visit.signed_in is not None
    _, session, user = visit.signed_in
    try:
        url = finish(
            visit.parts, visit.tx, user, granted, request.context, approved=approved, auth_time=session.auth_time
        )
    except Refused as refused:
        raise refusal(refused) from None
    return visit.redirect(url)


def patients(visit: Visit, user: User, search: str) -> Sequence[tuple[str, str]]:
    """The patients (id, what to show) that the person may choose."""
    return from_thread.run(visit.parts.directory.patients, user, search)


def show(visit: Visit, ids: Sequence[str]) -> None:
    """Tell the audit which patients the page shows."""
    if ids:
        visit.told["keys"] = " ".join(f"Patient/{name}" for name in ids)


def is_own(user: User) -> bool:
    """Whether the person is here for themselves or a relative: a patient, not staff."""
    return user.fhir_user.startswith(("Patient/", "RelatedPerson/")) or set(user.roles) <= {"patient"}


def with_patient(visit: Visit, request: Asked, patient: str) -> Asked:
    """The request with its patient, kept."""
    context = replace(request.context, patient=patient)
    visit.keep(context=context)
    return replace(request, context=context, needs_patient=False)


_ERRORS = {
    "login": "login_required", "otp": "login_required", "password": "login_required", "patient": "interaction_required",
    "consent": "consent_required",
}  # fmt: skip
_REASONS = {
    "login_required": "the person must sign in",
    "interaction_required": "the person must choose a patient",
    "consent_required": "the person must allow the app",
    "access_denied": "the launch is not for this person",
}


def _signing_in(visit: Visit, request: Asked | None) -> Place | None:
    """The step of signing in that is missing."""
    if visit.signed_in is None:
        return Place("login", request)
    cookie, session, _ = visit.signed_in
    if request is not None and request.session != hashed(cookie) and _again(request, session, visit.parts.now()):
        return Place("login", request)
    if session.pending:
        return Place("otp" if session.pending == "otp" else "password", request)
    return None


def _again(request: Asked, session: Session, now: int) -> bool:
    """Whether the request wants the person to sign in though they have."""
    old = request.max_age is not None and now - session.auth_time >= request.max_age
    return old or bool({"login", "select_account"} & request.prompt)


def _allowing(visit: Visit, request: Asked, user: User) -> Place:
    """The step of a person who has signed in."""
    given = request.context.patient
    if request.user and request.user.casefold() != user.name.casefold():
        return Place("refuse", request, "access_denied")
    if given and is_own(user) and all(given != name for name, _ in patients(visit, user, given)):
        return Place("refuse", request, "access_denied")
    if request.needs_patient:
        choices = patients(visit, user, "") if is_own(user) else ()
        if len(choices) != 1:
            return Place("patient", request)
        request = with_patient(visit, request, choices[0][0])
    shown = not request.client.trusted or "consent" in request.prompt
    return Place("consent" if shown else "finish", request)
