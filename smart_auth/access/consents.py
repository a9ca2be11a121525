"""Consent resources as rules: whom a patient keeps out of what.

Rules.
1. An active Consent whose scope is patient-privacy counts; a patient without one permits. Of several each counts: what one denies is denied.
2. A provision applies when its period holds, one of its actors is the principal (in person, in a role, or their organization), one of its actions is
   that of the letter, one of its purposes is the principal's, the type is one of its classes, and the resource bears one of its labels; what
   is absent applies always. Nested provisions are exceptions to the one around them. The first level without a type permits.
3. An active Consent that says anything else in its provisions cannot be enforced: it is refused when it is written (422), and one that
   is stored all the same keeps everybody out.
4. No Consent limits patients' own access, nor that of operators; an emergency is not kept out either.

Specification: https://hl7.org/fhir/R4/consent.html, https://terminology.hl7.org/CodeSystem-consentaction.html
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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


def provision_of(consent: Mapping[str, Any]) -> Provision:
    """What a Consent that counts says. Raises ConsentFault."""
    if "modifierExtension" in consent:
        raise ConsentFault("Consent.modifierExtension", "a modifier extension of a Consent cannot be enforced")
    return _read(consent.get("provision") or {}, "Consent.provision", 0)


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
    kinds = [one for one in raw.get("class", ()) if one.get("system") != _TYPES]
    if kinds:
        raise ConsentFault(f"{place}.class", f"a class that is none of {_TYPES} cannot be enforced")
    named = [one.get("reference", {}).get("reference", "") for one in raw.get("actor", ())]
    if not all(named):
        raise ConsentFault(f"{place}.actor", "an actor without a literal reference cannot be enforced")
    kind = raw.get("type")
    period = raw.get("period") or {}
    return Provision(
        None if kind is None else kind == "deny",
        period.get("start", "")[:10],
        period.get("end", "")[:10],
        tuple("/".join(name.split("/")[-2:]) for name in named),
        tuple(_codes(raw.get("action", ()))),
        tuple(f"{one.get('system', '')}|{one.get('code', '')}" for one in raw.get("securityLabel", ())),
        tuple(one.get("code", "") for one in raw.get("purpose", ())),
        tuple(one.get("code", "") for one in raw.get("class", ())),
        tuple(_read(one, f"{place}.provision[{at}]", depth + 1) for at, one in enumerate(raw.get("provision", ()))),
    )


def _codes(concepts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [coding.get("code", "") for concept in concepts for coding in concept.get("coding", ())]
