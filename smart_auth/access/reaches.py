"""Reaches as nodes: whose resources they are, by what is recorded of care.

Rules. A practitioner looks after a patient as a member of an active CareTeam (in person, in a role, or through the organization), as a participant of
an Encounter that is open or ended some days ago, as a participant of an Appointment some days ahead or ago, as performer of an active ServiceRequest
or owner of an active Task, or as general practitioner. Days are settings. All of these count only as far as they belong to the practitioner's own
organization. What is of several patients is seen when one of them is; it is written only when all of them are.

Specification: https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from resources.errors import FhirError
from resources.model import ResourceKey
from search.parser import parse
from search.query import (
    HasId,
    HierarchyTest,
    InCompartment,
    InCompartments,
    Match,
    Node,
    Not,
    Nothing,
    OwnedBy,
    Owners,
    ReferenceTest,
    Reverse,
)
from smart_auth.access.algebra import both, either
from smart_auth.access.facts import PATIENT, Facts, Rules
from smart_auth.model import Principal
from smart_auth.roles import Reach

_OPEN: Final = ("status", "arrived,triaged,in-progress,onleave")
_OVER: Final = ("date", "eb9999-12-31")
_BOOKED: Final = ("status", "proposed,pending,booked,arrived,fulfilled,checked-in,waitlist")
_ACTIVE: Final = ("status", "active")
_AT_WORK: Final = ("status", "requested,received,accepted,ready,in-progress,on-hold")
RELATING: Final = {
    "Appointment": "actor",
    "CareTeam": "participant",
    "Encounter": "participant",
    "Patient": "general-practitioner",
    "ServiceRequest": "performer",
    "Task": "owner",
}
"""Type -> the reference parameter by which it makes a patient a practitioner's."""
_PAID_BY: Final = {
    "Claim": "insurer",
    "ClaimResponse": "insurer",
    "Coverage": "payor",
    "CoverageEligibilityResponse": "insurer",
}
_PAID_THROUGH: Final = {"ExplanationOfBenefit": ("claim", "Claim")}


def condition(rules: Rules, kind: str, pairs: Sequence[tuple[str, str]], now: int) -> Node:
    """The node of a plain search; Nothing when it cannot be understood, so that a rule that is out of date allows nothing."""
    try:
        found = parse(rules.registry, kind, pairs, values=rules.context(now), limits=rules.limits)
    except FhirError:
        return Nothing()
    query = found.query
    # whatever else it says than conditions is no rule
    plain = len(found.used) == len(pairs) and not (query.includes or query.sort or query.others or found.cursor)
    return query.where if plain and query.contained == "no" else Nothing()


def owned(principal: Principal, rules: Rules) -> Node:
    """What belongs to the principal's organization. What has no owner is that of who has no organization; and of all, while there is only one."""
    if not principal.organization:
        return OwnedBy((), unowned=True)
    return OwnedBy((key_of(principal.organization),), unowned=rules.shared)


def arranged(kind: str, rules: Rules, now: int) -> Node:
    """What of the type makes the patients in it those of its practitioners now."""
    if kind != "Appointment":
        return Nothing()
    ahead = ("date", f"le{_day(now, rules.options.appointment_days_before)}")
    ago = ("date", f"ge{_day(now, -rules.options.appointment_days_after)}")
    return condition(rules, kind, (_BOOKED, ahead, ago), now)


def key_of(reference: str) -> ResourceKey:
    """`Practitioner/1` as a key."""
    kind, _, name = reference.partition("/")
    return ResourceKey(kind, name)


def patients(reach: Reach, principal: Principal, facts: Facts, rules: Rules) -> Node:
    """The search for the patients whom a reach is about; Nothing for a reach that is about none."""
    match reach:
        case "assigned":
            return _assigned(principal, facts, rules)
        case "ward":
            return _on_ward(principal, facts, rules)
        case "ordered":
            return either(_orders(principal, facts, rules))
        case _:
            return Nothing()


def members(kind: str, owners: Owners) -> Node:
    """What of the type is about the patients."""
    if not owners.ids:
        return Nothing()
    if len(owners.ids) > 1:
        return InCompartments(owners)
    (name,) = owners.ids
    return HasId((name,)) if kind == PATIENT else InCompartment(ResourceKey(PATIENT, name))


def paid(kind: str, principal: Principal, rules: Rules) -> Node:
    """The claims and coverages that the principal's organization pays."""
    if not principal.organization:
        return Nothing()
    payer = (key_of(principal.organization),)
    if kind in _PAID_BY:
        return _refers(rules, kind, _PAID_BY[kind], payer)
    if kind in _PAID_THROUGH:
        code, target = _PAID_THROUGH[kind]
        return condition(rules, kind, ((f"{code}:{target}.{_PAID_BY[target]}", principal.organization),), 0)
    return Nothing()


