"""`:of-type` of identifiers: the type's system and code and the value, of one identifier: `identifier:of-type=system|MR|446053`.

Rules. All three parts must be there. The entries of an identifier's type carry the same group as that of its value, so this is a
composite of two parameters.

Specification: https://hl7.org/fhir/R4/search.html#modifiers
"""

from dataclasses import replace

from search import values
from search.parameters import Parameter
from search.query import CompositeTest, Match, Node, TokenTest
from search.types import token
from search.values import ValueContext


def of_type(parameter: Parameter, value: str, context: ValueContext) -> Node:
    """The node of one `system|code|value`."""
    kinds = context.datatypes(parameter)
    if kinds and "Identifier" not in kinds:
        raise values.unfit(parameter, "of-type")
    parts = [values.unescape(parameter.code, part) for part in values.split(value, "|")]
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004
        raise values.invalid(parameter.code, value, "is not system|code|value of an identifier, all three given")
    system, code, identifier = parts
    rows = tuple(token.kind_row(row) for row in parameter.rows or (parameter.code,))
    kind = replace(parameter, code=token.kind_row(parameter.code), rows=rows)
    both = replace(parameter, code=f"{parameter.code}:of-type", type="composite", components=(parameter, kind), rows=())
    # the value first: it is what finds few rows
    sides = TokenTest(None, _spellings(identifier)), TokenTest(system, (token.key(system, code),))
    return Match(both, CompositeTest(sides))


def _spellings(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((text.casefold(), text)))
