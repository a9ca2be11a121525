"""Links between the entries of a Bundle: what a fullUrl stands for, and what conditional references mean.

Rules: a fullUrl stands for the resource its entry writes. In an entry whose own fullUrl is a RESTful URL of another server,
relative references are below that server first. A conditional reference must mean exactly one resource, among those stored and
not written by the Bundle and those the Bundle writes; what was found in the store is guarded until the commit.

Specification: https://hl7.org/fhir/R4/http.html#trules, https://hl7.org/fhir/R4/bundle.html#references
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fhir_server.http.request import FhirRequest
from fhir_server.interactions.criteria import Criterion, criteria_pairs, criterion, stored_matches
from fhir_server.interactions.entries import Entry, at
from fhir_server.interactions.pace import Pace
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Guard
from resources import references
from resources.errors import FhirError, Issue
from resources.model import Resource, ResourceKey
from resources.references import Link, Target
from search.entries import Entries
from search.matching import matches
from search.narrowing import Narrowing

Links = Sequence[Link]
_QUESTIONS: Final = (b"?", b"\\u", b"&#")
"""A body without any of these has no question mark, however written."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What a Bundle does to a resource: writes it (links are led to entries already), or deletes it (`resource` None)."""

    entry: Entry
    key: ResourceKey
    resource: Resource | None


class Addresses:
    """What the full URLs of a Bundle stand for. `meant`: entry, key, and its version after the transaction ("" where not known)."""

    def __init__(self, meant: Iterable[tuple[Entry, ResourceKey, str]]) -> None:
        self._known: dict[str, Target] = {}
        self._below: dict[str, Mapping[str, Target]] = {}
        for entry, key, version in meant:
            if entry.full_url is None:
                continue
            if entry.full_url in self._known:
                raise at(entry, 400, "duplicate", "another entry has the same fullUrl", ".fullUrl")
            self._known[entry.full_url] = Target(key, version)

    def seen_from(self, entry: Entry) -> Mapping[str, Target]:
        """The mapping for the links of one entry's resource."""
        root = _root(entry)
        if root is None:
            return self._known
        known = self._below.get(root)
        if known is None:
            relative = {url[len(root) :]: target for url, target in self._known.items() if url.startswith(root)}
            known = self._below[root] = {**relative, **self._known}
        return known


def _root(entry: Entry) -> str | None:
    """`http://other/fhir/` of the fullUrl `http://other/fhir/Patient/1`."""
    url = entry.full_url
    if url is None or entry.resource is None:
        return None
    if references.parse(url).form != "external":
        return None
    kind = entry.resource["resourceType"]
    root, mark, _ = url.rpartition(f"{kind}/")
    return root if mark and root.endswith("/") else None


def rewrite(places: Links, addresses: Addresses, entry: Entry) -> None:
    """Lead the links of the entry's resource to what the Bundle writes, in place."""
    references.rewrite(places, addresses.seen_from(entry))


async def resolve_conditional(
    service: Service, written: Sequence[Touched], links: Mapping[int, Links], narrowing: Narrowing, pace: Pace
) -> list[Guard]:
    """Replace conditional references by what they mean, in place; the guards of what was looked up.

    412 when one means none or several resources.
    """
    asked: dict[str, list[tuple[Entry, Link]]] = {}
    for one in written:
        for link in links.get(one.entry.index, ()):
            if link.kind == "Reference" and _conditional(link.container[link.key]):
                asked.setdefault(link.container[link.key], []).append((one.entry, link))
    if not asked:
        return []
    known: dict[ResourceKey, Entries] = {}

    def entries_of(one: Touched) -> Entries:
        if one.key not in known:
            assert one.resource is not None
            known[one.key] = service.preparer.extractor.extract(one.resource, one.key)
        return known[one.key]

    guards: list[Guard] = []
    meant: list[tuple[Link, str]] = []
    for text, places in asked.items():
        entry, link = places[0]
        try:
            kind, _, query = text.partition("?")
            what = "the conditional reference"
            found = criterion(service, kind, criteria_pairs(service, kind, query, what), narrowing, what)
            key, guard = await _meaning(service, found, written, entries_of, narrowing)
        except FhirError as error:
            raise at(
                entry, error.status, error.issues[0].code, error.issues[0].diagnostics, _place(entry, link)
            ) from None
        guards.append(guard)
        meant.extend((place, str(key)) for _, place in places)
        await pace()
    for link, text in meant:
        link.container[link.key] = text
    return guards


def require_literal(service: Service, request: FhirRequest, resource: Resource) -> None:
    """400 naming every conditional reference of a resource that is written by itself: only a transaction resolves them."""
    sent = request.payload
    if isinstance(sent, bytes) and not any(mark in sent for mark in _QUESTIONS):
        return
    said = "a conditional reference is resolved in a transaction alone: send the resource in one, or name what it means"
    faults = [
        Issue("error", "not-supported", said, (f"{resource['resourceType']}{path_of(resource, link) or ''}",))
        for link in service.preparer.validator.links(resource)
        if link.kind == "Reference" and _conditional(link.container[link.key])
    ]
    if faults:
        raise FhirError.many(400, faults)


def _conditional(text: object) -> bool:
    return isinstance(text, str) and "?" in text and references.parse(text).form == "conditional"


async def _meaning(
    service: Service,
    found: Criterion,
    written: Sequence[Touched],
    entries_of: Callable[[Touched], Entries],
    narrowing: Narrowing,
) -> tuple[ResourceKey, Guard]:
    """The one resource the criterion means after the Bundle is carried out."""
    touched = {one.key: one for one in written if one.key.type == found.query.type}
    stored = await stored_matches(service, found, narrowing, len(touched) + 2)
    now = service.now()
    keys = [row.key for row in stored if row.key not in touched]
    keys += [
        key
        for key, one in touched.items()
        if one.resource is not None and matches(found.query.where, entries_of(one), key, now)
    ]
    if len(keys) != 1:
        number = "no resource" if not keys else "several resources"
        code = "not-found" if not keys else "multiple-matches"
        raise FhirError(412, code, f"the conditional reference means {number}")
    return keys[0], found.guard(row.key for row in stored)


def _place(entry: Entry, link: Link) -> str:
    """Where a link stands in its entry's resource: `.resource.subject.reference`."""
    assert entry.resource is not None
    return f".resource{path_of(entry.resource, link) or ''}"


def path_of(value: object, link: Link) -> str | None:
    """Where a link stands below `value`: `.subject.reference`; None when it does not."""
    if value is link.container:
        return f".{link.key}" if isinstance(link.key, str) else f"[{link.key}]"
    inner: Sequence[tuple[str, object]] = ()
    if isinstance(value, dict):
        inner = [(f".{name}", item) for name, item in value.items()]
    elif isinstance(value, list):
        inner = [(f"[{index}]", item) for index, item in enumerate(value)]
    for step, item in inner:
        found = path_of(item, link)
        if found is not None:
            return step + found
    return None
