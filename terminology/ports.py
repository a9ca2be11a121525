"""What terminology needs of the world: where published code systems and value sets are found.

Specification: https://hl7.org/fhir/R4/terminology-module.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """A code system. `parents`: code -> the codes it lies directly under. `complete`: no code is missing here."""

    url: str
    version: str
    parents: Mapping[str, tuple[str, ...]]
    displays: Mapping[str, str]
    complete: bool


@dataclass(frozen=True, slots=True)
class ValueSet:
    """A value set: its `compose` as published, or, where it has none, the (system, code) pairs of its stored expansion."""

    url: str
    version: str
    compose: Mapping[str, Any] | None
    expansion: tuple[tuple[str, str], ...] = ()


class ConceptStore(Protocol):
    """Finds code systems and value sets by canonical URL; what was loaded goes before what the specification publishes."""

    def code_system(self, url: str) -> CodeSystem | None:
        """The code system with concepts of its own here; None when there is none."""

    def value_set(self, url: str, version: str | None) -> ValueSet | None:
        """The value set (of that version); None when there is none."""
