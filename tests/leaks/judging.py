"""What counts as a leak, told in a line each.

An answer leaks when it differs from that of the hospital without what the person may not see, when it has a word of what is hidden that was not asked by,
or when it differs from the answer to the same about what is not there: in status, header, text, or in the SQL that was run for it.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator

from tests.leaks.asks import absent, twin
from tests.leaks.people import Person
from tests.leaks.worlds import Answer, Ask, Pair

_PAGES = 2
_DIGITS = re.compile(rb"[0-9]")


async def leaks(pair: Pair, asks: Iterable[Ask]) -> list[str]:
    """The leaks of asking all of this."""
    found: list[str] = []
    for ask in asks:
        if not _by_design(pair.person, ask):
            found += [f"{pair.person.name}: {ask}: {said}" async for said in _judged(pair, ask)]
    return found


def _by_design(person: Person, ask: Ask) -> bool:
    """A client on its own may choose ids, and so is told which are taken."""
    alone = person.user is None and not person.patient
    return alone and ("PUT" in (ask.method, *re.findall(r'"method": "(PUT)"', ask.body))) and "?" not in ask.path


async def _judged(pair: Pair, ask: Ask) -> AsyncIterator[str]:
    words = pair.person.words
    said = any(ask.says(word) for word in words)
    if said:  # what is looked up once is looked up now
        await pair.ask(twin(ask, words, "y"))
    whole, double = await pair.ask(ask)
    for one in _told(whole, double, ask, words):
        yield one
    if said:
        other, _ = await pair.ask(twin(ask, words))
        for one in _unlike(whole, other, ask, words):
            yield one
    for _ in range(_PAGES):
        if ask.method != "GET" or not (whole.following and double.following):
            break
        whole = await pair.whole.ask(Ask("GET", whole.following), pair.token)
        double = await pair.double.ask(Ask("GET", double.following), pair.token)
        for one in _told(whole, double, ask, words):
            yield f"on a later page, {one}"


def _told(whole: Answer, double: Answer, ask: Ask, words: Iterable[str]) -> Iterator[str]:
    if whole.status == 500 or double.status == 500:
        yield f"500 {whole.body[:300]!r}"
    elif whole.shown != double.shown:
        yield f"differs without what is hidden: {_difference(whole.shown, double.shown)}"
    for word in words:
        if whole.holds(word) and not ask.says(word):
            at = whole.body.find(word.encode())
            yield f"says {word}: {whole.body[max(at - 80, 0) : at + 80]!r}"


def _unlike(hidden: Answer, missing: Answer, ask: Ask, words: Iterable[str]) -> Iterator[str]:
    mine = (
        hidden.status,
        tuple((name, absent(value, words)) for name, value in hidden.headers),
        absent(hidden.body.decode("latin-1"), words).encode("latin-1"),
    )
    theirs = missing.shown
    if ask.method not in ("GET", "HEAD"):  # it is later, and a new resource has an id of its own
        mine = (mine[0], tuple(pair for pair in mine[1] if pair[0] not in _NEW), _DIGITS.sub(b"0", mine[2]))
        theirs = (theirs[0], tuple(pair for pair in theirs[1] if pair[0] not in _NEW), _DIGITS.sub(b"0", theirs[2]))
    if mine != theirs:
        yield f"differs from what is not there: {_difference(mine, theirs)}"
    elif hidden.statements != missing.statements:
        yield f"other SQL than for what is not there: {_statements(hidden, missing)}"


_NEW = frozenset({"location", "content-location", "last-modified", "etag"})


def _difference(one: tuple, other: tuple) -> str:
    for mine, theirs in zip(one, other, strict=True):
        if mine != theirs:
            if isinstance(mine, bytes):
                at = next((at for at, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), 0)
                return f"{mine[max(at - 60, 0) : at + 140]!r} / {theirs[max(at - 60, 0) : at + 140]!r}"
            return f"{mine!r} / {theirs!r}"
    return ""


def _statements(hidden: Answer, missing: Answer) -> str:
    for mine, theirs in zip(hidden.statements, missing.statements, strict=False):
        if mine != theirs:
            return f"{mine[:300]} / {theirs[:300]}"
    more = max(hidden.statements, missing.statements, key=len)[min(len(hidden.statements), len(missing.statements)) :]
    return f"{len(hidden.statements)} / {len(missing.statements)}: {more[0][:300]}"
