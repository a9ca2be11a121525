"""Parameters that look through references: chains (`subject:Patient.organization.name`) and `_has`, nested in any order.

Rules. A name is read from the left: `_has:Type:reference:` looks at those who refer here, `reference:Type.` at what is referred to, and
the rest of the name is a parameter of that type again. A chain without type means every target type that knows the rest; each step is
evaluated on its own. Steps per name, types of an untyped step and steps of the whole search are limited, each with an error naming it.

Specification: https://hl7.org/fhir/R4/search.html#chaining, #has
"""

from collections.abc import Callable
from typing import Final

from resources.errors import FhirError
from search.context import Search, Unknown, find
from search.parameters import Parameter
from search.query import Chain, Node, Or, Reverse

STEP: Final = "."
"""What separates the steps of a chain."""
HAS: Final = "_has:"

Rest = Callable[[str], Node | None]
"""The node of the rest of a name on a type; None when the value is empty."""


def is_linked(name: str) -> bool:
    """Whether a parameter's name looks through a reference."""
    return STEP in name or name.startswith(HAS)


def linked(search: Search, type_name: str, name: str, rest_of: Callable[[str, str], Node | None]) -> Node | None:
    """The node of a name that looks through references; `rest_of(type, rest)` reads the rest of it."""
    steps = search.steps
    if steps.depth >= search.limits.depth:
        raise FhirError(400, "too-costly", f"'{name}': a search goes through at most {search.limits.depth} references.")
    steps.depth += 1
    try:
        if name.startswith(HAS):
            return _has(search, type_name, name, rest_of)
        return _chain(search, type_name, name, rest_of)
    finally:
        steps.depth -= 1


def chained(search: Search, parameter: Parameter, targets: tuple[str, ...], rest: Rest) -> Node | None:
    """The reference's targets of these types that satisfy `rest`: one chain for each type, types that do not know it left out."""
    found: list[Node] = []
    unknown: Unknown | None = None
    for target in targets:
        try:
            where = rest(target)
        except Unknown as error:
            unknown = error
            continue
        if where is None:
            return None
        _take(search, parameter)
        found.append(Chain(parameter, target, where, canonical=_names(search, parameter, target)))
    if not found and unknown is not None:
        raise unknown
    return found[0] if len(found) == 1 else Or(tuple(found))


def is_canonical(search: Search, parameter: Parameter) -> bool:
    """Whether values of a reference parameter may be canonical URLs."""
    kinds = search.values.datatypes(parameter)
    return not kinds or bool(kinds & {"canonical", "uri"})


def _take(search: Search, parameter: Parameter) -> None:
    search.steps.taken += 1
    if search.steps.taken > search.limits.steps:
        said = f"Search parameter '{parameter.code}': the search looks through more than {search.limits.steps} kinds of references."
        raise FhirError(400, "too-costly", said)


def _chain(search: Search, type_name: str, name: str, rest_of: Callable[[str, str], Node | None]) -> Node | None:
    """`subject:Patient.name`, or `patient.name`."""
    first, _, rest = name.partition(STEP)
    code, colon, target = first.partition(":")
    parameter = find(search, type_name, code)
    if parameter.type != "reference":
        said = f"Search parameter '{name}': '{code}' is of type {parameter.type}; only references can be chained."
        raise FhirError(400, "invalid", said)
    if colon:
        require_target(search, parameter, target, name)
        targets: tuple[str, ...] = (target,)
    else:
        targets = untyped(search, parameter, rest, name)
    return chained(search, parameter, targets, lambda kind: rest_of(kind, rest))


def untyped(search: Search, parameter: Parameter, rest: str, name: str) -> tuple[str, ...]:
    """The target types that a chain without type can mean: those that know the next step."""
    if parameter.only_target is not None:
        return (parameter.only_target,)
    if len(parameter.targets) == 1:
        return parameter.targets
    able = tuple(kind for kind in parameter.targets if search.registry.is_type(kind) and _knows(search, kind, rest))
    if not able:
        raise Unknown(f"Search parameter '{name}': no target of '{parameter.code}' has '{_code(rest)}'.")
    if len(able) > search.limits.types:
        said = f"Search parameter '{name}' may mean {len(able)} types: write {parameter.code}:Type.{rest}."
        raise FhirError(400, "too-costly", said)
    return able


def _code(rest: str) -> str:
    return rest.partition(STEP)[0].partition(":")[0]


def _knows(search: Search, kind: str, rest: str) -> bool:
    """Whether the type has the first step of `rest`."""
    if rest.startswith(HAS):
        source, _, inner = rest.removeprefix(HAS).partition(":")
        parameter = search.registry.find(source, inner.partition(":")[0]) if search.registry.is_type(source) else None
        return parameter is not None and parameter.may_target(kind)
    return search.registry.find(kind, _code(rest)) is not None


def _has(search: Search, type_name: str, name: str, rest_of: Callable[[str, str], Node | None]) -> Node | None:
    """`_has:Observation:patient:code`."""
    source, _, rest = name.removeprefix(HAS).partition(":")
    code, _, inner = rest.partition(":")
    if not (source and code and inner):
        raise FhirError(400, "invalid", f"'{name}' is not of the form _has:Type:reference:parameter.")
    if not search.registry.is_type(source):
        raise FhirError(400, "invalid", f"'{name}': '{source}' is not a resource type.")
    parameter = find(search, source, code)
    require_reference(parameter, type_name, name)
    where = rest_of(source, inner)
    if where is None:
        return None
    _take(search, parameter)
    return Reverse(source, parameter, where, _names(search, parameter, type_name))


def _names(search: Search, parameter: Parameter, target: str) -> bool:
    """Whether the parameter may name resources of type `target` by canonical URL."""
    return search.registry.find(target, "url") is not None and is_canonical(search, parameter)


def require_target(search: Search, parameter: Parameter, target: str, name: str) -> None:
    """400 naming `name` unless `target` is a resource type that the reference parameter may point to."""
    if not search.registry.is_type(target):
        raise FhirError(400, "invalid", f"'{name}': '{target}' is not a resource type.")
    if not parameter.may_target(target):
        raise FhirError(400, "invalid", f"'{name}': '{parameter.code}' does not refer to {target}.")


def require_reference(parameter: Parameter, target: str, name: str) -> None:
    """400 naming `name` unless the parameter is a reference that may point to `target`."""
    if parameter.type != "reference":
        raise FhirError(400, "invalid", f"'{name}': '{parameter.code}' is of type {parameter.type}, not reference.")
    if not parameter.may_target(target):
        raise FhirError(400, "invalid", f"'{name}': {parameter.base}'s '{parameter.code}' does not refer to {target}.")
