"""Long resources are checked and indexed on a thread, so that the event loop goes on: a Group of 100,000 members takes a second.

Rules: what would take a few milliseconds is done at once, for a thread costs more than it spares. The thread works by the search parameters
of when it began, on a copy, as what these make of the resource is marked with their epoch. A SearchParameter is never long: its check asks the store.

Specification: https://docs.python.org/3.11/library/asyncio-task.html#running-in-threads
"""

import asyncio
from dataclasses import replace
from typing import Final, Literal

from fhir_server.interactions.prepare import Preparer, checked, put
from fhir_server.storage.port import Put
from resources.model import Resource, ResourceKey

LONG: Final = 2_000
"""From so many items in arrays on a resource is long."""


async def checked_apart(preparer: Preparer, resource: Resource) -> None:
    """`prepare.checked`, of a long resource on a thread."""
    if _is_long(resource):
        await asyncio.to_thread(checked, preparer, resource)
    else:
        checked(preparer, resource)


async def put_apart(
    preparer: Preparer,
    resource: Resource,
    key: ResourceKey,
    method: Literal["POST", "PUT", "PATCH"],
    *,
    expected: int | None = None,
    fresh: bool = False,
) -> Put:
    """`prepare.put`, of a long resource on a thread; nobody changes it meanwhile."""
    if not _is_long(resource):
        return put(preparer, resource, key, method, expected=expected, fresh=fresh)
    preparer.refresh()
    copy = replace(preparer, extractor=preparer.extractor.snapshot(), refresh=_as_it_was)
    return await asyncio.to_thread(put, copy, resource, key, method, expected=expected, fresh=fresh)


def _as_it_was() -> None:
    """A thread notices no change."""


def _is_long(resource: Resource) -> bool:
    return resource.get("resourceType") != "SearchParameter" and _items(resource) >= LONG


def _items(value: object, levels: int = 8) -> int:
    """About how many items the arrays in the upper levels of a value have, the first item of each speaking for all."""
    if not levels:
        return 0
    if isinstance(value, list):
        return len(value) * max(1, _items(value[0], levels - 1)) if value else 0
    if isinstance(value, dict):
        return sum([_items(one, levels - 1) for one in value.values() if one.__class__ is not str])
    return 0
