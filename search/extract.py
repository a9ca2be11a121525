"""Index entries of a resource, by closures compiled once per type.

All stored parameters of a type become ONE tree of property names, so a resource is walked once and only where a parameter looks.
At the leaves stand the makers of search.types. Composites run a small tree of their own per tuple and number the tuples.
Expressions that closures do not cover are evaluated by fhirpathpy for that parameter alone.

Rules: no entry twice; a resource is in its own compartment; contained resources, and the first entry of a document or message
Bundle, have entries of their own, under `(type, local id)`.
Specification: https://hl7.org/fhir/R4/search.html, https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import partial
from operator import attrgetter
from typing import Any

from resources import fhirpath
from resources.definitions import Definitions
from resources.errors import FhirError
from resources.fhirpath import Computed, Place, Typed
from resources.fhirpath_syntax import NotSimple
from resources.model import Resource, ResourceKey
from search import types
from search.entries import Entries
from search.parameters import COLUMNS, FULL_TEXT, Parameter, Registry
from search.tree import Tree, compiled
from search.types import words
from search.types.making import Maker, Making, Scope

# How a compartment's definition names the resource whose compartment it is.
_ITSELF = "{def}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What extraction does for one type."""

    run: Maker
    computed: tuple[Callable[[Scope], None], ...]
    compartments: frozenset[tuple[str, str]]
    own_compartment: bool
    datatypes: dict[str, frozenset[str]]
    unsupported: tuple[tuple[str, str], ...]


class Extractor:
    """Makes entries; plans are compiled when a type is first met. `zone` reads times that are written without offset."""

    def __init__(
        self, definitions: Definitions, registry: Registry, own_bases: tuple[str, ...], zone: tzinfo = UTC
    ) -> None:
        self._definitions = definitions
        self._registry = registry
        self._making = Making(definitions.value_set, own_bases, zone)
        self._plans: dict[str, _Plan] = {}
        self._epoch = registry.epoch

    @property
    def epoch(self) -> int:
        """The epoch of the custom search parameters by which entries are made."""
        return self._registry.epoch

    @property
    def registry(self) -> Registry:
        """The search parameters by which entries are made."""
        return self._registry

    def fork(self, registry: Registry) -> "Extractor":
        """An extractor of the same settings for a registry that was forked from this one's."""
        other = Extractor(self._definitions, registry, self._making.own_bases, self._making.zone)
        other._plans = dict(self._plans) if registry.epoch == self._epoch else {}
        return other

    def snapshot(self) -> "Extractor":
        """An extractor by the search parameters of now, for another thread."""
        return self.fork(self._registry.fork())

    def extract(self, resource: Resource, key: ResourceKey) -> Entries:
        """The entries of a valid resource known as `key`."""
        plan = self._plan(key.type)
        contained = resource.get("contained")
        local = {one["id"]: one["resourceType"] for one in contained if "id" in one} if contained else {}
        entries = _entries(plan, resource, key.id, local)
        inside = {
            entry.target for entry in entries.references if (entry.parameter, entry.target.type) in plan.compartments
        }
        entries.compartments = sorted([target for target in inside if "#" not in target.id])
        if plan.own_compartment and key not in inside:
            entries.compartments.append(key)
        for name, inner in _inner(resource):
            kind = inner["resourceType"]
            entries.contained[(kind, name)] = _entries(self._plan(kind), inner, key.id, local)
        return entries

    def datatypes(self, parameter: Parameter) -> frozenset[str]:
        """The FHIR datatypes that values of a parameter have on its type; empty where they are known at run time only."""
        known = self._plan(parameter.base).datatypes
        return frozenset(kind for row in parameter.rows or (parameter.code,) for kind in known.get(row, ()))

    def unsupported(self, type_name: str) -> tuple[tuple[str, str], ...]:
        """Pairs of parameter code and datatype that the definitions allow and no entry is made of."""
        return self._plan(type_name).unsupported

    def _plan(self, type_name: str) -> _Plan:
        if self._epoch != self._registry.epoch:
            self._plans, self._epoch = {}, self._registry.epoch
        plan = self._plans.get(type_name)
        if plan is None:
            plan = self._plans[type_name] = _Planner(type_name, self._definitions, self._making).plan(self._registry)
        return plan


def _entries(plan: _Plan, resource: Resource, container: str, local: Mapping[str, str]) -> Entries:
    entries = Entries()
    scope = Scope(resource, entries, container, resource["resourceType"], local, {})
    plan.run(resource, scope, 0)
    for one in plan.computed:
        one(scope)
    for rows in _lists(entries):
        if len(rows) > 1 and len(set(rows)) < len(rows):
            rows[:] = dict.fromkeys(rows)
    return entries


def _inner(resource: Resource) -> list[tuple[str, Resource]]:
    """Resources inside this one that searches reach by chains, with their local ids."""
    inner = [(str(one["id"]), one) for one in resource.get("contained", ()) if "id" in one]
    if resource["resourceType"] == "Bundle" and resource.get("type") in ("document", "message"):
        first = [entry["resource"] for entry in resource.get("entry", ())[:1] if "resource" in entry]
        inner.extend((str(one.get("id", "")), one) for one in first)
    return inner


