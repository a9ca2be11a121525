r"""`_filter`: expressions over search parameters -> the same query tree.

Rules. `and` and `or` are read from left to right without precedence; parentheses and `not(...)` group. A path steps through references:
`subject.name`, `subject[active eq true].name`, `_has:Observation:patient:code`. An operator tests the values of the path's
parameter; which fit depends on its type, others are a 400. `ne` finds a value that is unequal, unlike `not(... eq ...)`. Values
are JSON strings, or tokens up to a blank or closing bracket; `loinc`, `snomed`, `rxnorm`, `ucum` stand for their systems.

Specification: https://hl7.org/fhir/R4/search_filter.html
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from resources.errors import FhirError
from search.chains import STEP, chained, linked, require_target, untyped
from search.context import Search, find
from search.parameters import COLUMNS, Parameter
from search.query import (
    And,
    CompositeTest,
    DateTest,
    Match,
    Node,
    Not,
    NumberTest,
    Or,
    StringTest,
    UnlikeTest,
)
from search.values import date_test, fold, number_test, prefixed

FILTER: Final = "_filter"
_DEPTH: Final = 50
_TERMS: Final = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?::[A-Z][A-Za-z]*)?")
_HAS = re.compile(r"_has:[A-Za-z]+:[A-Za-z0-9_-]+:")
_SPACE = re.compile(r"\s+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_TOKEN = re.compile(r"[^\s\])]+")
_SYSTEMS: Final = {
    "loinc": "http://loinc.org",
    "snomed": "http://snomed.info/sct",
    "rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "ucum": "http://unitsofmeasure.org",
}
_ORDERED: Final = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
_OPERATORS: Final = {
    "string": ("eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "pr"),
    "number": (*_ORDERED, "co", "pr"),
    "date": (*_ORDERED, "co", "po", "pr"),
    "quantity": (*_ORDERED, "pr"),
    "token": ("eq", "ne", "ss", "sb", "in", "ni", "pr"),
    "reference": ("re", "eq", "ne", "pr"),
    "uri": ("eq", "ne", "pr"),
    "composite": ("eq", "pr"),
    "special": (),
}
_STRING_MODES: Final = {"eq": "equals", "co": "contains", "sw": "begins", "ew": "ends"}
_GROUPED: Final[Mapping[tuple[str, str], tuple[str, Mapping[str, str]]]] = {
    ("Group", "characteristic"): ("characteristic-value", {"code": "characteristic", "value": "value"}),
    ("DocumentReference", "relatesTo"): ("relationship", {"code": "relation", "target": "relatesto"}),
}
"""The additional parameters of the page that R4 has search parameters for: composite, parameters by member."""
_TOKEN_MODIFIERS: Final = {"ss": "below", "sb": "above", "in": "in", "ni": "not-in"}

Condition = Callable[[Search, str, str, str], Node | None]


def filtered(search: Search, type_name: str, text: str, condition: Condition) -> Node:
    """The node of a filter on `type_name`; `condition` reads an ordinary parameter (name, value)."""
    reader = _Reader(search, text, condition)
    node = reader.expression(type_name)
    reader.space()
    if reader.at < len(text):
        raise reader.fault("has something after its end")
    return node


@dataclass(slots=True)
class _Reader:
    """Reads one filter from the left."""

    search: Search
    text: str
    condition: Condition
    at: int = 0
    depth: int = 0
    terms: int = 0

    def fault(self, why: str) -> FhirError:
        return FhirError(400, "invalid", f"Parameter '{FILTER}' {why} (at character {self.at + 1}).")

    # ---- characters

    def space(self) -> bool:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found is not None

    def word(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise self.fault(f"lacks {what}")
        self.at = found.end()
        return found[0]

    def take(self, text: str) -> bool:
        if not self.text.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    # ---- grammar

    def expression(self, type_name: str) -> Node:
        """A filter, and what `and` and `or` join to it, from left to right."""
        self.depth += 1
        if self.depth > _DEPTH:
            raise FhirError(400, "too-costly", f"Parameter '{FILTER}' is nested more than {_DEPTH} deep.")
        node = self.one(type_name)
        while True:
            before = self.at
            if self.space() and (found := re.compile(r"(and|or)(?=[\s(])").match(self.text, self.at)):
                self.at = found.end()
                self.space()
                other = self.one(type_name)
                kind = And if found[1] == "and" else Or
                node = kind((*node.parts, other)) if isinstance(node, kind) else kind((node, other))
                continue
            self.at = before
            self.depth -= 1
            return node

    def one(self, type_name: str) -> Node:
        """A test, a group, or a negated group."""
        self.space()
        negated = re.compile(r"not\s*\(").match(self.text, self.at)
        if negated is not None:
            self.at = negated.end()
            return Not(self.closed(type_name, ")"))
        if self.take("("):
            return self.closed(type_name, ")")
        self.terms += 1
        if self.terms > _TERMS:
            raise FhirError(400, "too-costly", f"Parameter '{FILTER}' has more than {_TERMS} tests.")
        return self.path(type_name)

    def closed(self, type_name: str, bracket: str) -> Node:
        node = self.expression(type_name)
        self.space()
        if not self.take(bracket):
            raise self.fault(f"lacks a '{bracket}'")
        return node

    def path(self, type_name: str) -> Node:
        """`name op value`, or a step through a reference and the rest of the path on its target."""
        has = _HAS.match(self.text, self.at)
        if has is not None:
            return self.has(type_name, has)
        start = self.at
        name = self.word(_NAME, "the name of a parameter")
        code, _, target = name.partition(":")
        if self.text[self.at : self.at + 1] not in ("[", STEP):
            if target:
                self.at = start
                raise self.fault("has a type on what is no step of a path")
            return self.test(type_name, code)
        if (type_name, code) in _GROUPED:
            return self.grouped(type_name, *_GROUPED[type_name, code])
        parameter = find(self.search, type_name, code)
        if parameter.type != "reference":
            raise self.fault(f"steps through '{code}', which is of type {parameter.type}, not reference")
        return self.step(parameter, target, name)

    def grouped(self, type_name: str, code: str, names: Mapping[str, str]) -> Node:
        """`[name op value].name op value` on the members of one element: a tuple of the composite parameter `code`."""
        if not self.take("["):
            raise self.fault("has a name that needs a condition in brackets")
        first = self.member(type_name, names)
        self.space()
        if not (self.take("]") and self.take(STEP)):
            raise self.fault("has a condition in brackets that no '].name' follows")
        second = self.member(type_name, names)
        parameter = find(self.search, type_name, code)
        found: list[Node] = []
        for one, other in product(first, second):
            tests = {match.parameter.url: match.test for match in (one, other)}
            if len(tests) < len(parameter.components):
                raise self.fault("names the same member in and behind the brackets")
            found.append(Match(parameter, CompositeTest(tuple(tests[part.url] for part in parameter.components))))
        return found[0] if len(found) == 1 else Or(tuple(found))

    def member(self, type_name: str, names: Mapping[str, str]) -> list[Match]:
        """The test of one member: alternatives."""
        self.space()
        name = self.word(_NAME, "the name of a member")
        if name not in names:
            raise self.fault(f"has '{name}', which is none of {', '.join(names)}")
        node = self.test(type_name, names[name])
        parts = node.parts if isinstance(node, Or) else (node,)
        matches = [part for part in parts if isinstance(part, Match)]
        if len(matches) < len(parts):
            raise self.fault(f"tests '{name}' in a way that does not go with a tuple")
        return matches

    def has(self, type_name: str, found: re.Match[str]) -> Node:
        """`_has:Type:reference:` and the rest of the path on who refers here."""
        self.at = found.end()
        rest = linked(self.search, type_name, f"{found[0]}x", lambda kind, _rest: self.path(kind))
        assert rest is not None
        return rest

    def step(self, parameter: Parameter, target: str, name: str) -> Node:
        search, here = self.search, self.at
        search.steps.depth += 1
        if search.steps.depth > search.limits.depth:
            raise FhirError(400, "too-costly", f"A search goes through at most {search.limits.depth} references.")
        if target:
            require_target(search, parameter, target, name)
            kinds: tuple[str, ...] = (target,)
        else:
            kinds = untyped(search, parameter, self.next_name(), name)
        ends = here

        def rest(kind: str) -> Node:
            nonlocal ends
            self.at = here
            inner = self.closed(kind, "]") if self.take("[") else None
            if not self.take(STEP):
                raise self.fault("has a condition in brackets that no '.name' follows")
            node = self.path(kind)
            ends = self.at
            return node if inner is None else And((inner, node))

        node = chained(search, parameter, kinds, rest)
        self.at = ends
        search.steps.depth -= 1
        assert node is not None
        return node

    def next_name(self) -> str:
        """The first name behind the dot of this step, over a condition in brackets."""
        depth, at = 0, self.at
        while at < len(self.text) and (depth or self.text[at] != STEP):
            if quoted := _STRING.match(self.text, at):
                at = quoted.end()
                continue
            depth += {"[": 1, "]": -1}.get(self.text[at], 0)
            at += 1
        has = _HAS.match(self.text, at + 1)
        found = has or _NAME.match(self.text, at + 1)
        if found is None:
            raise self.fault("has a step that no name follows")
        name = found[0]
        return "_id" if name == "id" else name

    def test(self, type_name: str, code: str) -> Node:
        """` op value` on a parameter."""
        if not self.space():
            raise self.fault(f"lacks an operator after '{code}'")
        operator = self.word(re.compile(r"[A-Za-z]{2}(?=\s)"), "an operator of two letters").lower()
        self.space()
        if self.text[self.at : self.at + 1] == '"':
            quoted = self.word(_STRING, "the end of a string")
            try:
                value = str(json.loads(quoted, strict=False))
            except ValueError:
                raise self.fault("has a string with a wrong escape") from None
        else:
            value = self.word(_TOKEN, "a value")
        if code == "id" and self.search.registry.find(type_name, code) is None:
            code = "_id"
        parameter = find(self.search, type_name, code)
        if operator not in _OPERATORS[parameter.type]:
            raise self.fault(f"has the operator '{operator}', which '{code}' of type {parameter.type} does not have")
        return self.leaf(type_name, parameter, operator, value)

    # ---- tests

    def read(self, type_name: str, name: str, value: str) -> Node:
        node = self.condition(self.search, type_name, name, value)
        if node is None:
            raise self.fault("has an empty value")
        return node

    def leaf(self, type_name: str, parameter: Parameter, operator: str, value: str) -> Node:
        code, plain = parameter.code, value.replace(",", "\\,")
        if operator == "pr":
            if value not in ("true", "false"):
                raise self.fault("has 'pr' with neither true nor false")
            return self.read(type_name, f"{code}:missing", "false" if value == "true" else "true")
        match parameter.type:
            case "string":
                return _string(parameter, operator, value)
            case "date" if operator in ("co", "po"):
                return self.span(type_name, parameter, operator, value)
            case "number" if operator == "co":
                number = number_test(code, value)
                middle = (number.low + number.high) / 2
                return Match(parameter, NumberTest("ap", middle, middle))
            case "number" | "date" | "quantity":
                if prefixed(value)[1] != value:
                    raise self.fault("has a prefix before a value, which the operator says already")
                return self.read(type_name, code, f"{operator}{plain}")
            case "token":
                system, bar, rest = plain.partition("|")
                plain = f"{_SYSTEMS.get(system.lower(), system)}{bar}{rest}" if bar else plain
        if operator in _TOKEN_MODIFIERS:
            return self.read(type_name, f"{code}:{_TOKEN_MODIFIERS[operator]}", plain)
        node = self.read(type_name, code, plain)
        return _unlike(node) if operator == "ne" else node

    def span(self, type_name: str, parameter: Parameter, operator: str, value: str) -> Node:
        """Stored periods that include the searched one, or overlap with it."""
        if prefixed(value)[1] != value:
            raise self.fault("has a prefix before a date, which the operator says already")
        if parameter.code in COLUMNS:
            return self.read(type_name, parameter.code, value)
        test = date_test(parameter.code, value, self.search.values)
        return Match(parameter, DateTest("co" if operator == "co" else "ap", test.low, test.high))


def _string(parameter: Parameter, operator: str, value: str) -> Node:
    folded = fold(value)
    if operator in _STRING_MODES:
        return Match(parameter, StringTest(_STRING_MODES[operator], folded))  # type: ignore[arg-type]
    if operator == "ne":
        return Match(parameter, UnlikeTest(StringTest("equals", folded)))
    if not folded:
        raise FhirError(400, "invalid", f"Parameter '{FILTER}' compares '{parameter.code}' with an empty text.")
    return Match(parameter, StringTest(operator, folded[0]))  # type: ignore[arg-type]


def _unlike(node: Node) -> Node:
    """Values that are unequal: of what may be spelled several ways, unequal to each."""
    match node:
        case Match(test=test):
            return replace(node, test=UnlikeTest(test))
        case Or(parts):
            return And(tuple(_unlike(part) for part in parts))
    return Not(node)
