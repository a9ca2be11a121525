"""The requests of the leak suite, generated from the route table, the operations and the registry of search parameters, about every seed.

`generated` gives all, in an order that is always the same. What asks for something hidden has a twin that asks for the same of what is not there.
"""

from collections.abc import Iterable
from functools import cache
from itertools import chain

from tests.leaks.calls import bundles, operations, routes, writes
from tests.leaks.searches import chains, compartments, shapes, special, values
from tests.leaks.worlds import Ask


@cache
def generated() -> tuple[Ask, ...]:
    """All requests, without repeats."""
    ways = (routes, values, chains, shapes, compartments, operations, writes, bundles, special)
    return tuple(dict.fromkeys(chain.from_iterable(way() for way in ways)))


def sample(asks: Iterable[Ask], every: int, offset: int) -> list[Ask]:
    """One of so many."""
    return list(asks)[offset % every :: every]


def twin(ask: Ask, words: Iterable[str], initial: str = "z") -> Ask:
    """The same of what is not there: the words are changed to others that nothing has."""
    return Ask(
        ask.method,
        absent(ask.path, words, initial),
        absent(ask.body, words, initial),
        tuple((name, absent(value, words, initial)) for name, value in ask.headers),
    )


def absent(text: str, words: Iterable[str], initial: str = "z") -> str:
    """The text with each of the words changed, to one of the same length."""
    for word in words:
        text = text.replace(word, f"{initial}{word[1:]}")
    return text
