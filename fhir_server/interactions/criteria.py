"""Searches as the interactions ask them: a whole search with its page, or a criterion that must mean one resource.

A criterion (If-None-Exist, the query of a conditional update, `Patient?identifier=x` in a reference) selects: it has at least one
condition, no parameter that shapes a result, and nothing in it is ignored.

Specification: https://hl7.org/fhir/R4/http.html#ccreate, #cond-update, https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC

from fhir_server.http.authorization import insufficient
from fhir_server.http.request import Pairs, query_pairs
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Guard, Stored
from resources.errors import FhirError
from resources.model import ResourceKey
from search.narrowing import Narrowing
from search.parser import Handling, ParsedSearch, parse, parse_all
from search.query import All, Nothing, Query
from search.results import RESULT_PARAMETERS
from search.rewrite import rewrite
from search.values import ValueContext


def parsed(service: Service, kinds: str | Sequence[str], pairs: Pairs, handling: Handling, now: int) -> ParsedSearch:
    """The search of a type, or of several, by `pairs`, with `now` in microseconds as the time of `ap`."""
    service.preparer.refresh()
    if service.projected:
        _refuse_projected(service.projected, pairs)
    values = ValueContext(now, UTC, (service.base, *service.aliases), service.preparer.extractor.datatypes)
    if isinstance(kinds, str):
        return parse(service.registry, kinds, pairs, values=values, limits=service.limits, handling=handling)
    return parse_all(service.registry, kinds, pairs, values=values, limits=service.limits, handling=handling)


def _refuse_projected(projected: Iterable[str], pairs: Pairs) -> None:
    """400 for a search through resources that are in no store, since the server makes them when they are asked for."""
    for kind in projected:
        for name, value in pairs:
            through = name.startswith("_has:") and f":{kind}:" in name
            if through or (value.startswith(f"{kind}:") and name.startswith(("_revinclude", "_include"))):
                raise FhirError(400, "not-supported", f"Parameter '{name}': {kind} is searched by itself alone.")


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion, ready for the store; `unique` is the same for the same parameters."""

    query: Query
    unique: Hashable

    def guard(self, keys: Iterable[ResourceKey]) -> Guard:
        """That the criterion still matches exactly `keys` when the unit is committed."""
        return Guard(self.query, frozenset(keys), self.unique)


def criteria_pairs(service: Service, kind: str, text: str, what: str) -> Pairs:
    """The parameters of a criterion that is a text: `identifier=s|v&active=true`, perhaps after `?` or `Patient?`."""
    return query_pairs(text.removeprefix(kind).removeprefix("?"), service.options.parameter_limit, what)


def criterion(service: Service, kind: str, pairs: Pairs, narrowing: Narrowing, what: str) -> Criterion:
    """The criterion of these parameters; 400 when it selects nothing. `what` names it in faults."""
    for name, _ in pairs:
        if name in RESULT_PARAMETERS:
            raise FhirError(400, "invalid", f"{what} has the parameter {name}, which selects nothing")
    narrowing = narrowing.searched or narrowing
    if isinstance(narrowing.of(kind), Nothing):
        raise insufficient("search", kind)
    found = parsed(service, kind, pairs, "strict", service.now())
    if isinstance(found.query.where, All):
        raise FhirError(400, "invalid", f"{what} has no criteria")
    return Criterion(rewrite(found.query, narrowing), (kind, *sorted(found.used)))


async def stored_matches(service: Service, found: Criterion, narrowing: Narrowing, limit: int) -> Sequence[Stored]:
    """The stored resources that the criterion matches, at most `limit`."""
    page = await service.store.search(replace(found.query, count=limit), narrowing.searched or narrowing)
    return [row.stored for row in page.rows]


@dataclass(frozen=True, slots=True)
class Found:
    """What a criterion means now: its matches, and the guard that this stays so."""

    criterion: Criterion
    matches: Sequence[Stored]

    @property
    def match(self) -> Stored | None:
        """The one match, or None."""
        return self.matches[0] if self.matches else None

    @property
    def guard(self) -> Guard:
        """That the criterion still matches these when the unit is committed."""
        return self.criterion.guard(match.key for match in self.matches)


async def find(service: Service, kind: str, pairs: Pairs, narrowing: Narrowing, what: str, most: int = 1) -> Found:
    """Look a criterion up; 412 when more than `most` resources match."""
    asked = criterion(service, kind, pairs, narrowing, what)
    found = await stored_matches(service, asked, narrowing, most + 1)
    if len(found) > most:
        number = "several resources" if most == 1 else f"more than {most} resources, the limit of this server"
        raise FhirError(412, "multiple-matches", f"{what} matches {number}")
    return Found(asked, found)