def identities(principal: Principal, facts: Facts, *, organization: bool = False) -> tuple[ResourceKey, ...]:
    """What the practitioner may be named by."""
    person = (key_of(principal.fhir_user),) if principal.fhir_user.startswith("Practitioner/") else ()
    whole = (key_of(principal.organization),) if organization and principal.organization and person else ()
    return (*person, *(facts.roles if person else ()), *whole)


def _refers(rules: Rules, kind: str, code: str, keys: tuple[ResourceKey, ...]) -> Node:
    parameter = rules.registry.find(kind, code)
    return Match(parameter, ReferenceTest(keys, None)) if parameter is not None and keys else Nothing()


def _has(rules: Rules, kind: str, *where: Node) -> Node:
    """A patient of whom there is such a resource."""
    parameter = rules.registry.find(kind, "patient")
    wanted = both(*where)
    return Nothing() if parameter is None or isinstance(wanted, Nothing) else Reverse(kind, parameter, wanted)


def _assigned(principal: Principal, facts: Facts, rules: Rules) -> Node:
    options, now = rules.options, facts.now
    me = identities(principal, facts)
    participant = _refers(rules, "Encounter", "participant", me)
    ended = (("status", "finished"), ("date", f"ge{_day(now, -options.assigned_days_after)}"), _OVER)
    ours = owned(principal, rules)
    return either(
        [
            _has(rules, "CareTeam", _takes_part(principal, facts, rules), in_force(rules, now), ours),
            _has(
                rules,
                "Encounter",
                participant,
                ours,
                either([condition(rules, "Encounter", pairs, now) for pairs in ((_OPEN,), ended)]),
            ),
            _has(
                rules,
                "Appointment",
                _refers(rules, "Appointment", "actor", me),
                arranged("Appointment", rules, now),
                ours,
            ),
            *_work(me, ours, now, rules),
            both(_refers(rules, PATIENT, "general-practitioner", me), ours),
        ]
    )


def _takes_part(principal: Principal, facts: Facts, rules: Rules) -> Node:
    """CareTeams in which the practitioner takes part now, or their organization does."""
    whole = (
        (key_of(principal.organization),)
        if principal.organization and principal.fhir_user.startswith("Practitioner/")
        else ()
    )
    person: Node = Nothing()
    if facts.left is not None:
        person = taking_part(principal, facts, rules)
        person = both(person, Not(HasId(facts.left))) if facts.left else person
    return either([person, _refers(rules, "CareTeam", "participant", whole)])


def taking_part(principal: Principal, facts: Facts, rules: Rules) -> Node:
    """CareTeams that name the practitioner, in person or in a role."""
    return either([_refers(rules, "CareTeam", "participant", (one,)) for one in identities(principal, facts)])


def in_force(rules: Rules, now: int) -> Node:
    """CareTeams that are active now."""
    today = _day(now, 0)
    spans = ((("date:missing", "true"),), (("date", f"ge{today}"), ("date", f"le{today}")))
    return either([condition(rules, "CareTeam", (_ACTIVE, *span), now) for span in spans])


def _orders(principal: Principal, facts: Facts, rules: Rules) -> list[Node]:
    return _work(identities(principal, facts, organization=True), owned(principal, rules), facts.now, rules)


def _work(who: tuple[ResourceKey, ...], ours: Node, now: int, rules: Rules) -> list[Node]:
    """Patients of orders and tasks that somebody is to carry out."""
    return [
        _has(
            rules,
            "ServiceRequest",
            _refers(rules, "ServiceRequest", "performer", who),
            condition(rules, "ServiceRequest", (_ACTIVE,), now),
            ours,
        ),
        _has(rules, "Task", _refers(rules, "Task", "owner", who), condition(rules, "Task", (_AT_WORK,), now), ours),
    ]


def _on_ward(principal: Principal, facts: Facts, rules: Rules) -> Node:
    parameter = rules.registry.find("Encounter", "location")
    if parameter is None or not facts.locations:
        return Nothing()
    there = Match(parameter, HierarchyTest("below", facts.locations, "partof"))
    return _has(rules, "Encounter", there, condition(rules, "Encounter", (_OPEN,), facts.now), owned(principal, rules))


def _day(now: int, days: int) -> str:
    """The day so many days from a time in microseconds."""
    return (datetime.fromtimestamp(now / 1_000_000, UTC) + timedelta(days=days)).date().isoformat()
