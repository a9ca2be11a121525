"""Whether a narrative is safe and well-formed XHTML.

Rules. The root is a `div` of the XHTML namespace; only the elements and attributes that the specification lists; no script, no event
handler, no document type, no processing instruction, no named entity beyond XML's five; links are http, https, mailto, tel, urn or
relative; images may be data URLs. expat reads without network and without external entities.

Specification: https://hl7.org/fhir/R4/narrative.html#xhtml
"""

import re
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

XHTML: Final = "http://www.w3.org/1999/xhtml"
NO_CONTENT: Final = "the narrative has no content"
"""The fault of txt-2; every other is one of txt-1."""


def _words(text: str) -> list[str]:
    return text.split()


_ELEMENTS = frozenset(
    _words(
        "a abbr acronym address b bdo big blockquote br caption cite code col colgroup dd del dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i "
        "img ins kbd li map area ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var"
    )
)
_ATTRIBUTES = frozenset(
    _words(
        "abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff charset cite class "
        "clear color colspan compact coords datetime dir frame headers height href hreflang hspace id lang longdesc name nohref "
        "noshade nowrap rel rev rowspan rules scope shape span src start style summary tabindex title type usemap valign value vspace "
        "width"
    )
)
_PLAIN = re.compile(r'<div xmlns="http://www\.w3\.org/1999/xhtml">[^<>&\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*</div>')
_LINKS = frozenset({"href", "src", "cite", "longdesc", "usemap"})
_SPACE = re.compile(r"[\s\x00-\x1f]+")
"""What browsers drop from links, wherever it is."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_SCHEMES = frozenset({"http", "https", "mailto", "tel", "ftp", "urn"})
_STYLE = re.compile(r"expression\s*\(|javascript:|vbscript:|@import|behavior\s*:|-moz-binding|\\", re.IGNORECASE)


class _UnsafeError(Exception):
    """The narrative has something that is not allowed; the text says what, never quoting the content."""


def fault(div: str) -> str | None:
    """Why `div` is not allowed as a narrative, None when it is."""
    if _PLAIN.fullmatch(div) is not None:
        body = div[42:-6]
        return None if body and not body.isspace() else NO_CONTENT
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.ProcessingInstructionHandler = reader.instruction
    try:
        parser.Parse(div, True)
    except _UnsafeError as error:
        return str(error)
    except (expat.ExpatError, UnicodeEncodeError):
        return "the narrative is not well-formed XHTML"
    return None if reader.content else NO_CONTENT


class _Reader:
    """What expat calls."""

    def __init__(self) -> None:
        self.content = False
        self._root = True

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        namespace, _, local = name.rpartition(" ")
        if namespace != XHTML:
            raise _UnsafeError("the narrative is not in the XHTML namespace")
        if self._root and local != "div":
            raise _UnsafeError("the narrative's root is no div")
        self._root = False
        if local not in _ELEMENTS:
            raise _UnsafeError("the narrative has an element that is not allowed")
        for attribute, value in attributes.items():
            _check(local, attribute, value)
        self.content = self.content or local == "img"

    def text(self, data: str) -> None:
        """Character data."""
        self.content = self.content or not data.isspace()

    def doctype(self, *_: object) -> None:
        """A document type declaration."""
        raise _UnsafeError("the narrative has a document type declaration")

    def instruction(self, *_: object) -> None:
        """A processing instruction."""
        raise _UnsafeError("the narrative has a processing instruction")


def _check(element: str, attribute: str, value: str) -> None:
    if attribute not in _ATTRIBUTES and attribute != "http://www.w3.org/XML/1998/namespace lang":
        raise _UnsafeError("the narrative has an attribute that is not allowed")
    if attribute in _LINKS:
        found = _SCHEME.match(_SPACE.sub("", value))
        if found is None or found[1].lower() in _SCHEMES:
            return
        if element != "img" or re.match(r"data:image/(?:png|gif|jpeg|webp)[;,]", value) is None:
            raise _UnsafeError("the narrative has a link with a scheme that is not allowed")
    elif attribute == "style" and _STYLE.search(value) is not None:
        raise _UnsafeError("the narrative has a style that is not allowed")
