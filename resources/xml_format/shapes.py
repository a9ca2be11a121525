"""What the definitions say about the XML of a type, compiled once per type when first needed.

Specification: https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/elementdefinition.html (representation)
"""

from collections.abc import Mapping
from functools import cache
from typing import Final, Literal, NamedTuple

from resources.definitions import load
from resources.definitions.model import Property

FHIR: Final = "http://hl7.org/fhir"
XHTML: Final = "http://www.w3.org/1999/xhtml"


class Member(NamedTuple):
    """An element inside another: `name` in XML and JSON (`valueQuantity`), its place among its siblings, and what it holds.

    `form`: a primitive value, an object of `type`, any resource inside it, or the XHTML of a narrative.
    """

    order: int
    name: str
    form: Literal["primitive", "object", "resource", "xhtml"]
    type: str
    many: bool


class Shape(NamedTuple):
    """A `type`: the members that are XML attributes, in the order they are written, and those that are elements."""

    type: str
    attributes: tuple[str, ...]
    members: Mapping[str, Member]


@cache
def shape_of(kind: str) -> Shape:
    """The shape of a resource type, complex type or backbone (`Patient.contact`); that of `Element` is a primitive's."""
    definition = load().types[kind]
    attributes = () if definition.kind == "resource" else ("id", "url") if kind == "Extension" else ("id",)
    order = {name: at for at, name in enumerate(definition.elements)}
    found = {
        name: _member(order[meaning.element.name], meaning)
        for name, meaning in definition.properties.items()
        if name not in attributes and meaning.element.max != 0
    }
    return Shape(kind, attributes, found)


def _member(order: int, meaning: Property) -> Member:
    many = meaning.element.max != 1
    if meaning.type == "xhtml":
        return Member(order, meaning.name, "xhtml", meaning.type, many)
    match load().types[meaning.type].kind:
        case "primitive-type":
            return Member(order, meaning.name, "primitive", meaning.type, many)
        case "resource":
            return Member(order, meaning.name, "resource", meaning.type, many)
        case _:
            return Member(order, meaning.name, "object", meaning.type, many)


def is_resource(name: str) -> bool:
    """Whether `name` is a concrete resource type."""
    return load().is_resource(name)
