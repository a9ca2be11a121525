"""What one principal may do, decided once per type and letter and kept: the input of narrowings, of write rules and of what is left out.

Rules.
1. Each scope that reaches a type with a letter gives the ways of its context: `patient/` what is in the compartment of the patient in context,
   `user/` what a role permits, `system/` what the client's own organization or role permits. A scope of another context gives nothing: `system/` to a
   person, `user/` to a client on its own. A granular scope gives the same ways, as far as its parameters match.
2. In the context of a patient a person of the staff also needs a role that permits the type and the letter, whose reach (or an emergency) is about
   that patient now, and stays in their organization; a patient is only ever in the context of themselves, or of somebody whose related person
   they are.
3. A patient is shown what is released and bears no label that withholds it, and writes only as themselves.
4. Of people linked to a patient (Patient.link), of groups, and of Provenance about anything hidden nothing is seen through a patient.
5. A client on its own without role and organization reaches nothing.
6. Whoever has `openid fhirUser` reads the one resource that they are.

Specification: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from resources.model import ResourceKey
from search.narrowing import Narrowing
from search.query import All, EveryTarget, HasId, InCompartment, Node, Not, Nothing, Owners, Released
from search.rewrite import settled
from smart_auth.access.algebra import both, either
from smart_auth.access.consents import Asking, denied
from smart_auth.access.facts import PATIENT, Facts, Rules
from smart_auth.access.reaches import condition, key_of, members, owned, paid
from smart_auth.model import Principal
from smart_auth.roles import BREAKING_GLASS, DIRECTORY, Permission, Reach
from smart_auth.roles import PATIENT as PATIENT_ROLE
from smart_auth.scopes import LETTERS, Scopes

Letter = Literal["c", "r", "u", "d", "s"]
_READING: Final = "rs"
_CARE: Final[tuple[Reach, ...]] = ("assigned", "ward", "ordered")
_PROVENANCE: Final = "Provenance"
_AUDIT: Final = "AuditEvent"
_SHARED: Final = frozenset({"Group"})
"""In the compartments of many patients at once."""
WITHHELD: Final = ("NOPAT",)
"""Labels, of whatever system, of what patients are not shown: https://terminology.hl7.org/CodeSystem-v3-ActCode.html."""
VERY_RESTRICTED: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|V"
"""The label that an emergency does not open."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way in which a letter reaches a type: resources that satisfy `node`.

    `owners`: the patients of whom a resource may be before and after it is written, all of them; None: anybody. `myself`: it must be written by the principal as themselves. `directory`: only by the rule for directory types.
    `practice`: it is a practitioner's own, and no write of it may bring another patient into their reach. `emergency`: it is open for a while, and
    no write of it may make that last.
    """

    node: Node
    owners: Owners | None = None
    myself: bool = False
    directory: bool = False
    practice: bool = False
    emergency: bool = False


