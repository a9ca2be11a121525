"""Which invariants are not compiled, and why; and for which an empty result is a violation.

A FHIRPath constraint that gives the empty collection is neither met nor broken (per-1 on `2012` and `2012-05`, ref-1 on a
Reference with only a display). It counts as met, except where the constraint's own human text says what must be there.

Specification: https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from collections.abc import Mapping

ELSEWHERE: Mapping[str, str] = {
    "ele-1": "enforced structurally: the walker refuses empty objects, lists, strings and nulls, and elements with only an id",
    "ext-1": "enforced structurally: the walker's rule for Extension",
    "ref-1": "enforced structurally: Scope.unresolved looks up every local reference, once per resource",
    "dom-2": "enforced structurally: the walker's check of a contained resource",
    "txt-1": "enforced structurally: narrative.fault refuses elements and attributes that htmlChecks() forbids",
    "txt-2": "enforced structurally: narrative.fault refuses a narrative without content",
}
"""Key -> who enforces it."""

EMPTY_FAILS: frozenset[tuple[str, str]] = frozenset(
    {
        ("OperationDefinition.parameter", "opd-2"),  # a search type, and no type of the parameter
        ("OperationDefinition.parameter", "opd-3"),  # a target profile, and no type of the parameter
        ("Questionnaire.item", "que-13"),  # several initial values, and nothing about repeating
        ("RiskAssessment.prediction", "ras-1"),  # a bound without a unit is no percentage
        ("StructureDefinition", "sdf-5"),  # an extension without a derivation still needs a context
        ("StructureDefinition", "sdf-21"),  # a default value, and no derivation
        ("TestScript.setup.action.operation", "tst-7"),  # an operation without a type still needs a target
        ("TestScript.test.action", "tst-8"),
        ("TestScript.teardown.action", "tst-9"),
        ("ValueSet.expansion.contains", "vsd-9"),  # no code, and nothing about being abstract
    }
)
"""(type whose definition states it, key) of the constraints that an absent element breaks, as their human text says."""
