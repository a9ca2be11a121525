"""R4's FHIRPath invariants of severity error, compiled to Python functions, one per type or element that has any.

Rules: a function is made when first asked for; it takes `(node, resource, root)` and gives the constraints that are broken,
almost always `()`. `resource` is the resource the node is in (%resource), `root` the one that is contained in no other
(%rootResource). The node, its resource and its root must be structurally valid: the structural walker asks only then.
What is not compiled stands in `decisions.ELSEWHERE`; an expression that cannot be compiled raises UnsupportedExpressionError.

Specification: https://hl7.org/fhir/R4/conformance-rules.html#constraints, https://hl7.org/fhir/R4/fhirpath.html
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from resources.definitions.model import Constraint, TypeDefinition
from resources.validation.invariants import runtime
from resources.validation.invariants.compiler import violation
from resources.validation.invariants.decisions import ELSEWHERE, EMPTY_FAILS
from resources.validation.invariants.flows import Names, is_primitive

Check: TypeAlias = Callable[[Any, Any, Any], tuple[Constraint, ...]]
"""`(node, resource, root)` -> the constraints that the node breaks."""


class Invariants:
    """The invariants of all types, compiled one by one as they are asked for."""

    def __init__(self, types: Mapping[str, TypeDefinition]) -> None:
        self._types = types
        self._descend = runtime.descender(types.get)
        self._checks: dict[str, Check | None] = {}

    def of_type(self, name: str) -> Check | None:
        """The check of every value of that type (`Period`, `Patient.contact`, `Bundle`); None when it has nothing to check."""
        if name not in self._checks:
            self._checks[name] = self.compiled(name, name, self._types[name].constraints)
        return self._checks[name]

    def of_element(self, owner: str, element: str) -> Check | None:
        """The check of every value of one element (`Narrative`, `div`) beyond its type's; None when there is nothing more.

        The value of a primitive is passed as it is; a primitive without a value is not to be passed.
        """
        place = f"{owner}.{element}"
        key = f"{place}."
        if key not in self._checks:
            definition = self._types[owner].elements[element]
            own = {c.key for name in definition.types if name in self._types for c in self._types[name].constraints}
            rest = [c for c in definition.constraints if c.key not in own]
            # a constraint on a choice (ras-1) speaks of its complex types
            complex_types = [name for name in definition.types if not is_primitive(name)]
            mixed = 0 < len(complex_types) < len(definition.types)
            type_name = (complex_types or definition.types)[0]
            self._checks[key] = self.compiled(type_name, owner, rest, only_objects=mixed) if rest else None
        return self._checks[key]

    def compiled(
        self, type_name: str, owner: str, constraints: Sequence[Constraint], *, only_objects: bool = False
    ) -> Check | None:
        """One function for some constraints on values of a type; `owner` is the type whose definition states them."""
        names = Names()
        conditions: dict[str, list[int]] = {}
        kept: list[Constraint] = []
        for constraint in constraints:
            if constraint.key in ELSEWHERE:
                continue
            fails = (owner, constraint.key) in EMPTY_FAILS
            condition = violation(constraint.expression, type_name, self._types.get, names, empty_fails=fails)
            conditions.setdefault(condition, []).append(len(kept))
            kept.append(constraint)
        if not kept:
            return None
        text = _function(conditions, only_objects=only_objects, memories=names.memories)
        scope: dict[str, Any] = {**_RUNTIME, "descend": self._descend, "K": kept, "S": names.sets}
        # the text is made from HL7's definitions that the package ships, never from a request
        exec(compile(text, f"<invariants of {owner}>", "exec"), scope)  # noqa: S102
        check: Check = scope["check"]
        return check


def _function(conditions: Mapping[str, Sequence[int]], *, only_objects: bool, memories: int) -> str:
    lines = ["def check(n, r, q):", "    found = ()"]
    if only_objects:
        lines += ["    if n.__class__ is not dict:", "        return found"]
    if memories:
        lines.append("    m = {}")
    for condition, indexes in conditions.items():
        broken = "".join(f"K[{index}], " for index in indexes)
        lines += [f"    if {condition}:", f"        found += ({broken})"]
    return "\n".join([*lines, "    return found"])


_RUNTIME: Mapping[str, Any] = {
    "EMPTY": {},
    "chain": chain,
    **{function.__name__: function for function in runtime.FUNCTIONS},
}

__all__ = ["Check", "Invariants"]
