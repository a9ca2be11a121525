"""One parameter of a search -> the node of its condition: names, modifiers, chains, `_has`; commas are an OR.

What a single value means is `search.types`' business; values are split at commas here and nowhere else. `:not` and `:missing` are
negations of a set, made here. A modifier that does not fit is a 400 whatever the handling.

Specification: https://hl7.org/fhir/R4/search.html#modifiers, #chaining, #has
"""

from dataclasses import dataclass
from typing import Final

from resources.errors import FhirError
from resources.model import is_id
from search import types
from search.limits import SearchLimits
from search.parameters import COLUMNS, Parameter, Registry
from search.query import All, Chain, HasId, LastUpdated, Node, Not, Nothing, Or, Present, Reverse
from search.values import ValueContext, date_test, split, unescape

STEP: Final = "."
"""What separates the steps of a chain."""
_LATER: Final = frozenset(
    {"_text", "_content", "_list", "_filter", "_query", "_type", "_contained", "_containedType", "_score", "_explain"}
)


class Unknown(Exception):  # noqa: N818  (what lenient handling may ignore; becomes a FhirError otherwise)
    """A parameter that this server does not know, or does not support yet."""


@dataclass(frozen=True, slots=True)
class Search:
    """What parsing depends on."""

    registry: Registry
    type: str
    values: ValueContext
    limits: SearchLimits


def condition(search: Search, type_name: str, name: str, value: str) -> Node | None:
    """The node of one parameter on `type_name`; None when its value is empty."""
    if STEP in name:
        return _chain(search, type_name, name, value)
    code, colon, modifier = name.partition(":")
    if code == "_has":
        return _has(search, type_name, modifier, value)
    parameter = find(search, type_name, code)
    if colon and not modifier:
        raise FhirError(400, "invalid", f"Search parameter '{name}' ends in a colon without a modifier.")
    if modifier == "missing":
        return _missing(parameter, value)
    alternatives = split(value, ",") if "," in value else [value]
    if len(alternatives) > 1:
        alternatives = [text for text in alternatives if text]
        if not alternatives:
            return None
        if len(alternatives) > search.limits.alternatives:
            said = f"Search parameter '{name}' has more than {search.limits.alternatives} values."
            raise FhirError(400, "too-costly", said)
    if modifier == "not" and parameter.type == "token":
        return Not(_any(search, parameter, None, alternatives))
    return _any(search, parameter, modifier or None, alternatives)


def _any(search: Search, parameter: Parameter, modifier: str | None, alternatives: list[str]) -> Node:
    """The node of values joined by OR."""
    if parameter.code == "_id":
        _refuse_modifier(parameter, modifier)
        return HasId(tuple(dict.fromkeys(_id(text) for text in alternatives)))
    if len(alternatives) == 1:
        return _one(search, parameter, modifier, alternatives[0])
    return Or(tuple(_one(search, parameter, modifier, text) for text in alternatives))


def _one(search: Search, parameter: Parameter, modifier: str | None, text: str) -> Node:
    if parameter.code == "_lastUpdated":
        _refuse_modifier(parameter, modifier)
        return LastUpdated(date_test(parameter.code, text, search.values))
    return types.node(parameter, modifier, text, search.values)


def _id(text: str) -> str:
    plain = unescape("_id", text)
    if not is_id(plain):
        raise FhirError(400, "invalid", f"Search parameter '_id': '{plain}' is not an id.")
    return plain


def _refuse_modifier(parameter: Parameter, modifier: str | None) -> None:
    if modifier is not None:
        said = f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type {parameter.type}."
        raise FhirError(400, "invalid", said)


def find(search: Search, type_name: str, code: str) -> Parameter:
    """The parameter to search by. Raises Unknown for a code that the type does not have or that cannot be searched yet."""
    parameter = search.registry.find(type_name, code)
    if parameter is not None and parameter.searchable:
        return parameter
    if parameter is not None or code in _LATER:
        raise Unknown(f"Search parameter '{code}' of {type_name} is not supported yet.")
    raise Unknown(f"Search parameter '{code}' is not known for {type_name}.")


def _missing(parameter: Parameter, value: str) -> Node:
    if value not in ("true", "false"):
        raise FhirError(400, "invalid", f"Search parameter '{parameter.code}:missing': '{value}' is not true or false.")
    wanted = value == "true"
    if parameter.code in COLUMNS:
        return Nothing() if wanted else All()
    return Not(Present(parameter)) if wanted else Present(parameter)


def _chain(search: Search, type_name: str, name: str, value: str) -> Node | None:
    """`subject:Patient.name`, or `patient.name` where one target type has the parameter."""
    first, _, rest = name.partition(STEP)
    if first.startswith("_has:"):
        raise FhirError(400, "not-supported", f"'{name}': chains inside _has are not supported yet.")
    if STEP in rest or rest.startswith("_has:"):
        raise FhirError(400, "not-supported", f"'{name}': chains of more than one step are not supported yet.")
    code, colon, target = first.partition(":")
    parameter = find(search, type_name, code)
    if parameter.type != "reference":
        said = f"Search parameter '{name}': '{code}' is of type {parameter.type}; only references can be chained."
        raise FhirError(400, "invalid", said)
    if colon:
        require_target(search, parameter, target, name)
    else:
        target = _determined(search, parameter, rest, name)
    where = condition(search, target, rest, value)
    return None if where is None else Chain(parameter, target, where)


def _determined(search: Search, parameter: Parameter, rest: str, name: str) -> str:
    """The one target type that a chain without type can mean."""
    if parameter.only_target is not None:
        return parameter.only_target
    if len(parameter.targets) == 1:
        return parameter.targets[0]
    code = rest.partition(":")[0]
    able = [t for t in parameter.targets if search.registry.is_type(t) and search.registry.find(t, code) is not None]
    if len(able) == 1:
        return able[0]
    if parameter.targets and not able:
        raise Unknown(f"Search parameter '{name}': no target of '{parameter.code}' has '{code}'.")
    said = f"Search parameter '{name}' may mean several types: write {parameter.code}:Type.{rest}."
    raise FhirError(400, "invalid", said)


def _has(search: Search, type_name: str, text: str, value: str) -> Node | None:
    """`_has:Observation:patient:code`, with `text` what follows the first colon."""
    name = f"_has:{text}"
    source, _, rest = text.partition(":")
    code, _, inner = rest.partition(":")
    if not (source and code and inner):
        raise FhirError(400, "invalid", f"'{name}' is not of the form _has:Type:reference:parameter.")
    if inner.startswith("_has:"):
        raise FhirError(400, "not-supported", f"'{name}': _has inside _has is not supported yet.")
    if not search.registry.is_type(source):
        raise FhirError(400, "invalid", f"'{name}': '{source}' is not a resource type.")
    parameter = find(search, source, code)
    require_reference(parameter, type_name, name)
    where = condition(search, source, inner, value)
    return None if where is None else Reverse(source, parameter, where)


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
