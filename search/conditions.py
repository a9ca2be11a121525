"""One parameter of a search -> the node of its condition: names, modifiers, columns; commas are an OR.

What a single value means is `search.types`' business; values are split at commas here and nowhere else. `:not` and `:missing` are
negations of a set, made here. A modifier that does not fit is a 400 whatever the handling. Names that look through references are
`search.chains`' business.

Specification: https://hl7.org/fhir/R4/search.html#modifiers
"""

from resources.errors import FhirError
from resources.model import is_id
from search import types
from search.chains import is_linked, linked
from search.context import Search, find
from search.filters import FILTER, filtered
from search.lists import LIST, listed
from search.parameters import COLUMNS, Parameter
from search.query import All, HasId, LastUpdated, Node, Not, Nothing, Or, Present
from search.values import date_test, split, unescape


def condition(search: Search, type_name: str, name: str, value: str) -> Node | None:
    """The node of one parameter on `type_name`; None when its value is empty."""
    if is_linked(name):
        return linked(search, type_name, name, lambda kind, rest: condition(search, kind, rest, value))
    code, colon, modifier = name.partition(":")
    if code == FILTER:
        if colon:
            raise FhirError(400, "invalid", f"Parameter '{FILTER}' has no modifiers.")
        return filtered(search, type_name, value, condition)
    if code == LIST:
        return listed(search, colon + modifier, value)
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
    if modifier in ("not", "not-in") and parameter.type == "token":
        return Not(_any(search, parameter, None if modifier == "not" else "in", alternatives))
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


def _missing(parameter: Parameter, value: str) -> Node:
    if value not in ("true", "false"):
        raise FhirError(400, "invalid", f"Search parameter '{parameter.code}:missing': '{value}' is not true or false.")
    wanted = value == "true"
    if parameter.code in COLUMNS:
        return Nothing() if wanted else All()
    return Not(Present(parameter)) if wanted else Present(parameter)
