"""`_text` and `_content`: words of the narrative, and of everything that a resource says.

Rules. Words are folded like strings and compared whole. A value is words and "phrases in quotes", joined by AND and OR (any case; AND binds
tighter, and is meant where nothing is written), in parentheses where needed: `(bone OR liver) and metastases`. A phrase is found
within one text. base64 data has no words.

Specification: https://hl7.org/fhir/R4/search.html#content
"""

import re
from collections.abc import Iterator, Sequence
from html import unescape
from typing import Any, Final

from search import values
from search.entries import WordEntry
from search.parameters import Parameter
from search.query import And, Match, Node, Or, WordsTest
from search.types.making import Scope
from search.values import fold

LONGEST: Final = 64
"""Words are cut here."""
_MARKUP = re.compile(r"<!--.*?-->|<[^>]*>", re.DOTALL)
_TOKEN = re.compile(r'"([^"]*)"|([()])|([^\s()"]+)')
_DATA: Final = frozenset({"data", "resourceType"})
_DEEPEST: Final = 50
_MOST: Final = 200
"""Words and phrases of one value."""


def node(parameter: Parameter, value: str) -> Node:
    """The node of one value; FhirError 400 for a value that is no such expression."""
    text = values.unescape(parameter.code, value)
    tokens = [(found[1], found[2] or "", found[3] or "") for found in _TOKEN.finditer(text)]
    if text.count('"') % 2:
        raise values.invalid(parameter.code, value, "has a quote that is not closed")
    if len(tokens) > 2 * _MOST or len(_words(text)) > _MOST:
        raise values.invalid(parameter.code, value[:100], f"has more than {_MOST} words")
    try:
        found, rest = _or(parameter, tokens, 0)
    except ValueError as fault:
        raise values.invalid(parameter.code, value, str(fault)) from None
    if rest:
        raise values.invalid(parameter.code, value, "has a closing parenthesis too many")
    return found


_Token = tuple[str | None, str, str]


def _or(parameter: Parameter, tokens: Sequence[_Token], depth: int) -> tuple[Node, Sequence[_Token]]:
    parts = []
    while True:
        part, tokens = _and(parameter, tokens, depth)
        parts.append(part)
        if not tokens or tokens[0][2].casefold() != "or":
            return (parts[0] if len(parts) == 1 else Or(tuple(parts))), tokens
        tokens = tokens[1:]


def _and(parameter: Parameter, tokens: Sequence[_Token], depth: int) -> tuple[Node, Sequence[_Token]]:
    parts = []
    while True:
        part, tokens = _term(parameter, tokens, depth)
        parts.append(part)
        if not tokens or tokens[0][1] == ")" or tokens[0][2].casefold() == "or":
            return (parts[0] if len(parts) == 1 else And(tuple(parts))), tokens
        if tokens[0][2].casefold() == "and":
            tokens = tokens[1:]


def _term(parameter: Parameter, tokens: Sequence[_Token], depth: int) -> tuple[Node, Sequence[_Token]]:
    if not tokens or tokens[0][1] == ")" or tokens[0][2].casefold() in ("and", "or"):
        raise ValueError("lacks a word where one is due")
    phrase, bracket, word = tokens[0]
    if bracket:
        if depth == _DEEPEST:
            raise ValueError(f"has more than {_DEEPEST} parentheses in each other")
        inner, tokens = _or(parameter, tokens[1:], depth + 1)
        if not tokens:
            raise ValueError("has a parenthesis that is not closed")
        return inner, tokens[1:]
    words = _words(phrase if phrase is not None else word)
    if not words:
        raise ValueError("has a part without letter, digit or sign")
    return Match(parameter, WordsTest(words)), tokens[1:]


def match(entries: Sequence[WordEntry], rows: Sequence[str], test: WordsTest) -> bool:
    """Whether the words stand in consecutive places of one parameter's entries."""
    there = {(entry.parameter, entry.word, entry.place) for entry in entries}
    return any(
        all((row, word, place + at) in there for at, word in enumerate(test.words))
        for row, _, place in there
        if row in rows
    )


def run(parameter: Parameter, scope: Scope) -> None:
    """Add the entries of the parameter for the whole resource."""
    code, place = parameter.code, 0
    for text in _narrative(scope.resource) if code == "_text" else _texts(scope.resource):
        for word in _words(text):
            scope.entries.words.append(WordEntry(code, word, place))
            place += 1
        place += 1


def _narrative(resource: Any) -> Iterator[str]:
    div = resource.get("text", {}).get("div")
    if div is not None:
        yield _plain(div)


def _texts(value: Any) -> Iterator[str]:
    """Every string, without markup and base64 data."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "div" and isinstance(inner, str):
                yield _plain(inner)
            elif name not in _DATA or not isinstance(inner, str):
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _plain(div: str) -> str:
    return unescape(_MARKUP.sub(" ", div))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word[:LONGEST] for word in fold(text).split())
