"""A fault is raised once, where it is known, as a FhirError; one handler renders it as an OperationOutcome.

Specification: https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/http.html#summary
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["fatal", "error", "warning", "information"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue of an OperationOutcome.

    `code` is a code of http://hl7.org/fhir/issue-type; `expression` holds FHIRPath expressions of the places concerned.
    """

    severity: Severity
    code: str
    diagnostics: str
    expression: tuple[str, ...] = ()


class FhirError(Exception):
    """A request that cannot be served: HTTP status, issues, extra response headers."""

    def __init__(
        self,
        status: int,
        code: str,
        diagnostics: str,
        *,
        expression: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(diagnostics)
        self.status = status
        self.issues: tuple[Issue, ...] = (
            Issue("error", code, diagnostics, (expression,) if expression is not None else ()),
        )
        self.headers: Mapping[str, str] = headers or {}

    @classmethod
    def many(cls, status: int, issues: Sequence[Issue]) -> "FhirError":
        """All faults of one body at once; `issues` is not empty."""
        error = cls(status, issues[0].code, issues[0].diagnostics)
        error.issues = tuple(issues)
        return error


def outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """The OperationOutcome resource for `issues`."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": issue.severity,
                "code": issue.code,
                "diagnostics": issue.diagnostics,
                **({"expression": list(issue.expression)} if issue.expression else {}),
            }
            for issue in issues
        ],
    }
