"""The values that a FHIRPath Patch carries: `value[x]`, a `resource`, or parts for what has no name of its own (a BackboneElement).

Rules. The type must be one that the element has, exactly; xhtml comes as a string, there is no other way. Parts are named as the elements
they stand for; a part given again is the next item of a list. Nothing in a part is ignored.

Specification: https://hl7.org/fhir/R4/fhirpatch.html, https://hl7.org/fhir/R4/parameters.html
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from resources.definitions.model import Element, Property, TypeDefinition
from resources.patching.limits import replica
from resources.patching.paths import PathFault, any_of
from resources.patching.places import Definitions, Pair, pairs, put_pair, put_pairs

_PART: Final = "Parameters.parameter"
_ALWAYS: Final = frozenset({"id", "extension", "name", "_name"})

Part = Mapping[str, Any]


class Made(NamedTuple):
    """A value for an element: the JSON property that it goes to, the value and its companion."""

    name: str
    pair: Pair


def typed_value(part: Part, definitions: Definitions) -> tuple[Property, Pair] | None:
    """The `value[x]` of a part: the property that holds it, the value and its companion; None when the part has none."""
    known = definitions.types[_PART].properties
    names = {name.removeprefix("_") for name in part if name.startswith(("value", "_value"))}
    if not names:
        return None
    if len(names) > 1 or not names <= known.keys():
        raise PathFault("a part has several values, or one of a type that Parameters cannot have")
    (name,) = names
    return known[name], (part.get(name), part.get(f"_{name}"))


def made_value(part: Part, element: Element, definitions: Definitions) -> Made:
    """The value that `part` has for `element`, as a copy. Raises PathFault when it has none, or one of another type."""
    _require_known(part)
    found = typed_value(part, definitions)
    forms = (found is not None, "resource" in part, "part" in part)
    if sum(forms) != 1:
        raise PathFault(f"the part {part.get('name')!r} needs one of value[x], resource and part")
    if found is not None:
        return _of_type(found[0].type, found[1], element, definitions)
    if "resource" in part:
        resource = part["resource"]
        if element.types != ("Resource",) or not isinstance(resource, dict):
            raise _wrong(element, "a resource")
        return Made(element.name, (replica(resource), None))
    (kind, *others) = element.types
    if others or definitions.types[kind].kind in ("primitive-type", "resource"):
        raise _wrong(element, "parts")
    return Made(element.name, (_object(part["part"], definitions.types[kind], definitions), None))


def _of_type(kind: str, pair: Pair, element: Element, definitions: Definitions) -> Made:
    wanted = "xhtml" if kind == "string" and element.types == ("xhtml",) else kind
    if wanted not in element.types:
        raise _wrong(element, kind)
    value, companion = pair
    primitive = definitions.types[kind].kind == "primitive-type"
    formed = value is None or (not isinstance(value, list) and isinstance(value, dict) != primitive)
    extended = companion is None or (primitive and isinstance(companion, dict))
    if not formed or not extended or not any_of(pair):
        raise PathFault(f"the value for {element.name} is no JSON of the type {kind}")
    name = f"{element.name}{kind[0].upper()}{kind[1:]}" if element.choice else element.name
    return Made(name, (replica(value), replica(companion)))


def _object(parts: Any, definition: TypeDefinition, definitions: Definitions) -> dict[str, Any]:
    """The object of a type that parts describe."""
    gathered: dict[str, tuple[Element, list[Pair]]] = {}
    for part in parts_of(parts):
        called = part["name"]
        element = definition.elements.get(called)
        if element is None:
            raise PathFault(f"{definition.name} has no element {called!r}")
        made = made_value(part, element, definitions)
        gathered.setdefault(made.name, (element, []))[1].append(made.pair)
    holder: dict[str, Any] = {}
    for name, (element, items) in gathered.items():
        if element.max != 1:
            put_pairs(holder, name, items)
        elif len(items) == 1:
            put_pair(holder, name, items[0])
        else:
            raise PathFault(f"{definition.name}.{element.name} is given more than once")
    return holder


def parts_of(parts: Any) -> Sequence[Part]:
    """The parts in `parts`, each an object with a name. Raises PathFault for anything else."""
    if not isinstance(parts, list) or not parts:
        raise PathFault("the parts are no list of parts")
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise PathFault("a part has no name")
    return parts


def _require_known(part: Part) -> None:
    for name in part:
        if name not in _ALWAYS and name not in ("resource", "part") and not name.startswith(("value", "_value")):
            raise PathFault(f"a part has the unknown member {name!r}")


def _wrong(element: Element, given: str) -> PathFault:
    return PathFault(f"{element.name} takes {' or '.join(element.types)}, not {given}")


# ---- the way back


def part_of(name: str, kind: str, pair: Pair, definitions: Definitions) -> dict[str, Any]:
    """The part called `name` that holds a value of type `kind`: what `made_value` reads."""
    value, companion = pair
    holder = "valueString" if kind == "xhtml" else f"value{kind[0].upper()}{kind[1:]}"
    if holder in definitions.types[_PART].properties:
        part: dict[str, Any] = {"name": name}
        put_pair(part, holder, (value, companion))
        return part
    if definitions.types[kind].kind == "resource":
        return {"name": name, "resource": value}
    return {"name": name, "part": _parts(value, definitions.types[kind], definitions)}


def _parts(value: Mapping[str, Any], definition: TypeDefinition, definitions: Definitions) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for one, items in members_of(value, definition):
        parts.extend(part_of(one.element.name, one.type, pair, definitions) for pair in items)
    return parts


def members_of(value: Mapping[str, Any], definition: TypeDefinition) -> list[tuple[Property, list[Pair]]]:
    """The properties that an object has, in the specification's order, each with its values (one, unless it is a list)."""
    found = []
    for one in definition.properties.values():
        if one.name in value or f"_{one.name}" in value:
            single = [(value.get(one.name), value.get(f"_{one.name}"))]
            found.append((one, pairs(value, one.name) if one.element.max != 1 else single))
    return found
