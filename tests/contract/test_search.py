"""Search on every store: each node and test against `search.matching`, which decides by the entries alone; sorting and paging."""

import random
from dataclasses import replace
from decimal import Decimal

import pytest
from msgspec import structs

from resources.model import ResourceKey
from search.dialects.sqlite import pages as pages_module
from search.dialects.sqlite import plan
from search.entries import (
    DateEntry,
    Entries,
    NumberEntry,
    QuantityEntry,
    ReferenceEntry,
    StringEntry,
    TokenEntry,
    UriEntry,
)
from search.matching import matches
from search.narrowing import EVERYTHING, Narrowing
from search.parameters import Parameter
from search.query import (
    All,
    And,
    Chain,
    CompositeTest,
    DateTest,
    HasId,
    Include,
    InCompartment,
    LastUpdated,
    Match,
    Not,
    Nothing,
    NumberTest,
    Or,
    OwnedBy,
    Present,
    QuantityTest,
    Query,
    ReferenceTest,
    Reverse,
    SortKey,
    StringTest,
    TokenTest,
    UriTest,
)

pytestmark = pytest.mark.anyio
DAY = 86_400_000_000
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")


def parameter(code, kind, base="Observation", **more):
    return Parameter(base, code, kind, "", None, **more)


PARTS = (parameter("c-v/1", "token"), parameter("c-v/2", "quantity"))
P = {
    "code": parameter("code", "token"),
    "status": parameter("status", "token"),
    "both": parameter("both", "token", rows=("code", "status")),
    "text": parameter("text", "string"),
    "date": parameter("date", "date"),
    "n": parameter("n", "number"),
    "q": parameter("q", "quantity"),
    "subject": parameter("subject", "reference"),
    "patient": parameter("patient", "reference", rows=("subject",), only_target="Patient"),
    "url": parameter("url", "uri"),
    "c-v": parameter("c-v", "composite", components=PARTS),
}
NAME = parameter("name", "string", "Patient")
ORGANIZATION = ResourceKey("Organization", "org")
WORDS = ("ann", "anna", "anna maria", "ben", "bo", "zoe")
URLS = (
    "http://a.org/x",
    "http://a.org/x/y",
    "http://a.org/xy",
    "http://a.org/x|1",
    "http://a.org/x|1.2",
    "http://o/Patient/9",
)
NUMBERS = tuple(Decimal(text) for text in ("-3.5", "-1", "0", "0.05", "1", "1.0", "1.25", "5", "99.95", "1e3"))


def some(random_, made, most=2):
    return list(dict.fromkeys(made(random_) for _ in range(random_.randint(0, most))))


def span(random_):
    low = random_.randrange(0, 40) * DAY // 4
    return low, low + random_.choice((0, DAY - 1, 3 * DAY - 1, 30 * DAY))


def bounds(random_):
    low, high = sorted((random_.choice(NUMBERS), random_.choice(NUMBERS)))
    return random_.choice(((low, low), (low, low), (low, high), (None, high), (low, None)))


def quantity(code, random_, group=0):
    low, high = bounds(random_)
    unit = random_.choice(("mg", "g", "mm"))
    canonical = {"mg": ("g", Decimal("0.001")), "g": ("g", Decimal(1))}.get(unit)
    scaled = [None if end is None or canonical is None else end * canonical[1] for end in (low, high)]
    system = random_.choice(("", "ucum"))
    return QuantityEntry(code, low, high, system, unit, unit * 2, canonical and canonical[0], *scaled, group)


def observation(random_):
    entries = Entries(
        tokens=some(
            random_, lambda r: TokenEntry(r.choice(("code", "status")), r.choice(("", "s", "t")), r.choice("abc")), 3
        ),
        strings=[StringEntry("text", w, w.upper()) for w in some(random_, lambda r: r.choice(WORDS))]
        + [StringEntry("text", "word", None)] * random_.randint(0, 1),
        dates=some(random_, lambda r: DateEntry("date", *span(r))),
        numbers=some(random_, lambda r: NumberEntry("n", *bounds(r))),
        quantities=some(random_, lambda r: quantity("q", r)),
        references=some(
            random_,
            lambda r: ReferenceEntry(
                "subject",
                ResourceKey(r.choice(("Patient", "Patient", "Group")), r.choice("123")),
                r.choice(("", "", "1")),
            ),
        ),
        uris=some(random_, lambda r: UriEntry(r.choice(("url", "subject")), r.choice(URLS))),
    )
    for group in range(1, random_.randint(1, 4)):
        entries.tokens.append(TokenEntry("c-v/1", "s", random_.choice("ab"), group))
        entries.quantities.append(quantity("c-v/2", random_, group))
    if random_.random() < 0.3:
        entries.tokens.append(TokenEntry("subject", "ids", "logical"))
    entries.compartments[:] = some(random_, lambda r: ResourceKey("Patient", r.choice("123")))
    return entries


