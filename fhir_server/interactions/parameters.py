"""Custom search parameters as a process sees them: noticed soon after they change, checked before they are stored.

Rules: the store is asked at most every `LOOK_EVERY` seconds, when something is written or searched; one small read, so that no task of its own
has to run in every process.

Specification: https://hl7.org/fhir/R4/searchparameter.html
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fhir_server.storage.sqlite.store import SqliteStore
from resources.definitions import Definitions
from resources.model import Resource
from search import custom
from search.parameters import Registry

LOOK_EVERY: Final = 0.4


@dataclass(slots=True, eq=False)
class CustomParameters:
    """Keeps `registry` at the store's epoch; `looked` is the time (of `clock`, seconds) of the last look."""

    store: SqliteStore
    registry: Registry
    definitions: Definitions
    clock: Callable[[], float] = time.monotonic
    looked: float = float("-inf")

    def refresh(self) -> None:
        """Take over what changed, unless it was looked a moment ago."""
        now = self.clock()
        if now - self.looked < LOOK_EVERY:
            return
        self.looked = now
        found = self.store.custom_parameters(self.registry.epoch)
        if found is not None:
            found.give(self.registry)

    def require_indexable(self, resource: Resource) -> None:
        """FhirError 422 for an active SearchParameter that cannot be indexed."""
        self.refresh()
        custom.require_indexable(resource, self.registry, self.definitions)
