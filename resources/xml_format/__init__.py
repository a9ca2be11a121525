"""FHIR XML without loss: bytes <-> the same dicts that `resources.json_format` gives.

Rules.
1. The definitions drive both ways: which members a type has, their order, which of them repeat, which are attributes (`id` of elements,
   `url` of Extension). What XML says and the definitions do not is a fault that names its line; nothing is skipped but white space,
   comments and processing instructions, which are no part of a resource.
2. JSON -> XML -> JSON is identity: number tokens, strings, companions `_x` with their nulls, contained resources, narratives letter by
   letter. Only what XML does not tell is normalised: members come in the order of the definitions (attributes first), an array that holds nulls
   alone is left out beside its companions (and the other way round), and of a narrative what stands around its `div` is dropped.
3. XML cannot carry U+FFFE, U+FFFF and extensions of attributes: such a resource is answered as JSON alone (406).
4. Bodies are UTF-8 without byte order mark and have no document type declaration, so no entity but XML's own five. Nothing is fetched.

Specification: https://hl7.org/fhir/R4/xml.html, https://www.w3.org/TR/xml/
"""

from resources.errors import FhirError
from resources.json_format import DEPTH
from resources.model import Resource
from resources.xml_format.reader import Reading
from resources.xml_format.writer import encode, pieces


def decode(body: bytes, *, limit_depth: int = DEPTH) -> Resource:
    """The resource in `body`. Raises FhirError 400 with all faults of its XML; `limit_depth` counts levels of the JSON form."""
    reading = Reading(body, limit_depth)
    while reading.step():
        pass
    if reading.faults:
        raise FhirError.many(400, reading.faults)
    return reading.resource


__all__ = ["Reading", "decode", "encode", "pieces"]
