"""From the headers of a request to what it may do: the token is checked, the principal's decisions are kept for a second at most.

Rules.
1. No token is 401 with `WWW-Authenticate: Bearer`; one that is not good 401 with error="invalid_token". A token stands in the one Authorization header,
   never in the URL.
2. Decisions are kept per principal while what they depend on stays: roles and search parameters of this process, and facts of the principal
   (their PractitionerRoles and wards, records opened in an emergency), which are looked up at most once a second. Who sent a header is known for
   the rest of the second in which its token was checked.

Specification: https://www.rfc-editor.org/rfc/rfc6750, https://www.rfc-editor.org/rfc/rfc9068
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Any, Final

import structlog

from fhir_server.http.consents import Consents
from fhir_server.interactions.guarded import GuardedStore
from fhir_server.interactions.service import Service
from fhir_server.kin import holds, own_patients
from resources.errors import FhirError
from resources.json_format import decode
from resources.model import Resource, ResourceKey
from resources.references import parse
from search.narrowing import EVERYTHING, Narrowing
from search.query import All, Match, Node, Nothing, Owners, Query, ReferenceTest
from search.rewrite import rewrite
from search.values import ValueContext
from smart_auth import scopes
from smart_auth.access.consents import Consented
from smart_auth.access.decisions import Access
from smart_auth.access.facts import MINUTE, PATIENT, Facts, Rules
from smart_auth.access.reaches import key_of, owned, taking_part
from smart_auth.access.reaches import patients as patients_of
from smart_auth.break_glass import opened
from smart_auth.model import Principal
from smart_auth.parts import AuthParts
from smart_auth.roles import BREAKING_GLASS, PAYING, Reach, RoleFault, Roles, roles_with
from smart_auth.roles import PATIENT as PATIENT_ROLE
from smart_auth.tokens import TokenFault

EDITED: Final = "roles"
"""The setting of the authorization store that holds edited roles."""
_KEPT: Final = 10_000
_ROLES: Final = 50
_TEAMS: Final = 2_000
_PATIENTS: Final = 20_000
"""So many patients one reach reaches at most."""
_ABOUT_PATIENTS: Final[frozenset[Reach]] = frozenset({"assigned", "ward", "ordered", "self"})
_TELLING: Final = frozenset(
    {
        "Appointment",
        "CareTeam",
        "Consent",
        "Encounter",
        "Location",
        "Patient",
        "Person",
        "PractitionerRole",
        "RelatedPerson",
        "ServiceRequest",
        "Task",
    }
)
"""Types that tell who looks after whom."""
NOTHING: Final = Facts(0)
_SAID: Final = {
    "invalid": "the access token is not one of this server",
    "expired": "the access token has expired",
    "revoked": "the access token was revoked",
}
_CODES: Final = {"invalid": "login", "expired": "expired", "revoked": "login"}
_log = structlog.get_logger("fhir_server.access")


@dataclass(slots=True)
class Admitted:
    """A principal with their decisions, and the service as they may use it. `moment`: the second of the last look, and the writes known then."""

    access: Access
    service: Service
    moment: tuple[int, int]


class Gate:
    """Admits requests. One per process; `service` is the server's own, `parts` those of authorization."""

    def __init__(self, service: Service, parts: AuthParts) -> None:
        self._service = service
        self._parts = parts
        self._admitted: dict[Principal, Admitted] = {}
        self._rules: Rules | None = None
        self._epoch = -1
        self._known = -1
        self._shared = False
        self._edited: Any = None
        self._second = -1
        self._writes = 0
        self._consents = Consents(service)
        self._bearers: dict[str, Admitted] = {}
        self._now = (-1, -1, -1)
        self._looked = (-1, -1)
        self._looking: asyncio.Future[tuple[Consented, ...]] | None = None

    async def admit(self, authorization: Sequence[str]) -> Admitted:
        """What the bearer of the token may do. Raises FhirError 401."""
        now = self._parts.tokens.now(), int(time.monotonic()), self._writes
        if now != self._now:
            self._now, self._bearers = now, {}
        known = self._bearers  # what is looked up in one moment is not remembered in the next
        found = known.get(authorization[0]) if len(authorization) == 1 else None
        if found is None:
            found = await self.admitted(self._principal(authorization))
            if len(known) >= _KEPT:
                known.clear()
            known[authorization[0]] = found
        return found

    async def admitted(self, principal: Principal) -> Admitted:
        """What the principal may do."""
        moment = int(time.monotonic()), self._writes
        found = self._admitted.get(principal)
        if found is not None and found.moment == moment:
            return found
        rules = self._current_rules(moment[0])
        facts = await self._facts(principal, rules, NOTHING if found is None else found.access.facts, moment)
        if found is not None and found.access.rules is rules and found.access.facts == facts:
            found.moment = moment
            return found
        try:
            granted = scopes.parse(principal.scope)
        except scopes.ScopeFault:
            raise _refused("invalid") from None
        access = Access(principal, granted, rules, facts)
        store = GuardedStore(self._service.store, access, self._service.preparer, self._committed)
        if len(self._admitted) >= _KEPT:
            self._admitted.clear()
        admitted = self._admitted[principal] = Admitted(access, replace(self._service, store=store), moment)
        return admitted

    def _committed(self, keys: Iterable[ResourceKey]) -> None:
        """What was written here may change who looks after whom: it counts at once, what other processes write within a second."""
        self._writes += any(key.type in _TELLING for key in keys)

    def _principal(self, authorization: Sequence[str]) -> Principal:
        if not authorization:
            said = "this server asks for an access token"
            raise FhirError(401, "login", said, headers={"WWW-Authenticate": f'Bearer realm="{self._service.base}"'})
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer":
            raise _refused("invalid")
        try:
            return self._parts.tokens.verify(token.strip())
        except TokenFault as fault:
            raise _refused(fault.reason) from None

    def _current_rules(self, second: int) -> Rules:
        """The rules, made anew when roles were edited or search parameters changed."""
        if self._rules is not None and second == self._second:
            return self._rules
        service = self._service
        service.preparer.refresh()
        edited = self._parts.store.setting(EDITED)
        shared = self._is_shared()
        known = self._rules is not None and self._rules.shared == shared
        if not known or edited != self._edited or service.registry.epoch != self._epoch:
            self._edited, self._epoch = edited, service.registry.epoch
            self._rules = Rules(
                service.registry,
                service.limits,
                self._values,
                tuple(sorted(service.types)),
                self._parts.options,
                _roles(edited),
                shared,
            )
        self._second = second
        assert self._rules is not None
        return self._rules

    def _is_shared(self) -> bool:
        """Whether users and clients are of one organization at most, payers aside."""
        store = self._parts.store
        epoch = store.epoch()
        if epoch != self._known:
            users = {one.organization for one in store.users() if not {*one.roles} <= PAYING or not one.roles}
            clients = {one.organization for one in store.clients() if one.role not in PAYING}
            self._known, self._shared = epoch, len((users | clients) - {""}) <= 1
        return self._shared

    def _values(self, now: int) -> ValueContext:
        service = self._service
        return ValueContext(now, UTC, (service.base, *service.aliases), service.preparer.extractor.datatypes)

    async def _facts(self, principal: Principal, rules: Rules, known: Facts, moment: tuple[int, int]) -> Facts:
        """What the stores say of the principal now; `known`: what they said last, parts of which are kept where they are the same."""
        facts = Facts(self._service.now() // MINUTE * MINUTE)
        if not principal.operator and set(principal.roles) != {PATIENT_ROLE}:
            facts = replace(facts, consents=await self._consented(moment))
        if not principal.user:
            return facts
        reaches = {one.reach for role in principal.roles for one in rules.roles.get(role, ())} & _ABOUT_PATIENTS
        if principal.fhir_user.startswith("Practitioner/") and reaches:
            facts = await self._practice(principal, facts)
            if "assigned" in reaches:
                facts = replace(facts, left=await self._left(principal, facts, rules))
        patients = []
        for reach in sorted(reaches):
            if reach == "self":
                ids = await self._own(principal, rules)
            else:
                ids = await self._patients(patients_of(reach, principal, facts, rules))
            patients.append((reach, _same(ids, known.reached(reach))))
        broken: frozenset[str] = frozenset()
        if not BREAKING_GLASS.isdisjoint(principal.roles):
            broken = opened(self._parts.store, principal.user, self._parts.now())
        return replace(facts, patients=tuple(patients), broken=_same(broken, known.broken))

    async def _consented(self, moment: tuple[int, int]) -> tuple[Consented, ...]:
        """What patients say, looked at once for all who ask in a moment."""
        if self._looked != moment:
            self._looked = moment
            self._looking = asyncio.ensure_future(self._consents.look())
        assert self._looking is not None
        return await asyncio.shield(self._looking)

    async def _own(self, principal: Principal, rules: Rules) -> frozenset[str]:
        """The ids of the patients whom the principal is, or is related to by what belongs to their organization."""
        ours = All() if rules.shared else owned(principal, rules)
        kind, _, name = principal.fhir_user.partition("/")
        own = frozenset({name}) if kind == PATIENT else frozenset[str]()
        within = Narrowing(principal.id, lambda _: ours)
        return own | {body["id"] for body in await own_patients(self._service, principal.fhir_user, within)}

    async def _patients(self, wanted: Node) -> frozenset[str]:
        """The ids of the patients who satisfy the node."""
        if isinstance(wanted, Nothing):
            return frozenset()
        query = rewrite(Query(PATIENT, wanted, count=_PATIENTS), EVERYTHING)
        return frozenset(key.id for key in await self._service.store.keys(query, EVERYTHING, _PATIENTS))

    async def _left(self, principal: Principal, facts: Facts, rules: Rules) -> tuple[str, ...] | None:
        """The CareTeams that name the practitioner for another time than this; None when they are too many to look at."""
        wanted = taking_part(principal, facts, rules)
        if isinstance(wanted, Nothing):
            return ()
        page = await self._service.store.search(
            rewrite(Query("CareTeam", wanted, count=_TEAMS), EVERYTHING), EVERYTHING
        )
        if page.more:
            return None
        mine = {principal.fhir_user, *map(str, facts.roles)}
        teams = [decode(row.stored.body) for row in page.rows if b'"period"' in row.stored.body]
        return tuple(sorted(team["id"] for team in teams if not self._takes_part(team, mine)))

    def _takes_part(self, team: Resource, mine: set[str]) -> bool:
        bases = (self._service.base, *self._service.aliases)
        return any(
            str(parse(one["member"].get("reference", ""), bases).key) in mine and holds(one.get("period", {}))
            for one in team.get("participant", ())
            if "member" in one
        )

    async def _practice(self, principal: Principal, facts: Facts) -> Facts:
        """The PractitionerRoles that are in force, and their locations."""
        service = self._service
        parameter = service.registry.find("PractitionerRole", "practitioner")
        if parameter is None:
            return facts
        query = Query(
            "PractitionerRole", Match(parameter, ReferenceTest((key_of(principal.fhir_user),), None)), count=_ROLES
        )
        page = await service.store.search(query, EVERYTHING)
        held = [(row.stored.key, decode(row.stored.body)) for row in page.rows]
        held = [(key, role) for key, role in held if role.get("active") is not False and holds(role.get("period", {}))]
        places = [place.get("reference") for _, role in held for place in role.get("location", ())]
        bases = (service.base, *service.aliases)
        locations = set()
        for place in places:
            found = parse(place, bases).key if isinstance(place, str) else None
            if found is not None and found.type == "Location":
                locations.add(found)
        return replace(facts, roles=tuple(sorted(key for key, _ in held)), locations=tuple(sorted(locations)))


def _same(ids: frozenset[str], known: Owners) -> Owners:
    """These patients: the same object as before when they are the same."""
    return known if ids == known.ids else Owners(PATIENT, ids)


def _roles(edited: Any) -> Roles:
    """The roles in force. When what was edited cannot be understood nobody has any: that is seen at once, and lets nobody in."""
    try:
        return roles_with(edited)
    except (RoleFault, AttributeError, TypeError) as fault:
        _log.error("roles_not_understood", reason=str(fault))
        return {}


def _refused(reason: str) -> FhirError:
    said = _SAID[reason]
    return FhirError(
        401,
        _CODES[reason],
        said,
        headers={"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{said}"'},
    )
