"""Searches for contained resources, sorted and paged, agree with the reference evaluator: 100, and 600 in the full tier.

Whatever is found comes once, the sort values (read by the reference from what matched) never fall, what is missing comes last, and the
pages back are those that were seen. tests/cases/search/contained.json has the cases.
"""

import random
from functools import cmp_to_key
from urllib.parse import quote

import pytest

from fhir_server.storage.sqlite import SqliteOptions
from tests.http.conftest import FHIR, serving
from tests.search import reference as evaluator
from tests.search.reference import Reference
from tests.search.test_reference import Queries
from tests.search.world import World, encoded

pytestmark = pytest.mark.anyio
SORTS = {
    "Patient": ("family", "given", "name", "gender", "birthdate", "address-city"),
    "Observation": ("status", "date", "value-quantity"),
    "RiskAssessment": ("probability",),
    "ValueSet": ("url", "name"),
    "Organization": ("name", "active"),
}
"""Parameters whose order follows from the specification; references come in an order of the server's."""


class Containers(World):
    """A world in which Lists, Basics and Patients contain resources of the other kinds, some none."""

    def __init__(self, seed, size):
        super().__init__(seed, size)
        shown = [self.container(f"c{at}") for at in range(size)]
        for resource in self.resources:
            if resource["resourceType"] == "Patient" and self.random.random() < 0.5:
                inner = {"resourceType": "Patient", "id": "in", **self.patient()}
                resource["contained"] = [inner]
                resource["link"] = [{"other": {"reference": "#in"}, "type": "seealso"}]
        self.resources += shown

    def container(self, name):
        kinds = [self.pick(tuple(SORTS)) for _ in range(self.random.randint(0, 4))]
        inside = [
            {"resourceType": kind, "id": f"i{at}", **getattr(self, kind.lower())()} for at, kind in enumerate(kinds)
        ]
        entries = [{"item": {"reference": f"#{one['id']}"}} for one in inside]
        return {"resourceType": "List", "id": name, "status": "current", "mode": "working", "contained": inside, "entry": entries}  # fmt: skip


class Found:
    """What a search must find: addresses with the resources whose values sort them."""

    def __init__(self, reference, kind, parameters, contained, shown):
        self.reference = reference
        self.rows = {}
        for one in reference.by_type.get(kind, {}).values() if contained == "both" else ():
            if self.holds(one, one, parameters):
                self.rows[f"{kind}/{one['id']}"] = [one]
        own = set(self.rows)
        for containers in list(reference.by_type.values()):
            for container in containers.values():
                for inner in container.get("contained", ()):
                    if inner["resourceType"] != kind or not self.holds(inner, container, parameters):
                        continue
                    address = f"{container['resourceType']}/{container['id']}"
                    if shown == "contained":
                        self.rows[f"{address}#{inner['id']}"] = [inner]
                    elif address not in own:
                        self.rows.setdefault(address, []).append(inner)

    def holds(self, resource, container, parameters):
        return all(self.reference.holds(resource, container, name, value) for name, value in parameters)

    def values(self, address, keys):
        return [self.value(self.rows[address], key) for key in keys]

    def value(self, resources, key):
        code = key.removeprefix("-")
        found = [one for resource in resources for one in sort_values(self.reference, resource, code)]
        return (max(found) if key.startswith("-") else min(found)) if found else None


def sort_values(reference, resource, code):
    kind = evaluator.definition(resource["resourceType"], code).type
    for _, value in reference.entries(resource, code):
        match kind:
            case "string":
                yield from (evaluator.fold(text) for text, _ in evaluator.texts(value, family=False))
            case "date":
                yield evaluator.range_of(value)[0]
            case "quantity":
                yield value["value"]
            case "token":
                yield from (text.casefold() for _, text in evaluator.codes(value, ""))
            case _:
                yield value


def in_order(one, other, keys):
    """-1, 0 or 1: how two rows of sort values compare, what is missing last."""
    for a, b, key in zip(one, other, keys, strict=True):
        if a == b:
            continue
        if a is None or b is None:
            return 1 if a is None else -1
        return -1 if (a < b) != key.startswith("-") else 1
    return 0


async def paged(client, url):
    """The pages of a search as lists of addresses, read to the end, then back to the first."""
    pages, previous = [], None
    while url:
        bundle = (await client.get(url)).json()
        pages.append(addresses(bundle))
        url, previous = link(bundle, "next"), link(bundle, "previous")
    back = pages[-1:]
    while previous:
        bundle = (await client.get(previous)).json()
        back.insert(0, addresses(bundle))
        previous = link(bundle, "previous")
    return pages, back


def addresses(bundle):
    assert bundle["resourceType"] == "Bundle", bundle
    shown = [entry for entry in bundle.get("entry", ()) if entry["search"]["mode"] != "outcome"]
    return ["/".join(entry["fullUrl"].rsplit("/", 2)[1:]) for entry in shown]


def link(bundle, relation):
    return next((one["url"] for one in bundle["link"] if one["relation"] == relation), None)


async def filled(client, world):
    bodies = [encoded(resource) for resource in world.resources]
    for resource, body in zip(world.resources, bodies, strict=True):
        answer = await client.put(f"{resource['resourceType']}/{resource['id']}", content=body, headers=FHIR)
        assert answer.status_code == 201, (answer.text, body)
    return Reference(bodies)


