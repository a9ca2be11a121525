"""A record as an AuditEvent resource, in the shape of IHE's Basic Audit Log Patterns.

Rules.
1. The resource is made when it is asked for. Its id is the record's number in the ledger; it has one version.
2. Who reads it as the patient concerned (`only`) learns who did what when, and of the resources nothing but that it was about them: other patients' ids, what was
   shown of them, and network addresses are left out, and the resource is marked SUBSETTED.
3. A profile is claimed where its cardinalities hold; `query` holds the names of the parameters alone, since values may be names of people.

Specification: https://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/content.html
"""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

from fhir_server.audit.record import Record
from resources.model import Resource, instant

Outcome = Literal["0", "4", "8"]
Action = Literal["C", "R", "U", "D", "E"]

_PROFILE: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_EVENT: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_SUBSETTED: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
EMERGENCY: Final = "BTG"
_SOURCE: Final = ("110153", "Source Role ID")
_DESTINATION: Final = ("110152", "Destination Role ID")

_ACTIONS: Mapping[str, Action] = {
    "create": "C",
    "read": "R",
    "vread": "R",
    "history-instance": "R",
    "history-type": "R",
    "history-system": "R",
    "update": "U",
    "patch": "U",
    "delete": "D",
}
_BY_METHOD: Mapping[str, Action] = {"GET": "R", "HEAD": "R", "PUT": "U", "PATCH": "U", "DELETE": "D"}
"""Of what has no code of its own, such as conditional writes."""
_PAGES: Final = "/auth/"
COMMAND: Final = "command"
"""The shape of what was done on the command line; `code` is the command."""
_IMPORT: Final = ("110107", "Import")
_ALERT: Final = ("110113", "Security Alert")
_SESSIONS: Mapping[str, tuple[str, str]] = {"login": ("110122", "Login"), "logout": ("110123", "Logout")}
_STATUSES: Final = frozenset(HTTPStatus)
_QUERIES: Final = frozenset({"search-type", "search-system", "search-compartment"})
_NAMES: Mapping[Action, str] = {"C": "Create", "R": "Read", "U": "Update", "D": "Delete", "E": "Query"}


def outcome_of(record: Record) -> Outcome:
    """https://hl7.org/fhir/R4/valueset-audit-event-outcome.html: success, minor failure (refused), serious failure."""
    if record.kind != "request" or record.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "8"
    return "4" if record.status >= HTTPStatus.BAD_REQUEST else "0"


def action_of(record: Record) -> Action:
    """https://hl7.org/fhir/R4/valueset-audit-event-action.html."""
    if record.code == "unknown" and not record.shape.startswith(_PAGES):
        return _BY_METHOD.get(record.method, "E")
    return _ACTIONS.get(record.code, "E")


def event(seq: int, record: Record, patients: Sequence[str], base: str, only: Collection[str] | None) -> Resource:
    """The AuditEvent. `patients`: ids concerned; `only`: the patients that the reader is told of, None for all."""
    told = [name for name in patients if only is None or name in only]
    reduced = only is not None
    moment = instant(record.time)
    meta: dict[str, Any] = {"versionId": "1", "lastUpdated": moment}
    profile = None if reduced else _profile(record, told)
    if profile:
        meta["profile"] = [profile]
    if reduced:
        meta["tag"] = [_SUBSETTED]
    found: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": str(seq),
        "meta": meta,
        "type": _type(record),
        "subtype": [_subtype(record)],
        "action": action_of(record),
        "recorded": moment,
        "outcome": outcome_of(record),
        "outcomeDesc": _said(record),
    }
    purpose = record.purpose or (EMERGENCY if set(record.broken) & set(told) else "")
    if purpose:
        found["purposeOfEvent"] = [{"coding": [_coding(_REASON, purpose)]}]
    found["agent"] = _agents(record, base, purpose, reduced=reduced)
    found["source"] = {
        "observer": {"display": base},
        "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4"}],
    }
    found["entity"] = _entities(record, told, reduced=reduced)
    return found


