"""Long resources are checked and indexed on a thread, so that the event loop goes on: a Group of 100,000 members takes a second.

Rules: what would take a few milliseconds is done at once, for a thread costs more than it spares. The thread works by the search parameters
of when it began, on a copy, as what these make of the resource is marked with their epoch. A SearchParameter is never long: its check asks the store.

Specification: https://docs.python.org/3.11/library/asyncio-task.html#running-in-threads
"""

import asyncio
from dataclasses import replace
from typing import Any, Final, Literal

from fhir_server.interactions.prepare import Preparer, checked, put
from fhir_server.storage.port import Put
from resources.model import Resource, ResourceKey

LONG: Final = 1_000
"""From so many items in one array on a resource is long."""


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
    """Whether one of its arrays is long: its own, those of its elements (ValueSet.expansion.contains) and of their first items."""
    if resource.get("resourceType") == "SearchParameter":
        return False
    for value in resource.values():
        if value.__class__ is list:
            if len(value) >= LONG:
                return True
        elif value.__class__ is dict:
            for inner in value.values():
                if inner.__class__ is list and _is_long_array(inner):
                    return True
    return False


def _is_long_array(array: list[Any]) -> bool:
    if len(array) >= LONG:
        return True
    first = array[0] if array else None
    if first.__class__ is dict:
        for inner in first.values():
            if inner.__class__ is list and len(inner) >= LONG:
                return True
    return False