async def check(tmp_path, seed, size, number):
    world, draw, hits = Containers(seed, size), random.Random(seed), 0
    queries = Queries(world, seed)
    async with serving(tmp_path) as client:
        reference = await filled(client, world)
        for _ in range(number):
            kind = draw.choice(tuple(SORTS))
            parameters = [queries.parameter(kind, 1) for _ in range(draw.choice((0, 0, 1)))]
            contained, shown = draw.choice(("true", "both")), draw.choice(("container", "contained"))
            codes = draw.sample(SORTS[kind], draw.randint(1, min(3, len(SORTS[kind]))))
            keys = [draw.choice(("", "-")) + code for code in codes]
            asked = [*parameters, ("_contained", contained), ("_containedType", shown), ("_sort", ",".join(keys))]
            asked += [("_count", str(draw.choice((1, 3, 50)))), ("_total", "accurate")]
            url = f"{kind}?" + "&".join(f"{quote(name, safe=':.')}={quote(value, safe='')}" for name, value in asked)
            expected = Found(reference, kind, parameters, contained, shown)
            pages, back = await paged(client, url)
            found = [address for page in pages for address in page]
            assert sorted(found) == sorted(expected.rows), url
            assert pages == back, url
            rows = [expected.values(address, keys) for address in found]
            assert rows == sorted(rows, key=cmp_to_key(lambda a, b, keys=keys: in_order(a, b, keys))), url
            assert (await client.get(url)).json()["total"] == len(found), url
            hits += len(found) > 1
    assert hits > number * 0.5, hits


async def test_sorted_searches_of_contained_resources_agree_with_the_reference(tmp_path, rounds):
    await check(tmp_path, seed=rounds, size=40, number=100 * rounds)


@pytest.mark.full
async def test_600_sorted_searches_of_contained_resources_agree_with_the_reference(tmp_path):
    await check(tmp_path, seed=78, size=200, number=600)


@pytest.mark.parametrize("shown", ["container", "contained"])
@pytest.mark.parametrize("sort", ["family", "-birthdate,_id", "-_lastUpdated"])
async def test_a_cursor_of_contained_resources_survives_a_restart(tmp_path, sort, shown):
    url = f"Patient?_contained=both&_containedType={shown}&_sort={sort}"
    async with serving(tmp_path) as client:
        await filled(client, Containers(5, 60))
        whole = addresses((await client.get(f"{url}&_count=1000")).json())
        first = (await client.get(f"{url}&_count=3")).json()
    async with serving(tmp_path) as client:
        pages, _ = await paged(client, link(first, "next"))
    assert [*addresses(first), *(address for page in pages for address in page)] == whole
    assert len(whole) > 10


async def test_pages_of_contained_resources_are_stable_while_others_are_written(tmp_path):
    world = Containers(6, 30)
    url = "Patient?_contained=true&_containedType=contained&_sort=-birthdate,family&_count=4"
    async with serving(tmp_path) as client:
        await filled(client, world)
        whole = addresses((await client.get(url.replace("_count=4", "_count=1000"))).json())
        lists = [one for one in world.resources if one["resourceType"] == "List"]
        kept, gone = lists[::2], {f"List/{one['id']}" for one in lists[1::2]}
        found, at = [], url
        while at:
            bundle = (await client.get(at)).json()
            found += addresses(bundle)
            at = link(bundle, "next")
            if gone:
                assert (await client.delete(gone.pop())).status_code in (200, 204)
            one = kept.pop() | {"title": "new"}
            assert (await client.put(f"List/{one['id']}", content=encoded(one), headers=FHIR)).status_code == 200
            await client.post("List", content=encoded({**one, "id": "x"}), headers=FHIR)
    throughout = [address for address in whole if not address.startswith("List/") or is_kept(address, lists[::2])]
    assert [address for address in found if address in set(throughout)] == throughout
    assert len(found) == len(set(found))


@pytest.mark.parametrize("criteria", ["", "status=final&", "status=amended&"])
async def test_more_includes_than_a_page_holds_go_on_behind_a_container(tmp_path, criteria):
    inside = {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}}
    items = [{"item": {"reference": text}} for text in ("#o", *(f"Patient/p{at}" for at in range(10)))]
    listed = {"resourceType": "List", "id": "l", "status": "current", "mode": "working", "contained": [inside], "entry": items}  # fmt: skip
    async with serving(tmp_path, SqliteOptions(include_limit=4)) as client:
        for resource in (*({"resourceType": "Patient", "id": f"p{at}"} for at in range(10)), listed):
            url = f"{resource['resourceType']}/{resource['id']}"
            assert (await client.put(url, content=encoded(resource), headers=FHIR)).status_code == 201
        found, url = [], f"Observation?{criteria}_contained=true&_sort=-status&_include:iterate=List:item"
        while url:
            bundle = (await client.get(url)).json()
            found += addresses(bundle)
            url = link(bundle, "next")
    expected = [] if "amended" in criteria else ["List/l", *(f"Patient/p{at}" for at in range(10))]
    assert found == expected


def is_kept(address, lists):
    return address.partition("#")[0] in {f"List/{one['id']}" for one in lists}
