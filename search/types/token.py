"""Tokens: codes with an optional system.

Rules. Codes are compared without case unless the system is known to be case-sensitive: UCUM and the R4 code systems that say
so (HL7's own, without the v2 tables). A code element has the system of its required binding when only one system there
has the code. What has no system in FHIR (boolean, string, uri, ContactPoint) has the empty one, and `|` with it is a fault.

Specification: https://hl7.org/fhir/R4/search.html#token
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from resources.definitions import load
from resources.definitions.model import Element
from resources.errors import FhirError
from search import values
from search.entries import TextEntry, TokenEntry
from search.parameters import Parameter
from search.query import TokenTest
from search.types.making import Maker, Making, Scope
from search.values import ValueContext, fold

# Bindings that cannot be enumerated, yet have one system: https://hl7.org/fhir/R4/terminologies-systems.html
_IMPLICIT = {
    "http://hl7.org/fhir/ValueSet/mimetypes": "urn:ietf:bcp:13",
    "http://hl7.org/fhir/ValueSet/currencies": "urn:iso:std:iso:4217",
    "http://hl7.org/fhir/ValueSet/all-languages": "urn:ietf:bcp:47",
    "http://hl7.org/fhir/ValueSet/ucum-units": "http://unitsofmeasure.org",
}
_WITHOUT_SYSTEM = frozenset(
    {
        "boolean",
        "string",
        "markdown",
        "uri",
        "url",
        "canonical",
        "oid",
        "uuid",
        "id",
        "ContactPoint",
        "integer",
        "positiveInt",
    }
)


@lru_cache(maxsize=4096)
def case_sensitive(system: str) -> bool:
    """Whether codes of the system that differ by case alone are different codes."""
    return system in load().case_sensitive_systems


@lru_cache(maxsize=65536)
def key(system: str, code: str) -> str:
    """The spelling under which a code is stored and found."""
    return code if case_sensitive(system) else code.casefold()


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[TokenTest, ...]:
    """The test of `code`, `system|code`, `|code` or `system|`. No modifier is known here (`:not` is the caller's)."""
    if modifier is not None:
        raise FhirError(
            400, "invalid", f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type token."
        )
    return (test(parameter, value, context),)


def test(parameter: Parameter, value: str, context: ValueContext) -> TokenTest:
    """The test of one token."""
    system, code = values.token_parts(parameter.code, value)
    if system is None:
        assert code is not None
        return TokenTest(None, tuple(dict.fromkeys((code.casefold(), code))))
    kinds = context.datatypes(parameter)
    if kinds and kinds <= _WITHOUT_SYSTEM:
        raise values.invalid(
            parameter.code, value, f"names a system, but its values ({', '.join(sorted(kinds))}) have none"
        )
    return TokenTest(system, None if code is None else (key(system, code),))


def match(entry: TokenEntry, test: TokenTest) -> bool:
    """Whether the entry satisfies the test."""
    return (test.system is None or entry.system == test.system) and (test.codes is None or entry.code in test.codes)


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a value of datatype `kind`; None: a token parameter cannot meet it."""
    if kind == "code":
        return _code(code, element, making)
    if kind in ("Coding", "CodeableConcept", "Identifier", "ContactPoint"):
        return {"Coding": _coding, "CodeableConcept": _concept, "Identifier": _identifier, "ContactPoint": _contact}[
            kind
        ](code)
    if kind in _WITHOUT_SYSTEM:
        return _plain(code)
    return None


def _code(row: str, element: Element | None, making: Making) -> Maker:
    system_of = _implicit_system(element, making)

    def make(value: Any, scope: Scope, group: int) -> None:
        system = system_of(value)
        scope.entries.tokens.append(TokenEntry(row, system, key(system, value), group))

    return make


def _implicit_system(element: Element | None, making: Making) -> Callable[[str], str]:
    binding = element.binding if element is not None else None
    found = making.value_set(binding) if binding is not None else None
    if found is None or not found.systems:
        system = _IMPLICIT.get(binding or "", "")
        return lambda _code: system
    if len(found.systems) == 1:
        only = next(iter(found.systems))
        return lambda _code: only
    homes: dict[str, set[str]] = {}
    for system, codes in found.systems.items():
        for code in codes:
            homes.setdefault(code, set()).add(system)
    single = {code: next(iter(systems)) for code, systems in homes.items() if len(systems) == 1}
    return lambda code: single.get(code, "")


def _coding(row: str) -> Maker:
    def make(value: Any, scope: Scope, group: int) -> None:
        display = value.get("display")
        text = "" if display is None or group else fold(display)
        if not _add_coding(row, value, scope, group, text) and text:
            scope.entries.texts.append(TextEntry(row, text))

    return make


def _add_coding(row: str, value: Any, scope: Scope, group: int, text: str) -> bool:
    """Add the entry of a Coding; False when it has neither code nor system."""
    code, system = value.get("code"), value.get("system", "")
    if code is not None:
        scope.entries.tokens.append(TokenEntry(row, system, key(system, code), group, text))
    elif system:
        scope.entries.tokens.append(TokenEntry(row, system, "", group, text))
    else:
        return False
    return True


def _concept(row: str) -> Maker:
    """Every coding with its display, the first one with the concept's text too; components of composites need no texts."""

    def make(value: Any, scope: Scope, group: int) -> None:
        whole = value.get("text")
        rest = "" if whole is None or group else fold(whole)
        for coding in value.get("coding", ()):
            display = coding.get("display")
            text = "" if display is None or group else fold(display)
            if rest and rest != text:
                text = f"{text}\n{rest}" if text else rest
            rest = "" if _add_coding(row, coding, scope, group, text) else text
        if rest:
            scope.entries.texts.append(TextEntry(row, rest))

    return make


def _identifier(row: str) -> Maker:
    def make(value: Any, scope: Scope, group: int) -> None:
        add_identifier(row, value, scope, group)

    return make


def add_identifier(row: str, value: Any, scope: Scope, group: int) -> None:
    """The entry of an Identifier, that of a logical reference too; those of its type under `kind_row`, in the same group."""
    text, system, kind = value.get("value"), value.get("system", ""), value.get("type")
    if kind is not None and not group:
        row_of_kind = kind_row(row)
        group = scope.groups[row_of_kind] = scope.groups.get(row_of_kind, 0) + 1
        _add_kind(row_of_kind, kind, scope, group)
    if text is not None:
        scope.entries.tokens.append(TokenEntry(row, system, key(system, text), group))
    elif system:
        scope.entries.tokens.append(TokenEntry(row, system, "", group))


def kind_row(row: str) -> str:
    """The code under which the types of the identifiers of row `row` are stored."""
    return f"{row}/type"


def _add_kind(row: str, kind: Any, scope: Scope, group: int) -> None:
    whole = kind.get("text")
    text = "" if whole is None else fold(whole)
    for coding in kind.get("coding", ()):
        if _add_coding(row, coding, scope, group, text):
            text = ""
    if text:
        scope.entries.texts.append(TextEntry(row, text))


def _contact(row: str) -> Maker:
    def make(value: Any, scope: Scope, group: int) -> None:
        text = value.get("value")
        if text is not None:
            scope.entries.tokens.append(TokenEntry(row, "", text.casefold(), group))

    return make


def _plain(row: str) -> Maker:
    def make(value: Any, scope: Scope, group: int) -> None:
        text = ("true" if value else "false") if isinstance(value, bool) else str(value).casefold()
        scope.entries.tokens.append(TokenEntry(row, "", text, group))

    return make
