"""What is left out of a directory's entry for those who may only look things up in it: what is of a person's home, and secrets.

Home addresses, home telephones, birth dates, and the headers of endpoints, which carry tokens. Text, contained resources and extensions, in which they could be told again, go with them. A resource of which something was left out is marked SUBSETTED, so that it is not sent back as if it were whole.

Specification: https://hl7.org/fhir/R4/resource.html#Meta, https://hl7.org/fhir/R4/search.html#elements
"""

from typing import Any, Final

from resources.model import Resource

_COMMON: Final = frozenset({"_id", "_lastUpdated", "_profile", "_security", "_source", "_tag"})
PUBLIC: Final = {
    "Practitioner": _COMMON
    | {"active", "communication", "family", "gender", "given", "identifier", "name", "phonetic"},
    "PractitionerRole": _COMMON
    | {
        "active",
        "date",
        "endpoint",
        "identifier",
        "location",
        "organization",
        "practitioner",
        "role",
        "service",
        "specialty",
    },
}
"""Types whose entries are of persons -> the search parameters that tell nothing of what is left out."""
_PLACES: Final = ("address", "telecom", "contact")
_PRIVATE: Final = ("birthDate", "_birthDate", "header", "_header")
_TELLING: Final = ("text", "contained", "extension")
"""What may tell anything of a person, and is left out whole."""
_TAG: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def redacted(resource: Resource) -> Resource:
    """The entry without what is private: the same object when nothing is."""
    changed: dict[str, Any] = {}
    for name in _PLACES:
        value = resource.get(name)
        kept = _public(value)
        if kept is not value:
            changed[name] = kept
    for name in _PRIVATE:
        if name in resource:
            changed[name] = None
    if changed or resource["resourceType"] in PUBLIC:
        changed |= {name: None for name in _TELLING if name in resource}
    if not changed:
        return resource
    return subsetted({**resource, **changed})


def subsetted(part: Resource) -> Resource:
    """What is left of a resource, marked as less than the whole; what is None or empty is left out."""
    meta = dict(part.get("meta") or {})
    tags = [tag for tag in meta.get("tag", ()) if tag.get("code") != _TAG["code"]]
    meta["tag"] = [*tags, _TAG]
    return {name: value for name, value in {**part, "meta": meta}.items() if value is not None and value != []}


def is_part(body: bytes) -> bool:
    """Whether a body as it is shown to somebody is less than the whole."""
    return b'"code":"SUBSETTED"' in body


def _public(value: Any) -> Any:
    """Addresses, telephone numbers or contacts without those at home: the same object when there are none, None for one at home."""
    if isinstance(value, list):
        kept = [_public(one) for one in value]
        same = all(new is old for new, old in zip(kept, value, strict=True))
        return value if same else [one for one in kept if one is not None]
    if not isinstance(value, dict):
        return value
    if value.get("use") == "home":
        return None
    inner = {name: _public(value[name]) for name in _PLACES if name in value}
    same = all(new is value[name] for name, new in inner.items())
    return value if same else {name: one for name, one in {**value, **inner}.items() if one is not None and one != []}