def number_test(random_):
    prefix = random_.choice(PREFIXES)
    low = random_.choice(NUMBERS)
    return NumberTest(prefix, low, low + Decimal("0.5") if prefix in ("eq", "ne", "ap") else low)


def token_test(random_):
    return TokenTest(random_.choice((None, "", "s", "unheard")), random_.choice((("a",), ("b", "c"), ("zz",), None)))


def quantity_test(random_):
    number = number_test(random_)
    if random_.random() < 0.5:
        return QuantityTest(number, "ucum", "g", (number, "g"))
    return QuantityTest(number, random_.choice((None, "ucum")), random_.choice((None, "mg", "mmmm")), None)


def a_test(name, r):
    match P[name].type:
        case "token":
            return token_test(r)
        case "string":
            return StringTest(
                r.choice(("starts", "contains", "exact")), r.choice(("an", "anna", "ANNA", "o", "zoe", ""))
            )
        case "date":
            low, high = span(r)
            return DateTest(r.choice(PREFIXES), low, high)
        case "number":
            return number_test(r)
        case "quantity":
            return quantity_test(r)
        case "reference":
            keys = tuple(ResourceKey("Patient", i) for i in r.choice(("1", "23", "9")))
            return r.choice(
                (
                    ReferenceTest(keys, None),
                    ReferenceTest(keys, None, "1"),
                    ReferenceTest((), r.choice(URLS)),
                    ReferenceTest(keys, r.choice(URLS)),
                )
            )
        case "uri":
            return UriTest(r.choice(("exact", "above", "below")), r.choice((*URLS, "http://a.org/", "http://a.org")))
        case _:
            return CompositeTest((token_test(r), quantity_test(r)))


def node(r, depth=2):
    kind = r.randrange(18 if depth else 12)
    if kind < 9:
        name = r.choice(tuple(P))
        return Match(P[name], a_test(name, r))
    if kind == 9:
        return Present(P[r.choice(tuple(P))])
    if kind == 10:
        return r.choice(
            (
                HasId(("o1", "o2", "nobody")),
                LastUpdated(DateTest(r.choice(PREFIXES), 0, r.choice((0, 10**17)))),
                All(),
                Nothing(),
            )
        )
    if kind == 11:
        return r.choice(
            (
                InCompartment(ResourceKey("Patient", "1")),
                Match(P["patient"], TokenTest("ids", ("logical",)), identifier=True),
            )
        )
    if kind == 12:
        return Not(node(r, depth - 1))
    if kind in (13, 14):
        return And(tuple(node(r, depth - 1) for _ in range(r.randint(0, 3))))
    if kind in (15, 16):
        return Or(tuple(node(r, depth - 1) for _ in range(r.randint(0, 3))))
    where = r.choice((Match(NAME, StringTest("starts", "an")), Not(Match(NAME, StringTest("starts", "an"))), All()))
    return Chain(P[r.choice(("subject", "patient"))], "Patient", where)


class World:
    def __init__(self, seed):
        r = random.Random(seed)
        self.observations = {ResourceKey("Observation", f"o{n}"): observation(r) for n in range(40)}
        self.patients = {
            ResourceKey("Patient", i): Entries(strings=[StringEntry("name", name, name)])
            for i, name in (("1", "anna"), ("2", "ben"))
        }
        self.updated = {}

    async def fill(self, store, make):
        everything = {**self.patients, **self.observations}
        for key, entries in everything.items():
            (written,) = await store.commit(make.unit(make.put(str(key), entries=entries)))
            self.updated[key] = written.updated

    def holds(self, node_, key):
        entries = self.observations.get(key) or self.patients[key]
        match node_:
            case And(parts):
                return all(self.holds(part, key) for part in parts)
            case Or(parts):
                return any(self.holds(part, key) for part in parts)
            case Not(part):
                return not self.holds(part, key)
            case Chain(parameter_, target, where):
                return any(
                    e.parameter in (parameter_.rows or (parameter_.code,)) and e.target.type == target
                    and e.target in self.patients and self.holds(where, e.target)
                    for e in entries.references
                )  # fmt: skip
            case _:
                return matches(node_, entries, key, self.updated[key])

    def expected(self, node_):
        return [key for key in self.observations if self.holds(node_, key)]


