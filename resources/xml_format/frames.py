"""What is open while XML is read: a frame for each element, and how its members become those of a JSON object.

Specification: https://hl7.org/fhir/R4/json.html#primitive, https://hl7.org/fhir/R4/xml.html
"""

import re
from decimal import InvalidOperation
from typing import Any, Final, Literal

from resources.errors import FhirError
from resources.json_format import Number
from resources.xml_format.shapes import Member, Shape

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBERS: Final = frozenset({"integer", "unsignedInt", "positiveInt", "decimal"})
_BOOLEANS: Final = {"true": True, "false": False}


class Frame:
    """An element that is open. `node` is the object that takes its members: for a primitive its companion `_x`.

    `index` is its place among the items of its member, `last` the order of its last child, `depth` levels of JSON down to it.
    """

    __slots__ = ("depth", "form", "index", "last", "member", "node", "padded", "said_text", "shape")

    def __init__(
        self,
        form: Literal["document", "primitive", "object", "resource"],
        member: Member | None,
        shape: Shape | None,
        node: dict[str, Any],
        index: int,
        depth: int,
    ) -> None:
        self.form = form
        self.member = member
        self.shape = shape
        self.node = node
        self.index = index
        self.depth = depth
        self.last = -1
        self.padded: list[str] = []
        self.said_text = False


def put(node: dict[str, Any], member: Member, value: Any) -> int:
    """Give `node` the value, or one item more; the item's index."""
    if not member.many:
        node[member.name] = value
        return 0
    items = node.setdefault(member.name, [])
    items.append(value)
    return len(items) - 1


def align(frame: Frame) -> None:
    """Companions are as long as their values, and values that are all absent are left out."""
    for name in frame.padded:
        values, companions = frame.node[name[1:]], frame.node[name]
        companions.extend([None] * (len(values) - len(companions)))
        if all(value is None for value in values):
            del frame.node[name[1:]]


def step_of(frame: Frame) -> str:
    """The frame as a step of a FHIRPath expression: `.name[0]`."""
    member = frame.member
    if member is None:
        return ""
    return f".{member.name}[{frame.index}]" if member.many else f".{member.name}"


def value_of(kind: str, text: str) -> Any:
    """The JSON value of a primitive; what is none of its type stays a string."""
    if kind in _NUMBERS:
        if _NUMBER.fullmatch(text) is None:
            return text
        try:
            return int(text) if text.lstrip("-").isdigit() and text != "-0" else Number(text)
        except (ValueError, InvalidOperation):
            raise malformed("the body has a number with too many digits or too large an exponent") from None
    return _BOOLEANS.get(text, text) if kind == "boolean" else text


def malformed(diagnostics: str) -> FhirError:
    """The refusal of a body that cannot be read on."""
    return FhirError(400, "structure", diagnostics)
