"""Consent resources as rules: whom a patient keeps out of what.

Rules.
1. An active Consent whose scope is patient-privacy counts; a patient without one permits. Of several each counts: what one denies is denied.
2. A provision applies when its period holds, one of its actors is the principal (in person, in a role, or their organization), one of its actions is
   that of the letter, one of its purposes is the principal's, the type is one of its classes, and the resource bears one of its labels; what
   is absent applies always. Nested provisions are exceptions to the one around them. The first level without a type permits.
3. An active Consent that says anything else in its provisions cannot be enforced, nor can one that is of nobody here or names somebody or something that
   nobody here can be or do, or that opts out without a denial: it is refused when it is written (422), and one that is stored all the same keeps everybody out.
4. No Consent limits patients' own access, nor that of operators; an emergency is not kept out either.

Specification: https://hl7.org/fhir/R4/consent.html, https://terminology.hl7.org/CodeSystem-consentaction.html
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from resources.references import parse
from search.query import All, Node, Not, Nothing, Owners
from smart_auth.access.algebra import both, either

SCOPE: Final = "patient-privacy"
_TYPES: Final = "http://hl7.org/fhir/resource-types"
_KNOWN: Final = frozenset(
    {"id", "type", "period", "actor", "action", "securityLabel", "purpose", "class", "provision", "extension"}
)
_ACTIONS: Final[Mapping[str, frozenset[str]]] = {
    "r": frozenset({"access", "use", "disclose"}),
    "s": frozenset({"access", "use", "disclose"}),
    "c": frozenset({"collect", "use"}),
    "u": frozenset({"correct", "use"}),
    "d": frozenset({"correct", "use"}),
}
_OUT: Final = frozenset({"OPTOUT", "OPTOUTE"})
"""Policies that deny: https://terminology.hl7.org/CodeSystem-v3-ActCode.html."""
_DOING: Final = frozenset[str]().union(*_ACTIONS.values())
_ACTORS: Final = frozenset({"Practitioner", "PractitionerRole", "Organization"})
_PENDING: Final = frozenset({"urn", "conditional"})
"""References that a transaction resolves; elsewhere they lead nowhere."""
_LABEL: Final = re.compile(r"[^\s,|$\\]+")
"""A code, or the system, of a label: what needs no escape in a search."""
_PURPOSES: Final[Mapping[str, frozenset[str]]] = {
    "billing": frozenset({"HPAYMT"}),
    "insurer": frozenset({"HPAYMT"}),
    "admin": frozenset({"HOPERAT"}),
    "super-admin": frozenset({"HOPERAT"}),
}
_OTHER_PURPOSES: Final = frozenset({"TREAT"})
_DEEPEST: Final = 10


class ConsentFault(Exception):  # noqa: N818  (told to who wrote it)
    """A Consent that cannot be enforced; `expression` says where."""

    def __init__(self, expression: str, said: str) -> None:
        super().__init__(said)
        self.expression = expression


@dataclass(frozen=True, slots=True)
class Provision:
    """A provision; empty tuples and texts where it says nothing. `labels`: `system|code`; dates are days, both included."""

    denies: bool | None
    start: str = ""
    end: str = ""
    actors: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    exceptions: tuple["Provision", ...] = ()


EVERYTHING_DENIED: Final = Provision(denies=True)


