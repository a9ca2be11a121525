"""The check of an object, a list, a primitive's companion: the forms of JSON, put together from the checks of what they hold.

Rules. A check takes `(value, scope)` and gives None, or the faults with paths relative to the value. An object looks each member up
in one table, whose entries are compiled when first met; what the table does not have (companions `_name`, unknown names) goes the
slower way. A valid value costs no path. Beyond `faults.MOST` faults nothing more is looked at, but in an array of primitives, whose nulls are
settled by its companion: a fault costs more the deeper it is.

Specification: https://hl7.org/fhir/R4/json.html, https://hl7.org/fhir/R4/elementdefinition.html
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resources.definitions.model import Element, Property, TypeDefinition
from resources.validation.faults import MOST, Fault, moved
from resources.validation.scope import Invariant, Scope

Faults = list[Fault] | None
Walk = Callable[[Any, Scope], Faults]
Test = Callable[[Any], str | None]
"""What is wrong with a primitive value."""

_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


def step(name: str) -> str:
    """A member's name as a step of a path; "" when it could not be a name of FHIR (it may hold anything)."""
    return f".{name}" if _NAME.fullmatch(name) is not None else ""


def lists(walk: Walk, *, primitive: bool) -> Walk:
    """The check of an array whose items are checked by `walk`."""

    def check(value: Any, scope: Scope) -> Faults:
        if value.__class__ is not list:
            return [Fault("", "structure", "must be an array")]
        if not value:
            return [Fault("", "structure", "must not be an empty array")]
        faults: Faults = None
        for index, item in enumerate(value):
            if item is None:
                found: Faults = [Fault("", "structure", "must not be null", null=primitive)]
            else:
                found = walk(item, scope)
            if found is not None:
                faults = _added(faults, moved(f"[{index}]", found))
                if len(faults) > MOST and not primitive:
                    break
        return faults

    return check


def _clearer(value: Any, found: list[Fault]) -> list[Fault]:
    """The faults of a value that must not be an array; used where the value itself may tell less clearly."""
    if value is None:
        return [Fault("", "structure", "must not be null")]
    if value.__class__ is list:
        return [Fault("", "structure", "must not be an array")]
    if value.__class__ is dict and len(found) == 1 and not found[0].path and found[0].code == "value":
        return [Fault("", "structure", "must not be an object")]
    return found


def noted(walk: Walk, invariant: Invariant | None) -> Walk:
    """`walk` that also notes the value for its invariants."""
    if invariant is None:
        return walk

    def check(value: Any, scope: Scope) -> Faults:
        scope.tasks.append((invariant, value, scope))
        return walk(value, scope)

    return check


def objects(
    definition: TypeDefinition,
    make: Callable[[Property], Walk],
    test_of: Callable[[Property], Test | None],
    is_primitive: Callable[[str], bool],
    element: Callable[[], Walk],
    rule: Callable[[Any], Faults] | None,
    invariant: Invariant | None,
) -> Walk:
    """The check of an object of a type.

    `make` compiles a member's check; `test_of` gives a primitive's test where nothing else is asked of the member, the common case,
    which costs one call. `element` gives the check of a primitive's companion; `rule` is what the type demands beyond its definition.
    """
    table: dict[str, Walk] = {}
    tests: dict[str, Test] = {}
    for name, meaning in definition.properties.items():
        if meaning.element.max != 0:
            table[name] = _first(table, tests, name, make, test_of, meaning)
    singles = frozenset(name for name, meaning in definition.properties.items() if meaning.element.max == 1)
    is_resource = definition.kind == "resource"
    if is_resource:
        table["resourceType"] = _anything
    companions = {f"_{n}": p for n, p in definition.properties.items() if is_primitive(p.type) and p.type != "xhtml"}
    required = frozenset(e.name for e in definition.elements.values() if e.min and not e.choice)
    choices = _choices(definition)
    chosen = {name: element.name for element, names in choices for name in names}
    demanded = frozenset(element.name for element, _ in choices if element.min)

    def other(name: str, item: Any, value: Any, scope: Scope) -> Faults:
        meaning = companions.get(name)
        if meaning is None:
            if not step(name):
                return [Fault("", "structure", "has a member whose name is none of FHIR's")]
            return [Fault("", "structure", f"is no element of {definition.name}")]
        many = meaning.element.max != 1
        return (
            _companions(item, value, meaning.name, element(), scope)
            if many
            else _companion(item, value, meaning.name, element(), scope)
        )

    def check(value: Any, scope: Scope) -> Faults:
        if value.__class__ is not dict:
            return [Fault("", "structure", "must be an object")]
        faults: Faults = None
        for name, item in value.items():
            test = tests.get(name)
            if test is not None and test(item) is None:
                continue
            walk = table.get(name)
            found = other(name, item, value, scope) if walk is None else walk(item, scope)
            if found is not None:
                found = _clearer(item, found) if name in singles else found
                faults = _with(faults, name, found, value, companions)
                if faults is not None and len(faults) > MOST:
                    return faults
        if required and not required <= value.keys():
            faults = _missing(faults, required, value)
        if chosen:
            given = [chosen[member] for member in value if member in chosen]
            if (len(given) > 1 and len(set(given)) < len(given)) or (demanded and not demanded.issubset(given)):
                faults = _chosen(faults, choices, value)
        if len(value) < 2 and not is_resource and (not value or "id" in value):  # noqa: PLR2004 - ele-1: an id is no content
            faults = [*(faults or ()), Fault("", "structure", "must have a value or children")]
        if rule is not None:
            found = rule(value)
            if found is not None:
                faults = [*(faults or ()), *found]
        if invariant is not None:
            scope.tasks.append((invariant, value, scope))
        return faults

    return check


