"""FHIRPath Patch of R4: add, insert, delete, replace and move, as the operations of a Parameters resource say.

Rules. The resource is never touched: what is answered is another one. A path selects one element; `delete` of none is no fault. `insert`
and `move` name a list by a path that ends in its name. What is emptied disappears. Faults of the patch itself are 400, those of
carrying it out on this resource 422; each names the operation by its place, also in its expression. Whether the outcome is a valid
resource is for the caller to check.

Specification: https://hl7.org/fhir/R4/fhirpatch.html
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from resources.definitions.model import Property
from resources.errors import FhirError
from resources.fhirpath_syntax import Syntax
from resources.model import Resource
from resources.patching.limits import PatchLimits, replica
from resources.patching.paths import PathFault, Paths, any_of, read_path
from resources.patching.places import (
    Definitions,
    Place,
    delete,
    insert_item,
    length,
    opened,
    put_pair,
    replace,
    take_item,
)
from resources.patching.values import Part, made_value, parts_of, typed_value

_TEXTS: Final = frozenset({"string", "code"})
_NUMBERS: Final = frozenset({"integer", "unsignedInt", "positiveInt"})
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "add": ("path", "name", "value"),
    "insert": ("path", "value", "index"),
    "delete": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "source", "destination"),
}
"""What each type of operation has beside its type."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, well-formed. Only what its type has is set."""

    at: int
    type: str
    path: Syntax
    name: str
    value: Part
    numbers: Mapping[str, int]


def read_patch(parameters: Resource, definitions: Definitions, limits: PatchLimits) -> tuple[Operation, ...]:
    """The operations in a Parameters resource. Raises FhirError 400 for the first that is malformed, 413 for too many."""
    given = parameters.get("parameter", [])
    if not isinstance(given, list):
        raise FhirError(400, "structure", "must be a list", expression="Parameters.parameter")
    limits.require_few(len(given))
    operations = []
    for at, one in enumerate(given):
        try:
            operations.append(_operation(at, one, definitions))
        except PathFault as fault:
            raise _placed(fault, at, 400, "invalid") from None
    return tuple(operations)


def apply_patch(resource: Resource, operations: tuple[Operation, ...], definitions: Definitions) -> Resource:
    """What `operations` make of a valid `resource`. Raises FhirError 422 for the first that cannot be carried out."""
    made: Resource = replica(resource)
    paths = Paths(made, definitions)
    for operation in operations:
        try:
            _VERBS[operation.type](paths, operation)
        except PathFault as fault:
            raise _placed(fault, operation.at, 422, "processing", operation.type) from None
    return made


def _placed(fault: PathFault, at: int, status: int, code: str, kind: str = "") -> FhirError:
    said = f"operation {at} of the patch{f' ({kind})' if kind else ''}: {fault}"
    return FhirError(status, code, said, expression=f"Parameters.parameter[{at}]")


# ---- reading


def _operation(at: int, given: Any, definitions: Definitions) -> Operation:
    if not isinstance(given, dict) or given.get("name") != "operation":
        raise PathFault("the parameters of a patch are named operation")
    unknown = given.keys() - {"name", "_name", "id", "extension", "part"}
    if unknown:
        raise PathFault(f"an operation consists of parts and has no {min(unknown)!r}")
    parts: dict[str, Part] = {}
    for part in parts_of(given.get("part")):
        if part["name"] in parts:
            raise PathFault(f"the part {part['name']!r} is given twice")
        parts[part["name"]] = part
    kind = _simple(parts, "type", str, _TEXTS, definitions)
    if kind not in _NEEDED:
        raise PathFault(f"the type is none of {', '.join(_NEEDED)}")
    needed = _NEEDED[kind]
    for name in needed:
        if name not in parts:
            raise PathFault(f"{kind} needs the part {name!r}")
    for name in parts:
        if name != "type" and name not in needed:
            raise PathFault(f"{kind} has no part {name!r}")
    return Operation(
        at,
        kind,
        read_path(_simple(parts, "path", str, _TEXTS, definitions)),
        _simple(parts, "name", str, _TEXTS, definitions) if "name" in needed else "",
        parts["value"] if "value" in needed else {},
        {
            name: _simple(parts, name, int, _NUMBERS, definitions)
            for name in needed
            if name in ("index", "source", "destination")
        },
    )


