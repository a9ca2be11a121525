"""The nodes of access rules on every store: whose a resource is, who may be told of it, and what a walk may pass through."""

import pytest
from msgspec.structs import replace

from fhir_server.storage.port import Delete
from resources.model import ResourceKey
from search.entries import Entries, ReferenceEntry, TokenEntry, UriEntry
from search.narrowing import EVERYTHING, Narrowing
from search.parameters import Parameter
from search.query import (
    All,
    And,
    EveryTarget,
    HasId,
    HierarchyTest,
    InCompartment,
    InCompartments,
    Match,
    Not,
    Or,
    OwnedBy,
    Owners,
    Query,
    Released,
    TokenTest,
)
from search.rewrite import rewrite

pytestmark = pytest.mark.anyio
ORGANIZATION, OTHER = ResourceKey("Organization", "org"), ResourceKey("Organization", "other")
CODE = Parameter("Observation", "code", "token", "", None)
TARGET = Parameter("Provenance", "target", "reference", "", None)
LOCATION = Parameter("Encounter", "location", "reference", "", None)
ANNE, BERT = ResourceKey("Patient", "anne"), ResourceKey("Patient", "bert")


async def found(store, kind, node, narrowing=EVERYTHING):
    page = await store.search(rewrite(Query(kind, node), narrowing), narrowing)
    return [row.stored.key.id for row in page.rows]


def refers(code, *targets):
    return [ReferenceEntry(code, ResourceKey(*name.split("/")), "") for name in targets]


@pytest.fixture
async def wards(store, make):
    """Two patients; each has an Observation, one is of nobody, one is not released."""
    await store.commit(
        make.unit(
            make.put("Patient/anne", entries=Entries(compartments=[ANNE])),
            make.put("Patient/bert", entries=Entries(compartments=[BERT])),
            replace(
                make.put("Observation/a", entries=Entries(tokens=[TokenEntry("code", "", "x")], compartments=[ANNE])),
                organizations=(ORGANIZATION,),
            ),
            replace(
                make.put("Observation/b", entries=Entries(compartments=[BERT])), organizations=(OTHER,), released=False
            ),
            make.put("Observation/c", entries=Entries()),
            make.put("Observation/d", entries=Entries(compartments=[ANNE, BERT])),
        )
    )
    return store


def of(*names):
    return InCompartments(Owners("Patient", frozenset(names)))


CASES = {
    "owned": (OwnedBy((ORGANIZATION,)), "a"),
    "owned or unowned": (OwnedBy((ORGANIZATION,), unowned=True), "acd"),
    "unowned": (OwnedBy((), unowned=True), "cd"),
    "owned by nobody who is named": (OwnedBy(()), ""),
    "released": (Released(), "acd"),
    "of somebody": (of("anne", "bert", "nobody"), "abd"),
    "of one": (of("bert"), "bd"),
    "of none": (of(), ""),
    "of another type": (InCompartments(Owners("Practitioner", frozenset({"anne"}))), ""),
    "one of them": (InCompartments(Owners("Observation", frozenset("abz"))), "ab"),
    "not of those": (Not(of("anne")), "bc"),
    "of those, with a code": (And((of("anne"), Match(CODE, TokenTest(None, ("x",))))), "a"),
    "either": (Or((of("bert"), OwnedBy((ORGANIZATION,)))), "abd"),
}


@pytest.mark.parametrize("case", CASES)
async def test_access_node_finds(wards, case):
    node, wanted = CASES[case]
    assert await found(wards, "Observation", node) == list(wanted)


@pytest.mark.parametrize("case", CASES)
async def test_access_node_narrows_a_read(wards, case):
    node, wanted = CASES[case]
    narrowing = Narrowing("me", lambda _: node)
    seen = [name for name in "abcdz" if await wards.read(ResourceKey("Observation", name), narrowing) is not None]
    assert seen == list(wanted)


async def test_an_update_adds_owners_and_a_deletion_ends_them(store, make):
    mine = replace(make.put("Observation/a", x=1), organizations=(ORGANIZATION,))
    await store.commit(make.unit(mine, make.put("Observation/a", x=2)))
    await store.commit(make.unit(make.put("Observation/a", x=3)))
    assert await found(store, "Observation", OwnedBy((ORGANIZATION,))) == ["a"]
    await store.commit(make.unit(replace(make.put("Observation/a", x=4), organizations=(OTHER, ORGANIZATION))))
    assert await found(store, "Observation", OwnedBy((OTHER,))) == ["a"]
    assert await found(store, "Observation", OwnedBy((ORGANIZATION,))) == ["a"]
    await store.commit(make.unit(Delete(ResourceKey("Observation", "a")), make.put("Observation/a", x=5)))
    assert await found(store, "Observation", OwnedBy((), unowned=True)) == ["a"]