async def pages(store, query, narrowing=EVERYTHING):
    found = []
    after = None
    while True:
        page = await store.search(
            Query(query.type, query.where, query.sort, query.count, "accurate", after=after), narrowing
        )
        found += [row.stored.key for row in page.rows]
        if not page.more:
            return found, page.total
        after = page.rows[-1].position


async def test_every_node_finds_what_the_entries_say(store, make, rounds):
    for seed in range(2 * rounds):
        world = World(seed)
        if seed == 0 or rounds > 1:
            await world.fill(store, make)
        else:
            world = World(0)
            world.updated = {
                k: (await store.read(k, EVERYTHING)).updated for k in (*world.observations, *world.patients)
            }
        r = random.Random(seed)
        for _ in range(600):
            query = Query("Observation", node(r), count=r.choice((7, 50)))
            found, total = await pages(store, query)
            assert (found, total) == (world.expected(query.where), len(found)), query.where


@pytest.fixture
async def world(store, make):
    world = World(1)
    await world.fill(store, make)
    return world


@pytest.mark.parametrize("name", [name for name in P if name != "c-v"])
async def test_each_parameter_type_finds_what_the_entries_say(store, world, name):
    r = random.Random(name)
    for _ in range(120):
        for wrapped in (lambda n: n, Not, lambda n: And((n, Match(P["code"], TokenTest(None, ("a", "b")))))):
            where = wrapped(Match(P[name], a_test(name, r)))
            found, _ = await pages(store, Query("Observation", where, count=100))
            assert found == world.expected(where), where


@pytest.mark.parametrize("driven", ["few", "many"])
async def test_results_do_not_depend_on_what_drives(store, world, driven, monkeypatch):
    limit = 10_000 if driven == "few" else 1
    monkeypatch.setattr(plan, "ENOUGH", limit)
    monkeypatch.setattr(plan, "FEW", limit)
    monkeypatch.setattr(pages_module, "ENOUGH", limit)
    r = random.Random(driven)
    for _ in range(300):
        sort = (SortKey("", P[r.choice(SORTABLE)], r.random() < 0.5),) if r.random() < 0.5 else ()
        query = Query("Observation", node(r), sort, count=9)
        found, total = await pages(store, query)
        assert (sorted(found), total) == (sorted(world.expected(query.where)), len(found)), query


SORTABLE = ("code", "both", "text", "date", "n", "q", "subject", "patient", "url")


def sort_value(world, store_rids, key, sort):
    entries, rows = world.observations[key], sort.parameter.rows or (sort.parameter.code,)
    match sort.parameter.type:
        case "token":
            values = [e.code for e in entries.tokens if e.parameter in rows]
        case "string":
            values = [e.folded for e in entries.strings if e.parameter in rows and e.exact is not None]
        case "date":
            values = [e.low for e in entries.dates if e.parameter in rows]
        case "number":
            values = [Decimal("-inf") if e.low is None else e.low for e in entries.numbers if e.parameter in rows]
        case "quantity":
            values = [Decimal("-inf") if e.low is None else e.low for e in entries.quantities if e.parameter in rows]
        case _:
            values = [e.value for e in entries.uris if e.parameter in rows]
    if not values:
        return None
    return max(values) if sort.descending else min(values)


@pytest.mark.parametrize("selective", [False, True], ids=["walking the sort order", "sorting the matches"])
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("name", ["code", "both", "text", "date", "n", "q", "url"])
async def test_sorting_puts_missing_last_and_pages_both_ways(store, world, monkeypatch, name, descending, selective):
    monkeypatch.setattr(pages_module, "ENOUGH", 10_000 if selective else 0)
    sort = SortKey(name, P[name], descending)
    where = Not(HasId(("o3",)))
    if selective:
        where = Or((where, Match(P["code"], TokenTest(None, None))))
        where = And((Or((Match(P["code"], TokenTest(None, None)), Match(P["text"], StringTest("starts", "")))), where))
    everything = world.expected(where)
    order, _ = await pages(store, Query("Observation", where, (sort,), 1000))
    values = [sort_value(world, {}, key, sort) for key in order]
    present = [value for value in values if value is not None]
    assert sorted(order) == sorted(everything)
    assert values == sorted(present, reverse=descending) + [None] * (len(values) - len(present))
    for count in (1, 3, 7):
        found, _ = await pages(store, Query("Observation", where, (sort,), count))
        assert found == order
        await check_backward(store, Query("Observation", where, (sort,), count), order)