def _found(evaluate: Callable[[Resource], list[Typed]], resource: Resource) -> list[Typed]:
    """What a general expression finds; ValueError where the engine marks a fault instead of raising it."""
    found = evaluate(resource)
    if any(isinstance(one.value, dict) and "$status" in one.value for one in found):
        raise ValueError("a fault of the expression")
    return found


_lists: Callable[[Entries], tuple[list[Any], ...]] = attrgetter(
    "tokens", "strings", "dates", "numbers", "quantities", "references", "uris", "texts"
)
"""The lists in which no entry stands twice."""


@dataclass(slots=True)
class _Planner:
    """Compiles the plan of one type."""

    type: str
    definitions: Definitions
    making: Making
    tree: Tree = field(default_factory=Tree)
    computed: list[Callable[[Scope], None]] = field(default_factory=list)
    datatypes: dict[str, frozenset[str]] = field(default_factory=dict)
    unsupported: list[tuple[str, str]] = field(default_factory=list)

    def plan(self, registry: Registry) -> _Plan:
        for parameter in registry.stored(self.type):
            if parameter.code in FULL_TEXT:
                self.computed.append(partial(words.run, parameter))
            elif parameter.expression is not None and parameter.code not in COLUMNS:
                self.add(parameter)
        compartments = set()
        for compartment in self.definitions.compartments.values():
            for code in compartment.members.get(self.type, ()):
                member = None if code == _ITSELF else registry.find(self.type, code)
                if member is not None:
                    compartments |= {(row, compartment.code) for row in member.rows or (member.code,)}
        return _Plan(
            compiled(self.tree),
            tuple(self.computed),
            frozenset(compartments),
            self.type in self.definitions.compartments,
            self.datatypes,
            tuple(self.unsupported),
        )

    def add(self, parameter: Parameter) -> None:
        assert parameter.expression is not None
        try:
            found = fhirpath.places(parameter.expression, self.type, self.definitions)
        except NotSimple:
            self.computed.append(self.general(parameter))
            return
        if isinstance(found, Computed):
            self.datatypes[parameter.code] = frozenset({"boolean"})
            self.computed.append(self.truth(parameter, found))
        elif parameter.type == "composite":
            for place in found:
                self.tree.at(place.steps).leaves.append(self.composite(parameter, place.type))
        else:
            self.leaves(parameter, found, self.tree)

    def leaves(self, parameter: Parameter, places: Iterable[Place], tree: Tree) -> None:
        """Put the parameter's makers at its places; note what no maker covers."""
        kinds = set()
        for place in self.expanded(places):
            maker = types.maker(parameter, parameter.code, place.type, place.element, self.making)
            if maker is not None:
                kinds.add(place.type)
                tree.at(place.steps).leaves.append(maker)
            elif "extension" not in place.steps:
                self.unsupported.append((parameter.code, place.type))
        self.datatypes[parameter.code] = frozenset(kinds)

    def expanded(self, places: Iterable[Place]) -> Iterable[Place]:
        """An Extension as the value it carries: a search parameter on an extension means its value."""
        for place in places:
            if place.type != "Extension":
                yield place
                continue
            for found in self.definitions.types["Extension"].properties.values():
                if found.element.name == "value":
                    yield Place((*place.steps, found.name), found.type, found.element, place.rooted)

    def composite(self, parameter: Parameter, kind: str) -> Maker:
        """One tuple per value of the context; a tuple that lacks a component makes no entries."""
        parts = [self.component(component, kind) for component in parameter.components]

        def make(value: Any, scope: Scope, _group: int) -> None:
            lists = _lists(scope.entries)
            marks = [len(rows) for rows in lists]
            group = scope.groups.get(parameter.code, 0) + 1
            for rooted, run in parts:
                before = sum(map(len, lists))
                run(scope.resource if rooted else value, scope, group)
                if sum(map(len, lists)) == before:
                    for rows, mark in zip(lists, marks, strict=True):
                        del rows[mark:]
                    return
            scope.groups[parameter.code] = group

        return make

    def component(self, component: Parameter, kind: str) -> tuple[bool, Maker]:
        """Whether the component starts at the resource, and its tree; NotSimple is a fault of the definition here."""
        assert component.expression is not None
        tree = Tree()
        rooted = component.expression.startswith("%resource")
        expression = component.expression.removeprefix("%resource.")
        found = fhirpath.places(expression, self.type if rooted else kind, self.definitions)
        assert not isinstance(found, Computed)
        self.leaves(component, found, tree)
        return rooted, compiled(tree)

    def truth(self, parameter: Parameter, computed: Computed) -> Callable[[Scope], None]:
        maker = types.maker(parameter, parameter.code, "boolean", None, self.making)

        def run(scope: Scope) -> None:
            value = computed.value(scope.resource)
            if value is not None and maker is not None:
                maker(value, scope, 0)

        return run

    def general(self, parameter: Parameter) -> Callable[[Scope], None]:
        assert parameter.expression is not None
        evaluate = fhirpath.general(parameter.expression)

        def run(scope: Scope) -> None:
            try:
                found = _found(evaluate, scope.resource)
            except (
                Exception
            ) as error:  # the engine raises whatever an expression does to it; whose expression it was is told
                said = f"Search parameter '{parameter.code}' ({parameter.url}) cannot be evaluated on this resource."
                raise FhirError(422, "processing", said) from error
            for kind, value in found:
                maker = types.maker(parameter, parameter.code, kind, None, self.making)
                if maker is not None:
                    maker(value, scope, 0)

        return run