def _first(
    table: dict[str, Walk],
    tests: dict[str, Test],
    name: str,
    make: Callable[[Property], Walk],
    test_of: Callable[[Property], Test | None],
    meaning: Property,
) -> Walk:
    """A check that compiles the real one into the tables when it is first called."""

    def check(value: Any, scope: Scope) -> Faults:
        test = test_of(meaning)
        if test is not None:
            tests[name] = test
        walk = table[name] = make(meaning)
        return walk(value, scope)

    return check


def _anything(value: Any, scope: Scope) -> Faults:  # noqa: ARG001 - the form of every check
    return None


def _choices(definition: TypeDefinition) -> tuple[tuple[Element, frozenset[str]], ...]:
    """The choice elements with the names that stand for each, companions included."""
    names: dict[str, list[str]] = {}
    for name, meaning in definition.properties.items():
        if meaning.element.choice:
            names.setdefault(meaning.element.name, []).extend((name, f"_{name}"))
    return tuple((definition.elements[element], frozenset(found)) for element, found in names.items())


def _with(
    faults: Faults, name: str, found: Sequence[Fault], value: Mapping[str, Any], companions: Mapping[str, Property]
) -> Faults:
    """`faults` and those found in member `name`; nulls of an array are settled by its companion."""
    if f"_{name}" in value:
        found = [fault for fault in found if not fault.null]
        if not found:
            return faults
    return _added(faults, moved(step(name[1:] if name in companions else name), found))


def _added(faults: Faults, more: list[Fault]) -> list[Fault]:
    """`faults` with `more` at their end, in place: a body may have very many."""
    if faults is None:
        return more
    faults.extend(more)
    return faults


def _missing(faults: Faults, required: frozenset[str], value: Mapping[str, Any]) -> Faults:
    lacking = [
        Fault(f".{name}", "required", "is required")
        for name in sorted(required)
        if name not in value and not _is_extended(value.get(f"_{name}"))
    ]
    return [*(faults or ()), *lacking] if lacking else faults


def _is_extended(companion: Any) -> bool:
    """Whether a primitive's companion stands for the value: it has extensions (data-absent-reason)."""
    parts = companion if companion.__class__ is list else [companion]
    return any(part.__class__ is dict and "extension" in part for part in parts)


def _chosen(faults: Faults, choices: tuple[tuple[Element, frozenset[str]], ...], value: Mapping[str, Any]) -> Faults:
    """At most one name of each choice, and one where the element is required."""
    for element, names in choices:
        present = value.keys() & names
        if len(present) > 1:
            given = sorted({name.removeprefix("_") for name in present})
            if len(given) > 1:
                faults = [
                    *(faults or ()),
                    Fault(f".{element.name}", "structure", f"only one may be given: {', '.join(given)}"),
                ]
        elif element.min and not present:
            faults = [*(faults or ()), Fault(f".{element.name}", "required", "is required")]
    return faults


def _companion(item: Any, value: Mapping[str, Any], name: str, walk: Walk, scope: Scope) -> Faults:
    """`_birthDate`: an object with id or extensions; without a value it must have extensions."""
    if item.__class__ is dict and item.keys() == {"id"} and name in value:
        return None
    return walk(item, scope)


def _companions(item: Any, value: Mapping[str, Any], name: str, walk: Walk, scope: Scope) -> Faults:
    """`_given`: as long as `given`, and in each place a value or an object, or both."""
    if item.__class__ is not list:
        return [Fault("", "structure", "must be an array")]
    if not item:
        return [Fault("", "structure", "must not be an empty array")]
    values = value.get(name)
    if values.__class__ is not list:
        values = [None] * len(item)
    faults: list[Fault] = []
    if len(values) != len(item):
        faults.append(Fault("", "structure", f"must be as long as {name}"))
    for index, part in enumerate(item):
        given = values[index] if index < len(values) else None
        if part is None:
            if given is None:
                faults.append(Fault(f"[{index}]", "structure", "must not be null where the value is absent"))
        elif not (part.__class__ is dict and part.keys() == {"id"} and given is not None):
            faults.extend(moved(f"[{index}]", walk(part, scope) or ()))
            if len(faults) > MOST:
                return faults
    faults.extend(
        Fault(f"[{index}]", "structure", "must not be null")
        for index in range(len(item), len(values))
        if values[index] is None
    )
    return faults or None