def _simple(parts: Mapping[str, Part], name: str, form: type, kinds: frozenset[str], definitions: Definitions) -> Any:
    """The value of a part that is a text or a number."""
    found = typed_value(parts[name], definitions) if name in parts else None
    if found is None or found[0].type not in kinds or found[1][0].__class__ is not form:
        raise PathFault(f"the part {name!r} needs a value of type {' or '.join(sorted(kinds))}")
    return found[1][0]


# ---- carrying out


def _one(paths: Paths, operation: Operation) -> Place:
    found = paths.select(operation.path)
    if len(found) != 1:
        raise PathFault(f"the path selects {len(found)} elements, and must select one")
    return found[0]


def _list(paths: Paths, operation: Operation) -> tuple[dict[str, Any], Property]:
    """The object and the property of the list that the path names."""
    tree = operation.path
    if tree[0] != "name" or (tree[1] == ("this",) and tree[2][:1].isupper()):
        raise PathFault("the path must end in the name of a list")
    parents = paths.select(tree[1]) if tree[1] != ("this",) else [paths.root]
    if len(parents) != 1:
        raise PathFault(f"the path selects the lists of {len(parents)} elements, and must select one")
    (one, *others) = paths.property(parents[0], tree[2])
    if others or one.element.max == 1:
        raise PathFault(f"{parents[0].type}.{one.element.name} is no list")
    return _opened(paths, parents[0]), one


def _opened(paths: Paths, place: Place) -> dict[str, Any]:
    primitive = paths.is_primitive(place.type)
    if not primitive and not isinstance(place.pair[0], dict):
        raise PathFault("the path selects what is no object")
    return opened(place, primitive=primitive)


def _add(paths: Paths, operation: Operation) -> None:
    place = _one(paths, operation)
    meant = paths.property(place, operation.name)
    made = made_value(operation.value, meant[0].element, paths.definitions)
    if made.name not in (one.name for one in meant):
        raise PathFault(f"{operation.name} takes {meant[0].type}")
    holder, element = _opened(paths, place), meant[0].element
    if element.max != 1:
        insert_item(holder, made.name, length(holder, made.name), made.pair)
        return
    for one in paths.property(place, element.name):
        if any_of((holder.get(one.name), holder.get(f"_{one.name}"))):
            raise PathFault(f"{place.type}.{element.name} is there already, and does not repeat")
    put_pair(holder, made.name, made.pair)


def _insert(paths: Paths, operation: Operation) -> None:
    holder, one = _list(paths, operation)
    count, index = length(holder, one.name), operation.numbers["index"]
    if not 0 <= index <= count:
        raise PathFault(f"the index {index} is not within a list of {count}")
    insert_item(holder, one.name, index, made_value(operation.value, one.element, paths.definitions).pair)


def _delete(paths: Paths, operation: Operation) -> None:
    found = paths.select(operation.path)
    if len(found) > 1:
        raise PathFault(f"the path selects {len(found)} elements, and one can be deleted")
    if found:
        delete(_inside(found[0]))
    else:
        paths.require_meaningful(operation.path)


def _replace(paths: Paths, operation: Operation) -> None:
    place = _inside(_one(paths, operation))
    assert place.element is not None
    made = made_value(operation.value, place.element, paths.definitions)
    replace(place, made.name, made.pair)


def _move(paths: Paths, operation: Operation) -> None:
    holder, one = _list(paths, operation)
    count = length(holder, one.name)
    for name, index in operation.numbers.items():
        if not 0 <= index < count:
            raise PathFault(f"the {name} {index} is not within a list of {count}")
    source, destination = operation.numbers["source"], operation.numbers["destination"]
    if source != destination:
        insert_item(holder, one.name, destination, take_item(holder, one.name, source))


def _inside(place: Place) -> Place:
    if place.element is None:
        raise PathFault("the path selects the resource itself")
    return place


_VERBS: Final[Mapping[str, Callable[[Paths, Operation], None]]] = {
    "add": _add,
    "insert": _insert,
    "delete": _delete,
    "replace": _replace,
    "move": _move,
}
