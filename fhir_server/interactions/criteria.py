"""Searches as the interactions ask them: a whole search with its page, or a criterion that must mean one resource.

A criterion (If-None-Exist, `Patient?identifier=x` in a reference) selects: it has at least one condition, no parameter that
shapes a result, and nothing in it is ignored.

Specification: https://hl7.org/fhir/R4/http.html#ccreate, https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from urllib.parse import urlencode

from fhir_server.http.request import Pairs, query_pairs
from fhir_server.interactions.service import Service
from fhir_server.storage.port import Guard, Stored
from resources.errors import FhirError
from resources.model import ResourceKey
from search.narrowing import Narrowing
from search.parser import Handling, ParsedSearch, parse, parse_all
from search.query import All, Query
from search.results import RESULT_PARAMETERS
from search.rewrite import rewrite
from search.values import ValueContext


def parsed(service: Service, kinds: str | Sequence[str], pairs: Pairs, handling: Handling, now: int) -> ParsedSearch:
    """The search of a type, or of several, by `pairs`, with `now` in microseconds as the time of `ap`."""
    service.preparer.refresh()
    values = ValueContext(now, UTC, (service.base, *service.aliases), service.preparer.extractor.datatypes)
    if isinstance(kinds, str):
        return parse(service.registry, kinds, pairs, values=values, limits=service.limits, handling=handling)
    return parse_all(service.registry, kinds, pairs, values=values, limits=service.limits, handling=handling)


@dataclass(frozen=True, slots=True)
class Criterion:
    """A criterion, ready for the store; `unique` is its canonical text."""

    query: Query
    unique: str

    def guard(self, keys: Iterable[ResourceKey]) -> Guard:
        """That the criterion still matches exactly `keys` when the unit is committed."""
        return Guard(self.query, frozenset(keys), self.unique)


def criterion(service: Service, kind: str, text: str, narrowing: Narrowing, what: str) -> Criterion:
    """The criterion in `text` (`identifier=s|v&active=true`, perhaps after `?` or `Patient?`); 400 when it selects nothing."""
    pairs = query_pairs(text.removeprefix(kind).removeprefix("?"), service.options.parameter_limit, what)
    for name, _ in pairs:
        if name in RESULT_PARAMETERS:
            raise FhirError(400, "invalid", f"{what} has the parameter {name}, which selects nothing")
    found = parsed(service, kind, pairs, "strict", service.now())
    if isinstance(found.query.where, All):
        raise FhirError(400, "invalid", f"{what} has no criteria")
    query = rewrite(replace(found.query, sort=(), includes=()), narrowing)
    return Criterion(query, f"{kind}?{urlencode(sorted(found.used))}")


async def stored_matches(service: Service, found: Criterion, narrowing: Narrowing, limit: int) -> Sequence[Stored]:
    """The stored resources that the criterion matches, at most `limit`."""
    page = await service.store.search(replace(found.query, count=limit), narrowing)
    return [row.stored for row in page.rows]


@dataclass(frozen=True, slots=True)
class Found:
    """What a criterion means now: the one match or none, and the guard that this stays so."""

    match: Stored | None
    guard: Guard


async def find(service: Service, kind: str, text: str, narrowing: Narrowing, what: str) -> Found:
    """Look a criterion up; 412 when several resources match."""
    asked = criterion(service, kind, text, narrowing, what)
    matches = await stored_matches(service, asked, narrowing, 2)
    if len(matches) > 1:
        raise FhirError(412, "multiple-matches", f"{what} matches several resources")
    return Found(matches[0] if matches else None, asked.guard(match.key for match in matches))