async def check_backward(store, query, order):
    """From every page's first row, paging backward gives the rows before it, in order."""
    after, seen = None, 0
    while True:
        page = await store.search(Query(query.type, query.where, query.sort, query.count, after=after), EVERYTHING)
        first = page.rows[0].position
        back = await store.search(
            Query(query.type, query.where, query.sort, query.count, after=first, backward=True), EVERYTHING
        )
        assert [row.stored.key for row in back.rows] == order[max(0, seen - query.count) : seen]
        assert back.more == (seen > query.count)
        seen += len(page.rows)
        if not page.more:
            return
        after = page.rows[-1].position


async def test_several_sort_keys_and_fields_page_both_ways(store, world):
    for sort in (
        (SortKey("code", P["code"], False), SortKey("date", P["date"], True)),
        (SortKey("date", P["date"], True), SortKey("n", P["n"], False), SortKey("_id", None, True)),
        (SortKey("_lastUpdated", None, True),),
        (SortKey("_id", None, False),),
        (SortKey("patient", P["patient"], True),),
        (),
    ):
        for where in (All(), Match(P["code"], TokenTest(None, None)), Match(P["date"], DateTest("ge", 0, 0))):
            order, total = await pages(store, Query("Observation", where, sort, 1000))
            assert total == len(order) == len(set(order)) == len(world.expected(where))
            for count in (1, 4):
                query = Query("Observation", where, sort, count)
                assert (await pages(store, query))[0] == order
                await check_backward(store, query, order)


async def test_id_and_last_updated_sort(store, world):
    keys = list(world.observations)
    by_id, _ = await pages(store, Query("Observation", All(), (SortKey("_id", None, True),), 10))
    assert by_id == sorted(keys, reverse=True)
    newest, _ = await pages(store, Query("Observation", All(), (SortKey("_lastUpdated", None, True),), 10))
    assert newest == keys[::-1]


# ---- other resources


async def names(store, query, narrowing=EVERYTHING):
    page = await store.search(query, narrowing)
    return [(str(row.stored.key), row.mode) for row in page.rows]


async def test_reverse_chains(store, make):
    for name, code, target in (("a", "x", "1"), ("b", "y", "1"), ("c", "x", "2"), ("d", "x", "ghost"), ("e", "z", "3")):
        await store.commit(make.unit(make.put(f"Observation/{name}", entries=make.tagged(code, f"Patient/{target}"))))
    for i in "1234":
        await store.commit(make.unit(make.put(f"Patient/{i}")))
    has_x = Reverse("Observation", P["patient"], Match(P["code"], TokenTest(None, ("x",))))
    has_any = Reverse("Observation", P["patient"], All())
    assert [n for n, _ in await names(store, Query("Patient", has_x))] == ["Patient/1", "Patient/2"]
    assert [n for n, _ in await names(store, Query("Patient", Not(has_x)))] == ["Patient/3", "Patient/4"]
    assert [n for n, _ in await names(store, Query("Patient", has_any))] == ["Patient/1", "Patient/2", "Patient/3"]
    chained = Chain(P["patient"], "Patient", has_x)
    assert [n for n, _ in await names(store, Query("Observation", chained))] == [f"Observation/{n}" for n in "abc"]


async def test_a_chain_sees_what_is_visible_and_what_is_contained(store, make):
    for i, name in (("1", "anna"), ("2", "anna")):
        named = Entries(strings=[StringEntry("name", name, name)])
        await store.commit(make.unit(make.put(f"Patient/{i}", entries=named)))
        await store.commit(make.unit(make.put(f"Observation/{i}", entries=make.tagged("x", f"Patient/{i}"))))
    inner = make.tagged("x", "Patient/in#p")
    inner.contained["Patient", "p"] = Entries(strings=[StringEntry("name", "anna", "anna")])
    await store.commit(make.unit(make.put("Observation/in", entries=inner)))
    chained = Query("Observation", Chain(P["subject"], "Patient", Match(NAME, StringTest("starts", "an"))))
    assert [n for n, _ in await names(store, chained)] == ["Observation/1", "Observation/2", "Observation/in"]
    seen = replace(chained, where=replace(chained.where, visible=HasId(("2",))))
    assert [n for n, _ in await names(store, seen)] == ["Observation/2", "Observation/in"]
    negated = replace(chained, where=replace(chained.where, where=Not(Match(NAME, StringTest("starts", "x")))))
    assert [n for n, _ in await names(store, negated)] == ["Observation/1", "Observation/2", "Observation/in"]


