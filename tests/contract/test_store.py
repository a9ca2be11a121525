"""The write and read side of the port, on every store: versions, conflicts, atomicity, order, history."""

import asyncio
import itertools
import json
import os

import pytest

from fhir_server.storage.port import Conflict, Delete, FollowUp, Guard, HistoryQuery, UnitOfWork
from resources.errors import FhirError
from resources.model import ResourceKey
from search.entries import Entries, ReferenceEntry, TokenEntry, UriEntry
from search.narrowing import EVERYTHING, Narrowing
from search.parameters import Parameter
from search.query import All, And, HasId, Match, Nothing, Query, TokenTest

pytestmark = pytest.mark.anyio
CODE = Parameter("Observation", "code", "token", "", None)
A = ResourceKey("Observation", "a")


def coded(code):
    return Query("Observation", Match(CODE, TokenTest(None, (code,))))


async def ids(store, query):
    return [row.stored.key.id for row in (await store.search(query, EVERYTHING)).rows]


async def test_a_created_resource_is_read_with_version_one(store, make):
    (written,) = await store.commit(make.unit(make.put("Observation/a", method="POST", expected=0, status="final")))
    assert (written.version, written.created, written.changed) == (1, True, True)
    stored = await store.read(A, EVERYTHING)
    assert (stored.version, stored.deleted, stored.method, stored.body) == (1, False, "POST", written.body)
    body = json.loads(stored.body)
    assert body["meta"]["versionId"] == "1"
    assert stored.updated == written.updated


async def test_what_never_was_is_none(store):
    assert await store.read(A, EVERYTHING) is None
    assert await store.read_version(A, 1, EVERYTHING) is None


async def test_an_update_makes_the_next_version_and_keeps_the_last(store, make):
    (first,) = await store.commit(make.unit(make.put("Observation/a", x=1)))
    (second,) = await store.commit(make.unit(make.put("Observation/a", x=2)))
    assert (second.version, second.created) == (2, False)
    assert second.updated > first.updated
    assert (await store.read(A, EVERYTHING)).body == second.body
    assert (await store.read_version(A, 1, EVERYTHING)).body == first.body
    assert (await store.read_version(A, 2, EVERYTHING)).body == second.body
    assert await store.read_version(A, 3, EVERYTHING) is None
    assert await store.read_version(A, 0, EVERYTHING) is None


async def test_identical_content_makes_no_new_version(store, make):
    (first,) = await store.commit(make.unit(make.put("Observation/a", x=1)))
    (again,) = await store.commit(make.unit(make.put("Observation/a", x=1)))
    assert (again.version, again.updated, again.changed, again.created) == (1, first.updated, False, False)
    assert again.body == first.body


async def test_delete_leaves_a_deleted_version_and_recreation_goes_on(store, make):
    await store.commit(make.unit(make.put("Observation/a", entries=make.tagged("x"))))
    (gone,) = await store.commit(make.unit(Delete(A)))
    assert (gone.version, gone.changed) == (2, True)
    stored = await store.read(A, EVERYTHING)
    assert (stored.deleted, stored.version, stored.body, stored.method) == (True, 2, b"", "DELETE")
    assert await ids(store, coded("x")) == []
    (again,) = await store.commit(make.unit(Delete(A)))
    assert (again.version, again.changed) == (2, False)
    (back,) = await store.commit(make.unit(make.put("Observation/a", entries=make.tagged("x"))))
    assert (back.version, back.created) == (3, True)
    assert await ids(store, coded("x")) == ["a"]
    assert (await store.read_version(A, 2, EVERYTHING)).deleted


async def test_deleting_what_never_was_changes_nothing(store):
    (gone,) = await store.commit(UnitOfWork((Delete(A),)))
    assert (gone.version, gone.changed) == (0, False)
    assert await store.read(A, EVERYTHING) is None


