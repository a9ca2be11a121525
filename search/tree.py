"""One tree of property names for everything that looks into a type, compiled to one closure.

A value is walked once, and only where the tree leads: makers stand at the nodes, filters and single items branch off.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from resources import fhirpath
from resources.fhirpath import Filter
from search.types.making import Maker, Scope

_FEW = 3
"""Up to so many properties are looked up one by one; beyond, the value's own are gone through."""


@dataclass(slots=True)
class Tree:
    """A property's place in the tree: makers of its values, deeper properties, filtered and indexed subtrees."""

    leaves: list[Maker] = field(default_factory=list)
    children: dict[str, "Tree"] = field(default_factory=dict)
    filters: dict[Filter, "Tree"] = field(default_factory=dict)
    items: dict[int, "Tree"] = field(default_factory=dict)

    def at(self, steps: Iterable[fhirpath.Step]) -> "Tree":
        """The tree at the end of the steps, made where missing."""
        here = self
        for step in steps:
            if isinstance(step, str):
                here = here.children.setdefault(step, Tree())
            elif isinstance(step, Filter):
                here = here.filters.setdefault(step, Tree())
            else:
                here = here.items.setdefault(step.at, Tree())
        return here


def compiled(tree: Tree) -> Maker:
    """The tree as one closure over a value."""
    parts: list[Maker] = list(tree.leaves)
    if tree.children:
        parts.append(_properties({name: (compiled(inner), _items(inner)) for name, inner in tree.children.items()}))
    parts.extend(_filtered(wanted, compiled(inner)) for wanted, inner in tree.filters.items())
    if len(parts) == 1:
        return parts[0]
    together = tuple(parts)

    def run(value: Any, scope: Scope, group: int) -> None:
        for part in together:
            part(value, scope, group)

    return run


def _items(tree: Tree) -> dict[int, Maker]:
    return {at: compiled(inner) for at, inner in tree.items.items()}


def _filtered(wanted: Filter, run: Maker) -> Maker:
    test = wanted.test

    def make(value: Any, scope: Scope, group: int) -> None:
        if test(value, scope.resource):
            run(value, scope, group)

    return make


def _properties(table: dict[str, tuple[Maker, dict[int, Maker]]]) -> Maker:
    """Run the subtrees of those properties that the value has; over the shorter of table and value."""
    runs = {name: run for name, (run, _) in table.items()}
    if any(items for _, items in table.values()):
        return _indexed(table)
    if len(runs) <= _FEW:
        few = tuple(runs.items())

        def make_few(value: Any, scope: Scope, group: int) -> None:
            for name, run in few:
                inner = value.get(name)
                if inner is None:
                    continue
                if inner.__class__ is list:
                    for item in inner:
                        if item is not None:
                            run(item, scope, group)
                else:
                    run(inner, scope, group)

        return make_few
    find = runs.get

    def make(value: Any, scope: Scope, group: int) -> None:
        for name, inner in value.items():
            run = find(name)
            if run is None or inner is None:
                continue
            if inner.__class__ is list:
                for item in inner:
                    if item is not None:
                        run(item, scope, group)
            else:
                run(inner, scope, group)

    return make


def _indexed(table: dict[str, tuple[Maker, dict[int, Maker]]]) -> Maker:
    """Properties of which single items are wanted, perhaps beside all of them."""

    def make(value: Any, scope: Scope, group: int) -> None:
        for name, (run, items) in table.items():
            inner = value.get(name)
            found = inner if isinstance(inner, list) else [] if inner is None else [inner]
            for at, item in enumerate(found):
                if item is not None:
                    run(item, scope, group)
                    if at in items:
                        items[at](item, scope, group)

    return make