class Access:
    """The decisions for one principal and one state of facts; each is made when first asked for.

    `authorized`: what requests may look at, by method, shape of path and type; kept for who decides that.
    """

    def __init__(self, principal: Principal, scopes: Scopes, rules: Rules, facts: Facts) -> None:
        self.principal = principal
        self.scopes = scopes
        self.rules = rules
        self.facts = facts
        text = "\0".join(
            (principal.scope, *principal.roles, principal.fhir_user, principal.organization, principal.patient)
        )
        self.id = f"{principal.id}|{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self._permissions = tuple(
            (role, permission) for role in principal.roles for permission in rules.roles.get(role, ())
        )
        names = (principal.fhir_user, principal.organization, *map(str, facts.roles))
        day = datetime.fromtimestamp(facts.now / 1_000_000, UTC).date().isoformat()
        self._asking = Asking(frozenset(name for name in names if name), principal.roles, day)
        self._ways: dict[tuple[str, str, str], tuple[Alternative, ...]] = {}
        self._alternatives: dict[tuple[str, str], tuple[Alternative, ...]] = {}
        self._nodes: dict[tuple[str, str], Node] = {}
        self._listed: dict[str, bool] = {}
        self._narrowings: dict[str, Narrowing] = {}
        self.authorized: dict[tuple[str, str, str | None], Narrowing] = {}

    # ---- what others ask

    def alternatives(self, kind: str, letter: str) -> tuple[Alternative, ...]:
        """The ways in which the letter reaches the type; none: it does not."""
        found = self._alternatives.get((kind, letter))
        if found is None:
            found = self._alternatives[kind, letter] = tuple(self._found(kind, letter))
        return found

    def node(self, kind: str, letter: str) -> Node:
        """What a resource of the type satisfies that the letter reaches."""
        found = self._nodes.get((kind, letter))
        if found is None:
            found = self._nodes[kind, letter] = either([one.node for one in self.alternatives(kind, letter)])
        return found

    def allows(self, kind: str, letter: str) -> bool:
        """Whether the letter may reach some resource of the type."""
        return not isinstance(self.node(kind, letter), Nothing)

    def narrowing(self, letters: str) -> Narrowing:
        """What all of the letters reach."""
        found = self._narrowings.get(letters)
        if found is None:
            found = self._narrowings[letters] = Narrowing(
                self.id, self._kept(lambda kind: self._all(kind, letters)), operates=self.operates, settled=True
            )
        return found

    def writing(self) -> Narrowing:
        """What a write may look at: whatever any letter but `c` reaches; its criteria look at what a search finds."""
        found = self._narrowings.get("")
        if found is None:
            of = self._kept(lambda kind: either([self.node(kind, letter) for letter in "ruds"]))
            found = self._narrowings[""] = Narrowing(
                self.id,
                of,
                searched=self.narrowing("s"),
                patched=self.narrowing("ru"),
                operates=self.operates,
                settled=True,
            )
        return found

    def may_choose_ids(self, kind: str) -> bool:
        """Whether an update may create what is not known: for whom nothing is hidden, and for clients on their own."""
        if not self.principal.user and not self.principal.patient:
            return self.allows(kind, "u")
        return isinstance(self.node(kind, "u"), All)

    def redacts(self, key: ResourceKey) -> bool:
        """Whether private details of a directory's entry are left out."""
        if key.type not in DIRECTORY:
            return False
        listed = self._listed.get(key.type)
        if listed is None:
            listed = self._listed[key.type] = self._is_listed(key.type)
        return listed and str(key) != self.principal.fhir_user

    @property
    def operates(self) -> bool:
        """Whether the principal is an operator of the server: all letters of all types, of all organizations."""
        everything = any(
            one.type == "*" and one.letters == LETTERS and one.context != "patient" and not one.query
            for one in self.scopes.resource
        )
        return everything and (self.principal.operator or "super-admin" in self.principal.roles)

    @property
    def persons(self) -> frozenset[str]:
        """The references that mean the principal as an author (`Patient/1`)."""
        patient = f"{PATIENT}/{self.principal.patient}" if self.principal.patient else ""
        return frozenset(one for one in (self.principal.fhir_user, patient) if one)

    @property
    def looked_after(self) -> frozenset[str]:
        """The ids of the patients whom a practitioner reaches by what others have recorded."""
        reached = (self.facts.reached(reach).ids for reach in _CARE)
        return frozenset[str]().union(*reached)

    # ---- scopes

    def _is_listed(self, kind: str) -> bool:
        """Whether a directory's entries are read by the rule for directories alone."""
        ways = [one for letter in _READING for one in self.alternatives(kind, letter)]
        listed = {one.node for one in ways if one.directory}
        return bool(listed) and not any(not one.directory and one.node in (*listed, All()) for one in ways)

    def _kept(self, decide: Callable[[str], Node]) -> Callable[[str], Node]:
        kept: dict[str, Node] = {}

        def of(kind: str) -> Node:
            node = kept.get(kind)
            if node is None:
                node = kept[kind] = settled(decide(kind))
            return node

        return of

    def _all(self, kind: str, letters: str) -> Node:
        return both(*(self.node(kind, letter) for letter in letters))

    def _found(self, kind: str, letter: str) -> Iterator[Alternative]:
        scopes = self.scopes.of(kind, letter)
        whole = {scope.context for scope in scopes if not scope.query}
        for context in sorted(whole):
            yield from self._of_context(context, kind, letter)
        for scope in scopes:
            if scope.context not in whole:
                matching = condition(self.rules, kind, scope.query, self.facts.now)
                for way in self._of_context(scope.context, kind, letter):
                    yield replace(way, node=both(way.node, matching))
        mine = self.principal.fhir_user
        if letter == "r" and self.scopes.has("openid") and self.scopes.has("fhirUser") and mine.startswith(f"{kind}/"):
            yield Alternative(HasId((key_of(mine).id,)))

    def _of_context(self, context: str, kind: str, letter: str) -> tuple[Alternative, ...]:
        found = self._ways.get((context, kind, letter))
        if found is None:
            ways = {"patient": self._patient, "user": self._user, "system": self._system}[context](kind, letter)
            found = tuple(one for one in ways if not isinstance(one.node, Nothing))
            self._ways[context, kind, letter] = found
        return found

    def _patient(self, kind: str, letter: str) -> Iterator[Alternative]:
        who = self.principal
        if not who.patient or not (who.user or who.operator):
            return
        if kind in DIRECTORY:
            yield from self._directory(letter)
            return
        here = Owners(PATIENT, frozenset({who.patient}))
        if who.operator:
            yield Alternative(both(self._members(kind, here), self._released(kind)), here)
            return
        for role, permission in self._permitting(kind, letter):
            if role != PATIENT_ROLE:
                yield self._in_context(self._permitted(role, permission, kind, letter, here), kind, here)
            elif who.patient in self.facts.reached("self").ids:
                matching = condition(self.rules, kind, permission.query, self.facts.now)
                yield Alternative(both(self._members(kind, here), self._released(kind), matching), here, myself=True)
        for way in self._emergency(kind, letter, here):
            yield self._in_context(way, kind, here)

    def _in_context(self, way: Alternative, kind: str, here: Owners) -> Alternative:
        """The way as far as it is about the patient in context."""
        inside = both(self._members(kind, here), owned(self.principal, self.rules))
        return replace(way, node=both(inside, way.node), owners=here)

    def _user(self, kind: str, letter: str) -> Iterator[Alternative]:
        if self.principal.operator:
            yield Alternative(All())
        elif self.principal.user:
            if kind in DIRECTORY:
                yield from self._directory(letter)
            for role, permission in self._permitting(kind, letter):
                yield self._permitted(role, permission, kind, letter)
            yield from self._emergency(kind, letter)

    def _system(self, kind: str, letter: str) -> Iterator[Alternative]:
        if self.principal.operator:
            yield Alternative(All())
        elif not self.principal.user and self.principal.client:
            if not self.principal.roles:
                if self.principal.organization:
                    yield Alternative(both(owned(self.principal, self.rules), self._consented(kind, letter)))
                return
            if kind in DIRECTORY:
                yield from self._directory(letter)
            for role, permission in self._permitting(kind, letter):
                yield self._permitted(role, permission, kind, letter)

    # ---- roles

    def _permitting(self, kind: str, letter: str) -> Iterator[tuple[str, Permission]]:
        return ((role, one) for role, one in self._permissions if one.allows(kind, letter))

    def _directory(self, letter: str) -> Iterator[Alternative]:
        if letter in _READING:
            yield Alternative(All() if self.principal.operator else owned(self.principal, self.rules), directory=True)

    def _permitted(
        self, role: str, permission: Permission, kind: str, letter: str, within: Owners | None = None
    ) -> Alternative:
        """What the permission reaches; `within`: of patients, these alone."""
        matching = condition(self.rules, kind, permission.query, self.facts.now)
        inside = owned(self.principal, self.rules)
        owners: Owners | None = None
        practice = False
        match permission.reach:
            case "any":
                node: Node = All()
            case "organization":
                node = inside
            case "payer":
                node = paid(kind, self.principal, self.rules)
            case "self" if self.principal.fhir_user.startswith("Practitioner"):
                node = both(InCompartment(key_of(self.principal.fhir_user)), inside)
                practice = True
            case reach:
                owners = _among(self.facts.reached(reach), within)
                node = self._members(kind, owners)
                if reach != "self":
                    node = both(node, inside)
        if role == PATIENT_ROLE:
            return Alternative(both(node, self._released(kind), matching), owners, myself=True)
        return Alternative(both(node, matching, self._consented(kind, letter)), owners, practice=practice)

    def _emergency(self, kind: str, letter: str, within: Owners | None = None) -> Iterator[Alternative]:
        """What is open for a while: patients of the organization whom the person looks at in an emergency, as far as the role goes."""
        here = _among(self.facts.broken, within)
        for role, permission in self._permitting(kind, letter):
            if here.ids and role in BREAKING_GLASS and permission.reach not in ("any", "payer"):
                matching = condition(self.rules, kind, permission.query, self.facts.now)
                open_ = both(
                    self._members(kind, here),
                    owned(self.principal, self.rules),
                    Not(self._labelled(kind, VERY_RESTRICTED)),
                    matching,
                )
                yield Alternative(open_, here, emergency=True)

    # ---- patients

    def _members(self, kind: str, owners: Owners) -> Node:
        """What of the type is about the patients; Provenance as far as all that it is about may be read."""
        if not owners.ids or kind in _SHARED:
            return Nothing()
        if kind != _PROVENANCE:
            return members(kind, owners)
        parameter = self.rules.registry.find(kind, "target")
        if parameter is None:
            return Nothing()
        seen = ((name, self.node(name, "r")) for name in self.rules.types if name != kind)
        return EveryTarget(parameter, tuple((name, node) for name, node in seen if not isinstance(node, Nothing)))

    def _released(self, kind: str) -> Node:
        """What patients may be shown."""
        shown: Node = Released()
        if self.rules.options.release_preliminary:
            early = condition(self.rules, kind, (("status", "preliminary"),), self.facts.now)
            shown = either([shown, early])
        return both(shown, *(Not(self._labelled(kind, label)) for label in WITHHELD))

    def _labelled(self, kind: str, label: str) -> Node:
        found = condition(self.rules, kind, (("_security", label),), self.facts.now)
        if isinstance(found, Nothing):  # its negation would show everything
            raise LookupError(f"{kind} cannot be searched by its labels")  # noqa: TRY004  (a parameter is missing)
        return found

    def _consented(self, kind: str, letter: str) -> Node:
        """Not what patients deny to the principal. What tells who has looked is kept from nobody so."""
        kept: list[Node] = []
        if kind == _AUDIT:
            return All()
        for one in self.facts.consents:
            out = denied(one.provision, kind, letter, self._asking, lambda label: self._labelled(kind, label))
            about = both(members(kind, one.patients), out)
            if not isinstance(about, Nothing):
                kept.append(Not(about))
        return both(*kept)


def _among(owners: Owners, within: Owners | None) -> Owners:
    """Those of the owners who are within."""
    return owners if within is None else Owners(owners.type, owners.ids & within.ids)
