"""`_text` and `_content`: the grammar of their values, the words of a resource, and searches where words are indexed."""

import json
from contextlib import closing

import pytest

from fhir_server.interactions import parameters as noticing
from fhir_server.interactions.assembly import DATABASE
from fhir_server.jobs.background import run_next
from fhir_server.jobs.queue import SqliteJobQueue
from fhir_server.jobs.reindex import job_key, new_job, reindex_handler
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect
from resources.definitions import load
from resources.errors import FhirError
from resources.model import ResourceKey
from search.extract import Extractor
from search.limits import SearchLimits
from search.matching import matches
from search.parameters import Registry
from search.types import words
from tests.http.application import FHIR, running

WORDS = Registry(load(), full_text=True)
TEXT, CONTENT = (WORDS.find("Condition", code) for code in ("_text", "_content"))
KEY = ResourceKey("Condition", "c")
RESOURCE = {
    "resourceType": "Condition",
    "id": "c",
    "text": {
        "status": "generated",
        "div": '<div xmlns="http://www.w3.org/1999/xhtml" class="hidden"><p>Bone metastases &amp; more</p><p>in the Líver</p></div>',
    },
    "code": {"text": "Night-time pain", "coding": [{"code": "x-1", "display": "Pain at night"}]},
    "note": [{"text": "second opinion asked"}],
    "subject": {"reference": "Patient/1"},
}


@pytest.fixture(scope="module")
def entries():
    return Extractor(load(), WORDS, ("http://b/fhir",)).extract(RESOURCE, KEY)


@pytest.mark.parametrize(
    ("parameter", "value", "found"),
    [
        (TEXT, "metastases", True),
        (TEXT, "METASTASES", True),
        (TEXT, "metastas", False),
        (TEXT, "liver", True),
        (TEXT, "bone liver", True),
        (TEXT, "bone and liver", True),
        (TEXT, "bone AND skin", False),
        (TEXT, "bone or skin", True),
        (TEXT, "skin OR bone liver", True),
        (TEXT, "(bone OR skin) and metastases", True),
        (TEXT, "skin and (bone OR metastases)", False),
        (TEXT, "skin and bone or liver", True),
        (TEXT, '"bone metastases"', True),
        (TEXT, '"metastases bone"', False),
        (TEXT, '"metastases more"', True),
        (TEXT, '"or"', False),
        (TEXT, "hidden", False),
        (TEXT, "xmlns", False),
        (TEXT, "pain", False),
        (CONTENT, "pain", True),
        (CONTENT, "bone", True),
        (CONTENT, "night-time", True),
        (CONTENT, '"time pain pain"', False),
        (CONTENT, "opinion", True),
        (CONTENT, "Patient/1", True),
        (CONTENT, "p", False),
    ],
)
def test_words_are_found_by_the_grammar(entries, parameter, value, found):
    assert matches(words.node(parameter, value), entries, KEY, 0) is found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("and", "lacks a word"),
        ("bone or", "lacks a word"),
        ("(bone", "not closed"),
        ("bone)", "too many"),
        ('"bone', "quote that is not closed"),
        ("()", "lacks a word"),
        ("--", "without letter"),
        ("(" * 60 + "a" + ")" * 60, "in each other"),
    ],
)
def test_a_value_that_is_no_expression_is_refused(value, said):
    with pytest.raises(FhirError, match=said):
        words.node(TEXT, value)


def test_without_the_setting_no_word_is_kept():
    assert Extractor(load(), Registry(load()), ()).extract(RESOURCE, KEY).words == []


def test_data_has_no_words():
    binary = {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "SGVsbG8="}
    found = Extractor(load(), WORDS, ()).extract(binary, ResourceKey("Binary", "b"))
    assert {entry.word for entry in found.words} == {"b", "text", "plain"}


pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(noticing, "LOOK_EVERY", 0.0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Staying:
    def wait(self, _seconds):
        return False


def reindexed(folder, code):
    options, database = SqliteOptions(), folder / DATABASE
    settings = Settings(data_dir=folder, auth="off", search=SearchLimits(full_text=True))
    with closing(connect(database, options)) as connection, closing(FileLock(database)) as lock:
        queue = SqliteJobQueue(connection, lock)
        queue.add(job_key(None, code), new_job(None, code, 0))
        assert run_next(queue, {"reindex": reindex_handler(connection, lock, settings)}, Staying())


async def put(client, resource):
    answer = await client.put(f"Condition/{resource['id']}", content=json.dumps(resource), headers=FHIR)
    assert answer.status_code in (200, 201), answer.text


async def ids(client, query):
    answer = await client.get(query)
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", ())]


async def test_words_are_searched_where_they_are_indexed(tmp_path):
    async with running(tmp_path, search=SearchLimits(full_text=True)) as client:
        await put(client, RESOURCE)
        await put(
            client,
            {
                **RESOURCE,
                "id": "d",
                "text": {**RESOURCE["text"], "div": RESOURCE["text"]["div"].replace("Bone", "Skin")},
            },
        )
        assert await ids(client, "Condition?_text=(bone OR liver) and metastases") == ["c", "d"]
        assert await ids(client, 'Condition?_text="bone metastases"') == ["c"]
        assert await ids(client, "Condition?_text=skin,bone&_content=opinion&_sort=-_id") == ["d", "c"]
        assert await ids(client, "Condition?_text:missing=true") == []
        await put(
            client, {**RESOURCE, "text": {**RESOURCE["text"], "div": RESOURCE["text"]["div"].replace("Bone", "Lung")}}
        )
        assert await ids(client, "Condition?_text=bone") == []
        assert await ids(client, "Condition?_text=lung") == ["c"]
        answer = await client.get("Condition?_text:exact=bone")
        assert "':exact' does not fit" in answer.text
        statement = (await client.get("metadata")).json()
        (condition,) = [one for one in statement["rest"][0]["resource"] if one["type"] == "Condition"]
        assert {"_text", "_content"} <= {one["name"] for one in condition["searchParam"]}


async def test_switched_on_over_data_they_wait_for_their_reindex(tmp_path):
    async with running(tmp_path) as client:
        await put(client, RESOURCE)
        assert "search.full_text" in (await client.get("Condition?_text=bone")).text
    async with running(tmp_path, search=SearchLimits(full_text=True)) as client:
        assert "--parameter _text" in (await client.get("Condition?_text=bone")).text
        reindexed(tmp_path, "_text")
        assert await ids(client, "Condition?_text=bone") == ["c"]
        assert "--parameter _content" in (await client.get("Condition?_content=bone")).text
        reindexed(tmp_path, "_content")
        assert await ids(client, "Condition?_content=bone") == ["c"]
    async with running(tmp_path) as client:
        assert "search.full_text" in (await client.get("Condition?_text=bone")).text
    async with running(tmp_path, search=SearchLimits(full_text=True)) as client:
        assert "--parameter _text" in (await client.get("Condition?_text=bone")).text


@pytest.mark.anyio
async def test_more_words_than_a_search_can_hold_are_refused(tmp_path):
    async with running(tmp_path, search=SearchLimits(full_text=True)) as client:
        assert (await client.get("Patient?_content=" + "+".join(f"w{at}" for at in range(200)))).status_code == 200
        one = "_content=" + "+".join(f"w{at}" for at in range(201))
        many = "&".join("_content=" + "+".join(f"w{at}x{of}" for at in range(200)) for of in range(8))
        for query in (one, many):
            answer = await client.get(f"Patient?{query}")
            assert answer.status_code == 400, answer.text
            assert "more" in answer.json()["issue"][0]["diagnostics"]
