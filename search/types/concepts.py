"""`:in`, `:not-in`, `:above` and `:below` of tokens: codes by what terminologies say of them.

Rules. A value set is named by its canonical URL, with `|version` where one is meant, or by `ValueSet/id` here; the store joins its
codes, which are never written into a statement. `:below` finds the code and what its system places under it, `:above` the code
and what it lies under. Mime types need no system for that: `image` is above `image/png`, `text/xml` above `text/xml; charset=utf-8`.
`:not-in` is the negation of `:in` (of the set of resources) and made by the caller.

Specification: https://hl7.org/fhir/R4/search.html#token
"""

from typing import Final, Literal, cast

from search import values
from search.entries import TokenEntry
from search.parameters import Parameter
from search.query import Match, MemberTest, MimeTest, Node, Or, SubsumptionTest, Test
from search.types import token
from search.values import ValueContext

MODIFIERS: Final = frozenset({"in", "above", "below"})
MIME_SYSTEM: Final = "urn:ietf:bcp:13"
_MIME_BORDERS: Final = "/;+ "


def node(parameter: Parameter, modifier: str, value: str, context: ValueContext) -> Node:
    """The node of one value; FhirError 400 for a value or a parameter that the modifier does not fit."""
    kinds = context.datatypes(parameter)
    if kinds and not kinds & {"code", "Coding", "CodeableConcept", "uri", "string"}:
        raise values.unfit(parameter, modifier)
    if modifier == "in":
        return Match(parameter, _member(parameter, value, context))
    mode = cast("Literal['above', 'below']", modifier)
    system, code = values.token_parts(parameter.code, value)
    if not code:
        raise values.invalid(parameter.code, value, f"names no code, which modifier ':{modifier}' needs")
    found: list[Test] = []
    if system != MIME_SYSTEM:
        spellings = (code.casefold(), code) if system is None else (token.key(system, code),)
        found.append(SubsumptionTest(mode, system, tuple(dict.fromkeys(spellings))))
    if system in (None, MIME_SYSTEM) and (not kinds or "code" in kinds):
        found.append(MimeTest(mode, token.key(MIME_SYSTEM, code)))
    nodes = tuple(Match(parameter, test) for test in found)
    return nodes[0] if len(nodes) == 1 else Or(nodes)


def _member(parameter: Parameter, value: str, context: ValueContext) -> MemberTest:
    text = "|".join(values.unescape(parameter.code, part) for part in values.split(value, "|"))
    url, _, version = text.partition("|")
    if not url:
        raise values.invalid(parameter.code, value, "names no value set")
    local = values.literal(url, context.own_bases)
    if local is not None and local.key.type == "ValueSet":
        return MemberTest(str(local.key))
    return MemberTest(url, version or None)


def is_mime(entry: TokenEntry, test: MimeTest) -> bool:
    """Whether the mime type is the test's, or on the asked side of it."""
    if entry.system != MIME_SYSTEM:
        return False
    return _lies_under(entry.code, test.text) if test.mode == "below" else _lies_under(test.text, entry.code)


def _lies_under(special: str, general: str) -> bool:
    return special == general or (special.startswith(general) and special[len(general)] in _MIME_BORDERS)


def roots(text: str) -> tuple[str, ...]:
    """The mime types that `text` lies under, itself among them."""
    return tuple(text[:end] for end in range(1, len(text) + 1) if _lies_under(text, text[:end]))


def starts(text: str) -> tuple[str, ...]:
    """What a mime type that lies under `text` begins with, unless it is `text`."""
    return tuple(text + border for border in _MIME_BORDERS)