@pytest.mark.parametrize(
    ("expected", "reason"), [(0, "exists"), (1, "version"), (3, "version")], ids=["must be new", "older", "newer"]
)
async def test_an_expected_version_that_is_not_current_is_a_conflict(store, make, expected, reason):
    for x in (1, 2):
        await store.commit(make.unit(make.put("Observation/a", x=x)))
    for write in (make.put("Observation/a", expected=expected, x=9), Delete(A, expected)):
        with pytest.raises(Conflict) as caught:
            await store.commit(make.unit(write))
        assert (caught.value.reason, caught.value.key) == (reason, A)
    assert (await store.read(A, EVERYTHING)).version == 2


async def test_expected_zero_fits_a_deleted_resource(store, make):
    await store.commit(make.unit(make.put("Observation/a")))
    await store.commit(make.unit(Delete(A, 1)))
    (back,) = await store.commit(make.unit(make.put("Observation/a", expected=0)))
    assert back.version == 3


async def test_a_unit_with_one_conflict_changes_nothing(store, make):
    await store.commit(make.unit(make.put("Observation/a")))
    with pytest.raises(Conflict):
        await store.commit(
            make.unit(
                make.put("Observation/b", entries=make.tagged("x", "Patient/p")),
                make.put("Observation/a", expected=0),
                follow_ups=[FollowUp("ledger", "k", {})],
            )
        )
    assert await store.read(ResourceKey("Observation", "b"), EVERYTHING) is None
    assert await ids(store, coded("x")) == []
    assert store.follow_up_sync("ledger", "k") is None


async def test_follow_ups_are_committed_with_their_unit(store, make):
    await store.commit(make.unit(follow_ups=[FollowUp("ledger", "k", {"n": 1})]))
    assert json.loads(store.follow_up_sync("ledger", "k")) == {"n": 1}


async def test_writes_of_one_unit_follow_each_other(store, make):
    outcome = await store.commit(
        make.unit(make.put("Observation/a", expected=0, x=1), make.put("Observation/a", expected=1, x=2), Delete(A, 2))
    )
    assert [w.version for w in outcome] == [1, 2, 3]
    assert outcome[0].updated < outcome[1].updated < outcome[2].updated
    assert (await store.read_version(A, 1, EVERYTHING)).body == outcome[0].body


async def test_an_update_replaces_the_entries(store, make):
    await store.commit(make.unit(make.put("Observation/a", x=1, entries=make.tagged("x"))))
    await store.commit(make.unit(make.put("Observation/a", x=2, entries=make.tagged("y"))))
    assert await ids(store, coded("x")) == []
    assert await ids(store, coded("y")) == ["a"]


async def test_contained_resources_are_not_found_by_ordinary_searches_and_go_with_their_container(store, make):
    inner = {("Observation", "c"): Entries(tokens=[TokenEntry("code", "s", "inside")])}
    await store.commit(make.unit(make.put("Observation/a", x=1, entries=Entries(contained=inner))))
    await store.commit(make.unit(make.put("Observation/a", x=2, entries=Entries(contained=inner))))
    assert await ids(store, coded("inside")) == []
    assert await ids(store, Query("Observation", HasId(("a#c",)))) == []
    await store.commit(make.unit(Delete(A)))
    assert await ids(store, Query("Observation", HasId(("a",)))) == []


# ---- guards


async def test_a_guard_that_holds_lets_the_unit_pass(store, make):
    await store.commit(make.unit(make.put("Observation/a", entries=make.tagged("x"))))
    guard = Guard(coded("x"), frozenset({A}), "code=x")
    (written,) = await store.commit(make.unit(make.put("Observation/b"), guards=[guard]))
    assert written.created


@pytest.mark.parametrize("keys", [frozenset(), frozenset({A, ResourceKey("Observation", "z")})], ids=["none", "more"])
async def test_a_guard_that_does_not_hold_is_a_conflict(store, make, keys):
    await store.commit(make.unit(make.put("Observation/a", entries=make.tagged("x"))))
    with pytest.raises(Conflict) as caught:
        await store.commit(make.unit(make.put("Observation/b"), guards=[Guard(coded("x"), keys, "code=x")]))
    assert caught.value.reason == "guard"
    assert await store.read(ResourceKey("Observation", "b"), EVERYTHING) is None


