"""$lastn: of each kind of observation the latest ones.

Rules. The search parameters of Observation say which observations count; a subject (`patient` or `subject`) is required, and `category` or a parameter
over a code. Observations whose codings overlap are of one kind, and overlapping goes on: a = b and b = c make one kind. Without a coded coding the text tells
the kind, exactly as written. Of each kind come the `max` latest (1 unless given) and those of the same time as the last of them; what has no
time is the oldest. An observation's time is where its period begins, as for _sort=-date. Entered-in-error is not left out.

Cost: every observation that matches is read, in the order of the store's search (newest first); nothing else of the store. Beyond `MOST_READ` matches, or
`MOST_SHOWN` in the answer, the call is refused (403) rather than cut short; the answer is one page.

Specification: https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Final

import msgspec

from fhir_server.http.request import Pairs
from fhir_server.http.response import FhirResponse
from fhir_server.interactions.criteria import parsed
from fhir_server.interactions.pace import pacer
from fhir_server.interactions.search import rewritten_all
from fhir_server.interactions.service import Service
from fhir_server.operations.model import Call
from fhir_server.storage.port import Stored
from resources.errors import FhirError
from search.bundle import Entry, links, searchset
from search.narrowing import Narrowing
from search.parser import Handling, ParsedSearch
from search.query import Query
from search.results import RESULT_PARAMETERS
from search.values import time_range

MOST_READ: Final = 10_000
MOST_SHOWN: Final = 1_000
_PAGE: Final = 500
"""Observations that one search of the store gives."""
_SUBJECTS: Final = frozenset({"patient", "subject"})

Kind = tuple[str | None, str]
"""A system and code, or (None, text)."""


class _Coding(msgspec.Struct):
    system: str = ""
    code: str | None = None


class _Concept(msgspec.Struct):
    coding: list[_Coding] = []
    text: str = ""


class _Period(msgspec.Struct):
    start: str | None = None


class _Observation(msgspec.Struct):
    """What of an observation tells its kind and time."""

    code: _Concept = msgspec.field(default_factory=_Concept)
    effectiveDateTime: str | None = None  # noqa: N815  (FHIR's names)
    effectiveInstant: str | None = None  # noqa: N815
    effectivePeriod: _Period | None = None  # noqa: N815

    def kinds(self) -> list[Kind]:
        """The codings that stand for its kind; its text when none has a code."""
        coded: list[Kind] = [(one.system, one.code) for one in self.code.coding if one.code is not None]
        return coded or [(None, self.code.text)]

    def time(self) -> int | None:
        """Where its time begins, in microseconds; None without one that could be compared."""
        period = self.effectivePeriod.start if self.effectivePeriod is not None else None
        text = self.effectiveDateTime or self.effectiveInstant or period
        found = None if text is None else time_range(text)
        return None if found is None else found[0]


_DECODER: Final = msgspec.json.Decoder(_Observation)


async def lastn(service: Service, call: Call) -> FhirResponse:
    """`GET` or `POST [base]/Observation/$lastn?patient=...&category=...&max=3`."""
    pairs, narrowing = call.arguments.others, call.request.narrowing
    _require(pairs)
    handling: Handling = "lenient" if call.request.prefer.lenient else "strict"
    asked = parsed(service, "Observation", (*pairs, ("_sort", "-date")), handling, service.now())
    latest = _Latest(call.arguments.one("max") or 1)
    pace = pacer()
    place = 0
    async for stored in _matches(service, asked.query, narrowing):
        if place == MOST_READ:
            raise FhirError(
                403, "too-costly", f"more than {MOST_READ} observations match; ask for fewer codes or dates"
            )
        latest.add(place, stored)
        place += 1
        await pace()
    found = latest.found()
    if len(found) > MOST_SHOWN:
        raise FhirError(403, "too-costly", f"more than {MOST_SHOWN} observations are the latest; ask for fewer codes")
    body = searchset(
        service.base,
        [Entry(str(stored.key), stored.body, "match") for stored in found],
        links(f"{service.base}/Observation/$lastn", _used(call, asked))[:1],
        total=len(found),
        issues=asked.ignored,
    )
    return FhirResponse(200, body, shown=tuple(stored.key for stored in found))


def _require(pairs: Pairs) -> None:
    """400 without a subject, without a category or code, and for a parameter that shapes results."""
    names = {name.partition(":")[0].partition(".")[0] for name, value in pairs if value}
    shaping = sorted(names & RESULT_PARAMETERS)
    if shaping:
        raise FhirError(400, "not-supported", f"the parameter {shaping[0]} is not supported on $lastn")
    if not names & _SUBJECTS:
        raise FhirError(400, "required", "$lastn needs the parameter patient or subject")
    if "category" not in names and not any("code" in name.split("-") for name in names):
        raise FhirError(400, "required", "$lastn needs the parameter category, code or another one over a code")


def _used(call: Call, asked: ParsedSearch) -> Pairs:
    """The parameters that counted."""
    return (*call.arguments.pairs, *(pair for pair in asked.used if pair[0] != "_sort"))


async def _matches(service: Service, query: Query, narrowing: Narrowing) -> AsyncIterator[Stored]:
    """What matches, in order."""
    query = rewritten_all(replace(query, count=_PAGE), narrowing)
    more = True
    while more:
        page = await service.store.search(query, narrowing)
        for row in page.rows:
            yield row.stored
        more = page.more
        query = replace(query, after=page.rows[-1].position if page.rows else None)


@dataclass(slots=True, eq=False)
class _Group:
    """The latest observations of a kind: place in the order, time, resource. `joined`: the group that took them over."""

    rows: list[tuple[int, int | None, Stored]] = field(default_factory=list)
    joined: "_Group | None" = None


@dataclass(slots=True)
class _Latest:
    """Takes observations, newest first, and keeps the latest `most` of each kind."""

    most: int
    groups: dict[Kind, _Group] = field(default_factory=dict)

    def add(self, place: int, stored: Stored) -> None:
        """Take the next observation; kinds that its codings connect become one."""
        observation = _DECODER.decode(stored.body)
        kinds, time = observation.kinds(), observation.time()
        group, *others = dict.fromkeys(self._group(kind) for kind in kinds if kind in self.groups) or (_Group(),)
        for other in others:
            self._join(group, other)
        self.groups |= dict.fromkeys(kinds, group)
        if self._counts(group, time):
            group.rows.append((place, time, stored))

    def _group(self, kind: Kind) -> _Group:
        group = self.groups[kind]
        while group.joined is not None:
            group = group.joined
        self.groups[kind] = group
        return group

    def _join(self, group: _Group, other: _Group) -> None:
        rows = sorted((*group.rows, *other.rows), key=itemgetter(0))
        group.rows = rows[: self.most]
        group.rows += [row for row in rows[self.most :] if self._counts(group, row[1])]
        other.rows, other.joined = [], group

    def _counts(self, group: _Group, time: int | None) -> bool:
        """Whether one more of this time is among the latest."""
        return len(group.rows) < self.most or (time is not None and group.rows[self.most - 1][1] == time)

    def found(self) -> list[Stored]:
        """All that were kept, newest first."""
        groups = dict.fromkeys(self._group(kind) for kind in self.groups)
        return [stored for _, _, stored in sorted((row for group in groups for row in group.rows), key=itemgetter(0))]
