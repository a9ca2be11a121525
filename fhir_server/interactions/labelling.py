"""Which labels of parts a write may have: those that can be enforced.

Rules. A resource with labelled parts is marked (meta.security PROCESSINLINELABEL), by which the index finds it. No label stands on the resource itself, on
meta, or on a part that says whom it is about, its status, category or date: these decide about the whole, and the whole is labelled in
meta.security. A label has a code.

Specification: https://hl7.org/fhir/uv/security-label-ds4p/STU1.1/inline_security_labels.html
"""

from collections.abc import Callable
from typing import Any

from resources.errors import FhirError
from resources.model import Resource, ResourceKey
from search.entries import Entries
from search.extract import Extractor
from search.parameters import Parameter
from smart_auth.access.facts import PATIENT
from smart_auth.access.sections import MARK, MARK_SYSTEM, PLAIN, UNREADABLE, is_marked, labels, without

_KINDS = ("tokens", "strings", "dates", "references", "uris", "texts")


def require_enforceable(
    extractor: Extractor, resource: Resource, key: ResourceKey, entries: Entries, released: Callable[[Resource], bool]
) -> None:
    """422 for labels of parts that cannot be enforced. `entries` are those of the whole resource, stored as `key`."""
    kind = resource["resourceType"]
    found = labels(resource)
    if not found:
        return
    if not is_marked(resource):
        raise _refused(f"a resource with labelled parts bears {MARK_SYSTEM}|{MARK}", f"{kind}.meta.security")
    if UNREADABLE in found:
        raise _refused("a label has a code", kind)
    rest = without(resource, found)
    if rest.keys() <= {"resourceType", "id", "meta"}:
        raise _refused("what is labelled as a whole bears its labels in meta.security", f"{kind}.extension")
    if rest.get("meta") != resource.get("meta"):
        raise _refused("meta has no labelled parts", f"{kind}.meta")
    left = extractor.extract(rest, key)
    if _patients(left) != _patients(entries) or released(rest) != released(resource):
        raise _refused("whom a resource is about, and its status, are not labelled apart from it", kind)
    for code in sorted(PLAIN):
        parameter = extractor.registry.find(kind, code)
        if parameter is not None and _said(entries, parameter) != _said(left, parameter):
            said = f"what {kind} is searched by as {code} is not labelled apart from it"
            raise _refused(said, kind)


def _patients(entries: Entries) -> set[ResourceKey]:
    return {one for one in entries.compartments if one.type == PATIENT}


def _said(entries: Entries, parameter: Parameter) -> list[Any]:
    rows = parameter.rows or (parameter.code,)
    return [one for name in _KINDS for one in getattr(entries, name) if one.parameter in rows]


def _refused(said: str, expression: str) -> FhirError:
    return FhirError(422, "business-rule", f"labels of parts: {said}", expression=expression)