async def test_of_many_parallel_conditional_creates_one_wins(open_store, make):
    stores = [open_store() for _ in range(3)]
    guard = Guard(coded("x"), frozenset(), "code=x")

    async def create(number):
        write = make.put(f"Observation/o{number}", method="POST", expected=0, entries=make.tagged("x"))
        try:
            await stores[number % 3].commit(make.unit(write, guards=[guard]))
        except Conflict:
            return 0
        return 1

    try:
        assert sum(await asyncio.gather(*(create(number) for number in range(60)))) == 1
        assert len(await ids(stores[0], coded("x"))) == 1
    finally:
        for store in stores:
            await store.close()


# ---- order and history


@pytest.mark.serial
async def test_updated_is_strictly_increasing_over_processes(open_store, make):
    open_store().close_sync()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                store = open_store()
                for at in range(30):
                    store.commit_sync([make.unit(make.put(f"Observation/p{number}-{at}"))])
                store.close_sync()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [(await asyncio.to_thread(os.waitpid, child, 0))[1] for child in children] == [0, 0, 0]
    store = open_store()
    page = await store.history(HistoryQuery(None, None, 1000), EVERYTHING)
    times = [version.updated for version in page.versions]
    assert len(times) == 90
    assert all(later > earlier for later, earlier in itertools.pairwise(times))
    await store.close()


async def history_of(store, count, **scope):
    found, before = [], None
    while True:
        page = await store.history(HistoryQuery(scope.get("type"), scope.get("id"), count, before=before), EVERYTHING)
        found += page.versions
        if not page.more:
            return found
        before = page.versions[-1].updated


@pytest.mark.parametrize("count", [1, 2, 3, 100])
async def test_history_is_newest_first_and_pages_lose_nothing(store, make, count):
    for x in range(3):
        await store.commit(make.unit(make.put("Observation/a", x=x), make.put(f"Patient/p{x}")))
    await store.commit(make.unit(Delete(A)))
    assert [v.version for v in await history_of(store, count, type="Observation", id="a")] == [4, 3, 2, 1]
    kinds = await history_of(store, count, type="Patient")
    assert [v.key.id for v in kinds] == ["p2", "p1", "p0"]
    everything = await history_of(store, count)
    assert len(everything) == 7
    assert [v.deleted for v in everything] == [True] + [False] * 6
    assert everything == sorted(everything, key=lambda v: -v.updated)


async def test_history_is_bounded_by_times_and_counted(store, make):
    written = [(await store.commit(make.unit(make.put("Observation/a", x=x))))[0] for x in range(4)]
    query = HistoryQuery("Observation", "a", 10, since=written[1].updated, until=written[2].updated, total=True)
    page = await store.history(query, EVERYTHING)
    assert ([v.version for v in page.versions], page.total, page.more) == ([3, 2], 2, False)


async def test_history_tells_what_was_current_at_a_time(store, make):
    written = [(await store.commit(make.unit(make.put("Observation/a", x=x))))[0] for x in range(2)]
    written += await store.commit(make.unit(Delete(A)))
    written += await store.commit(make.unit(make.put("Observation/a", x=3)))
    first, second, gone, last = (one.updated for one in written)
    for (low, high), versions in {
        (first - 9, first - 1): [],
        (first, first): [1],
        (first, second): [2, 1],
        (second - 1, second - 1): [1],
        (gone, last - 1): [3],
        (first - 9, last + 9): [4, 3, 2, 1],
        (last + 1, last + 9): [4],
    }.items():
        page = await store.history(HistoryQuery("Observation", None, 9, at=(low, high), total=True), EVERYTHING)
        assert ([v.version for v in page.versions], page.total) == (versions, len(versions))


async def test_history_tells_which_versions_created(store, make):
    for x in range(2):
        await store.commit(make.unit(make.put("Observation/a", x=x)))
    await store.commit(make.unit(Delete(A)))
    await store.commit(make.unit(make.put("Observation/a", x=3)))
    page = await store.history(HistoryQuery("Observation", "a", 3), EVERYTHING)
    assert list(zip((v.version for v in page.versions), page.created, strict=True)) == [
        (4, True), (3, False), (2, False),
    ]  # fmt: skip
    older = await store.history(HistoryQuery(None, None, 9, before=page.versions[-1].updated), EVERYTHING)
    assert older.created == (True,)


