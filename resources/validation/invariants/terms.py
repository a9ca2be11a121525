"""What a FHIRPath expression is while it is compiled: when it is true, what its one value is, where it stands.

Specification: https://hl7.org/fhirpath/N1/#boolean-logic
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from resources.definitions.model import TypeDefinition
from resources.validation.invariants.flows import Flow, Names
from resources.validation.invariants.grammar import Binary, Call, Literal, Node

BOOLEAN_OPERATORS = frozenset({"and", "or", "xor", "implies", "=", "!=", "<", ">", "<=", ">=", "in", "contains", "is"})
BOOLEAN_CALLS = frozenset(
    {"exists", "empty", "not", "hasValue", "all", "isDistinct", "startsWith", "contains", "matches", "is"}
)


class Truth(NamedTuple):
    """When an expression is true, and when it is false."""

    yes: str
    no: str


class Scalar(NamedTuple):
    """One value as Python text: `code` gives None when empty; `otherwise(default)` gives the default instead.

    `definite` is never empty; `property` is a plain property of a dict, so always of its JSON type.
    """

    code: str
    otherwise: Callable[[str], str]
    definite: bool = False
    property: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands: the focus, the node of the invariant, its resource's type, the known types."""

    focus: tuple[Flow, ...]
    node: Flow
    resource: str
    types: Callable[[str], TypeDefinition | None]
    names: Names

    def at(self, flow: Flow) -> "Scope":
        """The scope inside a criterion, for one item of a bound flow."""
        return replace(self, focus=(replace(flow, clauses=(), single=True, guard=""),))


def different(a: Truth, b: Truth) -> Truth:
    """Whether exactly one of two is true."""
    return Truth(f"(({a.yes} and {b.no}) or ({a.no} and {b.yes}))", f"(({a.yes} and {b.yes}) or ({a.no} and {b.no}))")


def equality(a: Scalar, b: Scalar) -> Truth:
    """`a = b` on single values."""
    if b.definite:
        return Truth(f"({a.code} == {b.code})", f"({a.otherwise(b.code)} != {b.code})")
    test = f"equal({a.code}, {b.code})"
    return Truth(f"({test} is True)", f"({test} is False)")


def comparison(operator: str, a: Scalar, b: Scalar) -> Truth:
    """`<`, `>`, `<=`, `>=` on single values."""
    if a.definite and b.definite:
        return Truth(f"({a.code} {operator} {b.code})", f"(not {a.code} {operator} {b.code})")
    if operator in {">", ">="}:
        a, b = b, a
    test = f"{'below' if operator in {'<', '>'} else 'at_most'}({a.code}, {b.code})"
    return Truth(f"({test} is True)", f"({test} is False)")


def plain(code: str) -> Scalar:
    """A value that is never empty."""
    return Scalar(code, lambda _: code, definite=True)


def maybe(code: str) -> Scalar:
    """A value that a function of the runtime gives, or None."""
    return Scalar(code, lambda default: f"otherwise({code}, {default})")


def literals(tree: Node) -> tuple[str | int | bool, ...] | None:
    """The values of a literal, or of a union of literals; None for anything else."""
    if isinstance(tree, Literal):
        return (tree.value,)
    if isinstance(tree, Binary) and tree.operator == "|":
        left, right = literals(tree.left), literals(tree.right)
        return None if left is None or right is None else left + right
    return None


def is_boolean(tree: Node) -> bool:
    """Whether an expression gives true or false by its form."""
    return (isinstance(tree, Binary) and tree.operator in BOOLEAN_OPERATORS) or (
        isinstance(tree, Call) and tree.name in BOOLEAN_CALLS
    )
