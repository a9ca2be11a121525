"""Allowing an app: what it asks for as boxes to tick, and as granted what was ticked.

Rules.
1. Who one is and where one runs (`openid`, `fhirUser`, `launch...`) is part of signing in and not ticked. Everything else that was asked for is a
   ticked box, byte for byte.
2. Under a scope for all types there is an unticked box for each type; under one for all of Condition or Observation, one for each category. So a
   person may grant less: untick the wide one, tick narrower ones. A wide one that stays ticked wins.
3. Granted is what was posted, as far as it is derivable from what was asked.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html,
https://hl7.org/fhir/us/core/scopes.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import Response

from smart_auth.oauth.authorization import Asked
from smart_auth.pages.flow import end, go, patients, place_of, show
from smart_auth.pages.visit import STALE, Visit
from smart_auth.scopes import IDENTITY, LAUNCH, ResourceScope, chosen, parse

_CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
_OBSERVATION = "http://terminology.hl7.org/CodeSystem/observation-category"
_US_CORE = "http://hl7.org/fhir/us/core/CodeSystem"
CATEGORIES = {
    "Condition": (
        ("encounter-diagnosis", _CONDITION),
        ("problem-list-item", _CONDITION),
        ("health-concern", f"{_US_CORE}/condition-category"),
    ),
    "Observation": (
        ("laboratory", _OBSERVATION),
        ("vital-signs", _OBSERVATION),
        ("social-history", _OBSERVATION),
        ("survey", _OBSERVATION),
        ("sdoh", f"{_US_CORE}/us-core-category"),
        ("clinical-test", f"{_US_CORE}/us-core-observation-category"),
    ),
}
"""The categories a person may choose among, each with its own code system."""

TYPES = (
    "Account", "AdverseEvent", "AllergyIntolerance", "Appointment", "AppointmentResponse", "AuditEvent", "Basic", "Binary", "BodyStructure",
    "CarePlan", "CareTeam", "ChargeItem", "Claim", "ClaimResponse", "ClinicalImpression", "Communication", "CommunicationRequest",
    "Composition", "Condition", "Consent", "Coverage", "CoverageEligibilityRequest", "CoverageEligibilityResponse", "DetectedIssue", "Device",
    "DeviceRequest", "DeviceUseStatement", "DiagnosticReport", "DocumentManifest", "DocumentReference", "Encounter", "Endpoint",
    "EnrollmentRequest", "EpisodeOfCare", "ExplanationOfBenefit", "FamilyMemberHistory", "Flag", "Goal", "Group", "HealthcareService",
    "ImagingStudy", "Immunization", "ImmunizationEvaluation", "ImmunizationRecommendation", "Invoice", "List", "Location",
    "MeasureReport", "Media", "Medication", "MedicationAdministration", "MedicationDispense", "MedicationRequest", "MedicationStatement",
    "MolecularSequence", "NutritionOrder", "Observation", "Organization", "Patient", "Person", "Practitioner", "PractitionerRole",
    "Procedure", "Provenance", "Questionnaire", "QuestionnaireResponse", "RelatedPerson", "RequestGroup", "ResearchSubject",
    "RiskAssessment", "Schedule", "ServiceRequest", "Slot", "Specimen", "SupplyDelivery", "SupplyRequest", "Task", "VisionPrescription",
)  # fmt: skip
"""The types offered under a scope for all: those of the patient compartment and the directory."""

_LASTING = {
    "offline_access": "Keep this access while you are away, until you take it back",
    "online_access": "Keep this access while you stay signed in",
}
_VERBS = {"c": "create", "r": "read", "u": "change", "d": "delete", "s": "search"}
_WHOSE = {"patient": "this patient", "user": "what you may see", "system": "what the app may see"}


@dataclass(frozen=True, slots=True)
class Box:
    """One tick box. `depth` 0 for what was asked for, 1 and 2 for what is narrower."""

    scope: str
    label: str
    ticked: bool
    depth: int


def consent(visit: Visit) -> Response:
    """`/auth/consent`."""
    place = place_of(visit)
    if place.stop != "consent":
        return go(visit, place)
    assert visit.signed_in is not None
    assert place.request is not None
    wanted = " ".join(place.request.scopes)
    if visit.posted:
        action = visit.text("action")
        if action not in ("approve", "deny"):
            raise STALE
        visit.told["note"] = action
        granted = chosen(visit.form.get("scope", ()), wanted).split() if action == "approve" else []
        return end(visit, place.request, granted, approved=bool(granted))
    return _shown(visit, place.request, wanted)


def _shown(visit: Visit, request: Asked, wanted: str) -> Response:
    assert visit.signed_in is not None
    user, patient = visit.signed_in[2], request.context.patient
    named = dict(patients(visit, user, patient)).get(patient, patient) if patient else ""
    show(visit, [patient] if patient else [])
    return visit.page(
        "consent",
        200,
        request,
        app=request.client.name,
        unproven=request.client.legacy_no_pkce,
        target=target_of(request.redirect_uri),
        username=user.name,
        patient=patient,
        patient_name=named,
        hidden=[word for word in parse(wanted).words if is_given(word) and (word != "fhirUser" or user.fhir_user)],
        boxes=list(boxes(wanted)),
    )


def target_of(redirect_uri: str) -> str:
    """Where the browser goes next, as people read it: a host, or the scheme of an app on the device."""
    parts = urlsplit(redirect_uri)
    return parts.netloc or parts.scheme


def is_given(word: str) -> bool:
    """Whether a scope is part of signing in rather than ticked."""
    return word in LAUNCH or word in IDENTITY or word.startswith("launch/")


def boxes(asked: str) -> Iterator[Box]:
    """The boxes for what was asked for, in its order, each followed by the narrower ones; none twice."""
    scopes = parse(asked)
    told = set(asked.split())
    for one in scopes.resource:
        yield Box(one.text, label_of(one), ticked=True, depth=0)
        for box in _narrower(one):
            if box.scope not in told:
                told.add(box.scope)
                yield box
    for word in scopes.words:
        if not is_given(word):
            yield Box(word, _LASTING.get(word, word), ticked=True, depth=0)


def label_of(scope: ResourceScope) -> str:
    """A scope in words: `Observation, category laboratory: read, search (this patient)`."""
    what = "Everything" if scope.type == "*" else scope.type
    limits = "".join(f", {name} {value.rpartition('|')[2]}" for name, value in scope.query)
    verbs = ", ".join(_VERBS[letter] for letter in scope.letters)
    return f"{what}{limits}: {verbs} ({_WHOSE[scope.context]})"


def _narrower(scope: ResourceScope, depth: int = 1) -> Iterator[Box]:
    if scope.type == "*":
        end = scope.text.partition(".")[2]
        for kind in TYPES:
            (one,) = parse(f"{scope.context}/{kind}.{end}").resource
            yield Box(one.text, label_of(one), ticked=False, depth=depth)
            yield from _narrower(one, depth + 1)
    elif not scope.query:
        for code, system in CATEGORIES.get(scope.type, ()):
            (one,) = parse(f"{scope.context}/{scope.type}.{scope.letters}?category={system}|{code}").resource
            yield Box(one.text, label_of(one), ticked=False, depth=depth)
