"""Searches of a directory, made so that they tell nothing of what is left out of its entries.

Rules.
1. Of persons, what may be searched by is listed; anything else is refused, also through references and as a sort.
2. An address of use home is no address: places that have one are found by none of theirs.
3. What is contained in an entry goes with what is left out, so nothing is found there.
4. What a ValueSet or CodeSystem holds is told to who may search each of them.

Specification: https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from resources.errors import FhirError
from resources.model import ResourceKey
from search.narrowing import Narrowing
from search.query import (
    All,
    And,
    Chain,
    Match,
    MemberTest,
    Node,
    Not,
    Nothing,
    Or,
    Present,
    Query,
    Reverse,
    SubsumptionTest,
    leaves,
)
from smart_auth.access.decisions import Access
from smart_auth.access.reaches import condition
from smart_auth.access.redaction import PUBLIC

_PLACE: Final = "Location"
_ADDRESS: Final = "address"
_USE: Final = (("address-use", "home"),)
_TERMS: Final[dict[type, str]] = {MemberTest: "ValueSet", SubsumptionTest: "CodeSystem"}
"""Tests that tell what a definition holds."""
_ENTRIES: Final = frozenset({*PUBLIC, _PLACE})
"""Types of which something may be left out that a search could tell."""


def public(access: Access, query: Query) -> Query:
    """The search as it may be made: the same where it looks at nothing that is left out. Raises FhirError 403."""
    if query.type not in _ENTRIES and _is_plain(query.where):
        return query
    homes = False
    for kind, code, test in _asked(query.where, query.type):
        _require_public(access, kind, code)
        homes = homes or _is_address(access, kind, code)
        told = _TERMS.get(type(test))
        if told is not None and not isinstance(access.node(told, "s"), All):
            raise FhirError(403, "forbidden", f"a search by what a {told} holds needs access to each {told}")
    for key in query.sort:
        _require_public(access, query.type, key.field)
        if _is_address(access, query.type, key.field):
            raise _not_for(query.type, key.field)
    return replace(query, where=_without_homes(access, query.where, query.type)) if homes else query


def containing(access: Access, query: Query, narrowing: Narrowing) -> Narrowing:
    """The narrowing in which contained resources are looked for: without entries that are not shown whole."""
    if query.contained == "no" and all(one.contained == "no" for one in query.others):
        return narrowing

    def of(kind: str) -> Node:
        return Nothing() if access.redacts(ResourceKey(kind, "")) else narrowing.of(kind)

    return replace(narrowing, of=of)


def _is_plain(node: Node) -> bool:
    """Whether the node looks at the resource alone, and at no definition: that of most searches."""
    match node:
        case And(parts) | Or(parts):
            return all(_is_plain(part) for part in parts)
        case Match(_, test):
            return type(test) not in _TERMS
    return not isinstance(node, Chain | Reverse | Not)


def _require_public(access: Access, kind: str, code: str) -> None:
    if kind in PUBLIC and code not in PUBLIC[kind] and access.redacts(ResourceKey(kind, "")):
        raise _not_for(kind, code)


def _not_for(kind: str, code: str) -> FhirError:
    return FhirError(403, "forbidden", f"the search parameter {code} of {kind} is not for you")


def _is_address(access: Access, kind: str, code: str) -> bool:
    return kind == _PLACE and code.startswith(_ADDRESS) and access.redacts(ResourceKey(kind, ""))


def _without_homes(access: Access, node: Node, kind: str) -> Node:
    """The node, in which an address counts only of what has none of use home; the same object when it looks at none."""
    match node:
        case And(parts) | Or(parts):
            changed = tuple([_without_homes(access, part, kind) for part in parts])
            same = all(new is part for new, part in zip(changed, parts, strict=True))
            return node if same else type(node)(changed)
        case Not(part):
            inner = _without_homes(access, part, kind)
            return node if inner is part else Not(inner)
        case Match(parameter) | Present(parameter) if _is_address(access, kind, parameter.code):
            home = condition(access.rules, kind, _USE, access.facts.now)
            return Nothing() if isinstance(home, Nothing) else And((node, Not(home)))
        case Chain(target=target, where=where):
            inner = _without_homes(access, where, target)
            return node if inner is where else replace(node, where=inner)
        case Reverse(source=source, where=where):
            inner = _without_homes(access, where, source)
            return node if inner is where else replace(node, where=inner)
    return node


def _asked(node: Node, kind: str) -> Iterator[tuple[str, str, object]]:
    """The types and parameters that a search looks at, each with its test."""
    for leaf in leaves(node):
        match leaf:
            case Match(parameter, test):
                yield kind, parameter.code, test
            case Present(parameter):
                yield kind, parameter.code, None
            case Chain(parameter, target, where):
                yield kind, parameter.code, None
                yield from _asked(where, target)
            case Reverse(source, parameter, where):
                yield source, parameter.code, None
                yield from _asked(where, source)
