"""From a resource to what the store commits: check -> index entries -> template, without I/O and without HTTP.

create, update, transactions and the loader share it. A resource is checked as it came, before links are rewritten; it is
extracted and encoded as it will be stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fhir_server.interactions.labelling import require_enforceable
from fhir_server.storage.port import Put
from resources.errors import FhirError
from resources.json_format import template
from resources.model import Resource, ResourceKey
from resources.validation import Validator, raise_for
from search.extract import Extractor
from search.prints import prints_of
from smart_auth.access.consents import ConsentFault, counts, provision_of
from smart_auth.access.sections import has_sections

_HIDDEN = frozenset({"registered", "preliminary", "draft", "entered-in-error"})
_UNFINISHED = frozenset({"preliminary", "entered-in-error"})
_SUBSETTED = "SUBSETTED"
_PATHS = (".", "..")


def _nothing() -> None:
    """There is nothing to notice."""


def _anything(_resource: Resource) -> None:
    """Every SearchParameter will do."""


@dataclass(frozen=True, slots=True)
class Preparer:
    """What preparing a write needs. `organizations` own what is written.

    `refresh` notices what other processes changed of the custom search parameters; it is cheap and called often. `searchable`
    raises FhirError 422 for a SearchParameter that cannot be indexed.
    """

    validator: Validator
    extractor: Extractor
    organizations: tuple[ResourceKey, ...] = ()
    refresh: Callable[[], None] = _nothing
    searchable: Callable[[Resource], None] = _anything


def checked(preparer: Preparer, resource: Resource) -> None:
    """Raise FhirError with all faults of the resource: 400, or 422 when only rules are broken."""
    raise_for(preparer.validator.validate(resource))
    if resource["resourceType"] == "SearchParameter":
        preparer.searchable(resource)
    if resource["resourceType"] == "Consent" and counts(resource):
        _require_enforceable(resource)


def _require_enforceable(consent: Resource) -> None:
    try:
        provision_of(consent)
    except ConsentFault as fault:
        raise FhirError(422, "not-supported", f"an active Consent: {fault}", expression=fault.expression) from None


def put(
    preparer: Preparer,
    resource: Resource,
    key: ResourceKey,
    method: Literal["POST", "PUT", "PATCH"],
    *,
    expected: int | None = None,
    fresh: bool = False,
) -> Put:
    """The write of a checked resource as `key`. Its own id, versionId and lastUpdated do not count. `fresh`: the key is a new one of the server."""
    preparer.refresh()
    entries = preparer.extractor.extract(resource, key)
    body = template(resource, key)
    if has_sections(body.head) or has_sections(body.tail):
        require_enforceable(preparer.extractor, resource, key, entries, released)
    return Put(
        key,
        body,
        entries,
        method,
        expected,
        preparer.organizations,
        released(resource),
        fresh,
        prints_of(entries, preparer.extractor.epoch),
    )


def released(resource: Resource) -> bool:
    """Whether patients may see it: not while its status (docStatus, verificationStatus) says that it is unfinished or wrong."""
    stated = _codes(resource.get("status")) | _codes(resource.get("verificationStatus"))
    return stated.isdisjoint(_HIDDEN) and resource.get("docStatus") not in _UNFINISHED


def _codes(status: Any) -> set[str | None]:
    """The codes of a status, which is a code or, of some types, a CodeableConcept."""
    if isinstance(status, dict):
        return {coding["code"] for coding in status.get("coding", ()) if "code" in coding}
    return {status}


def require_same_id(resource: Resource, key: ResourceKey) -> None:
    """400 unless the body's id is the URL's (https://hl7.org/fhir/R4/http.html#update), and one that URLs can hold."""
    given = resource.get("id")
    if given in _PATHS:
        raise FhirError(
            400, "value", f"{given!r} means a folder in a URL; it cannot be an id", expression=f"{key.type}.id"
        )
    if given != key.id:
        said = "has no id" if given is None else "has another id"
        raise FhirError(400, "invalid", f"the resource {said} than the URL ({key})", expression=f"{key.type}.id")


def require_whole(resource: Resource) -> None:
    """422 for a resource that is marked as incomplete: writing it would erase what it leaves out."""
    meta = resource.get("meta")
    tags = meta.get("tag") if isinstance(meta, dict) else None
    for index, tag in enumerate(tags if isinstance(tags, list) else ()):
        if isinstance(tag, dict) and tag.get("code") == _SUBSETTED:
            kind = resource["resourceType"]
            said = "the resource is marked SUBSETTED: it is incomplete, and an update would erase what it leaves out"
            raise FhirError(422, "business-rule", said, expression=f"{kind}.meta.tag[{index}]")
