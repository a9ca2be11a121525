"""Puts the Service together: what can be made before a fork (`compose`), and what belongs to one process (`assemble`).

The serving application and the loader share it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fhir_server.http.routes import Projected, answer_request, table_of
from fhir_server.http.table import ROUTES
from fhir_server.interactions.capabilities import statement
from fhir_server.interactions.options import RestOptions
from fhir_server.interactions.parameters import CustomParameters
from fhir_server.interactions.prepare import Preparer
from fhir_server.interactions.service import Service
from fhir_server.operations import OPERATIONS, own_definitions
from fhir_server.storage.sqlite.connection import SqliteOptions
from fhir_server.storage.sqlite.secret import cursor_secret
from fhir_server.storage.sqlite.store import SqliteStore
from resources.definitions import Definitions, load
from resources.model import IdSource, instant
from resources.validation import Validator
from resources.validation.invariants import Invariants
from search.bundle import Cursors
from search.extract import Extractor
from search.limits import SearchLimits
from search.parameters import Parameter, Registry

DATABASE = "fhir.sqlite"


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """What all processes of a server share: nothing in it is bound to a process. Each is equal to itself alone."""

    base: str
    aliases: tuple[str, ...]
    options: RestOptions
    definitions: Definitions
    registry: Registry
    limits: SearchLimits
    preparer: Preparer
    statement: Callable[[], bytes]
    projected: Mapping[str, Projected]
    security: Mapping[str, Any]


UNGUARDED: Final = {"cors": True, "description": "No access control: this server serves its own machine alone."}
"""CapabilityStatement.rest.security of a server without access control."""


def compose(
    base: str,
    aliases: Sequence[str],
    options: RestOptions,
    limits: SearchLimits | None = None,
    projected: Mapping[str, Projected] | None = None,
    security: Mapping[str, Any] = UNGUARDED,
) -> Composed:
    """Read the definitions and put together what needs no store. `base` and `aliases` are FHIR base URLs.

    `projected`: the types whose resources the server makes itself; `security`: CapabilityStatement.rest.security.
    """
    definitions = load()
    limits = limits or SearchLimits()
    registry = Registry(definitions, full_text=limits.full_text)
    bases = (base, *aliases)
    invariants = Invariants(definitions.types) if options.invariants else None
    preparer = Preparer(Validator(definitions, invariants), Extractor(definitions, registry, bases))
    projected = projected or {}
    told = cache(partial(_statement, base, definitions, registry, options, projected, security, instant(now())))
    return Composed(base, tuple(aliases), options, definitions, registry, limits, preparer, told, projected, security)


async def assemble(composed: Composed, folder: Path, store: SqliteOptions | None = None) -> Service:
    """Open the store in this process and put the Service together."""
    path, store = folder / DATABASE, store or SqliteOptions()
    opened = SqliteStore.open(path, store)
    opened.settle_words(on=composed.limits.full_text)
    registry = composed.registry.fork()
    parameters = CustomParameters(opened, registry, composed.definitions)
    preparer = replace(
        composed.preparer,
        extractor=composed.preparer.extractor.fork(registry),
        refresh=parameters.refresh,
        searchable=parameters.require_indexable,
    )
    return Service(
        options=composed.options,
        base=composed.base,
        aliases=composed.aliases,
        types=frozenset(composed.definitions.resource_types),
        store=opened,
        definitions=composed.definitions,
        registry=registry,
        limits=composed.limits,
        preparer=preparer,
        cursors=Cursors(cursor_secret(path, store)),
        new_id=IdSource(),
        now=now,
        statement=partial(_current_statement, composed, parameters),
        run=partial(answer_request, table_of(ROUTES, composed.projected)),
        published=own_definitions(composed.base),
        projected=frozenset(composed.projected),
    )


def _current_statement(composed: Composed, parameters: CustomParameters) -> bytes:
    """The statement of the server without custom parameters, or a new one for their present state."""
    parameters.refresh()
    if parameters.registry.epoch == 0:
        return composed.statement()
    return _renewed_statement(composed, parameters.registry, parameters.registry.epoch)


@lru_cache(maxsize=8)
def _renewed_statement(composed: Composed, registry: Registry, _epoch: int) -> bytes:
    return _statement(
        composed.base,
        composed.definitions,
        registry,
        composed.options,
        composed.projected,
        composed.security,
        instant(now()),
    )


def searchable(registry: Registry, projected: Mapping[str, Projected], kind: str) -> Sequence[Parameter]:
    """What a type can be searched by."""
    found = registry.searchable(kind)
    own = projected.get(kind)
    return found if own is None else [row for row in found if row.code in own.parameters]


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def _statement(
    base: str,
    definitions: Definitions,
    registry: Registry,
    options: RestOptions,
    projected: Mapping[str, Projected],
    security: Mapping[str, Any],
    date: str,
) -> bytes:
    codes: dict[str, list[str]] = {"system": [], "type": []}
    for route in ROUTES:
        codes["type" if "{type}" in route.shape else "system"].extend(route.codes)
    return statement(
        base=base,
        version=version("fhir-server"),
        date=date,
        codes=codes,
        parameters={kind: searchable(registry, projected, kind) for kind in definitions.resource_types},
        projected={kind: [code for row in one.routes for code in row.codes] for kind, one in projected.items()},
        operations=[(row.types, row.name[1:], row.url(base)) for row in OPERATIONS if row.allowed(options)],
        options=options,
        security=security,
    )
