"""Part of a resource: `_summary` and `_elements`.

Rules. What is mandatory is never dropped, at any level that is kept; nor are the type, the id and meta. `true` keeps what the
specification marks as summary, inside elements too. A resource of which something was left out gets the tag SUBSETTED, so that it is
not taken for the whole. Number and time tokens stay as they are written. Companions (`_birthDate`) stay with their elements.

Specification: https://hl7.org/fhir/R4/search.html#summary, #elements, https://hl7.org/fhir/R4/json.html#primitive
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

from resources.definitions import Definitions
from resources.definitions.model import Element
from resources.json_format import decode, encode
from resources.model import Resource

Summary = Literal["true", "text", "data"]
SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "Resource encoded in summary mode",
}
_ALWAYS: Final = frozenset({"resourceType", "id", "meta"})

Keeps = Callable[[Element], bool]


@dataclass(frozen=True, slots=True)
class Reduction:
    """How resources are reduced: by `summary`, else to the top-level `elements`."""

    definitions: Definitions
    summary: Summary | None
    elements: tuple[str, ...]

    def body(self, body: bytes) -> bytes:
        """The reduced resource in JSON; the same bytes when there is nothing to leave out."""
        whole = decode(body)
        reduced = self._reduced(whole)
        if reduced == whole:
            return body
        return encode(tagged(reduced))

    def _reduced(self, whole: Resource) -> Resource:
        if self.summary == "true":
            return {"resourceType": whole["resourceType"], **_summary(whole, whole["resourceType"], self.definitions)}
        if self.summary == "data":
            return {name: value for name, value in whole.items() if name != "text"}
        return _top(whole, {"text"} if self.summary == "text" else set(self.elements), self.definitions)


def tagged(resource: Resource) -> Resource:
    """The resource with the tag SUBSETTED."""
    meta = dict(resource.get("meta", {}))
    tags = [tag for tag in meta.get("tag", ()) if tag.get("code") != "SUBSETTED"]
    meta["tag"] = [*tags, SUBSETTED]
    if "meta" in resource:
        return {name: meta if name == "meta" else value for name, value in resource.items()}
    found = {"resourceType": resource["resourceType"]}
    if "id" in resource:
        found["id"] = resource["id"]
    return {**found, "meta": meta, **resource}


def unknown_elements(names: Collection[str], types: Collection[str], definitions: Definitions) -> list[str]:
    """The names that no element at the top of any of these types has."""
    known = {name for kind in types for name in definitions.types[kind].elements}
    return [name for name in names if name not in known and name not in _ALWAYS]


def _top(whole: Resource, names: Collection[str], definitions: Definitions) -> Resource:
    """The resource with these elements and what is mandatory."""
    properties = definitions.types[whole["resourceType"]].properties

    def kept(name: str) -> bool:
        if name in _ALWAYS:
            return True
        found = properties.get(name.removeprefix("_"))
        return found is not None and (found.element.min > 0 or found.element.name in names or found.name in names)

    return {name: value for name, value in whole.items() if kept(name)}


def _summary(value: dict[str, Any], kind: str, definitions: Definitions) -> dict[str, Any]:
    """The parts of a value of type `kind` that are summary or mandatory."""
    definition = definitions.types.get(kind)
    if definition is None:
        return value
    kept: dict[str, Any] = {}
    for name, inner in value.items():
        if name in _ALWAYS:
            kept[name] = inner
            continue
        found = definition.properties.get(name.removeprefix("_"))
        if found is None or not (found.element.summary or found.element.min > 0):
            continue
        kept[name] = _inside(inner, found.type, definitions) if not name.startswith("_") else inner
    return kept


def _inside(value: Any, kind: str, definitions: Definitions) -> Any:
    if isinstance(value, list):
        return [_inside(item, kind, definitions) for item in value]
    if not isinstance(value, dict):
        return value
    if "resourceType" in value:
        kind = value["resourceType"]
    return _summary(value, kind, definitions)
