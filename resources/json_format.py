"""JSON without loss: bytes -> dict -> the same tokens, and the stored form of a resource.

Rules. A number keeps its token (`Number`): `1.00`, `1e3`, `-0` are written as they were read. Members keep their order. What JSON
leaves open is refused with FhirError 400, and no diagnostics quotes the content: duplicate names, NaN and Infinity, nesting beyond a
limit, lone surrogates, bytes that are not UTF-8, U+0000, a byte order mark, text after the value.

A decoded body, without its white space, is compared with its re-encoding: when the two are equal nothing was lost and no name was
given twice. Otherwise (escapes, minus zero) the members of both are counted: `":` ends a member's name, or stands inside a string in
both spellings, unless the quote or the colon was written as an escape. Only then, or when the counts differ, the slow path of the
standard library decides.

Specification: https://hl7.org/fhir/R4/json.html, RFC 8259, https://hl7.org/fhir/R4/resource.html#Meta
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Self

import msgspec

from resources.errors import FhirError
from resources.model import Resource, ResourceKey, instant

DEPTH: Final = 100
"""How many objects and arrays may stand inside each other."""

_BOM: Final = b"\xef\xbb\xbf"
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_MINUS_ZERO = re.compile(rb"-0(?<=[\s:,\[]-0)(?![0-9.eE])")
_HIDDEN_NAME_END = re.compile(rb"\\u00(?:22|3[aA])")
_VERSION = re.compile(rb'"[0-9]+","lastUpdated":"[0-9T:.Z\-]+"')
_HOLE: Final = b"\x00"  # never in JSON: a client's U+0000 would be refused, and is written as an escape anyhow


class Number(Decimal):
    """A JSON number with a fraction or an exponent, or `-0`: a Decimal that keeps its token as `text`."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """The number that `text`, a JSON number, spells."""
        self = Decimal.__new__(cls, text)
        self.text = text
        return self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.text,)


def _token(value: object) -> msgspec.Raw:
    if isinstance(value, Number):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} is no JSON value")


_DECODER = msgspec.json.Decoder(float_hook=Number)
_ENCODER = msgspec.json.Encoder(enc_hook=_token, decimal_format="number")
_CANONICAL = msgspec.json.Encoder(enc_hook=_token, decimal_format="number", order="sorted")


def decode(body: bytes, *, limit_depth: int = DEPTH) -> Resource:
    """The JSON object in `body`, nothing lost. Raises FhirError 400: `structure` for bad JSON, `invalid` for another value."""
    value = _decoded(body, limit_depth)
    if value.__class__ is not dict:
        raise FhirError(400, "invalid", "the body is JSON but no object; a resource is a JSON object")
    resource: Resource = value
    return resource


def decode_array(body: bytes, *, limit_depth: int = DEPTH) -> list[Any]:
    """The JSON array in `body`, nothing lost. Raises FhirError 400 as `decode` does."""
    value = _decoded(body, limit_depth)
    if value.__class__ is not list:
        raise FhirError(400, "invalid", "the body is JSON but no array")
    array: list[Any] = value
    return array


def _decoded(body: bytes, limit_depth: int) -> Any:
    if not body or body.isspace():
        raise _bad("the body is empty; JSON is required")
    if body.startswith(_BOM):
        raise _bad("the body begins with a byte order mark, which JSON does not allow")
    value = _decode_fast(body)
    if too_deep(body, value, limit_depth):
        raise _bad(f"the body is nested deeper than {limit_depth} levels")
    encoded = _ENCODER.encode(value)
    compact = body if encoded == body else msgspec.json.format(body, indent=-1)
    lossless = encoded == compact
    if not lossless and _MINUS_ZERO.search(body) is not None:
        value = _decode_slowly(body)
    if b"\\u0000" in body and b"\\u0000" in body.replace(b"\\\\", b""):
        raise _bad("a string contains the character U+0000, which FHIR does not allow")
    if not lossless and (compact.count(b'":') != encoded.count(b'":') or _HIDDEN_NAME_END.search(compact) is not None):
        _decode_slowly(body)
    return value


def encode(resource: Mapping[str, Any]) -> bytes:
    """`resource` as compact JSON, every number as it was written."""
    return _ENCODER.encode(resource)


def canonical(value: Any) -> bytes:
    """The JSON of a value with its members sorted: the same for values that differ in the order of members alone, not in tokens."""
    return _CANONICAL.encode(value)


class Template(msgspec.Struct, frozen=True, gc=False):
    """An encoded resource that lacks the values of `meta.versionId` and `meta.lastUpdated`, which the commit gives."""

    head: bytes
    tail: bytes

    def body(self, version: int, updated_us: int) -> bytes:
        """The JSON to be stored; `updated_us` in microseconds since 1970."""
        return b'%b"%d","lastUpdated":"%b"%b' % (self.head, version, instant(updated_us).encode(), self.tail)

    def same_content(self, body: bytes) -> bool:
        """Whether the stored `body` differs in nothing but versionId and lastUpdated."""
        head, tail = self.head, self.tail
        return (
            body.startswith(head)
            and body.endswith(tail)
            and _VERSION.fullmatch(body, len(head), len(body) - len(tail)) is not None
        )


def template(resource: Resource, key: ResourceKey) -> Template:
    """The stored form of a valid `resource` under `key`; `resource` is not changed.

    resourceType stands first. `id` and `meta` stay where they are; absent, id follows resourceType and meta follows id. What the client says about
    versionId and lastUpdated is dropped; the other members keep their order.
    """
    stored: dict[str, Any] = {"resourceType": key.type}
    hole = {"versionId": msgspec.Raw(_HOLE)}
    lacks_meta = "meta" not in resource
    if "id" not in resource:
        stored["id"] = key.id
        if lacks_meta:
            stored["meta"] = hole
    for name, value in resource.items():
        if name == "id":
            stored["id"] = key.id
            if lacks_meta:
                stored["meta"] = hole
        elif name == "meta":
            stored["meta"] = hole | {part: v for part, v in value.items() if part not in ("versionId", "lastUpdated")}
        elif name != "resourceType":
            stored[name] = value
    head, _, tail = _ENCODER.encode(stored).partition(_HOLE)
    return Template(head, tail)


def _bad(diagnostics: str) -> FhirError:
    return FhirError(400, "structure", diagnostics)


def _decode_fast(body: bytes) -> Any:
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError:
        raise _bad("the body has an integer with too many digits") from None
    except msgspec.DecodeError as error:
        raise _bad(f"the body is no JSON: {_position(str(error))}") from None
    except UnicodeDecodeError:
        raise _bad("the body is not UTF-8") from None
    except RecursionError:
        raise _bad("the body is nested too deeply") from None
    except InvalidOperation:
        raise _bad("the body has a number with too large an exponent") from None


def _position(message: str) -> str:
    """What msgspec says about bad JSON: it names a byte's position and never the content."""
    return message.removeprefix("JSON is malformed: ")


def _decode_slowly(body: bytes) -> Any:
    """Decode with the standard library, which shows every member and every token of a number."""
    _decode_fast(body)  # refuses what the standard library lets pass: lone surrogates, NaN
    try:
        return json.loads(body, object_pairs_hook=_members, parse_float=Number, parse_int=_integer)
    except RecursionError:
        raise _bad("the body is nested too deeply") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _bad("an object has two members of the same name")
    return members


def _integer(text: str) -> int | Number:
    return Number(text) if text == "-0" else int(text)


def too_deep(body: bytes, value: Any, limit: int) -> bool:
    """Whether the objects and arrays of `value`, whose JSON is `body`, are nested deeper than `limit`.

    Taking the innermost pairs of brackets away, one or two levels at a time, soon empties the text of all but deep bodies and those
    with brackets in strings: then the values are walked.
    """
    brackets = body.translate(None, _NOT_BRACKETS)
    if len(brackets) <= 2 * limit:
        return False
    for _ in range(limit // 2):
        fewer = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if not fewer:
            return False
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if outer.__class__ is dict else outer)
            if inner.__class__ is dict or inner.__class__ is list
        ]
        if not level:
            return False
    return True
