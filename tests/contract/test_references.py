"""Enforced references, on every store: decided inside the commit, by how the unit leaves the store."""

import asyncio

import pytest
from msgspec.structs import replace

from fhir_server.storage.port import Conflict, Delete
from resources.model import ResourceKey
from search.entries import Entries, ReferenceEntry
from search.narrowing import EVERYTHING, Narrowing
from search.query import All, Nothing

pytestmark = pytest.mark.anyio
P, OBS, Q = ResourceKey("Patient", "p"), ResourceKey("Observation", "o"), ResourceKey("Patient", "q")


def to(*targets, version=""):
    return Entries(references=[ReferenceEntry("subject", target, version) for target in targets])


@pytest.fixture
def put(make):
    def made(key, *targets, version="", **members):
        return make.put(str(key), entries=to(*targets, version=version), **members)

    return made


@pytest.fixture
def commit(store, make):
    async def committed(*writes, enforced=True):
        return await store.commit(replace(make.unit(*writes), enforce_references=enforced))

    return committed


REFUSED = [
    pytest.param(lambda put: [put(OBS, P)], ("target", P), id="a reference to what never was"),
    pytest.param(
        lambda put: [put(P), put(OBS, P, version="2")], ("target", P), id="a reference to a version that never was"
    ),
    pytest.param(
        lambda put: [put(P), put(OBS, P, version="x")], ("target", P), id="a reference to a version that is no number"
    ),
    pytest.param(lambda put: [put(OBS, P, Q), put(P)], ("target", Q), id="one reference of two"),
    pytest.param(lambda put: [put(P), Delete(P), put(OBS, P)], ("target", P), id="what the unit deletes itself"),
]


@pytest.mark.parametrize(("writes", "conflict"), REFUSED)
async def test_a_unit_that_would_refer_to_nothing_is_refused_and_changes_nothing(store, put, commit, writes, conflict):
    with pytest.raises(Conflict) as found:
        await commit(*writes(put))
    assert (found.value.reason, found.value.key) == conflict
    for key in (P, OBS):
        assert await store.read(key, EVERYTHING) is None
    await commit(*writes(put), enforced=False)


@pytest.mark.parametrize(
    "writes",
    [
        pytest.param(lambda put: [put(OBS, P), put(P)], id="what comes later in the unit"),
        pytest.param(lambda put: [put(P, P)], id="itself"),
        pytest.param(lambda put: [put(P, Q), put(Q, P)], id="each other"),
        pytest.param(lambda put: [put(P), put(OBS, P, version="1")], id="the version that the unit writes"),
        pytest.param(lambda put: [put(P), put(OBS, P), put(OBS, x=1), Delete(P)], id="what it refers to no longer"),
        pytest.param(lambda put: [put(OBS, ResourceKey("Patient", "o#inside"))], id="what it contains"),
    ],
)
async def test_a_unit_may_refer_to_what_is_there_afterwards(put, commit, writes):
    await commit(*writes(put))


async def test_contained_resources_refer_too(make, commit, put):
    entries = Entries(contained={("Basic", "x"): to(P)})
    with pytest.raises(Conflict, match="target"):
        await commit(make.put("Observation/o", entries=entries))
    await commit(put(P), make.put("Observation/o", entries=entries))
    with pytest.raises(Conflict, match="referred"):
        await commit(Delete(P))


async def test_what_is_referred_to_is_not_deleted(store, put, commit):
    await commit(put(P), put(OBS, P))
    with pytest.raises(Conflict) as found:
        await commit(Delete(P))
    assert (found.value.reason, found.value.key) == ("referred", P)
    assert not (await store.read(P, EVERYTHING)).deleted
    await commit(put(OBS, x=1))
    await commit(Delete(P))
    with pytest.raises(Conflict, match="target"):
        await commit(put(OBS, P))
    await commit(put(P, back=1))
    await commit(put(OBS, P, version="2"))


async def test_what_refers_may_go_together_with_what_it_refers_to(store, put, commit):
    await commit(put(P), put(OBS, P))
    await commit(Delete(P), Delete(OBS))
    assert (await store.read(P, EVERYTHING)).deleted


async def test_deleting_what_is_gone_already_breaks_nothing(put, commit):
    await commit(put(OBS, P), enforced=False)
    await commit(Delete(P))


async def test_units_of_one_round_see_each_other(store, put, commit):
    await commit(put(P))
    outcomes = await asyncio.gather(
        *(commit(put(OBS, P)) if n else commit(Delete(P)) for n in range(2)), return_exceptions=True
    )
    assert [isinstance(one, Conflict) for one in outcomes] == [False, True]
    assert await store.read(OBS, EVERYTHING) is None


async def test_who_refers_is_told_as_far_as_it_is_visible(store, put, commit):
    await commit(put(P, P), *(put(ResourceKey("Observation", f"o{n}"), P) for n in range(4)), put(Q, P))
    everybody = {Q, *(ResourceKey("Observation", f"o{n}") for n in range(4))}
    assert set(await store.referring(P, EVERYTHING, 100)) == everybody
    assert len(await store.referring(P, EVERYTHING, 3)) == 3
    narrow = Narrowing("x", lambda kind: Nothing() if kind == "Observation" else All())
    assert await store.referring(P, narrow, 100) == (Q,)
    assert await store.referring(Q, EVERYTHING, 100) == ()
    assert await store.referring(ResourceKey("Patient", "never"), EVERYTHING, 100) == ()
