"""What happens to a query between parser and dialect: access first, then a visible tuple of pure passes.

Rules. A pass is a function Query -> Query that keeps the set of matches; each has an example of before and after. `narrow` alone changes the set: it
restricts what a search can see, also where it looks through references, and is never narrowed itself. Includes are
narrowed by the store, which is given the same Narrowing.

Specification: https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import reduce
from operator import is_
from typing import Final

from search.narrowing import Narrowing
from search.query import (
    All,
    And,
    Chain,
    CompositeTest,
    EveryTarget,
    HasId,
    HierarchyTest,
    InCompartment,
    InCompartments,
    LastUpdated,
    Match,
    Node,
    Not,
    Nothing,
    Or,
    OwnedBy,
    Present,
    Query,
    Released,
    Reverse,
)

_FEW: Final = 8


def rewrite(query: Query, narrowing: Narrowing) -> Query:
    """The query as the store gets it: narrowed, simplified, without nodes that dialects do not know."""
    query = narrow(query, narrowing)
    ready = narrowing.settled or _is_final(query.narrowing)
    if _is_final(query.where):
        return query if ready else replace(query, narrowing=settled(query.narrowing))
    return replace(query, where=settled(query.where), narrowing=query.narrowing if ready else settled(query.narrowing))


def settled(node: Node) -> Node:
    """The node as every pass leaves it."""
    return reduce(lambda found, one: one(found), REWRITES, Query("", node)).where


def _is_final(node: Node) -> bool:
    """Whether no pass would change the node: the most frequent searches, a few plain conditions that must all hold."""
    match node:
        case And(parts):
            few = 1 < len(parts) <= _FEW
            return few and all(_is_plain(part) and part not in parts[:at] for at, part in enumerate(parts))
        case All():
            return True
    return _is_plain(node)


def _is_plain(node: Node) -> bool:
    match node:
        case Match(parameter) | Present(parameter):
            return parameter.type != "composite"
        case InCompartment() | InCompartments() | OwnedBy() | LastUpdated() | Released():
            return True
    return False


def narrow(query: Query, narrowing: Narrowing) -> Query:
    """Restrict the rows of the type and of every type that the search looks at through references.

    where=Chain(subject, Patient, name=x)  ->  where=Chain(subject, Patient, name=x, visible=VISIBLE[Patient]), narrowing=VISIBLE[own type]
    """

    def inner(node: Node) -> Node:
        match node:
            case Chain(target=target, visible=visible):
                return replace(node, visible=_both(visible, narrowing.of(target)))
            case Reverse(source, _, where):
                return replace(node, where=_both(where, narrowing.of(source)))
            case Match(test=HierarchyTest(keys=keys) as test):
                return replace(node, test=replace(test, visible=narrowing.of(keys[0].type)))
        return node

    where, visible = _bottom_up(query.where, inner), narrowing.of(query.type)
    if where is query.where and visible == query.narrowing:
        return query
    return replace(query, where=where, narrowing=visible)


def expand_composites(query: Query) -> Query:
    """Replace composites that store no tuples by what they mean.

    code-value-quantity=a$5                ->  And(code=a, value-quantity=5)
    combo-code-value-quantity=a$5          ->  Or(And(code=a, value-quantity=5), component-code-value-quantity=a$5)
    code-value-quantity:missing=false      ->  And(Present(code), Present(value-quantity))
    """
    return _mapped(query, _expanded)


def cancel_negations(query: Query) -> Query:
    """Remove negations that meet another one or a constant. Others stay where they are: `Not(Or(a, b))` is one index probe.

    Not(Not(a))  ->  a
    Not(Or(Not(a), b))  ->  And(a, Not(b))
    Not(All())  ->  Nothing()
    """
    return _mapped(query, _cancelled)


def flatten(query: Query) -> Query:
    """Merge And in And and Or in Or, once per part; a single part stands for itself.

    And(a, And(b, a))  ->  And(a, b)
    Or((a,))  ->  a
    """
    return _mapped(query, _flat)


def merge_ids(query: Query) -> Query:
    """Make one of several `_id` conditions.

    And(id in (1, 2), id in (2, 3))  ->  id in (2)
    Or(id in (1), id in (2))  ->  id in (1, 2)
    """
    return _mapped(query, _merged)


def fold_constants(query: Query) -> Query:
    """Drop All and Nothing where they decide nothing, and what they decide.

    And(All(), a)  ->  a
    And(Nothing(), a)  ->  Nothing()
    Chain(p, T, Nothing())  ->  Nothing()
    """
    return _mapped(query, _folded)


REWRITES: Final[tuple[Callable[[Query], Query], ...]] = (
    expand_composites,
    cancel_negations,
    flatten,
    merge_ids,
    fold_constants,
)
"""The passes, in order."""


# ---- one node at a time, its parts already done


def _expanded(node: Node) -> Node:
    match node:
        case Match(parameter, CompositeTest() as test) if parameter.alternatives:
            return Or(tuple(_expanded(Match(other, test)) for other in parameter.alternatives))
        case Match(parameter, CompositeTest(parts)) if parameter.conjunction:
            return And(tuple(Match(one, part) for one, part in zip(parameter.components, parts, strict=True)))
        case Present(parameter) if parameter.alternatives:
            return Or(tuple(_expanded(Present(other)) for other in parameter.alternatives))
        case Present(parameter) if parameter.conjunction:
            return And(tuple(Present(one) for one in parameter.components))
    return node


def _cancelled(node: Node) -> Node:
    match node:
        case Not(Not(part)):
            return part
        case Not(All()):
            return Nothing()
        case Not(Nothing()):
            return All()
        case Not(Or(parts)) if any(isinstance(part, Not) for part in parts):
            return And(tuple(_cancelled(Not(part)) for part in parts))
        case Not(And(parts)) if any(isinstance(part, Not) for part in parts):
            return Or(tuple(_cancelled(Not(part)) for part in parts))
    return node


def _flat(node: Node) -> Node:
    match node:
        case And(parts):
            return _joined(And, _spread(And, parts), node)
        case Or(parts):
            return _joined(Or, _spread(Or, parts), node)
    return node


def _merged(node: Node) -> Node:
    match node:
        case And(parts) | Or(parts):
            sets = [part.ids for part in parts if isinstance(part, HasId)]
            if len(sets) < 2:  # noqa: PLR2004  (nothing to merge)
                return node
            others = [part for part in parts if not isinstance(part, HasId)]
            if isinstance(node, Or):
                return _joined(Or, [HasId(tuple(dict.fromkeys(one for ids in sets for one in ids))), *others], node)
            common = tuple(one for one in sets[0] if all(one in ids for ids in sets))
            return _joined(And, [HasId(common) if common else Nothing(), *others], node)
    return node


def _folded(node: Node) -> Node:
    match node:
        case And(parts):
            if any(isinstance(part, Nothing) for part in parts):
                return Nothing()
            return _joined(And, _spread(And, [part for part in parts if not isinstance(part, All)]), node)
        case Or(parts):
            if any(isinstance(part, All) for part in parts):
                return All()
            return _joined(Or, _spread(Or, [part for part in parts if not isinstance(part, Nothing)]), node)
        case Not():
            return _cancelled(node)
        case Chain(where=Nothing()) | Reverse(where=Nothing()) | HasId(ids=()):
            return Nothing()
    return node


# ---- walking


def _mapped(query: Query, change: Callable[[Node], Node]) -> Query:
    where = _bottom_up(query.where, change)
    narrowing = _bottom_up(query.narrowing, change)
    if where is query.where and narrowing is query.narrowing:
        return query
    return replace(query, where=where, narrowing=narrowing)


def _bottom_up(node: Node, change: Callable[[Node], Node]) -> Node:
    """`change` on every node, parts first; what does not change stays the same object."""
    match node:
        case And(parts) | Or(parts):
            new = tuple([_bottom_up(part, change) for part in parts])
            if not all(map(is_, new, parts)):
                node = type(node)(new)
        case Not(part):
            inner = _bottom_up(part, change)
            node = node if inner is part else Not(inner)
        case Chain(where=where, visible=visible):
            inner, seen = _bottom_up(where, change), _bottom_up(visible, change)
            node = node if inner is where and seen is visible else replace(node, where=inner, visible=seen)
        case Reverse(where=where):
            inner = _bottom_up(where, change)
            node = node if inner is where else replace(node, where=inner)
        case EveryTarget(visible=targets):
            nodes = [_bottom_up(part, change) for _, part in targets]
            if not all(new is part for new, (_, part) in zip(nodes, targets, strict=True)):
                node = replace(node, visible=tuple((name, new) for (name, _), new in zip(targets, nodes, strict=True)))
    return change(node)


def _spread(kind: type[And] | type[Or], parts: Iterable[Node]) -> Iterator[Node]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.parts
        else:
            yield part


def _joined(kind: type[And] | type[Or], parts: Iterable[Node], was: And | Or) -> Node:
    """The parts, each once, as one node: `was` where nothing changed. Of no parts And is All, Or is Nothing."""
    kept = tuple(dict.fromkeys(parts))
    if len(kept) > 1 and len(kept) == len(was.parts) and all(map(is_, kept, was.parts)):
        return was
    if len(kept) == 1:
        return kept[0]
    if not kept:
        return All() if kind is And else Nothing()
    return kind(kept)


def _both(where: Node, visible: Node) -> Node:
    if isinstance(visible, All):
        return where
    return visible if isinstance(where, All) else And((where, visible))
