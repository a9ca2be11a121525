"""The shared Synthea patients, 49 Bundles of 14,408 resources: in by POST and by `load`, out again as they were sent.

Quick: six Bundles by POST. Full: all, both ways.
"""

import gzip
import subprocess
from collections import Counter

import pytest

from tests.conformance.plain import bundle, colours, content, counts, mapped, parse, sent_meta, spelled
from tests.servers import CLEAN, FHIR, PRODUCT, Server

pytestmark = pytest.mark.shared
RESOURCES = 14_408
QUICK = 6
"""Bundles of the quick tier: every eighth, which makes small and large ones."""


def files(shared_data):
    found = sorted((shared_data / "synthea").iterdir())
    assert len(found) == 49
    return found


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "data") as server:
        yield server


def total(client, kind):
    answer = client.get(kind, params={"_total": "accurate", "_count": 0})
    assert answer.status_code == 200, answer.text
    return answer.json()["total"]


def post_and_read_back(client, paths):
    """Post each Bundle, read each of its resources, compare; how many of each type were sent."""
    sent = Counter()
    for path in paths:
        answer = client.post(client.base_url, content=gzip.decompress(path.read_bytes()), headers=FHIR)
        assert answer.status_code == 200, f"{path.name}: {answer.text[:2000]}"
        source = bundle(path)
        sent += counts([source])
        responses = answer.json()["entry"]
        assert [entry["response"]["status"][:3] for entry in responses] == ["201"] * len(source["entry"])
        locations = [entry["response"]["location"].split("/_history/")[0] for entry in responses]
        addresses = {entry["fullUrl"]: location for entry, location in zip(source["entry"], locations, strict=True)}
        for entry, location in zip(source["entry"], locations, strict=True):
            back = parse(client.get(location).content)
            expected = mapped(content(entry["resource"]), lambda text: addresses.get(text, text))  # noqa: B023
            assert spelled(content(back)) == spelled(expected), f"{path.name} {location}"
            assert spelled(sent_meta(back)) == spelled(sent_meta(entry["resource"])), f"{path.name} {location}"
            assert location == f"{back['resourceType']}/{back['id']}"
            assert back["meta"]["versionId"] == "1"
    return sent


def test_posted_bundles_come_back_as_they_were_sent(server, shared_data):
    with server.client() as client:
        sent = post_and_read_back(client, files(shared_data)[:: 49 // QUICK][:QUICK])
        assert {kind: total(client, kind) for kind in sent} == sent


@pytest.mark.full
def test_all_posted_bundles_come_back_as_they_were_sent(server, shared_data):
    with server.client() as client:
        sent = post_and_read_back(client, files(shared_data))
        assert sent.total() == RESOURCES
        assert {kind: total(client, kind) for kind in sent} == sent


@pytest.mark.full
def test_all_loaded_bundles_come_back_as_they_were_sent(tmp_path, shared_data):
    paths = files(shared_data)
    command = [*PRODUCT, "load", str(shared_data / "synthea"), "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, env=CLEAN, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{RESOURCES} resources loaded from 49 files")
    sources = [bundle(path) for path in paths]
    expected = colours(addressed(sources))
    with Server(tmp_path / "data") as server, server.client() as client:
        assert {kind: total(client, kind) for kind in counts(sources)} == counts(sources)
        stored = {}
        for kind in counts(sources):
            for resource in everything(client, kind):
                stored[f"{kind}/{resource['id']}"] = resource
    assert len(stored) == RESOURCES
    assert colours(stored) == expected


def addressed(sources):
    """The resources by their fullUrl within their Bundle: several Bundles use one fullUrl for resources of their own."""
    found = {}
    for number, source in enumerate(sources):
        urls = {entry["fullUrl"]: f"{number} {entry['fullUrl']}" for entry in source["entry"]}
        for entry in source["entry"]:
            found[urls[entry["fullUrl"]]] = mapped(entry["resource"], lambda text: urls.get(text, text))  # noqa: B023
    assert len(found) == RESOURCES
    return found


def everything(client, kind):
    """All resources of a type, page by page."""
    url = f"{kind}?_count=500"
    while url:
        page = parse(client.get(url).content)
        yield from (entry["resource"] for entry in page.get("entry", ()))
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
