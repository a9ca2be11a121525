"""Which invariants are not compiled, and why; and for which an empty result is a violation.

A FHIRPath constraint that gives the empty collection is neither met nor broken (per-1 on `2012` and `2012-05`, ref-1 on a
Reference with only a display). It counts as met, except where the constraint's own human text says what must be there.

Specification: https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from collections.abc import Mapping

ELSEWHERE: Mapping[str, str] = {
    "ele-1": "enforced structurally: the walker refuses empty objects, lists, strings and nulls, and elements with only an id",
    "txt-1": "enforced structurally: narrative.fault refuses elements and attributes that htmlChecks() forbids",
    "txt-2": "enforced structurally: narrative.fault refuses a narrative without content",
}
"""Key -> who enforces it."""

EMPTY_FAILS: Mapping[tuple[str, str], str] = {
    ("Questionnaire.item", "que-13"): "Can only have multiple initial values for repeating items",
    ("ValueSet.expansion.contains", "vsd-9"): "Must have a code if not abstract",
    ("OperationDefinition.parameter", "opd-2"): "Search Type can only be specified on parameters of type string",
    (
        "OperationDefinition.parameter",
        "opd-3",
    ): "A targetProfile can only be specified for parameters of type Reference or Canonical",
    ("RiskAssessment.prediction", "ras-1"): "low and high must be percentages, if present",
    (
        "TestScript.setup.action.operation",
        "tst-7",
    ): "Setup operation SHALL contain either sourceId or targetId or params or url.",
    (
        "TestScript.test.action",
        "tst-8",
    ): "Test operation SHALL contain either sourceId or targetId or params or url.",
    (
        "TestScript.teardown.action",
        "tst-9",
    ): "Teardown operation SHALL contain either sourceId or targetId or params or url.",
    (
        "StructureDefinition",
        "sdf-5",
    ): "If the structure defines an extension then the structure must have context information",
    ("StructureDefinition", "sdf-21"): "Default values can only be specified on specializations",
}
"""(type or owner of the element, key) -> the human text that makes absence a violation."""
