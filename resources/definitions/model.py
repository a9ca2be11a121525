"""The shape of HL7's definitions as this server uses them: distilled once by build.py, loaded by `load()`.

Specification: https://hl7.org/fhir/R4/structuredefinition.html, https://hl7.org/fhir/R4/searchparameter.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
class OperationParameter:
    """A parameter of an operation. `max` is None when unbounded; `type` is None when it consists of `parts`."""

    name: str
    use: Literal["in", "out"]
    min: int
    max: int | None
    type: str | None
    parts: tuple["OperationParameter", ...]


@dataclass(frozen=True, slots=True)
class OperationDefinition:
    """An operation: `$everything` on Patient. `resources` are type names; `Resource` means all."""

    url: str
    code: str
    system: bool
    type: bool
    instance: bool
    resources: tuple[str, ...]
    affects_state: bool
    parameters: tuple[OperationParameter, ...]


def operation_of(resource: Mapping[str, Any]) -> OperationDefinition:
    """What an OperationDefinition resource says."""
    return OperationDefinition(
        url=resource["url"],
        code=resource["code"],
        system=resource["system"],
        type=resource["type"],
        instance=resource["instance"],
        resources=tuple(resource.get("resource", ())),
        affects_state=resource.get("affectsState", False),
        parameters=tuple(_parameter_of(one) for one in resource.get("parameter", ())),
    )


def _parameter_of(row: Mapping[str, Any]) -> OperationParameter:
    return OperationParameter(
        name=row["name"],
        use=row["use"],
        min=row["min"],
        max=None if row["max"] == "*" else int(row["max"]),
        type=row.get("type"),
        parts=tuple(_parameter_of({"use": row["use"], **part}) for part in row.get("part", ())),
    )


@dataclass(frozen=True, slots=True)
class ValueSetCodes:
    """An enumerated value set: system -> codes."""

    url: str
    systems: Mapping[str, frozenset[str]]

    def has(self, code: str) -> bool:
        """Whether any of the systems has the code."""
        return any(code in codes for codes in self.systems.values())
