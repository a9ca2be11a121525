"""JSON Patch: add, remove, replace, move, copy and test on the JSON of a resource.

Rules. The resource is never touched: what is answered is another one. Numbers keep their tokens; `test` compares them by value. A patch
that says nothing sensible is 400; one that cannot be carried out on this resource (a failed `test`, a place that is not there) is 422;
one that would copy without end is 413. Every fault names the operation by its place in the patch, counted from 0.

Specification: https://www.rfc-editor.org/rfc/rfc6902, https://www.rfc-editor.org/rfc/rfc6901
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from resources.errors import FhirError
from resources.json_format import encode
from resources.model import Resource
from resources.patching.limits import PatchLimits, replica

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_BAD_ESCAPE = re.compile(r"~(?![01])")
_BRINGING: Final = frozenset({"add", "replace"})
_SHOWN: Final = 200
"""Characters of a path that a fault quotes."""

Pointer = tuple[str, ...]


class Operation(NamedTuple):
    """One operation, well-formed. `source` is what RFC 6902 calls `from`."""

    at: int
    op: str
    path: Pointer
    source: Pointer
    value: Any


@dataclass(slots=True)
class _Document:
    """The copy that a patch works on. `spent`: bytes of JSON that were in it or were put into it."""

    root: Any
    limits: PatchLimits
    spent: int


def read_patch(operations: Sequence[Any], limits: PatchLimits) -> tuple[Operation, ...]:
    """The operations of a decoded patch document. Raises FhirError 400 naming the first that is malformed, 413 for too many."""
    limits.require_few(len(operations))
    return tuple([_operation(at, given) for at, given in enumerate(operations)])


def apply_patch(resource: Resource, operations: Sequence[Operation], limits: PatchLimits) -> Any:
    """The JSON value that `operations` make of `resource`: mostly an object, but a patch may replace the whole.

    Raises FhirError 422 when one of them cannot be carried out, 413 when they grow beyond `limits.size`, or copy more than
    `PatchLimits.within` leaves for what they bring.
    """
    sent = sum(len(encode(one.value)) for one in operations if one.op in _BRINGING)
    stored = len(encode(resource))
    document = _Document(replica(resource), limits.within(sent, stored), stored)
    for operation in operations:
        _VERBS[operation.op](document, operation)
    return document.root


# ---- reading


def _operation(at: int, given: Any) -> Operation:
    if given.__class__ is not dict:
        raise _malformed(at, "is no object")
    op = given.get("op")
    if not isinstance(op, str) or op not in _VERBS:
        raise _malformed(at, f"has an op that is none of {', '.join(_VERBS)}")
    if op in ("add", "replace", "test") and "value" not in given:
        raise _malformed(at, f"({op}) has no value")
    path = _pointer(at, given, "path")
    source = _pointer(at, given, "from") if op in ("move", "copy") else ()
    if op == "move" and len(source) < len(path) and path[: len(source)] == source:
        raise _malformed(at, "(move) would move a value into itself")
    return Operation(at, op, path, source, given.get("value"))


def _pointer(at: int, given: Mapping[str, Any], name: str) -> Pointer:
    text = given.get(name)
    if not isinstance(text, str):
        raise _malformed(at, f"({given['op']}) has no {name}")
    if not text:
        return ()
    if not text.startswith("/") or _BAD_ESCAPE.search(text):
        raise _malformed(at, f"({given['op']}) has a {name} that is no JSON Pointer")
    return tuple([step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/")])


def _malformed(at: int, said: str) -> FhirError:
    return FhirError(400, "invalid", f"operation {at} of the patch {said}")


# ---- carrying out


def _failed(operation: Operation, said: str) -> FhirError:
    return FhirError(422, "processing", f"operation {operation.at} of the patch ({operation.op}): {said}")


def _shown(pointer: Pointer) -> str:
    text = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in pointer)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _absent(operation: Operation, pointer: Pointer) -> FhirError:
    return _failed(operation, f"there is nothing at {_shown(pointer) or 'the root'}")


def _index(operation: Operation, pointer: Pointer, items: Sequence[Any], most: int) -> int:
    """The last token of `pointer` as a place in `items`, at most `most`."""
    step = pointer[-1]
    if step == "-" and most == len(items):
        return most
    if _INDEX.fullmatch(step) is None or int(step) > most:
        raise _failed(operation, f"{_shown(pointer)} is no place in an array of {len(items)}")
    return int(step)


def _value_at(document: _Document, operation: Operation, pointer: Pointer) -> Any:
    value = document.root
    for depth, step in enumerate(pointer, 1):
        if value.__class__ is dict and step in value:
            value = value[step]
        elif value.__class__ is list:
            value = value[_index(operation, pointer[:depth], value, len(value) - 1)]
        else:
            raise _absent(operation, pointer[:depth])
    return value


def _put(document: _Document, operation: Operation, value: Any) -> None:
    """Put `value` at the operation's path: a member is set, an item inserted."""
    document.spent += len(encode(value))
    if document.spent > document.limits.size:
        said = f"operation {operation.at} of the patch makes it work on more than {document.limits.size} bytes"
        raise FhirError(413, "too-costly", said)
    if len(operation.path) + _depth(value) > document.limits.depth:
        raise _failed(operation, f"it would nest deeper than {document.limits.depth} levels")
    if not operation.path:
        document.root = value
        return
    parent = _value_at(document, operation, operation.path[:-1])
    if parent.__class__ is dict:
        parent[operation.path[-1]] = value
    elif parent.__class__ is list:
        parent.insert(_index(operation, operation.path, parent, len(parent)), value)
    else:
        raise _absent(operation, operation.path)


