"""What the interactions work with: one frozen value of collaborators, put together by the composition root.

Rules: interactions are functions of (Service, FhirRequest); they hold no state and read no setting but these.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from fhir_server.http.request import FhirRequest
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.prepare import Preparer
from fhir_server.storage.port import ResourceStore, Stored
from resources.definitions import Definitions
from resources.model import ResourceKey
from search.bundle import Cursors
from search.limits import SearchLimits
from search.parameters import Registry


@dataclass(frozen=True, slots=True)
class Service:
    """The collaborators of every interaction.

    `base` is the FHIR base URL without trailing slash, `aliases` other URLs that mean
    the same; `now` gives microseconds; `run` carries out a request that came inside another one (an entry of a Bundle);
    `published` resources are the server's own, read where the store has none of that id; of `projected` types it makes every resource.
    """

    options: RestOptions
    base: str
    aliases: tuple[str, ...]
    types: frozenset[str]
    store: ResourceStore
    definitions: Definitions
    registry: Registry
    limits: SearchLimits
    preparer: Preparer
    cursors: Cursors
    new_id: Callable[[], str]
    now: Callable[[], int]
    statement: Callable[[], bytes]
    run: Callable[["Service", FhirRequest], Awaitable[FhirResponse]]
    published: Mapping[ResourceKey, Stored]
    projected: frozenset[str] = frozenset()
