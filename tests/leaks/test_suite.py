"""The suite notices when one call of the store, or one look-up beside it, is not narrowed: for each of them the narrowing is taken away."""

import re
from dataclasses import replace

import pytest

from fhir_server.interactions import attachments, search, sections
from fhir_server.interactions.criteria import Criterion
from fhir_server.interactions.guarded import GuardedStore
from fhir_server.storage.port import Guard
from fhir_server.storage.sqlite import SqliteStore
from search.narrowing import EVERYTHING, Narrowing
from search.query import All
from search.rewrite import rewrite
from smart_auth.access.decisions import Access
from tests.leaks.asks import generated
from tests.leaks.judging import leaks
from tests.leaks.people import PEOPLE
from tests.leaks.worlds import pair

pytestmark = pytest.mark.anyio


def _verb(name: str):
    """The verb of the store, asked without a narrowing."""

    def take_away(patch: pytest.MonkeyPatch) -> None:
        original = getattr(SqliteStore, name)

        async def verb(self, *given):
            return await original(self, *(EVERYTHING if isinstance(one, Narrowing) else one for one in given))

        patch.setattr(SqliteStore, name, verb)

    return take_away


def _keys(patch: pytest.MonkeyPatch) -> None:
    """What a Binary is attached to is looked for among all there is."""
    patch.setattr(attachments, "rewrite", lambda query, narrowing: rewrite(query, EVERYTHING))
    _verb("keys")(patch)


def _explain(patch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told how a search is run."""
    original = Access.narrowing
    patch.setattr(Access, "narrowing", lambda self, letters: replace(original(self, letters), operates=True))
    patch.setattr(GuardedStore, "_require_operator", lambda self: None)


def _guards(patch: pytest.MonkeyPatch) -> None:
    """What a conditional write relies on is looked up among all there is."""

    def guard(self: Criterion, keys) -> Guard:
        return Guard(replace(self.query, narrowing=All()), frozenset(keys), self.unique)

    patch.setattr(Criterion, "guard", guard)


def _chains(patch: pytest.MonkeyPatch) -> None:
    """A search looks through what it may not show."""
    for module in (search, sections):
        patch.setattr(module, "rewrite", lambda query, narrowing: rewrite(query, EVERYTHING))


CASES = {
    "read": (_verb("read"), "ann-with-all", r"^GET (Organization|Condition)/[\w-]+$"),
    "read_version": (_verb("read_version"), "ann-with-all", r"^GET (Organization|Condition)/[\w-]+/_history/1$"),
    "history": (_verb("history"), "ann-with-all", r"^GET (Condition/)?_history$"),
    "search": (_verb("search"), "ann-with-all", r"^GET (Observation|Condition)\?_(rev)?include=\*$"),
    "keys": (_keys, "ann-with-all", r"^GET Binary/\w+-scan$"),
    "everything": (_verb("everything"), "ann-with-all", r"^GET Patient/\w+/\$everything$"),
    "labelled": (_verb("labelled"), "ann-with-all", r"^GET (Observation|Condition)/\$meta$"),
    "referring": (_verb("referring"), "integration", r"^GET Observation/ann-[\w-]+/\$validate\?mode=delete$"),
    "explain": (_explain, "ann-with-all", r"^GET (Patient|Condition)\?_explain=true$"),
    "guards": (_guards, "integration", r"^POST (Patient|Claim) .*If-None-Exist.*quagga"),
    "chains": (_chains, "ann-with-all", r"^GET Observation\?focus:Patient\.name=quagga"),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_call_without_its_narrowing_is_noticed(name, tmp_path, monkeypatch):
    take_away, who, pattern = CASES[name]
    person = next(one for one in PEOPLE if one.name == who)
    asks = [ask for ask in generated() if re.search(pattern, str(ask))]
    assert asks
    for narrowed in (True, False):
        folder = tmp_path / str(narrowed)
        folder.mkdir()
        if not narrowed:
            take_away(monkeypatch)
        async with pair(folder, person, referential_integrity=name == "referring") as both:
            assert (await leaks(both, asks) == []) is narrowed
