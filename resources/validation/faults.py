"""Faults of a resource, found from the inside out: each container puts its own step before the path of what it holds.

Specification: https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/valueset-issue-type.html
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from resources.errors import FhirError, Issue

BUSINESS: Final = frozenset({"code-invalid", "invariant", "business-rule"})
"""Issue codes of faults that are no faults of structure: answered 422, everything else 400."""


MOST: Final = 1000
"""Issues that one answer shows; with more faults a resource is not looked at any further."""


class Fault(NamedTuple):
    """A fault: where (`.name[0].given[1]`, relative), the issue type's code, what is wrong. `null`: it is a null in an array."""

    path: str
    code: str
    text: str
    null: bool = False


def moved(step: str, faults: Sequence[Fault]) -> list[Fault]:
    """`faults` seen from the container that holds them at `step`."""
    return [fault._replace(path=step + fault.path) for fault in faults]


def issues_of(root: str, faults: Sequence[Fault]) -> list[Issue]:
    """The issues of an OperationOutcome; `root` is the resource's type."""
    return [Issue("error", fault.code, fault.text, (root + fault.path,)) for fault in faults]


def status_of(issues: Sequence[Issue]) -> int:
    """400 when any fault is one of structure, else 422."""
    return 422 if all(issue.code in BUSINESS for issue in issues) else 400


def raise_for(issues: Sequence[Issue]) -> None:
    """Raise FhirError with all issues, 400 or 422; nothing when there are none. Of more than `MOST` the first are told."""
    if not issues:
        return
    shown = list(issues[:MOST])
    if len(issues) > MOST:
        shown.append(Issue("error", issues[MOST].code, "and more faults"))
    raise FhirError.many(status_of(issues), shown)
