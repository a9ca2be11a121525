"""Binaries as attachments: who may read a DocumentReference may read what it attaches, and attaches what they may read.

Rules.
1. A Binary says nothing of whose it is. It is read through a DocumentReference that may be read, unless its securityContext may not be; a
   context that is no literal reference to a resource here opens nothing.
2. So a DocumentReference comes to attach only what its writer may read already, or writes along with it. What is hidden and what is not
   there are refused alike.

Specification: https://hl7.org/fhir/R4/binary.html#security, https://hl7.org/fhir/R4/documentreference.html
"""

from typing import Final

from fhir_server.storage.port import ResourceStore, Stored
from resources.json_format import decode
from resources.model import Resource, ResourceKey
from resources.references import parse
from search.entries import Entries
from search.narrowing import EVERYTHING, Narrowing
from search.query import All, Match, Nothing, Or, Query, UriTest
from search.rewrite import rewrite
from smart_auth.access.decisions import Access
from smart_auth.access.sections import cautious, marked

BINARY: Final = "Binary"
DOCUMENT: Final = "DocumentReference"
_LOCATION: Final = "location"


async def attached(inner: ResourceStore, access: Access, key: ResourceKey, narrowing: Narrowing) -> Stored | None:
    """The Binary, when it is attached to a DocumentReference inside the narrowing and its security context allows it."""
    location = access.rules.registry.find(DOCUMENT, _LOCATION)
    if location is None or isinstance(narrowing.of(BINARY), Nothing):
        return None
    urls = (str(key), *(f"{base}/{key}" for base in access.rules.context(0).own_bases))
    wanted = Or(tuple(Match(location, UriTest("exact", url)) for url in urls))
    # of what has labelled parts it is not known which part attaches
    within = cautious(narrowing.of(DOCUMENT), marked(access.rules, DOCUMENT, access.facts.now))
    asked = rewrite(Query(DOCUMENT, wanted, count=1), Narrowing(narrowing.principal, lambda _: within))
    if not await inner.keys(asked, narrowing, 1):
        return None
    stored = await inner.read(key, EVERYTHING)
    if stored is None or stored.deleted:
        return None
    binary = decode(stored.body)
    if "securityContext" not in binary:
        return stored
    context = _context(binary, access)
    return stored if context is not None and await inner.read(context, narrowing) is not None else None


async def may_attach(inner: ResourceStore, access: Access, wanted: frozenset[ResourceKey]) -> bool:
    """Whether all these Binaries may be read."""
    if isinstance(access.node(BINARY, "r"), All):
        return True
    narrowing = access.narrowing("r")
    for key in sorted(wanted):
        found = await inner.read(key, narrowing) or await attached(inner, access, key, narrowing)
        if found is None or found.deleted:
            return False
    return True


def attachments(key: ResourceKey, entries: Entries, access: Access) -> frozenset[ResourceKey]:
    """The Binaries of this server that a DocumentReference attaches; of another resource none."""
    location = access.rules.registry.find(DOCUMENT, _LOCATION)
    if key.type != DOCUMENT or location is None:
        return frozenset()
    rows, bases = location.rows or (location.code,), access.rules.context(0).own_bases
    named = (parse(one.value, bases).key for one in entries.uris if one.parameter in rows)
    return frozenset(one for one in named if one is not None and one.type == BINARY)


def _context(binary: Resource, access: Access) -> ResourceKey | None:
    """What the Binary's securityContext refers to."""
    return parse(binary["securityContext"].get("reference", ""), access.rules.context(0).own_bases).key
