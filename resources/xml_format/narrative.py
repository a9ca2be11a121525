"""The XHTML of a narrative between the two formats: an element in XML, the text of that element in JSON, letter by letter.

Rules. Out of XML the source text is taken as it stands; namespaces that it inherits are declared on its `div`, so that it means the same on
its own. Into XML goes the element alone, without what may stand around it (declaration, comments, white space).

Specification: https://hl7.org/fhir/R4/json.html#xhtml, https://hl7.org/fhir/R4/narrative.html#xhtml
"""

import re
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from resources.errors import FhirError
from resources.xml_format.shapes import XHTML

_PLAIN = re.compile(
    r'<div xmlns="http://www\.w3\.org/1999/xhtml">[^<>&\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]*</div>'
)
_TAG_NAME = re.compile(r"<[^\s/>]+")
_TAG = re.compile(rb"""<[^"'>]*(?:"[^"]*"[^"'>]*|'[^']*'[^"'>]*)*>""")


def end_of(source: bytes, start: int, closing: int) -> int:
    """Where the element that starts at byte `start` ends, `closing` being where the parser saw its end tag."""
    tag = _TAG.match(source, start)
    assert tag is not None
    return tag.end() if tag[0].endswith(b"/>") else source.index(b">", closing) + 1


def standalone(text: str, inherited: Mapping[str | None, str]) -> str:
    """The element `text` with the declarations it needs of those it inherits (prefix, None for the default -> namespace)."""
    needed = [
        f" xmlns{':' + prefix if prefix else ''}={quoteattr(uri)}"
        for prefix, uri in inherited.items()
        if (_uses(text, prefix) if prefix else uri == XHTML)
    ]
    if not needed:
        return text
    name = _TAG_NAME.match(text)
    assert name is not None
    return text[: name.end()] + "".join(needed) + text[name.end() :]


def _uses(text: str, prefix: str) -> bool:
    """Whether an element or attribute of `text` has the prefix (or something that looks like one)."""
    name = re.escape(prefix)
    return re.search(rf"</?{name}:|\s{name}:[^\s=<>]+\s*=", text) is not None


def element_of(div: str) -> str:
    """The root element of the narrative `div` alone. Raises FhirError 406 for what is no XML."""
    return div if _PLAIN.fullmatch(div) is not None else _Root(div).text


class _Root:
    """Finds where the root element begins and ends."""

    def __init__(self, div: str) -> None:
        self._depth = 0
        self._start = self._closing = 0
        self._parser = expat.ParserCreate("utf-8", " ")
        self._parser.StartElementHandler = self._open
        self._parser.EndElementHandler = self._close
        self._parser.StartDoctypeDeclHandler = _refuse
        try:
            source = div.encode()
            self._parser.Parse(source, True)
        except (expat.ExpatError, UnicodeEncodeError):
            raise _not_xml() from None
        self.text: Final = source[self._start : end_of(source, self._start, self._closing)].decode()

    def _open(self, *_: object) -> None:
        if not self._depth:
            self._start = self._parser.CurrentByteIndex
        self._depth += 1

    def _close(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._closing = self._parser.CurrentByteIndex


def _refuse(*_: object) -> None:
    raise _not_xml()


def _not_xml() -> FhirError:
    return FhirError(406, "not-supported", "a narrative in the answer cannot be written as XML; ask for JSON")
