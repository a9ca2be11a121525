"""Entries of a transaction that get in each other's way: the whole is refused (400), for what it means would depend on their order.

Rules: an identity may be touched once, however the entries name it; only conditional creates that find may share what they find. No entry but its own may write what
satisfies the criteria of a conditional create, update or patch: a search afterwards would find two. Criteria that look at other resources or at terminologies are compared as far as
the others among them decide. Deletions come first, so their criteria mean what is stored before.

Specification: https://hl7.org/fhir/R4/http.html#trules
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final

from fhir_server.interactions.aims import Aim
from fhir_server.interactions.entries import at
from fhir_server.interactions.pace import Pace
from fhir_server.storage.port import Put
from resources.errors import FhirError
from search.matching import matches
from search.query import And, Match, Node, TokenTest

_MOST: Final = 200_000
"""So many pairs of criteria and resources are compared for one Bundle."""


def require_distinct(aims: Sequence[Aim]) -> None:
    """400 when one identity is touched twice, or when two entries would create what the same criteria mean."""
    keys: dict[tuple[str, str], Aim] = {}
    conditions: dict[Hashable, Aim] = {}
    for aim in aims:
        for key in aim.keys:
            before = keys.setdefault(key, aim)
            if before is not aim and (before.found is None or aim.found is None):
                said = f"entries {before.entry.index} and {aim.entry.index} are both about {key}"
                raise at(aim.entry, 400, "duplicate", said)
        if aim.guard is not None and aim.resource is not None and not aim.guard.keys:
            before = conditions.setdefault(aim.guard.unique, aim)
            if before is not aim:
                said = f"entries {before.entry.index} and {aim.entry.index} have the same criteria"
                raise at(aim.entry, 400, "duplicate", said, _place(aim))


async def require_apart(aims: Sequence[Aim], puts: Mapping[int, Put], now: int, pace: Pace) -> None:
    """400 when a resource that one entry writes satisfies the criteria of another. `puts`: by entry; `now` in microseconds."""
    conditional = [aim for aim in aims if aim.guard is not None and aim.resource is not None]
    if not conditional:
        return
    written = _Written(puts)
    left = _MOST
    for aim in conditional:
        assert aim.guard is not None
        where = aim.guard.query.where
        others = written.candidates(aim.guard.query.type, where)
        left -= len(others)
        if left < 0:
            said = "the Bundle has too many criteria for its many resources"
            raise at(aim.entry, 413, "too-costly", said, _place(aim))
        for index in others:
            if index != aim.entry.index and _satisfies(aim, where, index, puts[index], now):
                said = f"the resource of entry {index} satisfies the criteria of entry {aim.entry.index}"
                raise at(aim.entry, 400, "duplicate", said, _place(aim))
            await pace()


class _Written:
    """The resources that a Bundle writes, by type and by the codes of their tokens."""

    def __init__(self, puts: Mapping[int, Put]) -> None:
        self._by_type: dict[str, list[int]] = {}
        self._by_code: dict[tuple[str, str], list[int]] = {}
        for index, put in puts.items():
            self._by_type.setdefault(put.key.type, []).append(index)
            for code in {token.code for token in put.entries.tokens}:
                self._by_code.setdefault((put.key.type, code), []).append(index)

    def candidates(self, kind: str, where: Node) -> Sequence[int]:
        """Entries whose resources may satisfy the node: those with one of the codes of its most selective token, else all of the type."""
        found: Sequence[int] = self._by_type.get(kind, ())
        for codes in _codes(where):
            chosen = sorted({index for code in codes for index in self._by_code.get((kind, code), ())})
            found = min(found, chosen, key=len)
        return found


def _satisfies(aim: Aim, where: Node, index: int, put: Put, now: int) -> bool:
    try:
        return matches(where, put.entries, put.key, now)
    except FhirError as error:
        said = (
            f"{error.issues[0].diagnostics}, here the resource of entry {index};"
            " add a criterion that tells the two apart (an identifier), or send them in two Bundles"
        )
        raise at(aim.entry, error.status, error.issues[0].code, said, _place(aim)) from None


def _codes(where: Node) -> Iterator[tuple[str, ...]]:
    """For each token that must match, the codes of which whatever satisfies the node has one."""
    match where:
        case Match(test=TokenTest(codes=codes)) if codes is not None:
            yield codes
        case And(parts):
            for part in parts:
                yield from _codes(part)


def _place(aim: Aim) -> str:
    return ".request.ifNoneExist" if aim.entry.method == "POST" else ".request.url"
