"""The verb Expunge of the port, on every store: what goes, what stays, and that nothing else notices."""

import pytest

from fhir_server.storage.port import Delete, Expunge, HistoryQuery
from resources.model import ResourceKey
from search.entries import Entries, ReferenceEntry, TokenEntry
from search.narrowing import EVERYTHING
from search.parameters import Parameter
from search.query import Match, Query, ReferenceTest, TextTest

pytestmark = pytest.mark.anyio
A = ResourceKey("Observation", "a")
CODE = Parameter("Observation", "code", "token", "", None)


async def lived(store, make, name, versions, *, deleted=False, entries=None):
    """A resource of so many versions, the last one a deletion where asked."""
    for number in range(versions - deleted):
        await store.commit(make.unit(make.put(name, number=number, entries=entries)))
    if deleted:
        await store.commit(make.unit(Delete(ResourceKey(*name.split("/")))))


async def versions(store, kind=None, name=None):
    page = await store.history(HistoryQuery(kind, name, 1000), EVERYTHING)
    return sorted(f"{version.key.id}{version.version}" for version in page.versions)


@pytest.fixture
async def lives(store, make):
    """Observations a (live, 3 versions) and b (deleted, 3), patient p (deleted, 2) and q (live, 2)."""
    await lived(store, make, "Observation/a", 3, entries=make.tagged("x", "Patient/p"))
    await lived(store, make, "Observation/b", 3, deleted=True)
    await lived(store, make, "Patient/p", 2, deleted=True)
    await lived(store, make, "Patient/q", 2)
    return store


@pytest.mark.parametrize(
    ("what", "gone", "left"),
    [
        pytest.param(Expunge("Observation", "b", 99, deleted=True), 3, "a1 a2 a3 p1 p2 q1 q2", id="a deleted resource"),
        pytest.param(Expunge("Observation", "a", 99, deleted=True), 0, "a1 a2 a3 b1 b2 b3 p1 p2 q1 q2", id="a live one"),
        pytest.param(Expunge("Observation", "a", 99, previous=True), 2, "a3 b1 b2 b3 p1 p2 q1 q2", id="old versions"),
        pytest.param(Expunge("Observation", "b", 99, previous=True), 2, "a1 a2 a3 b3 p1 p2 q1 q2", id="of a deleted one"),
        pytest.param(Expunge("Observation", "a", 1, previous=True), 1, "a2 a3 b1 b2 b3 p1 p2 q1 q2", id="the oldest first"),
        pytest.param(Expunge("Observation", "b", 2, deleted=True), 2, "a1 a2 a3 b3 p1 p2 q1 q2", id="part of a deleted one"),
        pytest.param(Expunge("Observation", None, 99, deleted=True), 3, "a1 a2 a3 p1 p2 q1 q2", id="deleted of a type"),
        pytest.param(Expunge("Observation", None, 99, previous=True), 4, "a3 b3 p1 p2 q1 q2", id="old ones of a type"),
        pytest.param(Expunge(None, None, 99, deleted=True), 5, "a1 a2 a3 q1 q2", id="all that is deleted"),
        pytest.param(Expunge(None, None, 99, previous=True), 6, "a3 b3 p2 q2", id="all that is old"),
        pytest.param(Expunge(None, None, 99, deleted=True, previous=True), 8, "a3 q2", id="all but what is live"),
        pytest.param(Expunge(None, None, 7, deleted=True, previous=True), 7, "a3 q1 q2", id="up to the limit"),
        pytest.param(Expunge("Observation", "never", 9, deleted=True, previous=True), 0, None, id="what never was"),
        pytest.param(Expunge("Encounter", None, 9, deleted=True, previous=True), 0, None, id="a type that never was"),
    ],
)  # fmt: skip
async def test_versions_are_removed(lives, what, gone, left):
    before = await versions(lives)
    assert await lives.expunge(what) == gone
    assert await versions(lives) == (before if left is None else left.split())
    a = await lives.read(A, EVERYTHING)
    assert (a.version, a.deleted) == (3, False)


async def test_an_expunged_resource_is_as_if_it_had_never_been(lives, make):
    await lives.expunge(Expunge("Observation", "b", 99, deleted=True))
    b = ResourceKey("Observation", "b")
    assert await lives.read(b, EVERYTHING) is None
    assert await lives.read_version(b, 1, EVERYTHING) is None
    assert await versions(lives, "Observation", "b") == []
    (back,) = await lives.commit(make.unit(make.put("Observation/b", expected=0)))
    assert (back.version, back.created) == (1, True)
    assert await versions(lives, "Observation", "b") == ["b1"]


async def test_an_expunged_version_is_not_known(lives, make):
    await lives.expunge(Expunge("Observation", "a", 99, previous=True))
    assert await lives.read_version(A, 1, EVERYTHING) is None
    assert (await lives.read_version(A, 3, EVERYTHING)).version == 3
    (next_,) = await lives.commit(make.unit(make.put("Observation/a", number=9)))
    assert next_.version == 4
    assert await versions(lives, "Observation", "a") == ["a3", "a4"]


async def test_references_to_what_is_gone_stay(lives, make):
    subject = Parameter("Observation", "subject", "reference", "", None)
    to_p = Query("Observation", Match(subject, ReferenceTest((ResourceKey("Patient", "p"),), None)))
    await lives.expunge(Expunge("Patient", "p", 99, deleted=True))
    assert [row.stored.key for row in (await lives.search(to_p, EVERYTHING)).rows] == [A]
    await lives.commit(make.unit(make.put("Patient/p")))
    assert [row.stored.key for row in (await lives.search(to_p, EVERYTHING)).rows] == [A]


async def test_more_than_one_commit_takes_is_removed(store, make):
    await lived(store, make, "Observation/a", 450)
    assert await store.expunge(Expunge(None, None, 430, previous=True)) == 430
    assert len(await versions(store)) == 20
    assert await store.expunge(Expunge(None, None, 430, previous=True)) == 19


async def test_texts_that_others_have_are_found_by_all_processes(open_store, make):
    """Another process has the number of a text in mind that is removed, and writes the text again."""
    one, other = open_store(), open_store()

    def worded(text):
        return Entries(
            tokens=[TokenEntry("code", "s", "c", 0, text)],
            references=[ReferenceEntry("subject", ResourceKey("Patient", "p"), "", 0, text)],
        )

    def by(text):
        return Query("Observation", Match(CODE, TextTest(text)))

    async def found(store, text):
        return [row.stored.key.id for row in (await store.search(by(text), EVERYTHING)).rows]

    async def put(store, name, text):
        await store.commit(make.unit(make.put(name, text=text, entries=worded(text))))

    try:
        await put(other, "Observation/a", "doris duck")
        await put(other, "Observation/b", "donald duck")
        await put(one, "Observation/a", "doris goose")
        await other.commit(make.unit(Delete(ResourceKey("Observation", "b"))))
        assert await one.expunge(Expunge(None, None, 99, deleted=True, previous=True)) == 3
        assert await found(other, "duck") == []
        assert await found(other, "goose") == ["a"]
        await put(other, "Observation/c", "donald duck")
        await put(one, "Observation/d", "doris duck")
        assert await found(one, "duck") == ["c", "d"]
        assert await found(other, "doris") == ["a", "d"]
    finally:
        await one.close()
        await other.close()
