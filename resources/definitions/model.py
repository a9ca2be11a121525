"""The shape of HL7's definitions as this server uses them: distilled once by build.py, loaded by `load()`.

Specification: https://hl7.org/fhir/R4/structuredefinition.html, https://hl7.org/fhir/R4/searchparameter.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["resource", "complex-type", "primitive-type", "backbone"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """An invariant of severity error: `ele-1`, its human text and its FHIRPath expression."""

    key: str
    human: str
    expression: str


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type, children of a StructureDefinition's snapshot.

    `name` is the JSON property without `[x]` (`value` for `value[x]`). `max` is None when unbounded. `types` holds type names:
    a primitive (`string`), a complex type (`HumanName`), a backbone by its path (`Patient.contact`), or `Resource`.
    `targets` are the resource types a Reference or canonical may point to (`Resource` = any; empty for other types).
    `binding` is the URL (without version) of a REQUIRED value set, else None. `constraints` are the element's own invariants
    (not those of its type).
    """

    name: str
    min: int
    max: int | None
    types: tuple[str, ...]
    choice: bool
    targets: tuple[str, ...]
    binding: str | None
    summary: bool
    modifier: bool
    constraints: tuple[Constraint, ...]


@dataclass(frozen=True, slots=True)
class Property:
    """What a JSON property name means inside a type: the element and the one type it has there (`valueQuantity` -> Quantity)."""

    name: str
    element: Element
    type: str


@dataclass(frozen=True, slots=True)
class TypeDefinition:
    """A resource, complex type, primitive or backbone element. Inherited elements are included, in the specification's order.

    `properties` maps every JSON property name (choices expanded; not the `_name` companions) to its meaning.
    `pattern` is the specification's regex of a primitive, None elsewhere. `constraints` are those on the type's root.
    """

    name: str
    kind: Kind
    base: str | None
    abstract: bool
    elements: Mapping[str, Element]
    properties: Mapping[str, Property]
    constraints: tuple[Constraint, ...]
    pattern: str | None


@dataclass(frozen=True, slots=True)
class SearchComponent:
    """A component of a composite parameter: the URL of the component's own definition and the expression inside the context."""

    definition: str
    expression: str


@dataclass(frozen=True, slots=True)
class SearchParameterDefinition:
    """An R4 SearchParameter. `bases` are concrete or abstract type names as published; `expression` is None for 16 of 1,400."""

    url: str
    code: str
    type: Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]
    bases: tuple[str, ...]
    expression: str | None
    targets: tuple[str, ...]
    components: tuple[SearchComponent, ...]


@dataclass(frozen=True, slots=True)
class CompartmentDefinition:
    """A compartment: type code (`Patient`) and, per member resource type, the search parameter codes that put it there."""

    code: str
    members: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class OperationDefinition:
    """An operation that the specification defines: `$everything` on Patient."""

    url: str
    code: str
    system: bool
    type: bool
    instance: bool
    resources: tuple[str, ...]
    affects_state: bool


@dataclass(frozen=True, slots=True)
class ValueSetCodes:
    """An enumerated value set: system -> codes."""

    url: str
    systems: Mapping[str, frozenset[str]]

    def has(self, code: str) -> bool:
        """Whether any of the systems has the code."""
        return any(code in codes for codes in self.systems.values())
