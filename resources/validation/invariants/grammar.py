"""FHIRPath text to a tree: the part of the grammar that R4's invariants use.

Rules: precedence is the specification's; a string literal is unescaped here; what the grammar does not have raises
`UnsupportedExpressionError` naming it.

Specification: https://hl7.org/fhirpath/N1/grammar.html, https://hl7.org/fhirpath/N1/#operator-precedence
"""

import re
from dataclasses import dataclass
from typing import TypeAlias


class UnsupportedExpressionError(Exception):
    """An expression outside the subset: the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, integer or boolean."""

    value: str | int | bool


@dataclass(frozen=True, slots=True)
class This:
    """The focus: what `$this` is, and where a path without one starts."""


@dataclass(frozen=True, slots=True)
class Variable:
    """`%resource`, without the percent sign."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """`focus.name`; `implicit` when the text has only `name`."""

    focus: "Node"
    name: str
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """`focus.name(arguments)`."""

    focus: "Node"
    name: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator right`; for `is` and `as` the right side is a Member naming the type."""

    operator: str
    left: "Node"
    right: "Node"


Node: TypeAlias = Literal | This | Variable | Member | Call | Binary

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')|(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)|(?P<special>[$%]\w+)"
    r"|(?P<operator><=|>=|!=|[=<>|&+.(),])|(?P<end>$))"
)
_LEVELS = (
    ("implies",),
    ("or", "xor"),
    ("and",),
    ("in", "contains"),
    ("=", "!="),
    ("<", ">", "<=", ">="),
    ("|",),
    ("is", "as"),
    ("+", "&"),
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def parse(text: str) -> Node:
    """The tree of a FHIRPath expression; raises UnsupportedExpressionError."""
    parser = _Parser(text)
    tree = parser.binary(0)
    if parser.kind != "end":
        raise UnsupportedExpressionError(f"unexpected {parser.symbol!r} in {text!r}")
    return tree


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.kind = ""
        self.symbol = ""
        self.step()

    def step(self) -> str:
        """Moves to the next token; gives the one left behind."""
        last = self.symbol
        match = _TOKEN.match(self.text, self.position)
        if match is None or match.lastgroup is None:
            raise UnsupportedExpressionError(f"unexpected {self.text[self.position :]!r}")
        self.position = match.end()
        self.kind, self.symbol = match.lastgroup, match[match.lastgroup]
        return last

    def expect(self, token: str) -> None:
        if self.symbol != token:
            raise UnsupportedExpressionError(f"{token!r} expected, {self.symbol!r} found in {self.text!r}")
        self.step()

    def binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.path()
        left = self.binary(level + 1)
        while self.kind in {"name", "operator"} and self.symbol in _LEVELS[level]:
            operator = self.step()
            left = Binary(operator, left, self.binary(level + 1))
        return left

    def path(self) -> Node:
        node = self.term()
        while self.symbol == "." and self.kind == "operator":
            self.step()
            node = self.invocation(node, implicit=False)
        return node

    def term(self) -> Node:
        if self.kind == "string":
            return Literal(re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), self.step()[1:-1]))
        if self.kind == "number":
            return Literal(int(self.step()))
        if self.kind == "special":
            name = self.step()
            return This() if name == "$this" else Variable(name[1:])
        if self.symbol == "(":
            self.step()
            node = self.binary(0)
            self.expect(")")
            return node
        if self.symbol in {"true", "false"}:
            return Literal(self.step() == "true")
        return self.invocation(This(), implicit=True)

    def invocation(self, focus: Node, *, implicit: bool) -> Node:
        if self.kind != "name":
            raise UnsupportedExpressionError(f"name expected, {self.symbol!r} found in {self.text!r}")
        name = self.step()
        if self.symbol != "(" or self.kind != "operator":
            return Member(focus, name, implicit)
        self.step()
        arguments: list[Node] = []
        while self.symbol != ")":
            arguments.append(self.binary(0))
            if self.symbol == ",":
                self.step()
        self.step()
        return Call(focus, name, tuple(arguments))
