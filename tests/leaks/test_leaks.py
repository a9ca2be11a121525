"""No answer to anybody tells of what they may not see: generated requests, asked of a hospital and of its double that lacks what is hidden.

The quick tier asks some hundreds of the generated requests, a part of them for each person; `--full` more than 5,000, and all of the ways of asking.
"""

import json

import pytest

from tests.leaks.asks import generated, sample
from tests.leaks.hospital import Seed, seeds
from tests.leaks.judging import leaks
from tests.leaks.people import PEOPLE, Person
from tests.leaks.worlds import Ask, Pair, pair

pytestmark = pytest.mark.anyio

_PEOPLE = pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.name)
_QUICK, _FULL = 800, 90
"""One of so many of the requests for each person."""
_AT_LEAST = 5000


@_PEOPLE
async def test_each_person_is_answered_as_if_what_they_may_not_see_were_not_there(person: Person, tmp_path):
    async with pair(tmp_path, person) as both:
        seen = {seed.reference for seed in seeds() if await _is_seen(both, seed)}
        found = await leaks(both, sample(generated(), _QUICK, PEOPLE.index(person) * 13))
    assert seen == {seed.reference for seed in seeds() if person.sees(seed)}
    _require_none(found)


async def _is_seen(both: Pair, seed: Seed) -> bool:
    """By reading or by searching: a token may allow one of them alone."""
    for path in (seed.reference, f"{seed.type}?_id={seed.resource['id']}"):
        answer = await both.whole.ask(Ask("GET", path), both.token)
        if answer.status == 200 and (path == seed.reference or "entry" in json.loads(answer.body)):
            return True
    return False


@pytest.mark.full
@_PEOPLE
async def test_each_person_is_answered_so_whatever_they_ask(person: Person, tmp_path):
    async with pair(tmp_path, person) as both:
        found = await leaks(both, sample(generated(), _FULL, PEOPLE.index(person) * 13))
    _require_none(found)


@pytest.mark.parametrize("person", [one for one in PEOPLE if "cruds" in one.scope], ids=lambda person: person.name)
async def test_references_are_refused_alike_whether_their_target_is_hidden_or_missing(person: Person, tmp_path):
    asks = [ask for ask in generated() if ask.method in ("POST", "PUT", "PATCH", "DELETE")]
    async with pair(tmp_path, person, referential_integrity=True) as both:
        found = await leaks(both, sample(asks, 90, PEOPLE.index(person)))
    _require_none(found)


def test_enough_is_asked_in_full():
    assert len(generated()) // _FULL * len(PEOPLE) >= _AT_LEAST


def _require_none(found: list[str]) -> None:
    assert not found, f"{len(found)} leaks:\n" + "\n".join(found[:20])
