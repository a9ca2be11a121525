"""URIs, compared exactly, without folding.

Rules. `:below` finds what lies under the value (`http://a.org/fhir/` and deeper, border `/`, `#`, `?`; of a canonical with a
version also its finer versions: `url|1` finds `url|1.2`), `:above` what the value lies under. A canonical with a version has two
entries, with and without it, so a search that names no version finds every one.

Specification: https://hl7.org/fhir/R4/search.html#uri
"""

from typing import Any

from resources.definitions.model import Element
from resources.errors import FhirError
from search import values
from search.entries import UriEntry
from search.parameters import Parameter
from search.query import UriTest
from search.types.making import Maker, Making, Scope
from search.values import ValueContext


def tests(parameter: Parameter, modifier: str | None, value: str, context: ValueContext) -> tuple[UriTest, ...]:
    """The test of one URI; modifiers `above` and `below`, for URLs only. A canonical's version stands after an unescaped `|`."""
    del context
    text = "|".join(values.unescape(parameter.code, part) for part in values.split(value, "|"))
    if modifier is None:
        return (UriTest("exact", text),)
    if modifier not in ("above", "below"):
        raise FhirError(
            400, "invalid", f"Modifier ':{modifier}' does not fit search parameter '{parameter.code}' of type uri."
        )
    if text.startswith("urn:"):
        raise values.invalid(parameter.code, value, f"is a URN, which modifier ':{modifier}' does not apply to")
    return (UriTest("above" if modifier == "above" else "below", text),)


def match(entry: UriEntry, test: UriTest) -> bool:
    """Whether the entry satisfies the test."""
    if test.mode == "exact":
        return entry.value == test.text
    return below(entry.value, test.text) if test.mode == "below" else below(test.text, entry.value)


def below(deeper: str, root: str) -> bool:
    """Whether `deeper` is `root` or lies under it at a border."""
    if not deeper.startswith(root):
        return False
    rest = deeper[len(root) :]
    return not rest or root.endswith("/") or rest[0] in "/#?|" or ("|" in root and rest[0] == ".")


def maker(code: str, kind: str, element: Element | None, making: Making) -> Maker | None:
    """How entries of row `code` are made from a value of datatype `kind`; None: a uri parameter cannot meet it."""
    del element, making
    if kind not in ("uri", "url", "canonical", "oid", "uuid"):
        return None

    def make(value: Any, scope: Scope, group: int) -> None:
        add(code, value, scope, group)

    return make


def add(row: str, value: str, scope: Scope, group: int) -> None:
    """The entries of one URI as written, and of a versioned canonical without its version."""
    scope.entries.uris.append(UriEntry(row, value, group))
    url, bar, _version = value.partition("|")
    if bar:
        scope.entries.uris.append(UriEntry(row, url, group))