def _take(document: _Document, operation: Operation, pointer: Pointer) -> Any:
    """Remove what is at `pointer` and give it."""
    value = _value_at(document, operation, pointer)
    if not pointer:
        raise _failed(operation, "the whole resource cannot be removed")
    parent = _value_at(document, operation, pointer[:-1])
    del parent[pointer[-1] if parent.__class__ is dict else int(pointer[-1])]
    return value


def _add(document: _Document, operation: Operation) -> None:
    _put(document, operation, replica(operation.value))


def _remove(document: _Document, operation: Operation) -> None:
    _take(document, operation, operation.path)


def _replace(document: _Document, operation: Operation) -> None:
    """Members keep their order: the new value stands where the old one was."""
    _value_at(document, operation, operation.path)
    parent = _value_at(document, operation, operation.path[:-1]) if operation.path else None
    if parent.__class__ is list:
        _take(document, operation, operation.path)
    _add(document, operation)


def _move(document: _Document, operation: Operation) -> None:
    value = _value_at(document, operation, operation.source)
    if operation.source != operation.path:
        _take(document, operation, operation.source)
        _put(document, operation, value)


def _copy(document: _Document, operation: Operation) -> None:
    _put(document, operation, replica(_value_at(document, operation, operation.source)))


def _test(document: _Document, operation: Operation) -> None:
    if not equal(_value_at(document, operation, operation.path), operation.value):
        raise _failed(operation, f"the value at {_shown(operation.path) or 'the root'} is another one")


_VERBS: Final[Mapping[str, Callable[[_Document, Operation], None]]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _depth(value: Any) -> int:
    """How many objects and arrays stand inside each other."""
    if value.__class__ is dict:
        return 1 + max(map(_depth, value.values()), default=0)
    if value.__class__ is list:
        return 1 + max(map(_depth, value), default=0)
    return 0


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal as RFC 6902 section 4.6 has it: numbers by value, members in any order."""
    if one.__class__ is dict and other.__class__ is dict:
        return one.keys() == other.keys() and all(equal(value, other[name]) for name, value in one.items())
    if one.__class__ is list and other.__class__ is list:
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return one == other
    return one.__class__ is other.__class__ and bool(one == other)
