"""The subset of FHIRPath that resources.fhirpath turns into closures, as syntax trees.

A tree is a tuple that begins with its kind: `("this",)` also for $this, `("root",)` for %resource, `("name", source, "family")`,
`("call", source, "where", argument)`, `("index", source, 0)`, `("as" | "is", source, "Quantity")`, `("union", *parts)`,
`("and" | "=" | "!=", left, right)`, `("literal", value)`, `("unknown",)`. Everything else in FHIRPath raises NotSimple.

Specification: https://hl7.org/fhirpath/N1/#grammar
"""

import re
from typing import Any

Syntax = tuple[Any, ...]

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')|(?P<number>[0-9]+)|(?P<name>[%$]?[A-Za-z_][A-Za-z0-9_]*)|(?P<symbol>!=|[|=.()\[\]]))"
)

_DIGITS = 9
"""Digits of an index."""


class NotSimple(Exception):  # noqa: N818  (a state of affairs, not a fault: fhirpathpy takes over)
    """The expression is none that closures cover."""


class _Parser:
    """Recursive descent over the covered subset; precedence as in the specification (path, as, union, equality, and)."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        text = text.strip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise NotSimple(text)
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        if self.at >= len(self.tokens) or (expected and self.peek() not in expected):
            raise NotSimple(f"{expected} at token {self.at}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def whole(self) -> Syntax:
        tree = self.conjunction()
        if self.at != len(self.tokens):
            raise NotSimple(self.peek())
        return tree

    def conjunction(self) -> Syntax:
        left = self.equality()
        while self.peek() == "and":
            self.take()
            left = ("and", left, self.equality())
        return left

    def equality(self) -> Syntax:
        left = self.union()
        if self.peek() in ("=", "!="):
            return (self.take(), left, self.union())
        return left

    def union(self) -> Syntax:
        parts = [self.typed()]
        while self.peek() == "|":
            self.take()
            parts.append(self.typed())
        return parts[0] if len(parts) == 1 else ("union", *parts)

    def typed(self) -> Syntax:
        left = self.path()
        while self.peek() in ("as", "is"):
            left = (self.take(), left, self.take())
        return left

    def path(self) -> Syntax:
        tree = self.term(first=True)
        while self.peek() in (".", "["):
            if self.take() == "[":
                tree = ("index", tree, self.index())
                self.take("]")
            else:
                tree = self.invocation(tree)
        return tree

    def index(self) -> int:
        text = self.take()
        if not text.isdecimal() or len(text) > _DIGITS:
            raise NotSimple(text)
        return int(text)

    def term(self, *, first: bool) -> Syntax:
        if self.at >= len(self.tokens):
            raise NotSimple("end")
        kind, text = self.tokens[self.at]
        if text == "(":
            self.take()
            tree = self.conjunction()
            self.take(")")
            return tree
        if kind == "string":
            self.take()
            if "\\" in text:
                raise NotSimple(text)
            return ("literal", text[1:-1])
        if text in ("true", "false") and first:
            self.take()
            return ("literal", text == "true")
        return self.invocation(("this",))

    def invocation(self, source: Syntax) -> Syntax:
        if self.at >= len(self.tokens) or self.tokens[self.at][0] != "name":
            raise NotSimple(self.peek())
        name = self.take()
        if name.startswith("$"):
            if name != "$this" or source != ("this",):
                raise NotSimple(name)
            return source
        if name.startswith("%"):
            return ("root",) if name == "%resource" and source == ("this",) else ("unknown",)
        if self.peek() != "(":
            return ("name", source, name)
        self.take()
        arguments: list[Syntax] = []
        if self.peek() != ")":
            arguments.append(self.conjunction())
        self.take(")")
        return ("call", source, name, *arguments)


def parse(expression: str) -> Syntax:
    """The tree of an expression. Raises NotSimple for one outside the subset, or none at all."""
    return _Parser(expression).whole()
