"""JSON Schema (2020-12) of FHIR types, made from the definitions: what an OpenAPI document says of bodies.

Rules. Every resource that the validator lets in satisfies the schema of its type; the converse does not hold: bindings to more
codes than `LISTED`, calendar days, references' targets and invariants are left to the validator. A primitive that must be there may be there by its
companion (`_status`) alone. A resource inside another one (contained, an entry of a Bundle) is of any type: `Resource`.

Specification: https://hl7.org/fhir/R4/json.html, https://json-schema.org/draft/2020-12
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from resources.definitions import Definitions
from resources.definitions.model import Element, Property, TypeDefinition

Schema = dict[str, Any]

LISTED: Final = 64
"""A required binding of more codes is named by its value set, not listed."""
_RESOURCE: Final = "Resource"
_COMPANION: Final = "Element"
_LEXICAL: Final = frozenset({"date", "dateTime", "instant", "time", "id", "oid", "uuid"})
"""Primitives that the specification's own regular expression describes as well as the validator's."""
_INT32: Final = 2**31
_PRIMITIVES: Final[Mapping[str, Schema]] = {
    "base64Binary": {"type": "string", "minLength": 1, "contentEncoding": "base64"},
    "boolean": {"type": "boolean"},
    "canonical": {"type": "string", "pattern": "^\\S+$"},
    "code": {"type": "string", "pattern": "^\\S+(\\s\\S+)*$"},
    "decimal": {"type": "number"},
    "integer": {"type": "integer", "minimum": -_INT32, "maximum": _INT32 - 1},
    "markdown": {"type": "string", "minLength": 1},
    "positiveInt": {"type": "integer", "minimum": 1, "maximum": _INT32 - 1},
    "string": {"type": "string", "minLength": 1},
    "unsignedInt": {"type": "integer", "minimum": 0, "maximum": _INT32 - 1},
    "uri": {"type": "string", "pattern": "^\\S+$"},
    "url": {"type": "string", "pattern": "^\\S+$"},
    "xhtml": {"type": "string", "minLength": 1},
}


def schemas(definitions: Definitions, types: Collection[str], root: str = "#/components/schemas/") -> dict[str, Schema]:
    """The schemas of `types` and of every type they reach, by name, sorted. `root` begins the references among them."""
    found: dict[str, Schema] = {}
    waiting = list(types)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name == _RESOURCE:
            found[name] = _any_resource(definitions, root)
            waiting.append("Meta")
            continue
        definition = definitions.types[name]
        if definition.kind == "primitive-type":
            found[name] = _primitive(definition)
            continue
        found[name] = _object(definitions, definition, root)
        waiting += [meaning.type for meaning in definition.properties.values()]
        waiting.append(_COMPANION)
    return dict(sorted(found.items()))


def _any_resource(definitions: Definitions, root: str) -> Schema:
    """A resource of any type: its elements are those of the type it names."""
    properties = {
        "resourceType": {"enum": list(definitions.resource_types)},
        "id": {"$ref": f"{root}id"},
        "meta": {"$ref": f"{root}Meta"},
    }
    return {"type": "object", "properties": properties, "required": ["resourceType"]}


def _primitive(definition: TypeDefinition) -> Schema:
    known = _PRIMITIVES.get(definition.name)
    if known is not None:
        return dict(known)
    assert definition.name in _LEXICAL
    return {"type": "string", "pattern": f"^(?:{definition.pattern})$"}


def _object(definitions: Definitions, definition: TypeDefinition, root: str) -> Schema:
    properties: dict[str, Schema] = {}
    if definition.kind == "resource":
        properties["resourceType"] = {"const": definition.name}
    for meaning in definition.properties.values():
        if meaning.element.max == 0:
            continue
        properties[meaning.name] = _member(definitions, meaning, root)
        if _has_companion(definitions, meaning):
            properties[f"_{meaning.name}"] = _listed({"$ref": f"{root}{_COMPANION}"}, meaning.element, gaps=True)
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    required, either = _required(definitions, definition)
    if definition.kind == "resource":
        required = ["resourceType", *required]
    else:
        schema["minProperties"] = 1
    return schema | ({"required": required} if required else {}) | ({"allOf": either} if either else {})


def _member(definitions: Definitions, meaning: Property, root: str) -> Schema:
    element = meaning.element
    schema: Schema = {"$ref": f"{root}{meaning.type}"}
    codes = _codes(definitions, element) if meaning.type == "code" else ()
    if codes:
        schema = {"type": "string", "enum": list(codes)}
    elif element.binding is not None:
        schema["description"] = f"Bound to {element.binding}."
    elif element.targets:
        schema["description"] = f"To {', '.join(element.targets)}."
    return _listed(schema, element, gaps=_has_companion(definitions, meaning))


def _listed(schema: Schema, element: Element, *, gaps: bool) -> Schema:
    """An array of it where it may repeat; `gaps`: null stands where only the companion (or only the value) has something."""
    if element.max == 1:
        return schema
    return {"type": "array", "minItems": 1, "items": {"anyOf": [schema, {"type": "null"}]} if gaps else schema}


def _codes(definitions: Definitions, element: Element) -> tuple[str, ...]:
    known = definitions.value_set(element.binding) if element.binding is not None else None
    if known is None:
        return ()
    codes = tuple(sorted({code for codes in known.systems.values() for code in codes}))
    return codes if len(codes) <= LISTED else ()


def _has_companion(definitions: Definitions, meaning: Property) -> bool:
    return definitions.types[meaning.type].kind == "primitive-type" and meaning.type != "xhtml"


def _required(definitions: Definitions, definition: TypeDefinition) -> tuple[list[str], list[Schema]]:
    """The members that must be there, and the alternatives of which one must be."""
    required: list[str] = []
    either: list[Schema] = []
    for element in definition.elements.values():
        if not element.min:
            continue
        names = [
            name
            for meaning in definition.properties.values()
            if meaning.element.name == element.name
            for name in (meaning.name, *((f"_{meaning.name}",) if _has_companion(definitions, meaning) else ()))
        ]
        if len(names) == 1:
            required += names
        else:
            either.append({"anyOf": [{"required": [name]} for name in names]})
    return required, either
