"""How index entries are made: a Maker is compiled once for a parameter and a FHIR datatype and run on every value of it.

`Making` is what makers may depend on when they are compiled; `Scope` is the one resource they run on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from msgspec import Struct

from resources.definitions.model import ValueSetCodes
from resources.model import Resource
from search.entries import Entries


@dataclass(frozen=True, slots=True)
class Making:
    """The codes of a required value set by its URL (None: not enumerated), our own base URLs and the zone of times without offset."""

    value_set: Callable[[str], ValueSetCodes | None]
    own_bases: tuple[str, ...]
    zone: tzinfo


class Scope(Struct):
    """One resource while its entries are made.

    `container` is the id under which contained resources are known (`<container>#<local id>`), `contained` their types by
    local id, `groups` the last tuple number of each composite.
    """

    resource: Resource
    entries: Entries
    container: str
    type: str
    contained: Mapping[str, str]
    groups: dict[str, int]


Maker = Callable[[Any, Scope, int], None]
"""Adds the entries of one value; the last argument is the composite group (0: none)."""