def _profile(record: Record, patients: Sequence[str]) -> str | None:
    query = record.code in _QUERIES
    if outcome_of(record) != "0" or not (query or (record.code in _ACTIONS and len(record.keys) == 1)):
        return None
    if record.code.startswith("history"):
        return None
    return f"{_PROFILE}{'Patient' if len(patients) == 1 else ''}{_NAMES[action_of(record)]}"


def _type(record: Record) -> Mapping[str, str]:
    if record.kind in ("torn", "broken"):
        return {"system": _DICOM, "code": "110101", "display": "Audit Log Used"}
    if record.shape.startswith(_PAGES):
        return {"system": _DICOM, "code": "110114", "display": "User Authentication"}
    if record.shape == COMMAND:
        code, display = _IMPORT if record.code == "load" else _ALERT
        return {"system": _DICOM, "code": code, "display": display}
    return {"system": _EVENT, "code": "rest", "display": "RESTful Operation"}


def _subtype(record: Record) -> Mapping[str, str]:
    if record.code in _ACTIONS or record.code in ("search-type", "search-system", "operation"):
        return {"system": _INTERACTION, "code": record.code}
    if record.code in _SESSIONS and record.shape.startswith(_PAGES):
        code, display = _SESSIONS[record.code]
        return {"system": _DICOM, "code": code, "display": display}
    return {"display": record.code or record.kind}


def _said(record: Record) -> str:
    if record.kind == "begun":
        who = "command ended before it was done" if record.shape == COMMAND else "server ended before it answered"
        return f"The {who}; whether it was written is not known"
    if record.kind != "request":
        return f"Journal {record.journal}: {record.note}"
    phrase = HTTPStatus(record.status).phrase if record.status in _STATUSES else ""
    return f"{record.status} {phrase}".strip() + (f": {record.note}" if record.note else "")


def _agents(record: Record, base: str, purpose: str, *, reduced: bool) -> list[dict[str, Any]]:
    reading = action_of(record) == "R"
    client, server = (_DESTINATION, _SOURCE) if reading else (_SOURCE, _DESTINATION)
    agents = [_user(record, purpose)] if record.user else []
    app: dict[str, Any] = {"type": _coded(_DICOM, *client), "who": {"display": "not known"}, "requestor": not agents}
    if record.client:
        app["who"] = {"identifier": {"value": record.client}, "display": record.client}
    if record.address and not reduced:
        app["network"] = {"address": record.address, "type": "2"}
    own = {
        "type": _coded(_DICOM, *server),
        "who": {"display": base},
        "requestor": False,
        "network": {"address": base, "type": "5"},
    }
    return [*agents, app, own]


def _user(record: Record, purpose: str) -> dict[str, Any]:
    who: dict[str, Any] = {"identifier": {"value": record.user}, "display": record.user}
    if record.fhir_user:
        who = {"reference": record.fhir_user, **who}
    found: dict[str, Any] = {"type": _coded("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")}
    if record.roles:
        found["role"] = [{"text": role} for role in record.roles]
    found |= {"who": who, "requestor": True}
    if purpose:
        found["purposeOfUse"] = [{"coding": [_coding(_REASON, purpose)]}]
    return found


def _entities(record: Record, patients: Sequence[str], *, reduced: bool) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"what": {"reference": f"Patient/{name}"}, "type": _coding(_ENTITY, "1"), "role": _coding(_ROLE, "1")}
        for name in patients
    ]
    if not reduced:
        found += [
            {"what": {"reference": key}, "type": _coding(_ENTITY, "2"), "role": _coding(_ROLE, "4")}
            for key in record.keys
        ]
        if record.code in _QUERIES:
            asked = f"{record.type}?{'&'.join(record.parameters)}".encode()
            found.append(
                {"type": _coding(_ENTITY, "2"), "role": _coding(_ROLE, "24"), "query": b64encode(asked).decode()}
            )
    if record.request and not reduced:
        transaction = _coding("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId")
        found.append({"what": {"identifier": {"value": record.request}}, "type": transaction})
    return found


def _coding(system: str, code: str) -> dict[str, str]:
    return {"system": system, "code": code}


def _coded(system: str, code: str, display: str = "") -> dict[str, Any]:
    return {"coding": [{**_coding(system, code), **({"display": display} if display else {})}]}