def naming(*references):
    """Entries of a List with these items, as (resource, version)."""
    return Entries(
        references=[ReferenceEntry("item", ResourceKey(*name.split("/")), version) for name, version in references]
    )


async def test_history_of_what_lists_refer_to(store, make):
    for x in range(2):
        await store.commit(make.unit(make.put("Observation/a", x=x), make.put("Observation/b", x=x)))
    await store.commit(make.unit(make.put("List/all", entries=naming(("Observation/a", ""), ("Observation/c", "")))))
    await store.commit(make.unit(make.put("List/one", entries=naming(("Observation/b", "1")))))
    for lists, expected in {
        ("all",): ["a2", "a1"],
        ("one",): ["b1"],
        ("all", "one"): ["a2", "b1", "a1"],
        ("never",): [],
    }.items():
        page = await store.history(HistoryQuery("Observation", None, 9, lists=lists, total=True), EVERYTHING)
        assert ([f"{v.key.id}{v.version}" for v in page.versions], page.total) == (expected, len(expected))
    unseen = Narrowing("u", lambda kind: Nothing() if kind == "List" else All())
    assert (await store.history(HistoryQuery(None, None, 9, lists=("all",)), unseen)).versions == ()


# ---- labels


async def test_every_label_in_use_is_borne_by_one_of_those_told(store, make):
    def bearing(*codes, profile=None):
        uris = [UriEntry("_profile", profile)] if profile else []
        return Entries(tokens=[TokenEntry("_tag", "s", code) for code in codes], uris=uris)

    labels = {
        "Observation/a": bearing("x", "y"),
        "Observation/b": bearing("x"),
        "Observation/c": bearing(profile="urn:p"),
        "Patient/d": bearing("z"),
        "Patient/e": bearing("gone"),
    }
    await store.commit(make.unit(*(make.put(name, entries=entries) for name, entries in labels.items())))
    await store.commit(make.unit(Delete(ResourceKey("Patient", "e"))))

    async def told(kind, limit=9, narrowing=EVERYTHING):
        return [str(stored.key) for stored in await store.labelled(kind, limit, narrowing)]

    assert sorted(await told("Observation")) == ["Observation/a", "Observation/c"]
    assert sorted(await told(None)) == ["Observation/a", "Observation/c", "Patient/d"]
    assert len(await told(None, 2)) == 2
    assert await told("Encounter") == []
    only_b = Narrowing("u", lambda _type: HasId(("b",)))
    assert await told(None, narrowing=only_b) == ["Observation/b"]


# ---- narrowing


async def test_what_is_outside_the_narrowing_does_not_exist(store, make):
    await store.commit(make.unit(make.put("Observation/a", entries=make.tagged("x"))))
    await store.commit(make.unit(make.put("Observation/b", entries=make.tagged("y"))))
    only_y = Narrowing("u", lambda _type: Match(CODE, TokenTest(None, ("y",))))
    nothing = Narrowing("u", lambda _type: Nothing())
    assert await store.read(A, only_y) is None
    assert await store.read_version(A, 1, only_y) is None
    assert (await store.read(ResourceKey("Observation", "b"), only_y)).version == 1
    page = await store.search(Query("Observation", And(()), total="accurate"), only_y)
    assert ([row.stored.key.id for row in page.rows], page.total) == (["b"], 1)
    assert [v.key.id for v in (await store.history(HistoryQuery(None, None, 9), only_y)).versions] == ["b"]
    assert (await store.history(HistoryQuery("Observation", "a", 9, total=True), only_y)).total == 0
    assert (await store.search(coded("x"), nothing)).rows == ()


async def test_a_closed_store_refuses_writes(open_store, make):

    store = open_store()
    await store.close()
    with pytest.raises(FhirError):
        await store.commit(make.unit(make.put("Observation/a")))