async def test_iterated_includes_do_not_go_through_what_is_not_visible(store, make):
    for name, target in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")):
        part = Entries(references=[ReferenceEntry("partof", ResourceKey("Organization", target), "")])
        await store.commit(make.unit(make.put(f"Organization/{name}", entries=part)))
    part_of = parameter("partof", "reference", "Organization")
    query = Query(
        "Organization", HasId(("a",)), includes=(Include("Organization", part_of, None, False, iterate=True),)
    )
    assert [n for n, _ in await names(store, query)] == [f"Organization/{n}" for n in "abcd"]
    hidden = Narrowing("u", lambda _: Not(HasId(("c",))))
    assert [n for n, _ in await names(store, query, hidden)] == ["Organization/a", "Organization/b"]


async def test_owners_restrict(store, make):
    mine = structs.replace(make.put("Observation/a"), organizations=(ORGANIZATION,))
    await store.commit(make.unit(mine, make.put("Observation/b")))
    assert await names(store, Query("Observation", OwnedBy((ORGANIZATION,)))) == [("Observation/a", "match")]
    assert await names(store, Query("Observation", Not(OwnedBy((ORGANIZATION,))))) == [("Observation/b", "match")]


async def test_includes_are_of_the_page_once_and_inside_the_narrowing(store, make):
    for i in "12":
        await store.commit(make.unit(make.put(f"Patient/{i}", x=1, entries=make.tagged(f"p{i}"))))
    await store.commit(make.unit(make.put("Patient/1", x=2, entries=make.tagged("p1"))))
    versioned = Entries(references=[ReferenceEntry("subject", ResourceKey("Patient", "1"), "1")])
    for name, entries in (
        ("a", make.tagged("x", "Patient/1")),
        ("b", make.tagged("x", "Patient/1", "Patient/2")),
        ("c", versioned),
    ):
        await store.commit(make.unit(make.put(f"Observation/{name}", entries=entries)))
    include = (Include("Observation", P["subject"], None, reverse=False),)
    matched = Match(P["code"], TokenTest(None, ("x",)))
    found = await names(store, Query("Observation", matched, includes=include))
    assert found == [
        ("Observation/a", "match"),
        ("Observation/b", "match"),
        ("Patient/1", "include"),
        ("Patient/2", "include"),
    ]
    only_two = Narrowing("u", lambda kind: All() if kind == "Observation" else HasId(("2",)))
    assert (await names(store, Query("Observation", matched, includes=include), only_two))[2:] == [
        ("Patient/2", "include")
    ]
    page = await store.search(Query("Observation", HasId(("c",)), includes=include), EVERYTHING)
    assert [(row.stored.key.id, row.stored.version) for row in page.rows] == [("c", 1), ("1", 1)]
    back = (Include("Observation", P["subject"], None, reverse=True),)
    assert await names(store, Query("Patient", HasId(("2",)), includes=back)) == [
        ("Patient/2", "match"),
        ("Observation/b", "include"),
    ]


async def test_a_count_of_zero_counts(store, world):
    page = await store.search(Query("Observation", Not(HasId(("o3",))), count=0), EVERYTHING)
    assert (page.rows, page.total, page.more) == ((), 39, False)


async def test_over_the_cap_of_includes_a_page_has_fewer_matches(open_store, make):
    store = open_store(include_limit=2)
    for i in "1234":
        await store.commit(make.unit(make.put(f"Patient/{i}")))
        await store.commit(make.unit(make.put(f"Observation/{i}", entries=make.tagged("x", f"Patient/{i}"))))
    everyone = make.tagged("y", *(f"Patient/{i}" for i in "123"))
    await store.commit(make.unit(make.put("Observation/all", entries=everyone)))
    include = (Include("Observation", P["subject"], None, reverse=False),)
    query = Query("Observation", Match(P["code"], TokenTest(None, ("x",))), includes=include)
    page = await store.search(query, EVERYTHING)
    assert [str(row.stored.key) for row in page.rows] == ["Observation/1", "Observation/2", "Patient/1", "Patient/2"]
    assert page.more
    one = replace(query, where=HasId(("all",)))
    page = await store.search(one, EVERYTHING)
    assert [str(row.stored.key) for row in page.rows] == ["Observation/all", "Patient/1", "Patient/2"]
    following = replace(one, after=page.rows[0].position, continued=page.continued)
    page = await store.search(following, EVERYTHING)
    assert ([str(row.stored.key) for row in page.rows], page.continued, page.more) == (["Patient/3"], None, False)
    await store.close()
