"""Strings: names, addresses, texts; compared folded (case, accents and punctuation do not count).

Rules. A value matches where the text starts with it, and a family name also where one of its words does. `:contains` looks
anywhere, `:exact` compares the whole text as written. A HumanName or Address stands for all its parts.

Specification: https://hl7.org/fhir/R4/search.html#string
"""

from collections.abc import Callable
from typing import Any

from resources.definitions.model import Element
from resources.errors import FhirError
from search import values
from search.entries import StringEntry
from search.parameters import Parameter
from search.query import StringTest
from search.types.making import Maker, Making, Scope
from search.values import ValueContext, fold

_PARTS = {
    "HumanName": ("text", "family", "given", "prefix", "suffix"),
    "Address": ("text", "line", "city", "district", "state", "postalCode", "country"),
    "ContactPoint": ("value",),
    "Annotation": ("text",),
    "CodeableConcept": ("text",),
}
_PLAIN = frozenset({"string", "markdown", "code", "uri", "url", "canonical", "oid", "uuid", "id"})


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[StringTest, ...]:
    """The test of one string; modifiers `exact` and `contains`."""
    del context
    text = values.unescape(parameter.code, value)
    if modifier == "exact":
        return (StringTest("exact", text),)
    folded = fold(text)
    if not folded:
        raise values.invalid(
            parameter.code, value, "has no letter, digit or sign to look for (punctuation does not count)"
        )
    if modifier is None:
        return (StringTest("starts", folded),)
    if modifier == "contains":
        return (StringTest("contains", folded),)
    raise FhirError(
        400, "invalid", f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type string."
    )


def match(entry: StringEntry, test: StringTest) -> bool:
    """Whether the entry satisfies the test."""
    folded, text = entry.folded, test.text
    if test.mode == "starts":
        return folded.startswith(text)
    if test.mode == "contains":
        return text in folded
    if test.mode == "exact":
        return entry.exact == text
    return entry.exact is not None and _WHOLE[test.mode](folded, text)


_WHOLE: dict[str, Callable[[str, str], bool]] = {
    "begins": str.startswith,
    "ends": str.endswith,
    "equals": str.__eq__,
    "gt": lambda folded, first: folded[:1] > first,
    "lt": lambda folded, first: folded[:1] < first,
    "ge": lambda folded, first: folded[:1] >= first,
    "le": lambda folded, first: folded[:1] <= first,
}


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a value of datatype `kind`; None: a string parameter cannot meet it."""
    del making
    if kind in _PLAIN:
        family = element is not None and element.name == "family"

        def make_text(value: Any, scope: Scope, group: int) -> None:
            _add(code, value, scope, group, family=family)

        return make_text
    if kind in _PARTS:
        parts = frozenset(_PARTS[kind])

        def make_parts(value: Any, scope: Scope, group: int) -> None:
            for name, part in value.items():
                if name in parts:
                    for text in part if isinstance(part, list) else (part,):
                        if text is not None:
                            _add(code, text, scope, group, family=name == "family")

        return make_parts
    return None


def _add(row: str, text: str, scope: Scope, group: int, *, family: bool) -> None:
    folded = fold(text)
    scope.entries.strings.append(StringEntry(row, folded, text, group))
    if family:
        at = folded.find(" ")
        while at >= 0:
            scope.entries.strings.append(StringEntry(row, folded[at + 1 :], None, group))
            at = folded.find(" ", at + 1)
