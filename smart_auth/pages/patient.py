"""Choosing the patient whose data an app is to see.

Rules: only patients that the person may see are shown and taken; the search (`?q=`) goes by id or name; the choice is looked up again when it
comes back, for the form is the browser's. Who was shown is told to the audit.
"""

from urllib.parse import urlencode

from starlette.responses import Response

from smart_auth.pages.flow import go, is_own, patients, place_of, show, with_patient
from smart_auth.pages.visit import Visit

_LONGEST = 100


def patient(visit: Visit) -> Response:
    """`/auth/patient`."""
    place = place_of(visit)
    if place.stop != "patient":
        return go(visit, place)
    assert visit.signed_in is not None
    assert place.request is not None
    user, error, message = visit.signed_in[2], "", ""
    if visit.posted and visit.text("search"):
        return visit.redirect(f"{visit.path('patient')}&{urlencode({'q': visit.text('q')})}")
    if visit.posted:
        chosen = visit.text("patient")
        if chosen and any(chosen == name for name, _ in patients(visit, user, chosen[:_LONGEST])):
            with_patient(visit, place.request, chosen)
            return go(visit, place_of(visit))
        error, message = "no_patient", "Choose one of the patients."
    search = visit.text("q").strip()[:_LONGEST]
    found = patients(visit, user, search)
    show(visit, [name for name, _ in found])
    return visit.page(
        "patient",
        400 if error else 200,
        place.request,
        error=error,
        message=message,
        search=search,
        searchable=not is_own(user),
        patients=found,
        app=place.request.client.name,
    )
