"""What a decision depends on, as values: the rules of this process, and what the stores say of a principal just now.

Whoever asks reads facts at most once a second; decisions are pure functions of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from resources.model import ResourceKey
from search.limits import SearchLimits
from search.parameters import Registry
from search.query import Owners
from search.values import ValueContext
from smart_auth.access.consents import Consented
from smart_auth.options import SmartOptions
from smart_auth.roles import ROLES, Reach, Roles

PATIENT: Final = "Patient"
NOBODY: Final = Owners(PATIENT, frozenset())
MINUTE: Final = 60_000_000
"""Windows of time are taken to the minute (in microseconds), so that decisions can be kept."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What all decisions of a process share. `context(now)` is how values of searches are read at a time in microseconds.

    `shared`: users and clients are of one organization at most, so that what has no owner is everybody's.
    """

    registry: Registry
    limits: SearchLimits
    context: Callable[[int], ValueContext]
    types: tuple[str, ...]
    options: SmartOptions = field(default_factory=SmartOptions)
    roles: Roles = field(default_factory=lambda: ROLES)
    shared: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """What the stores say of a principal. `now` in microseconds, to the minute.

    `roles`: the PractitionerRoles of a practitioner; `locations`: where these are; `patients`: whom the reaches that are about patients
    reach; `left`: CareTeams in which a practitioner has no part any more, None: they have too many to tell; `broken`: patients whom they may see in an emergency; `consents`: what patients have said.
    """

    now: int
    roles: tuple[ResourceKey, ...] = ()
    locations: tuple[ResourceKey, ...] = ()
    patients: tuple[tuple[Reach, Owners], ...] = ()
    left: tuple[str, ...] | None = ()
    broken: Owners = NOBODY
    consents: tuple[Consented, ...] = ()

    def reached(self, reach: Reach) -> Owners:
        """The patients of a reach."""
        return next((owners for one, owners in self.patients if one == reach), NOBODY)
