"""From XML to a resource as decoded JSON.

Rules. All faults of the XML's structure are found at once, each with its line and its FHIRPath expression: an element, an attribute or
text that the definitions do not have there, a foreign namespace, a wrong order, a repetition. Lexical forms are the validator's business: a value that
is no number stays a string. A document type declaration ends the reading at once. A fault quotes nothing but FHIR's own names.

The body is given to expat in small pieces, so that whoever reads can pause between them; a piece grows while one token (an
attachment of many megabytes) does not end, which expat would otherwise scan over and over.

Specification: https://hl7.org/fhir/R4/xml.html, https://www.w3.org/TR/xml-names/
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.parsers import expat

from resources.errors import FhirError, Issue
from resources.validation.faults import MOST
from resources.xml_format import narrative
from resources.xml_format.frames import Frame, align, malformed, put, step_of, value_of
from resources.xml_format.shapes import FHIR, XHTML, Member, is_resource, shape_of

_PIECE: Final = 16 * 1024
_LARGEST_PIECE: Final = 1024 * 1024
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_XML_SPACE: Final = " \t\r\n"


class Reading:
    """One body being read: call `step` until it is False; then `resource` and `faults` are known.

    `resource` holds what could be understood, so that its values can be judged beside the faults of its XML.
    """

    def __init__(self, body: bytes, limit_depth: int) -> None:
        _require_utf8(body)
        self.resource: dict[str, Any] = {}
        self.faults: list[Issue] = []
        self._body = body
        self._limit = limit_depth
        self._fed = 0
        self._piece = _PIECE
        self._stack = [Frame("document", None, None, {}, 0, 0)]
        self._skipped = 0
        self._inside = 0  # elements open in a narrative's div
        self._div = (self._stack[0], "", 0)
        self._namespaces: dict[str | None, list[str]] = {}
        self._declared: list[str | None] = []
        self._parser = self._made()

    def _made(self) -> expat.XMLParserType:
        parser = expat.ParserCreate("utf-8", " ")
        parser.XmlDeclHandler = _declaration
        parser.StartDoctypeDeclHandler = _doctype
        parser.EntityDeclHandler = _doctype
        parser.StartNamespaceDeclHandler = self._declare
        parser.EndNamespaceDeclHandler = self._undeclare
        self._fhir(parser)
        return parser

    def _fhir(self, parser: expat.XMLParserType) -> None:
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def step(self) -> bool:
        """Read a piece more. Raises FhirError 400 for what is no XML, or none that FHIR allows."""
        end = min(self._fed + self._piece, len(self._body))
        final = end == len(self._body)
        try:
            self._parser.Parse(self._body[self._fed : end], final)
        except expat.ExpatError as error:
            said = expat.ErrorString(error.code)
            raise malformed(f"the body is no XML: {said} (line {error.lineno}, column {error.offset + 1})") from None
        stuck = self._parser.CurrentByteIndex < self._fed
        self._piece = min(self._piece * 2, _LARGEST_PIECE) if stuck else _PIECE
        self._fed = end
        return not final

    # ---- namespaces

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._namespaces.setdefault(prefix, []).append(uri or "")
        self._declared.append(prefix)

    def _undeclare(self, prefix: str | None) -> None:
        self._namespaces[prefix].pop()

    def _inherited(self) -> dict[str | None, str]:
        """The namespaces in scope that the element which begins now does not declare itself."""
        return {prefix: uris[-1] for prefix, uris in self._namespaces.items() if uris and prefix not in self._declared}

    # ---- what expat calls

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._skipped:
            self._skipped += 1
        else:
            namespace, _, local = name.rpartition(" ")
            frame = self._stack[-1]
            if frame.form in ("document", "resource"):
                self._open_resource(frame, namespace, local, attributes)
            else:
                self._open_member(frame, namespace, local, attributes)
        self._declared.clear()

    def _end(self, _name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        frame = self._stack.pop()
        if frame.form == "primitive":
            self._close_primitive(frame)
        elif frame.form == "resource":
            if frame.last < 0:
                self._fault("must hold a resource", frame)
        else:
            align(frame)

    def _text(self, data: str) -> None:
        if self._skipped or not data.strip(_XML_SPACE) or self._stack[-1].said_text:
            return
        self._stack[-1].said_text = True
        self._fault("must not have text: values stand in the attribute 'value'")

    # ---- elements

    def _open_resource(self, frame: Frame, namespace: str, kind: str, given: Mapping[str, str]) -> None:
        """A resource: the root, or inside `contained`, `Bundle.entry.resource`, `Parameters.parameter.resource`."""
        root = frame.form == "document"
        wrong = ""
        if namespace != FHIR:
            wrong = f"is not in the namespace {FHIR}"
        elif not is_resource(kind):
            wrong = "must be a resource type of R4"
        if wrong and root:
            raise FhirError(400, "structure", f"the root element {wrong}{self._line()}")
        if not wrong and frame.last >= 0:
            wrong = "must hold one resource"
        frame.last = 0
        if wrong:
            self._skip(wrong)
            return
        frame.node["resourceType"] = kind
        if root:
            self.resource = frame.node
        shape = shape_of(kind)
        self._stack.append(Frame("object", None, shape, frame.node, 0, frame.depth + root))
        self._require_depth(frame.depth + root)
        self._attributes(given, shape.attributes, {})

    def _open_member(self, frame: Frame, namespace: str, local: str, given: Mapping[str, str]) -> None:
        assert frame.shape is not None
        member = frame.shape.members.get(local)
        if member is None or namespace != (XHTML if member.form == "xhtml" else FHIR):
            known = namespace == FHIR and member is None
            self._skip(f"is no element of {frame.shape.type}" if known else "is in the wrong namespace", local)
            return
        if member.order < frame.last:
            self._fault("is out of order: elements come in the order of the definitions", step=local)
        frame.last = max(frame.last, member.order)
        if not member.many and (local in frame.node or f"_{local}" in frame.node):
            self._skip("must not be repeated", local)
        elif member.form == "primitive":
            self._open_primitive(frame, member, given)
        elif member.form == "xhtml":
            self._open_narrative(frame, local)
        else:
            node: dict[str, Any] = {}
            index = put(frame.node, member, node)
            depth = frame.depth + (2 if member.many else 1)
            self._require_depth(depth)
            if member.form == "resource":
                self._stack.append(Frame("resource", member, None, node, index, depth))
                self._attributes(given, (), {})
            else:
                shape = shape_of(member.type)
                self._stack.append(Frame("object", member, shape, node, index, depth))
                self._attributes(given, shape.attributes, node)

    def _open_primitive(self, frame: Frame, member: Member, given: Mapping[str, str]) -> None:
        text = given.get("value")
        value = None if text is None else value_of(member.type, text)
        index = 0
        if value is not None or member.many:
            index = put(frame.node, member, value)
        depth = frame.depth + (2 if member.many else 1)
        self._require_depth(depth if "id" in given else depth - 1)
        new = Frame("primitive", member, shape_of("Element"), {}, index, depth)
        self._stack.append(new)
        self._attributes(given, ("id", "value"), new.node)
        new.node.pop("value", None)

    def _close_primitive(self, frame: Frame) -> None:
        member, parent = frame.member, self._stack[-1]
        assert member is not None
        if not frame.node:
            value = parent.node.get(member.name)
            if value is None or (member.many and value[frame.index] is None):
                self._fault("must have a value or children", frame)
            return
        name = f"_{member.name}"
        if not member.many:
            parent.node[name] = frame.node
            return
        companions = parent.node.setdefault(name, [])
        companions.extend([None] * (frame.index - len(companions)))
        companions.append(frame.node)
        if name not in parent.padded:
            parent.padded.append(name)

    def _attributes(self, given: Mapping[str, str], known: tuple[str, ...], node: dict[str, Any]) -> None:
        """Take over the attributes of the element just opened."""
        for name in known:
            if name in given:
                node[name] = given[name]
        for name in given:
            if name not in known:
                shown = f"the attribute {name}" if _NAME.fullmatch(name) else "an attribute that is none of FHIR's"
                self._fault(f"must not have {shown}")

    # ---- narratives

    def _open_narrative(self, frame: Frame, name: str) -> None:
        self._div = (frame, name, self._parser.CurrentByteIndex)
        self._inside = 1
        inherited = self._inherited()

        def opened(_name: str, _attributes: dict[str, str]) -> None:
            self._inside += 1

        def closed(_name: str) -> None:
            self._inside -= 1
            if not self._inside:
                self._close_narrative(inherited)

        self._parser.StartElementHandler = opened
        self._parser.EndElementHandler = closed
        self._parser.CharacterDataHandler = None

    def _close_narrative(self, inherited: Mapping[str | None, str]) -> None:
        frame, name, start = self._div
        end = narrative.end_of(self._body, start, self._parser.CurrentByteIndex)
        frame.node[name] = narrative.standalone(self._body[start:end].decode(), inherited)
        self._declared.clear()
        self._fhir(self._parser)

    # ---- faults

    def _skip(self, wrong: str, step: str = "") -> None:
        """Report the element that begins now and leave it out with all that it holds."""
        self._fault(wrong, step=step)
        self._skipped = 1

    def _fault(self, wrong: str, closed: Frame | None = None, step: str = "") -> None:
        """A fault of the innermost open element, of its child `step`, or of the element just `closed`."""
        frames = [*self._stack, closed] if closed is not None else self._stack
        place = "".join(map(step_of, frames)) + (f".{step}" if _NAME.fullmatch(step) else "")
        self.faults.append(
            Issue("error", "structure", wrong + self._line(), (f"{self.resource['resourceType']}{place}",))
        )
        if len(self.faults) >= MOST:
            raise FhirError.many(400, self.faults)

    def _line(self) -> str:
        return f" (line {self._parser.CurrentLineNumber})"

    def _require_depth(self, depth: int) -> None:
        if depth > self._limit:
            raise malformed(f"the body is nested deeper than {self._limit} levels")


def _require_utf8(body: bytes) -> None:
    if not body or body.isspace():
        raise malformed("the body is empty; an XML document is required")
    if body.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
        raise malformed("the body begins with a byte order mark; UTF-8 without one is required")
    if b"\x00" in body:
        raise malformed("the body is not UTF-8, or contains U+0000")
    try:
        body.decode()
    except UnicodeDecodeError:
        raise malformed("the body is not UTF-8") from None


def _declaration(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
        raise malformed("the XML declaration names another encoding than UTF-8")


def _doctype(*_: object) -> None:
    raise malformed("the body has a document type declaration, which FHIR does not allow")
