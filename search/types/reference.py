"""References: to resources of this server by key, elsewhere by URL, logical ones by identifier.

Rules. Relative, absolute with one of our own bases, and contained (`#x`, the resource `<container>#x`) references are keys;
a key matches whatever version is named unless the search names one. Every other reference is a URL, compared as written. A
Reference's identifier is a token under the same row, found by `:identifier`. A canonical is a URL entry (with and without its
version) and, where it names a resource of this server, a key too. A bare id stands for every type the parameter may target.
`:below` and `:above` look along the hierarchy of the target's type (`HIERARCHIES`: a location is part of another), or, for a URL, at
what lies under or over it, as for uris: `url|1` is above `url|1.2`.

Specification: https://hl7.org/fhir/R4/search.html#reference
"""

from typing import Any, Final, Literal

from resources.definitions.model import Element
from resources.errors import FhirError
from resources.model import ResourceKey
from search import values
from search.entries import ReferenceEntry, TextEntry, UriEntry
from search.parameters import Parameter
from search.query import HierarchyTest, Match, Node, Or, ReferenceTest
from search.types import token, uri
from search.types.making import Maker, Making, Scope
from search.values import ValueContext, fold

HIERARCHIES: Final = {
    "CarePlan": "part-of",
    "Communication": "part-of",
    "DeviceDefinition": "parent",
    "Encounter": "part-of",
    "Location": "partof",
    "MedicationStatement": "part-of",
    "Organization": "partof",
    "Procedure": "part-of",
    "ResearchStudy": "partof",
    "Specimen": "parent",
    "Task": "part-of",
}
"""Resource type -> the parameter that says what a resource of it is part of, among those of its own type."""


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[ReferenceTest, ...]:
    """The tests of one reference, any of which suffices; modifier: a resource type (`:identifier` is in `search.types`)."""
    text = "|".join(values.unescape(parameter.code, part) for part in values.split(value, "|"))
    if modifier is not None:
        return (ReferenceTest((_typed(parameter, modifier, text, context),), None),)
    found = values.literal(text, context.own_bases)
    if found is not None:
        local = ReferenceTest((found.key,), None, found.version or None)
        # a canonical may name a resource of this server by its absolute URL
        return (local, ReferenceTest((), text)) if values.is_absolute(text) else (local,)
    if values.is_absolute(text):
        return (ReferenceTest((), text),)
    identity = values.bare_id(parameter.code, text)
    targets = (parameter.only_target,) if parameter.only_target is not None else parameter.targets
    if not targets or "Resource" in targets:
        raise values.invalid(parameter.code, value, "is an id that may be of any type: write Type/id")
    return (ReferenceTest(tuple(ResourceKey(target, identity) for target in targets), None),)


def related(parameter: Parameter, modifier: str, value: str, context: ValueContext) -> Node:
    """The node of one value with the modifier `above` or `below`."""
    mode: Literal["above", "below"] = "above" if modifier == "above" else "below"
    found: list[Node] = []
    for test in tests(parameter, None, value, context):
        if test.url is not None or "|" in value:
            found += [Match(parameter, one) for one in uri.tests(parameter, modifier, value, context)]
            continue
        by_type: dict[str, list[ResourceKey]] = {}
        for key in test.keys:
            by_type.setdefault(key.type, []).append(key)
        for kind, keys in by_type.items():
            if kind in HIERARCHIES:
                found.append(Match(parameter, HierarchyTest(mode, tuple(keys), HIERARCHIES[kind])))
            elif len(by_type) == 1:
                raise values.invalid(
                    parameter.code, value, f"is a {kind}, which has no hierarchy for modifier ':{modifier}'"
                )
    if not found:
        raise values.invalid(
            parameter.code, value, f"may be of no type that has a hierarchy for modifier ':{modifier}'"
        )
    return found[0] if len(found) == 1 else Or(tuple(dict.fromkeys(found)))


def _typed(parameter: Parameter, modifier: str, text: str, context: ValueContext) -> ResourceKey:
    if not modifier[:1].isupper() or (
        parameter.targets and modifier not in parameter.targets and "Resource" not in parameter.targets
    ):
        raise FhirError(
            400,
            "invalid",
            f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type reference.",
        )
    found = values.literal(text, context.own_bases)
    if found is None:
        return ResourceKey(modifier, values.bare_id(parameter.code, text))
    if found.key.type != modifier:
        raise values.invalid(parameter.code, text, f"is no reference to a {modifier}, which its modifier asks for")
    return found.key


def match(entry: ReferenceEntry | UriEntry, test: ReferenceTest) -> bool:
    """Whether the entry satisfies the test."""
    if isinstance(entry, ReferenceEntry):
        return entry.target in test.keys and test.version in (None, entry.version)
    return test.url is not None and entry.value == test.url


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a value of datatype `kind`; None: a reference parameter cannot meet it."""
    del element
    bases = making.own_bases
    if kind == "Reference":

        def make_reference(value: Any, scope: Scope, group: int) -> None:
            text, display = value.get("reference"), value.get("display")
            shown = "" if display is None or group else fold(display)
            if text is None or not _add_key(code, text, bases, scope, group, shown):
                if text is not None:
                    scope.entries.uris.append(UriEntry(code, text, group))
                if shown:
                    scope.entries.texts.append(TextEntry(code, shown))
            identifier = value.get("identifier")
            if identifier is not None:
                token.add_identifier(code, identifier, scope, group)

        return make_reference
    if kind in ("canonical", "uri", "url", "oid", "uuid"):

        def make_url(value: Any, scope: Scope, group: int) -> None:
            _add_key(code, value, bases, scope, group)
            uri.add(code, value, scope, group)

        return make_url
    if kind == "Resource":

        def make_inline(value: Any, scope: Scope, group: int) -> None:
            target = ResourceKey(value["resourceType"], f"{scope.container}#{value.get('id', '')}")
            scope.entries.references.append(ReferenceEntry(code, target, "", group))

        return make_inline
    return None


def _add_key(row: str, text: str, bases: tuple[str, ...], scope: Scope, group: int, shown: str = "") -> bool:
    """Add the entry of a reference to a resource of this server; False when the text is none."""
    if text.startswith("#"):
        kind = scope.contained.get(text[1:]) if len(text) > 1 else scope.type
        if kind is None:
            return False
        identity = f"{scope.container}{text}" if len(text) > 1 else scope.container
        scope.entries.references.append(ReferenceEntry(row, ResourceKey(kind, identity), "", group, shown))
        return True
    found = values.literal(text, bases)
    if found is None:
        return False
    scope.entries.references.append(ReferenceEntry(row, found.key, found.version, group, shown))
    return True
