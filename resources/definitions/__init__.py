"""HL7's R4 definitions, distilled by build.py into r4/ and read from there piece by piece, each when first used.

`load()` gives the one `Definitions` of the process: it is immutable, so that forked workers share it.

Specification: https://hl7.org/fhir/R4/resourcelist.html, https://hl7.org/fhir/R4/searchparameter-registry.html
"""

import gzip
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from resources.definitions.distil_types import CHOICE, MODIFIER, SUMMARY
from resources.definitions.model import (
    CompartmentDefinition,
    Constraint,
    Element,
    OperationDefinition,
    Property,
    SearchComponent,
    SearchParameterDefinition,
    TypeDefinition,
    ValueSetCodes,
    operation_of,
)

_FOLDER = Path(__file__).parent / "r4"


class _TypesPart(msgspec.Struct, frozen=True):
    resources: tuple[str, ...]
    constraints: tuple[tuple[str, str, str], ...]
    types: dict[str, msgspec.Raw]


class _ValueSetsPart(msgspec.Struct, frozen=True):
    required: dict[str, dict[str, list[str]] | None]
    case_sensitive: list[str]


class _Types(Mapping[str, TypeDefinition]):
    """Type definitions by name, each made from its row when first asked for."""

    def __init__(self, part: _TypesPart) -> None:
        self._rows = part.types
        self._constraints = tuple(Constraint(*fact) for fact in part.constraints)
        self._made: dict[str, TypeDefinition] = {}

    def __getitem__(self, name: str) -> TypeDefinition:
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._make(name, msgspec.json.decode(self._rows[name]))
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _make(self, name: str, row: list[Any]) -> TypeDefinition:
        kind, base, abstract, pattern, constraints, rows = row
        elements = {row[0]: self._element(row) for row in rows}
        properties = {p.name: p for element in elements.values() for p in _properties(element)}
        return TypeDefinition(
            name=name,
            kind=kind,
            base=base,
            abstract=abstract,
            elements=MappingProxyType(elements),
            properties=MappingProxyType(properties),
            constraints=tuple(self._constraints[number] for number in constraints),
            pattern=pattern,
        )

    def _element(self, row: list[Any]) -> Element:
        name, least, most, types, flags, targets, binding, constraints = row
        return Element(
            name=name,
            min=least,
            max=most,
            types=tuple(types),
            choice=bool(flags & CHOICE),
            targets=tuple(targets),
            binding=binding,
            summary=bool(flags & SUMMARY),
            modifier=bool(flags & MODIFIER),
            constraints=tuple(self._constraints[number] for number in constraints),
        )


def _properties(element: Element) -> Iterator[Property]:
    for name in element.types:
        yield Property(f"{element.name}{name[0].upper()}{name[1:]}" if element.choice else element.name, element, name)


class Definitions:
    """HL7's R4 definitions. Nothing is read before it is asked for; nothing changes after."""

    @cached_property
    def _types(self) -> _TypesPart:
        return msgspec.json.decode(_read("types"), type=_TypesPart)

    @cached_property
    def _search(self) -> Mapping[str, Any]:
        part: dict[str, Any] = msgspec.json.decode(_read("search"))
        return part

    @cached_property
    def _value_sets(self) -> _ValueSetsPart:
        return msgspec.json.decode(_read("value_sets"), type=_ValueSetsPart)

    @cached_property
    def _codes(self) -> dict[str, ValueSetCodes]:
        return {}

    @property
    def resource_types(self) -> tuple[str, ...]:
        """The 146 concrete resource types, sorted."""
        return self._types.resources

    @cached_property
    def _resource_names(self) -> frozenset[str]:
        return frozenset(self._types.resources)

    def is_resource(self, name: str) -> bool:
        """Whether `name` is a concrete resource type."""
        return name in self._resource_names

    @cached_property
    def types(self) -> Mapping[str, TypeDefinition]:
        """Every type by name: resources (abstract ones too), complex types, primitives, backbones (`Patient.contact`)."""
        return _Types(self._types)

    @cached_property
    def search_parameters(self) -> tuple[SearchParameterDefinition, ...]:
        """The 1,400 search parameters of the specification, sorted by URL. Those of CodeSystem and ValueSet extensions have no base."""
        return tuple(
            SearchParameterDefinition(
                url=url,
                code=code,
                type=kind,
                bases=tuple(bases),
                expression=expression,
                targets=tuple(targets),
                components=tuple(SearchComponent(*component) for component in components),
            )
            for url, code, kind, bases, expression, targets, components in self._search["parameters"]
        )

    @cached_property
    def compartments(self) -> Mapping[str, CompartmentDefinition]:
        """The 5 compartments by type code. The code `{def}` among the members means the resource itself."""
        found = self._search["compartments"].items()
        return MappingProxyType(
            {
                code: CompartmentDefinition(
                    code, MappingProxyType({name: tuple(codes) for name, codes in members.items()})
                )
                for code, members in found
            }
        )

    @cached_property
    def operations(self) -> tuple[OperationDefinition, ...]:
        """The 46 operations, sorted by URL. HL7's R4 package states affectsState for none of them, so it is False for all."""
        return tuple(operation_of(row) for row in self._search["operations"])

    @cached_property
    def required_value_sets(self) -> frozenset[str]:
        """The URLs of the 224 value sets that elements are bound to with strength required, enumerable or not."""
        return frozenset(self._value_sets.required)

    def value_set(self, url: str) -> ValueSetCodes | None:
        """The codes of a required value set; None when none are known and only a code's form can be checked.

        None: mime types, UCUM units, LOINC's LL379-9, and every value set that no element is bound to with strength required
        (`all-languages` among them).
        """
        codes = self._codes.get(url)
        if codes is None:
            systems = self._value_sets.required.get(url)
            if systems is None:
                return None
            frozen = {system: frozenset(found) for system, found in systems.items()}
            codes = self._codes[url] = ValueSetCodes(url, MappingProxyType(frozen))
        return codes

    @cached_property
    def case_sensitive_systems(self) -> frozenset[str]:
        """The code systems that say caseSensitive=true, and UCUM."""
        return frozenset(self._value_sets.case_sensitive)

    @cached_property
    def code_systems(self) -> Mapping[str, Mapping[str, Any]]:
        """All code systems of the package by URL: its facts, and `concepts` as rows [code, codes of the parents, display or None]."""
        return MappingProxyType(msgspec.json.decode(_read("code_systems"), type=dict[str, dict[str, Any]]))

    @cached_property
    def value_set_definitions(self) -> Mapping[str, Mapping[str, Any]]:
        """All value sets of the package by URL: version, name, title and `compose` as published."""
        return MappingProxyType(msgspec.json.decode(_read("value_set_definitions"), type=dict[str, dict[str, Any]]))


def _read(part: str) -> bytes:
    return gzip.decompress(_FOLDER.joinpath(f"{part}.json.gz").read_bytes())


@cache
def load() -> Definitions:
    """The definitions of R4 4.0.1, the same object at every call. Costs nothing: each part is read when first used."""
    return Definitions()


__all__ = ["Definitions", "load"]
