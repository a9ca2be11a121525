"""Chains over references that name a version: what to ask a store so that the answer can be accompanied by a warning.

A chain looks at the current version of its target whatever version the reference names; a client is told where that was so.

Specification: https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/references.html#Reference
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from resources.errors import Issue
from search.query import And, Chain, Node, Not, Nothing, Or, Reverse

WARNING: Final = Issue(
    "warning", "informational", "A reference that the search followed names a version; the current one was looked at."
)


def over_versions(node: Node) -> Node:
    """What a match satisfies when one of its chains went over a reference with a version; Nothing without chains."""
    match node:
        case And(parts) | Or(parts):
            found = [inner for part in parts if not isinstance(inner := over_versions(part), Nothing)]
            return _either(found)
        case Chain(where=where):
            inner = over_versions(where)
            steps: list[Node] = [replace(node, versioned=True)]
            return _either(steps if isinstance(inner, Nothing) else [*steps, replace(node, where=inner)])
        case Reverse(where=where):
            inner = over_versions(where)
            return Nothing() if isinstance(inner, Nothing) else replace(node, where=And((where, inner)))
        case Not():
            return Nothing()
    return Nothing()


def _either(found: Sequence[Node]) -> Node:
    if not found:
        return Nothing()
    return found[0] if len(found) == 1 else Or(tuple(found))
