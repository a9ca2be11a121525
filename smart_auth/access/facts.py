"""What a decision depends on, as values: the rules of this process, and what the stores say of a principal just now.

Whoever asks reads facts at most once a second; decisions are pure functions of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from resources.model import ResourceKey
from search.limits import SearchLimits
from search.parameters import Registry
from search.values import ValueContext
from smart_auth.options import SmartOptions
from smart_auth.roles import ROLES, Roles

MINUTE = 60_000_000
"""Windows of time are taken to the minute (in microseconds), so that decisions can be kept."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What all decisions of a process share. `context(now)` is how values of searches are read at a time in microseconds."""

    registry: Registry
    limits: SearchLimits
    context: Callable[[int], ValueContext]
    types: tuple[str, ...]
    options: SmartOptions = field(default_factory=SmartOptions)
    roles: Roles = field(default_factory=lambda: ROLES)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the stores say of a principal. `now` in microseconds, to the minute.

    `roles`: the PractitionerRoles of a practitioner; `locations`: where these are; `broken`: ids of the patients whom they may see in an
    emergency; `forbidden`: ids of the patients whose Consent keeps them out.
    """

    now: int
    roles: tuple[ResourceKey, ...] = ()
    locations: tuple[ResourceKey, ...] = ()
    broken: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
