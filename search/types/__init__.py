"""The search types, one module each.

Each says which modifiers it has, how a value becomes a test, how an element's value becomes index entries, and when an entry
satisfies a test.

`node` turns one OR-value into a query node, `maker` compiles one parameter and datatype into an entry maker, `match` holds an
entry against a test. `:not` and `:missing` are negations outside of `node`.

Specification: https://hl7.org/fhir/R4/search.html#ptypes
"""

from itertools import product
from typing import cast

from resources.definitions.model import Element
from resources.errors import FhirError
from search.entries import (
    DateEntry,
    NumberEntry,
    PositionEntry,
    QuantityEntry,
    ReferenceEntry,
    StringEntry,
    TextEntry,
    TokenEntry,
    UriEntry,
)
from search.parameters import FULL_TEXT, Parameter
from search.query import (
    CompositeTest,
    DateTest,
    Match,
    MimeTest,
    NearTest,
    Node,
    NumberTest,
    Or,
    QuantityTest,
    ReferenceTest,
    StringTest,
    Test,
    TextTest,
    TokenTest,
    UnlikeTest,
    UriTest,
)
from search.types import (
    composite,
    concepts,
    date,
    identifiers,
    near,
    number,
    quantity,
    reference,
    string,
    text,
    token,
    uri,
    words,
)
from search.types.making import Maker, Making
from search.values import ValueContext, unfit

Entry = (
    TokenEntry
    | StringEntry
    | DateEntry
    | NumberEntry
    | QuantityEntry
    | ReferenceEntry
    | UriEntry
    | TextEntry
    | PositionEntry
)

_TYPES = {
    "token": token,
    "string": string,
    "date": date,
    "number": number,
    "quantity": quantity,
    "reference": reference,
    "uri": uri,
    "special": near,
}


def node(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> Node:
    """The node of one OR-value (escapes still in it); `modifier` without colon.

    Raises FhirError 400 for a value or modifier that does not fit, or that is not supported yet.
    """
    if parameter.code in FULL_TEXT:
        if modifier is not None:
            raise unfit(parameter, modifier)
        return words.node(parameter, value)
    if modifier == "text" and parameter.type in ("token", "reference"):
        return text.node(parameter, value, context)
    if modifier in concepts.MODIFIERS and parameter.type == "token":
        return concepts.node(parameter, modifier, value, context)
    if modifier in ("above", "below") and parameter.type == "reference":
        return reference.related(parameter, modifier, value, context)
    if modifier == "of-type" and parameter.type == "token":
        return identifiers.of_type(parameter, value, context)
    if modifier == "identifier" and parameter.type == "reference":
        return Match(parameter, token.test(parameter, value, context), identifier=True)
    found = _tests(parameter, modifier, value, context)
    nodes = tuple(Match(parameter, test) for test in found)
    return nodes[0] if len(nodes) == 1 else Or(nodes)


def _tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[Test, ...]:
    if parameter.type == "composite":
        if modifier is not None:
            raise FhirError(
                400,
                "invalid",
                f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type composite.",
            )
        texts = composite.parts(parameter, value)
        choices = [
            _tests(component, None, text, context) for component, text in zip(parameter.components, texts, strict=True)
        ]
        return tuple(CompositeTest(combination) for combination in product(*choices))
    found = _TYPES.get(parameter.type)
    if found is None:
        raise FhirError(
            400, "not-supported", f"Search parameter '{parameter.code}' of type {parameter.type} is not supported yet."
        )
    return cast("tuple[Test, ...]", found.tests(parameter, modifier, value, context))


def maker(parameter: Parameter, code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How the parameter's entries, stored as row `code`, are made from a value of datatype `kind`; None: it cannot meet it."""
    found = _TYPES.get(parameter.type)
    return None if found is None else cast("Maker | None", found.maker(code, kind, element, making))


def match(entry: Entry, test: Test) -> bool:
    """Whether one entry satisfies a test; an entry of another kind does not."""
    match entry, test:
        case _, UnlikeTest(inner):
            return _like(entry, inner) and not match(entry, inner)
        case TokenEntry(), TokenTest():
            return token.match(entry, test)
        case StringEntry(), StringTest():
            return string.match(entry, test)
        case DateEntry(), DateTest():
            return date.match(entry, test)
        case NumberEntry(), NumberTest():
            return number.match(entry, test)
        case QuantityEntry(), QuantityTest():
            return quantity.match(entry, test)
        case ((ReferenceEntry() | UriEntry()), ReferenceTest()):
            return reference.match(entry, test)
        case UriEntry(), UriTest():
            return uri.match(entry, test)
        case ((TokenEntry() | ReferenceEntry() | TextEntry()), TextTest()):
            return text.match(entry, test)
        case PositionEntry(), NearTest():
            return near.match(entry, test)
        case TokenEntry(), MimeTest():
            return concepts.is_mime(entry, test)
    return False


def _like(entry: Entry, test: Test) -> bool:
    """Whether an entry is of the kind that a test is for: a whole text, not a later word of one."""
    match entry, test:
        case StringEntry(exact=exact), StringTest():
            return exact is not None
        case (TokenEntry(), TokenTest()) | (DateEntry(), DateTest()) | (UriEntry(), UriTest()):
            return True
        case ((ReferenceEntry() | UriEntry()), ReferenceTest()):
            return True
    return False
