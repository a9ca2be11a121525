"""Conditions on a write: If-Match on a version, a search criterion that must match nothing or one resource.

Rules: a condition is looked up first and carried into the unit of work, where it must still hold: a lost race is a Conflict,
after which the interaction looks again. So a condition decides once, whoever else writes.

Specification: https://hl7.org/fhir/R4/http.html#concurrency, #ccreate
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fhir_server.interactions.service import Service
from fhir_server.storage.port import Conflict
from resources.errors import FhirError
from resources.model import ResourceKey
from search.narrowing import Narrowing

_T = TypeVar("_T")
_TAG = re.compile(r'\s*(?:W/)?"([0-9]{1,15})"\s*')
RETRIES = 8
"""How often a write that lost a race is tried again before 409."""


def precondition_failed(key: ResourceKey) -> FhirError:
    """If-Match names a version that is not the current one."""
    return FhirError(412, "conflict", f"the current version of {key} is not the one that If-Match names")


async def current_version(service: Service, key: ResourceKey, if_match: str | None, narrowing: Narrowing) -> int | None:
    """The version that must be current at commit: None without If-Match; 412 when it is another now; 400 for a bad tag."""
    if if_match is None:
        return None
    stored = await service.store.read(key, narrowing)
    current = stored.version if stored is not None and not stored.deleted else 0
    if if_match.strip() == "*":
        if current == 0:
            raise precondition_failed(key)
        return current
    tag = _TAG.fullmatch(if_match)
    if tag is None:
        raise FhirError(400, "invalid", 'If-Match is not of the form W/"version"')
    if current == 0 or int(tag[1]) != current:
        raise precondition_failed(key)
    return current


async def must_be_absent(service: Service, key: ResourceKey, if_none_match: str, narrowing: Narrowing) -> int:
    """The expectation of `If-None-Match: *` on a write: nothing is current, also at commit. 412, or 400 for anything but `*`."""
    if if_none_match.strip() != "*":
        raise FhirError(400, "not-supported", "If-None-Match on an update is supported as * only")
    stored = await service.store.read(key, narrowing)
    if stored is not None and not stored.deleted:
        raise exists_already(key)
    return 0


def exists_already(key: ResourceKey) -> FhirError:
    """If-None-Match asks that there be no resource, and there is one."""
    return FhirError(412, "conflict", f"{key} exists, and If-None-Match asks that it does not")


async def retried(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Run `attempt` again while it loses races, a bounded number of times; then 409 with Retry-After."""
    for turn in range(RETRIES):
        try:
            return await attempt()
        except Conflict:
            # apart by chance: those that lost together would lose together again
            await asyncio.sleep(random.uniform(0, 0.002 * 2**turn))  # noqa: S311
    raise contended()


def contended() -> FhirError:
    """What is told when races were lost again and again."""
    return FhirError(
        409,
        "conflict",
        "other writes changed the same records again and again; try later",
        headers={"Retry-After": "1"},
    )
