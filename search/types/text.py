"""`:text` of tokens and references: what people read for a code (display, text of the concept or identifier type) or a target.

Rules. The value is folded like a string; it is found where a word of one text begins: `mass ind` finds `Body mass index`. Texts of an
identifier's type are kept with the type.

Specification: https://hl7.org/fhir/R4/search.html#modifiers
"""

from dataclasses import replace

from search import values
from search.entries import ReferenceEntry, TextEntry, TokenEntry
from search.parameters import Parameter
from search.query import Match, Node, TextTest
from search.types.token import kind_row
from search.values import ValueContext


def node(parameter: Parameter, value: str, context: ValueContext) -> Node:
    """The node of one text."""
    folded = values.fold(values.unescape(parameter.code, value))
    if not folded:
        raise values.invalid(parameter.code, value, "has no letter, digit or sign to look for")
    kinds = context.datatypes(parameter)
    if parameter.type == "token" and (not kinds or "Identifier" in kinds):
        rows = parameter.rows or (parameter.code,)
        parameter = replace(parameter, rows=(*rows, *map(kind_row, rows)))
    return Match(parameter, TextTest(folded))


def match(entry: TokenEntry | ReferenceEntry | TextEntry, test: TextTest) -> bool:
    """Whether a word of the entry's text begins so."""
    return any(f" {test.text}" in f" {line}" for line in entry.text.split("\n"))