TARGETS = {
    "one that is seen": (["Observation/a"], [], True),
    "one that is hidden": (["Observation/b"], [], False),
    "one of each": (["Observation/a", "Observation/b"], [], False),
    "two that are seen": (["Observation/a", "Patient/anne"], [], True),
    "one that is not there": (["Observation/zzz"], [], False),
    "of a type that is not there": (["Observation/a", "Media/1"], [], False),
    "elsewhere": (["Observation/a"], ["http://other.org/Observation/1"], False),
    "none": ([], [], False),
}


@pytest.mark.parametrize("case", TARGETS)
async def test_every_target_must_be_seen(wards, make, case):
    targets, elsewhere, wanted = TARGETS[case]
    entries = Entries(references=refers("target", *targets), uris=[UriEntry("target", url) for url in elsewhere])
    await wards.commit(make.unit(make.put("Provenance/p", entries=entries)))
    mine = InCompartment(ANNE)
    node = EveryTarget(TARGET, (("Observation", mine), ("Patient", HasId(("anne",))), ("Media", All())))
    assert await found(wards, "Provenance", node) == (["p"] if wanted else [])
    assert await found(wards, "Provenance", Not(node)) == ([] if wanted else ["p"])


@pytest.mark.parametrize(
    ("hidden", "wanted"), [((), ["e"]), (("floor",), []), (("house",), []), (("bed",), []), (("garden",), ["e"])]
)
async def test_a_walk_along_a_hierarchy_passes_through_what_is_seen_alone(store, make, hidden, wanted):
    for name, above in (("house", None), ("floor", "house"), ("bed", "floor"), ("garden", "house")):
        entries = Entries(references=refers("partof", *([f"Location/{above}"] if above else [])))
        await store.commit(make.unit(make.put(f"Location/{name}", entries=entries)))
    await store.commit(
        make.unit(make.put("Encounter/e", entries=Entries(references=refers("location", "Location/bed"))))
    )
    house = Match(LOCATION, HierarchyTest("below", (ResourceKey("Location", "house"),), "partof"))
    narrowing = Narrowing("me", lambda kind: Not(HasId(hidden)) if kind == "Location" and hidden else All())
    assert await found(store, "Encounter", house, narrowing) == wanted
    bed = Match(LOCATION, HierarchyTest("above", (ResourceKey("Location", "bed"),), "partof"))
    assert await found(store, "Encounter", bed, narrowing) == ([] if "bed" in hidden else ["e"])


async def test_a_label_that_nothing_had_before_hides_what_bears_it_from_then_on(wards, make):
    label = Match(Parameter("Observation", "_security", "token", "", None), TokenTest(None, ("NOPAT",)))
    node = And((of("anne", "bert"), Not(label)))
    narrowing = Narrowing("me", lambda _: node)
    key = ResourceKey("Observation", "a")
    assert await wards.read(key, narrowing) is not None
    labelled = Entries(tokens=[TokenEntry("_security", "", "NOPAT")], compartments=[ANNE])
    await wards.commit(make.unit(make.put("Observation/a", entries=labelled, x=2)))
    assert await wards.read(key, narrowing) is None
    assert await wards.read(ResourceKey("Observation", "d"), narrowing) is not None


async def test_many_owners_are_told_apart_whatever_their_numbers(store, make):
    keys = [ResourceKey("Patient", f"p{number}") for number in range(120)]
    of_each = [make.put(f"Observation/{key.id}", entries=Entries(compartments=[key])) for key in keys]
    themselves = [make.put(str(key), entries=Entries(compartments=[key])) for key in keys]
    await store.commit(make.unit(*themselves, *of_each))
    for mine in ({"p0", "p10"}, {"p119"}, {key.id for key in keys[::2]}, {key.id for key in keys[:-1]}):
        node = of(*mine)
        narrowing = Narrowing("me", lambda _, node=node: node)
        for kind in ("Observation", "Patient"):
            seen = {key.id for key in keys if await store.read(ResourceKey(kind, key.id), narrowing) is not None}
            assert seen == mine
            page = await store.search(Query(kind, All(), count=200, narrowing=node), narrowing)
            assert {row.stored.key.id for row in page.rows} == mine
