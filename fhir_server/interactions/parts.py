"""What was given out in part is not written back: an update would erase what was left out, and a patch would look at it.

Rules. Who is shown a resource marked SUBSETTED may not change it (403). A body that is marked so is refused (422) of anybody else.

Specification: https://hl7.org/fhir/R4/resource.html#Meta, https://hl7.org/fhir/R4/security-labels.html
"""

from fhir_server.interactions.prepare import require_whole
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Stored
from resources.errors import FhirError
from resources.model import Resource, ResourceKey
from search.narrowing import EVERYTHING, Narrowing
from smart_auth.access.redaction import is_part


def require_shown_whole(stored: Stored, narrowing: Narrowing) -> None:
    """403 for what the caller is shown a part of. `stored` is what they are shown."""
    if narrowing is not EVERYTHING and not narrowing.operates and is_part(stored.body):
        raise FhirError(403, "forbidden", f"you are shown a part of {stored.key} alone, and may not change it")


async def require_whole_copy(service: Service, key: ResourceKey, resource: Resource, narrowing: Narrowing) -> None:
    """422 for a body that is marked as incomplete, 403 where the caller was given it so."""
    try:
        require_whole(resource)
    except FhirError:
        shown = await service.store.read(key, narrowing) if key.id else None
        if shown is not None and not shown.deleted:
            require_shown_whole(shown, narrowing)
        raise