@dataclass(frozen=True, slots=True)
class Consented:
    """Patients who have said the same."""

    provision: Provision
    patients: Owners


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks: the references that mean them, their roles, the day (`2026-11-21`)."""

    references: frozenset[str]
    roles: tuple[str, ...]
    day: str

    @property
    def purposes(self) -> frozenset[str]:
        """What they ask for, as codes of v3-ActReason."""
        return frozenset[str]().union(*(_PURPOSES.get(role, _OTHER_PURPOSES) for role in self.roles or ("",)))


Labelled = Callable[[str], Node]
"""`system|code` -> the node of what bears the label."""
_About = tuple[str, str, Asking, Labelled]


def counts(consent: Mapping[str, Any]) -> bool:
    """Whether the Consent is an active one about privacy."""
    return consent.get("status") == "active" and SCOPE in _codes([consent.get("scope") or {}])


def provision_of(consent: Mapping[str, Any], *, stored: bool = False) -> Provision:
    """What a Consent that counts says. Raises ConsentFault. `stored`: no reference is to be resolved any more."""
    if "modifierExtension" in consent:
        raise ConsentFault("Consent.modifierExtension", "a modifier extension of a Consent cannot be enforced")
    patient = parse(consent.get("patient", {}).get("reference", ""))
    if patient.type != "Patient" and (stored or patient.form not in _PENDING):
        raise ConsentFault("Consent.patient", "a Consent without a literal reference to its patient cannot be enforced")
    raw = consent.get("provision") or {}
    if _OUT.intersection(_codes([consent.get("policyRule") or {}])) and raw.get("type") != "deny":
        raise ConsentFault("Consent.policyRule", "opting out cannot be enforced but by a provision of type deny")
    found = _read(raw, "Consent.provision", 0)
    if stored and not _is_resolved(found):
        raise ConsentFault("Consent.provision", "a reference that leads nowhere cannot be enforced")
    return found


def denied(provision: Provision, kind: str, letter: str, asking: Asking, labelled: Labelled) -> Node:
    """What of a type is denied to the letter, of the patients who said so. `labelled` makes the node of a label."""
    return _denied(provision, Nothing(), (kind, letter, asking, labelled))


def _denied(provision: Provision, around: Node, about: _About) -> Node:
    applies = _applies(provision, about)
    if isinstance(applies, Nothing):
        return around
    inside: Node = around if provision.denies is None else All() if provision.denies else Nothing()
    for one in provision.exceptions:
        inside = _denied(one, inside, about)
    if isinstance(applies, All):
        return inside
    return either([both(applies, inside), both(Not(applies), around)])


def _applies(provision: Provision, about: _About) -> Node:
    """Where the provision applies: everywhere, nowhere, or to what bears a label."""
    kind, letter, asking, labelled = about
    here = (
        (not provision.start or provision.start <= asking.day)
        and (not provision.end or asking.day[: len(provision.end)] <= provision.end)
        and (not provision.actors or not asking.references.isdisjoint(provision.actors))
        and (not provision.actions or not _ACTIONS[letter].isdisjoint(provision.actions))
        and (not provision.purposes or not asking.purposes.isdisjoint(provision.purposes))
        and (not provision.types or kind in provision.types)
    )
    if not here:
        return Nothing()
    return either([labelled(label) for label in provision.labels]) if provision.labels else All()


def _read(raw: Mapping[str, Any], place: str, depth: int) -> Provision:
    unknown = sorted(raw.keys() - _KNOWN)
    if unknown or depth > _DEEPEST:
        said = f"{unknown[0]} of a provision" if unknown else "a provision so deep"
        raise ConsentFault(f"{place}.{unknown[0]}" if unknown else place, f"{said} cannot be enforced")
    kind = raw.get("type")
    period = raw.get("period") or {}
    return Provision(
        None if kind is None else kind == "deny",
        period.get("start", "")[:10],
        period.get("end", "")[:10],
        tuple(_actor(one, f"{place}.actor") for one in raw.get("actor", ())),
        tuple(_actions(raw.get("action", ()), f"{place}.action")),
        tuple(_label(one, f"{place}.securityLabel") for one in raw.get("securityLabel", ())),
        tuple(_code(one, f"{place}.purpose") for one in raw.get("purpose", ())),
        tuple(_class(one, f"{place}.class") for one in raw.get("class", ())),
        tuple(_read(one, f"{place}.provision[{at}]", depth + 1) for at, one in enumerate(raw.get("provision", ()))),
    )


def _actor(raw: Mapping[str, Any], place: str) -> str:
    reference: str = raw.get("reference", {}).get("reference", "")
    found = parse(reference)
    if found.form in _PENDING:
        return reference
    if found.key is None or found.version or found.fragment or found.type not in _ACTORS:
        who = ", ".join(sorted(_ACTORS))
        raise ConsentFault(place, f"an actor that is not a relative reference to one of {who} cannot be enforced")
    return str(found.key)


def _is_resolved(provision: Provision) -> bool:
    return all(parse(one).key for one in provision.actors) and all(_is_resolved(one) for one in provision.exceptions)


def _actions(raw: Sequence[Mapping[str, Any]], place: str) -> list[str]:
    codes = _codes(raw)
    if not _DOING.issuperset(codes) or (raw and not codes):
        raise ConsentFault(place, f"an action that is none of {', '.join(sorted(_DOING))} cannot be enforced")
    return codes


def _label(raw: Mapping[str, Any], place: str) -> str:
    code, system = raw.get("code", ""), raw.get("system", "")
    if not _LABEL.fullmatch(code) or (system and not _LABEL.fullmatch(system)):
        raise ConsentFault(place, "a label without a code, or of such a one, cannot be enforced")
    return f"{system}|{code}"


def _class(raw: Mapping[str, Any], place: str) -> str:
    if raw.get("system") != _TYPES:
        raise ConsentFault(place, f"a class that is none of {_TYPES} cannot be enforced")
    return _code(raw, place)


def _code(raw: Mapping[str, Any], place: str) -> str:
    code: str = raw.get("code", "")
    if not code:
        raise ConsentFault(place, "what has no code cannot be enforced")
    return code


def _codes(concepts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [coding.get("code", "") for concept in concepts for coding in concept.get("coding", ())]
