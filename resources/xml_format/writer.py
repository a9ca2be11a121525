"""From a resource as decoded JSON to XML.

Rules. Elements come in the order of the definitions. White space in values is written as character references, which a parser would
otherwise normalise. What XML cannot carry is FhirError 406: the resource is there, but not in this format.

Specification: https://hl7.org/fhir/R4/xml.html
"""

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final

from resources.errors import FhirError
from resources.json_format import Number
from resources.xml_format.narrative import element_of
from resources.xml_format.shapes import FHIR, Member, Shape, is_resource, shape_of

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_PIECE: Final = 2_000
"""Strings after which a piece is given away."""
_SPECIAL = re.compile('[&<>"\x00-\x1f\ufffe\uffff\ud800-\udfff]')
_REFERENCES: Final = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;",
}  # fmt: skip


def encode(resource: Mapping[str, Any], *, indent: bool = False) -> bytes:
    """`resource` as an XML document; `indent`: an element a line."""
    return "".join(pieces(resource, indent=indent)).encode()


def pieces(resource: Mapping[str, Any], *, indent: bool = False) -> Iterator[str]:
    """The document in pieces, so that a large Bundle can be written with pauses."""
    kind, shape = _resource(resource)
    pad = "\n" if indent else ""
    out = [f'{_DECLARATION}{pad}<{kind} xmlns="{FHIR}"']
    members = _members(shape, resource)
    if not members:
        yield f"{out[0]}/>"
        return
    out.append(">")
    for member in members:
        for value, companion in _items(member, resource):
            _WRITE[member.form](out, member, value, companion, _deeper(pad))
            if len(out) > _PIECE:
                yield "".join(out)
                out.clear()
    out.append(f"{pad}</{kind}>")
    yield "".join(out)


def _deeper(pad: str) -> str:
    return f"{pad}  " if pad else pad


def _resource(node: Mapping[str, Any]) -> tuple[str, Shape]:
    kind = node["resourceType"]
    if not is_resource(kind):
        raise _no_xml("something that is no resource of R4")
    return kind, shape_of(kind)


def _members(shape: Shape, node: Mapping[str, Any]) -> list[Member]:
    """What `node` has, in the order of the definitions."""
    found = set()
    for name in node:
        if name == "resourceType" or name in shape.attributes:
            continue
        member = shape.members.get(name.removeprefix("_"))
        if member is None:
            raise _no_xml("extensions of an attribute, or an element that R4 does not define")
        found.add(member)
    return sorted(found)


def _items(member: Member, node: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The values of a member, each with its companion (both may be None)."""
    value = node.get(member.name)
    companion = node.get(f"_{member.name}") if member.form == "primitive" else None
    if not member.many:
        yield value, companion
    else:
        yield from zip_longest(value or (), companion or ())


def _object(out: list[str], tag: str, shape: Shape, node: Mapping[str, Any], pad: str) -> None:
    out.append(f"{pad}<{tag}")
    out.extend(f' {name}="{_escaped(node[name])}"' for name in shape.attributes if name in node)
    _content(out, tag, shape, node, pad)


def _content(out: list[str], tag: str, shape: Shape, node: Mapping[str, Any], pad: str) -> None:
    """What stands behind the attributes of a start tag, up to the end tag."""
    members = _members(shape, node)
    if not members:
        out.append("/>")
        return
    out.append(">")
    inner = _deeper(pad)
    for member in members:
        write = _WRITE[member.form]
        for value, companion in _items(member, node):
            write(out, member, value, companion, inner)
    out.append(f"{pad}</{tag}>")


def _write_object(out: list[str], member: Member, value: Any, _companion: Any, pad: str) -> None:
    _object(out, member.name, shape_of(member.type), value, pad)


def _write_resource(out: list[str], member: Member, value: Any, _companion: Any, pad: str) -> None:
    kind, shape = _resource(value)
    out.append(f"{pad}<{member.name}>")
    _object(out, kind, shape, value, _deeper(pad))
    out.append(f"{pad}</{member.name}>")


def _write_xhtml(out: list[str], _member: Member, value: Any, _companion: Any, pad: str) -> None:
    out.append(pad + element_of(value))


def _write_primitive(out: list[str], member: Member, value: Any, companion: Any, pad: str) -> None:
    out.append(f"{pad}<{member.name}")
    if companion is not None and "id" in companion:
        out.append(f' id="{_escaped(companion["id"])}"')
    if value is not None:
        out.append(f' value="{_text(value)}"')
    if companion is None:
        out.append("/>")
    else:
        _content(out, member.name, shape_of("Element"), companion, pad)


_WRITE: Final = {
    "object": _write_object,
    "resource": _write_resource,
    "xhtml": _write_xhtml,
    "primitive": _write_primitive,
}


def _text(value: Any) -> str:
    """A primitive value as the text of an attribute; a number as it was written."""
    if value.__class__ is str:
        return _escaped(value)
    if value.__class__ is bool:
        return "true" if value else "false"
    return value.text if value.__class__ is Number else str(value)


def _escaped(text: str) -> str:
    return text if _SPECIAL.search(text) is None else _SPECIAL.sub(_reference, text)


def _reference(found: re.Match[str]) -> str:
    reference = _REFERENCES.get(found[0])
    if reference is None:
        raise _no_xml(f"the character U+{ord(found[0]):04X}")
    return reference


def _no_xml(what: str) -> FhirError:
    return FhirError(406, "not-supported", f"the answer holds {what}, which XML cannot carry; ask for JSON")
