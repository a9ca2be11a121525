"""Every example of US Core is stored by PUT, in the order of their references, and found by each of its own values.

Its own search parameters that R4 does not have are taken as they are published, reindexed, and find what they should.
Quick: every eighth example. Full: all. The counts of searches are printed (`-rP` shows them).
"""

import json
import re
import tarfile
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from urllib.parse import unquote

import pytest

from fhir_server.interactions import parameters
from tests.conformance import own_values
from tests.http.conftest import FHIR, serving
from tests.http.test_custom_parameters import work

pytestmark = [pytest.mark.anyio, pytest.mark.shared]
EXAMPLE = re.compile(r"(package/)?example/[^/.][^/]*\.json")
PARAMETER = re.compile(r"(package/)?SearchParameter-[^/]*\.json")
EXAMPLES = {"6.1.0": 183, "7.0.0": 214}
SHARE = 8
OWN = 7
"""Search parameters of either version whose codes R4 does not have."""
KINDS = ("Patient", "Condition", "CareTeam", "Goal", "Encounter")


@pytest.fixture
def anyio_backend():
    return "asyncio"


def examples(shared_data, version, names=EXAMPLE):
    """The examples (or what else has such names) as they are written, by `Type/id`."""
    found = {}
    with tarfile.open(shared_data / "us-core" / f"hl7.fhir.us.core-{version}.tgz") as archive:
        for member in archive:
            if names.fullmatch(member.name):
                body = archive.extractfile(member).read()
                resource = own_values.decoded(body)
                found[f"{resource['resourceType']}/{resource['id']}"] = body
    return found


def ordered(bodies):
    """The names so that what is referred to comes first; references in circles are left out."""
    needs = {name: set() for name in bodies}
    for name, body in bodies.items():
        for target in re.findall(rb'"reference"\s*:\s*"([A-Z]\w+/[\w.-]+)"', body):
            if target.decode() in needs and target.decode() != name:
                needs[name].add(target.decode())
    while True:
        try:
            return list(TopologicalSorter(needs).static_order())
        except CycleError as error:
            circle = error.args[1]
            needs[circle[1]].discard(circle[0])


async def stored(client, bodies):
    """Put each; the resources with the meta that the server gave, by name."""
    found = {}
    for name in ordered(bodies):
        answer = await client.put(name, content=bodies[name], headers=FHIR)
        assert answer.status_code == 201, f"{name}: {answer.text[:2000]}"
        found[name] = own_values.decoded(bodies[name])
        found[name]["meta"] = json.loads(answer.text)["meta"]
    return found


async def found_by(client, kind, query):
    """The names of what a search finds; or the reason of a refusal, `ambiguous` for an id that several types have."""
    answer = await client.get(f"{kind}?{query}&_count=1000&_elements=id")
    if answer.status_code != 200:
        told = answer.json()["issue"][0]["diagnostics"]
        return "ambiguous" if "is the id of several resources" in told else f"{answer.status_code} {told}"
    return {f"{kind}/{entry['resource']['id']}" for entry in answer.json().get("entry", ())}


def wanted(resources):
    """(type, search) -> the names of the resources that it is derived from."""
    found = defaultdict(set)
    for name, resource in resources.items():
        for search in own_values.searches(resource):
            found[resource["resourceType"], search].add(name)
    return found


async def check(client, bodies):
    resources = await stored(client, bodies)
    expected = wanted(resources)
    faults, forms = [], Counter()
    for (kind, search), names in expected.items():
        found = await found_by(client, kind, search.query)
        code = search.query.partition("=")[0].partition(":")[0]
        forms[own_values.definition(kind, code).type] += 1
        if found == "ambiguous":
            bare = unquote(search.query.partition("=")[2])
            assert len([name for name in resources if name.partition("/")[2] == bare]) > 1, search.query
        elif isinstance(found, str):
            faults.append(f"{kind}?{search.query}: {found}")
        elif not names <= found or (search.exact and names != found):
            faults.append(f"{kind}?{search.query}: misses {sorted(names - found)}, too many {sorted(found - names)}")
    pairs = sum(map(len, expected.values()))
    print(f"{len(resources)} examples, {len(expected)} searches for {pairs} values: {dict(forms)}")  # noqa: T201  (what the run is read for)
    assert not faults, "\n".join([f"{len(faults)} faults", *faults[:100]])
    return expected


@pytest.mark.parametrize("version", EXAMPLES)
async def test_examples_of_us_core_are_found_by_their_own_values(tmp_path, shared_data, version):
    bodies = examples(shared_data, version)
    share = {name: body for at, (name, body) in enumerate(sorted(bodies.items())) if at % SHARE == 0}
    async with serving(tmp_path) as client:
        assert len(await check(client, share)) > 500


@pytest.mark.full
@pytest.mark.parametrize(("version", "count"), EXAMPLES.items())
async def test_every_example_of_us_core_is_found_by_each_of_its_own_values(tmp_path, shared_data, version, count):
    bodies = examples(shared_data, version)
    assert len(bodies) == count
    async with serving(tmp_path) as client:
        assert len(await check(client, bodies)) > 5_000


@pytest.mark.parametrize("version", EXAMPLES)
async def test_the_search_parameters_of_us_core_itself_find_its_examples(tmp_path, shared_data, version, monkeypatch):
    monkeypatch.setattr(parameters, "LOOK_EVERY", 0.0)
    bodies = examples(shared_data, version)
    chosen = {name: bodies[name] for name in bodies if name.partition("/")[0] in KINDS}
    async with serving(tmp_path) as client:
        resources = await stored(client, chosen)
        published = await stored(client, examples(shared_data, version, PARAMETER))
        assert len(published) > 100
        own = [one for one in published.values() if own_values.definition(one["base"][0], one["code"]) is None]
        assert len(own) == OWN
        found = Counter()
        for one in own:
            assert (await client.post(f"SearchParameter/{one['id']}/$reindex")).status_code == 202
            while work(tmp_path):
                pass
            for name, resource in resources.items():
                if resource["resourceType"] not in one["base"]:
                    continue
                for query in own_values.by(one, resource):
                    assert name in await found_by(client, resource["resourceType"], query), (name, query)
                    found[one["code"]] += 1
        assert set(found) == {one["code"] for one in own}, "a parameter of which no example has a value"
        print(f"{found.total()} searches by {len(own)} parameters of US Core {version}: {dict(found)}")  # noqa: T201
