"""The codes of a value set.

Rules. Includes are united, excludes taken away; inside one include, system and value sets are an intersection. A system of which not
every code is here counts as a whole (`systems`): all its codes belong, known or not. What cannot be decided that way, such as a
filter over a system that is not here, raises NotExpandable with the reason: no value set is expanded in part.

Specification: https://hl7.org/fhir/R4/valueset.html#expansion
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from terminology.ports import CodeSystem, ConceptStore, ValueSet

_DEEPEST: Final = 20

Code = tuple[str, str]


class NotExpandable(Exception):  # noqa: N818  (a state of affairs, told to who searches)
    """Why the codes of a value set are not known."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """(system, code) pairs, and systems all of whose codes belong."""

    codes: frozenset[Code]
    systems: frozenset[str]

    def has(self, system: str, code: str) -> bool:
        """Whether the code belongs."""
        return system in self.systems or (system, code) in self.codes


NOTHING: Final = Expansion(frozenset(), frozenset())


def expand(value_set: ValueSet, store: ConceptStore, depth: int = 0) -> Expansion:
    """All codes of the value set; NotExpandable where they are not known."""
    if depth > _DEEPEST:
        raise NotExpandable(f"value sets include each other more than {_DEEPEST} deep at {value_set.url}")
    if value_set.compose is None:
        return Expansion(frozenset(value_set.expansion), frozenset())
    found = _united(_part(part, store, depth) for part in value_set.compose.get("include", ()))
    for part in value_set.compose.get("exclude", ()):
        found = _without(found, _part(part, store, depth))
    return found


def _united(parts: Iterable[Expansion]) -> Expansion:
    codes: set[Code] = set()
    systems: set[str] = set()
    for part in parts:
        codes |= part.codes
        systems |= part.systems
    return Expansion(frozenset(codes), frozenset(systems))


def _common(one: Expansion, other: Expansion) -> Expansion:
    codes = {code for code in one.codes if other.has(*code)} | {code for code in other.codes if one.has(*code)}
    return Expansion(frozenset(codes), one.systems & other.systems)


def _without(one: Expansion, other: Expansion) -> Expansion:
    """Raises NotExpandable where a whole system loses single codes."""
    for system, _ in other.codes:
        if system in one.systems:
            raise NotExpandable(f"it excludes codes of {system}, whose codes are not all here")
    codes = frozenset(code for code in one.codes if not other.has(*code))
    return Expansion(codes, one.systems - other.systems)


def _part(part: Mapping[str, Any], store: ConceptStore, depth: int) -> Expansion:
    """One include or exclude."""
    sides = [_of_system(part, store)] if "system" in part else []
    for canonical in part.get("valueSet", ()):
        url, _, version = canonical.partition("|")
        inner = store.value_set(url, version or None)
        if inner is None:
            raise NotExpandable(f"it includes the value set {canonical}, which is not known here")
        sides.append(expand(inner, store, depth + 1))
    if not sides:
        return NOTHING
    found = sides[0]
    for side in sides[1:]:
        found = _common(found, side)
    return found


def _of_system(part: Mapping[str, Any], store: ConceptStore) -> Expansion:
    url = part["system"]
    if "concept" in part:
        return Expansion(
            frozenset((url, concept["code"]) for concept in part["concept"] if "code" in concept), frozenset()
        )
    system = store.code_system(url)
    filters = part.get("filter", ())
    if not filters:
        if system is None or not system.complete:
            return Expansion(frozenset(), frozenset({url}))
        return Expansion(frozenset((url, code) for code in system.parents), frozenset())
    if system is None:
        raise NotExpandable(f"it filters {url}, whose codes are not here")
    codes = set(system.parents)
    for one in filters:
        codes &= _filtered(system, one)
    return Expansion(frozenset((url, code) for code in codes), frozenset())


def _filtered(system: CodeSystem, one: Mapping[str, Any]) -> set[str]:
    """The codes that pass one filter (https://hl7.org/fhir/R4/valueset-filter-operator.html)."""
    name, operator, value = one.get("property", ""), one.get("op", ""), one.get("value", "")
    if name in ("concept", "code"):
        match operator:
            case "is-a":
                return descendants(system, value) | {value}
            case "descendent-of":
                return descendants(system, value)
            case "is-not-a":
                return set(system.parents) - descendants(system, value) - {value}
            case "generalizes":
                return ancestors(system, value) | {value}
            case "in" | "=":
                return set(value.split(",")) & set(system.parents)
            case "not-in":
                return set(system.parents) - set(value.split(","))
            case "regex":
                return {code for code in system.parents if _fits(value, code)}
    if name == "parent" and operator == "=":
        return {code for code, above in system.parents.items() if value in above}
    if name == "child" and operator == "=":
        return set(system.parents.get(value, ()))
    raise NotExpandable(f"it filters {system.url} by {name} {operator}, which is not supported")


def _fits(pattern: str, code: str) -> bool:
    try:
        return re.fullmatch(pattern, code) is not None
    except re.error:
        raise NotExpandable(f"it filters by '{pattern}', which is no regular expression") from None


# ---- hierarchies


def descendants(system: CodeSystem, code: str) -> set[str]:
    """The codes under `code`, at any depth."""
    children: dict[str, list[str]] = {}
    for child, above in system.parents.items():
        for parent in above:
            children.setdefault(parent, []).append(child)
    return _reached(children, code)


def ancestors(system: CodeSystem, code: str) -> set[str]:
    """The codes over `code`, at any height."""
    return _reached(system.parents, code)


def _reached(steps: Mapping[str, Iterable[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(steps.get(start, ()))
    while waiting:
        code = waiting.pop()
        if code not in found:
            found.add(code)
            waiting.extend(steps.get(code, ()))
    return found - {start}


def subsumptions(system: CodeSystem) -> Iterator[tuple[str, str]]:
    """(ancestor, code) for every code, itself among its ancestors."""
    for code in system.parents:
        yield code, code
        for above in ancestors(system, code):
            yield above, code
