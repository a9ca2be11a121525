"""Whether a write may be made: what the resource is before and after it, held against the ways in which the letter reaches its type.

Rules. One way must fit both, so that nothing is moved out of what one may write, or into it. Every patient in whose compartment the resource is before
or after must be one that the way is about: a result is not filed under somebody else, nor under whom the writer does not know. What makes a patient a
practitioner's own is not made so by that practitioner, and what is open in an emergency is not made to stay so. A patient writes as themselves and about themselves: author and
subject are they, where the type has them, by literal references alone. Nothing here asks storage but by `Ask`, for what other resources say.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from msgspec import Struct

from resources.errors import FhirError
from resources.model import ResourceKey
from search.entries import Entries
from search.matching import matches
from search.parameters import Parameter
from search.query import All, And, Chain, EveryTarget, Node, Not, Or, OwnedBy, Released, Reverse
from smart_auth.access.algebra import either
from smart_auth.access.decisions import Access, Alternative
from smart_auth.access.facts import PATIENT
from smart_auth.access.reaches import RELATING, arranged, identities, owned

AUTHORS: Final = {
    "AppointmentResponse": "actor",
    "Communication": "sender",
    "DocumentReference": "author",
    "MedicationStatement": "source",
    "Observation": "performer",
    "QuestionnaireResponse": "author",
}
"""Type -> the reference parameter that says by whom it is."""
SUBJECTS: Final = {
    "Communication": "subject",
    "DocumentReference": "subject",
    "MedicationStatement": "subject",
    "Observation": "subject",
    "QuestionnaireResponse": "subject",
}
"""Type -> the reference parameter that says whom it is about."""

Ask = Callable[[str, Node, frozenset[str]], Awaitable[frozenset[str]]]
"""Which of these ids of a type are live resources that satisfy the node."""


class Content(Struct, frozen=True):
    """A resource before or after a write. `organizations` None: those that the store has for it."""

    key: ResourceKey
    entries: Entries
    released: bool
    updated: int
    organizations: tuple[ResourceKey, ...] | None = None


async def may_write(
    access: Access,
    letter: str,
    before: Content | None,
    after: Content | None,
    ask: Ask,
    made: frozenset[ResourceKey] = frozenset(),
) -> bool:
    """Whether the principal may make `after` of `before` with the letter; either may be None, not both. `made`: what is written along with it."""
    states = [one for one in (before, after) if one is not None]
    for way in access.alternatives(states[0].key.type, letter):
        fits = [await _fits(way, access, one, ask) for one in states]
        if all(fits) and await _keeps_apart(way, access, before, after, ask) and not _lasts(way, access, after):
            trusted = isinstance(way.node, All) or way.myself or access.principal.operator
            return trusted or await _knows(access, before, after, ask, made)
    return False


async def _knows(
    access: Access, before: Content | None, after: Content | None, ask: Ask, made: frozenset[ResourceKey]
) -> bool:
    """Whether each patient whom the resource comes to be about may be read, belongs to the principal's organization, or is written along with it."""
    if after is None:
        return True
    new = (
        _patients(after)
        - (_patients(before) if before else frozenset())
        - {key.id for key in made if key.type == PATIENT}
    )
    if after.key.type == PATIENT:
        new -= {after.key.id}
    known = either([access.node(PATIENT, "r"), owned(access.principal, access.rules)])
    return not new or await ask(PATIENT, known, frozenset(new)) == new


async def _keeps_apart(
    way: Alternative, access: Access, before: Content | None, after: Content | None, ask: Ask
) -> bool:
    """Whether a practitioner's own is about patients in their reach, or stays about the same ones and brings none of them into it."""
    if not way.practice or after is None or _patients(after) <= access.looked_after:
        return True
    if before is None or _patients(before) != _patients(after):
        return False
    return not await satisfies(arranged(after.key.type, access.rules, access.facts.now), after, ask)


def _lasts(way: Alternative, access: Access, after: Content | None) -> bool:
    """Whether the write would make a patient whose record is open in an emergency the writer's own, beyond its end."""
    code = RELATING.get(after.key.type) if way.emergency and after is not None else None
    parameter = access.rules.registry.find(after.key.type, code) if code and after is not None else None
    if parameter is None or after is None:
        return False
    mine = identities(access.principal, access.facts, organization=after.key.type == "CareTeam")
    return not {*mine}.isdisjoint(_targets(after, parameter))


def _patients(content: Content) -> frozenset[str]:
    return frozenset(key.id for key in content.entries.compartments if key.type == PATIENT)


async def _fits(way: Alternative, access: Access, content: Content, ask: Ask) -> bool:
    if way.myself and not _is_own(content, access.persons, way):
        return False
    if way.owners is not None and not _patients(content) <= way.owners.ids:
        return False
    return await satisfies(way.node, content, ask)


def _is_own(content: Content, persons: frozenset[str], way: Alternative) -> bool:
    """Whether it is by the persons, and about patients whom the way is about."""
    patients = frozenset(f"{PATIENT}/{name}" for name in way.owners.ids) if way.owners is not None else persons
    kind = content.key.type
    return _names(content, AUTHORS.get(kind), persons) and _names(content, SUBJECTS.get(kind), patients)


def _names(content: Content, code: str | None, allowed: frozenset[str]) -> bool:
    """Whether the parameter refers to some of these and to nothing else, be it elsewhere, by identifier, or by its text."""
    if code is None:
        return True
    entries = content.entries
    named = {str(one.target) for one in entries.references if one.parameter == code}
    others = {one.parameter for found in (entries.uris, entries.tokens, entries.texts) for one in found}
    return bool(named) and named <= allowed and code not in others


async def satisfies(node: Node, content: Content, ask: Ask) -> bool:
    """Whether the content satisfies a node of an access rule; what cannot be told does not."""
    match node:
        case And(parts):
            return all([await satisfies(part, content, ask) for part in parts])
        case Or(parts):
            return any([await satisfies(part, content, ask) for part in parts])
        case Not(part):
            return not await satisfies(part, content, ask)
        case OwnedBy() if content.organizations is not None:
            return bool({*node.organizations} & {*content.organizations}) or (
                node.unowned and not content.organizations
            )
        case Released():
            return content.released
        case EveryTarget():
            return await _all_seen(node, content, ask)
        case Chain(parameter, target, where):
            found = frozenset(key.id for key in _targets(content, parameter) if key.type == target)
            return bool(found) and bool(await ask(target, where, found))
        case Reverse() | OwnedBy():
            return bool(await ask(content.key.type, node, frozenset({content.key.id})))
        case _:
            try:
                return matches(node, content.entries, content.key, content.updated)
            except FhirError:
                return False


def _targets(content: Content, parameter: Parameter) -> Iterable[ResourceKey]:
    rows = parameter.rows or (parameter.code,)
    return [one.target for one in content.entries.references if one.parameter in rows]


async def _all_seen(node: EveryTarget, content: Content, ask: Ask) -> bool:
    rows = node.parameter.rows or (node.parameter.code,)
    if any(one.parameter in rows for found in (content.entries.uris, content.entries.tokens) for one in found):
        return False
    named: dict[str, set[str]] = {}
    for key in _targets(content, node.parameter):
        named.setdefault(key.type, set()).add(key.id)
    visible = dict(node.visible)
    for kind, ids in named.items():
        if kind not in visible or await ask(kind, visible[kind], frozenset(ids)) != ids:
            return False
    return bool(named)
