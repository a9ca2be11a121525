"""Limits and deadlines of requests: each is refused by its own status, as an OperationOutcome, and the server goes on."""

import asyncio
import json
import threading
import time

import pytest

from fhir_server.http.options import HttpLimits
from fhir_server.interactions.options import RestOptions
from fhir_server.storage.sqlite.connection import SqliteOptions
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.sqlite.writer import Writer
from tests.http.application import FHIR, running
from tests.http.conftest import issue_of

pytestmark = pytest.mark.anyio

QUIET = RestOptions(access_log=False)
PATIENT = {"resourceType": "Patient", "active": True}
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def nested(depth: int) -> str:
    """A patient of that many (an odd number) of objects and arrays inside each other: an extension in an extension in ..."""
    inner = '{"url":"http://example.org/x","valueString":"x"}'
    for _ in range((depth - 3) // 2):
        inner = '{"url":"http://example.org/x","extension":[' + inner + "]}"
    return '{"resourceType":"Patient","extension":[' + inner + "]}"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def small(anyio_backend, tmp_path_factory):
    rest = RestOptions(access_log=False, body_limit=5000, entry_limit=2, nesting_limit=20, parameter_limit=5)
    limits = HttpLimits(url=300, headers=600)
    async with running(tmp_path_factory.mktemp("store"), rest=rest, limits=limits) as client:
        yield client


def bundle(count: int) -> str:
    entry = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}
    return json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [entry] * count})


@pytest.mark.parametrize(
    ("method", "url", "content", "headers", "status", "code"),
    [
        pytest.param("GET", "Patient?name=" + "x" * 300, None, {}, 414, "too-long", id="a long query"),
        pytest.param("GET", "Patient/" + "x" * 300, None, {}, 414, "too-long", id="a long path"),
        pytest.param("DELETE", "Patient/" + "x" * 300, None, {}, 414, "too-long", id="a long path to delete"),
        pytest.param("GET", "Patient/1", None, {"X-Long": "x" * 600}, 431, "too-long", id="a long header"),
        pytest.param("GET", "Patient/1", None, {f"X-{n}": "y" for n in range(200)}, 431, "too-long", id="many headers"),
        pytest.param("POST", "Patient", " " * 6000, FHIR, 413, "too-long", id="a large body"),
        pytest.param("POST", "", bundle(3), FHIR, 413, "too-costly", id="a Bundle of many entries"),
        pytest.param("POST", "Patient", nested(21), FHIR, 400, None, id="a deep body"),
        pytest.param("GET", "Patient?" + "name=x&" * 6, None, {}, 400, "too-costly", id="many parameters"),
        pytest.param(
            "POST",
            "Patient/_search",
            "name=x&" * 6,
            {"Content-Type": "application/x-www-form-urlencoded"},
            400,
            "too-costly",
            id="many parameters of a form",
        ),
        pytest.param(
            "POST",
            "Patient",
            json.dumps(PATIENT),
            {**FHIR, "If-None-Exist": "name=x&" * 6},
            400,
            "too-costly",
            id="many parameters of a condition",
        ),
    ],
)
async def test_what_is_too_much_is_refused_by_its_own_status(small, method, url, content, headers, status, code):
    answer = await small.request(method, url, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert code in (None, issue_of(answer)["code"])
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "url", "content", "status"),
    [
        ("GET", "Patient?name=x&name=y", None, 200),
        ("POST", "Patient", nested(19), 201),
        ("POST", "", bundle(2), 200),
    ],
    ids=["a query", "a nested body", "a Bundle"],
)
async def test_what_is_within_the_limits_is_answered(small, method, url, content, status):
    answer = await small.request(method, url, content=content, headers=FHIR)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("depth", [19, 61, 99, 101, 201, 481, 961, 2001, 50_001])
async def test_no_depth_of_a_body_is_a_fault_of_the_server(tmp_path_factory, depth):
    async with running(tmp_path_factory.mktemp("store"), rest=QUIET) as client:
        answer = await client.post("Patient", content=nested(depth), headers=FHIR)
    assert answer.status_code == (201 if depth <= 100 else 400), answer.text


async def test_a_cross_origin_caller_may_read_a_refusal(small):
    answer = await small.get("Patient?name=" + "x" * 300, headers={"Origin": "https://app.example.org"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (414, "*")


async def test_a_read_beyond_its_deadline_is_503_and_its_statement_ends(tmp_path, monkeypatch):
    async def endless(store, _key, _narrowing):
        def work(catalog):
            return catalog.connection.execute(ENDLESS).fetchone()

        return await store.reader.run(work, work, lambda: "endless", snapshot=False)

    store = SqliteOptions(readers=1, deadline=60)
    async with running(tmp_path, rest=QUIET, store=store, limits=HttpLimits(deadline=0.3)) as client:
        began = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "read", endless)
            answers = await asyncio.gather(*(client.get(f"Patient/{n}") for n in range(3)))
        assert time.monotonic() - began < 3
        for answer in answers:
            assert (answer.status_code, issue_of(answer)["code"]) == (503, "timeout")
            assert "written" not in answer.text
            assert answer.headers["retry-after"]
        reader = client.app.state.service.store.reader
        # the only reader thread is free again long before the store's own deadline
        assert await asyncio.to_thread(reader.run_sync, lambda _catalog: 1) == 1
        assert (await client.get("Patient/1")).status_code == 404
        assert time.monotonic() - began < 5
        text = (await client.get("../metrics")).text
        assert "fhir_requests_timed_out_total 3.0" in text
        assert "fhir_inline_interrupts_total 3.0" in text


async def test_a_write_beyond_its_deadline_says_that_its_outcome_is_not_known(tmp_path, monkeypatch):
    free = threading.Event()
    end = Writer._end_transaction

    def held(writer):
        free.wait(10)
        end(writer)

    async with running(tmp_path, rest=QUIET, limits=HttpLimits(deadline=0.3)) as client:
        monkeypatch.setattr(Writer, "_end_transaction", held)
        tasks = []
        for name in ("begun", "waiting"):
            body = json.dumps({**PATIENT, "id": name})
            tasks.append(asyncio.create_task(client.put(f"Patient/{name}", content=body, headers=FHIR)))
            await asyncio.sleep(0.1)
        for answer in await asyncio.gather(*tasks):
            assert (answer.status_code, issue_of(answer)["code"]) == (503, "timeout")
            assert "not known" in answer.text
        free.set()
        done = await client.put("Patient/after", content=json.dumps({**PATIENT, "id": "after"}), headers=FHIR)
        assert done.status_code == 201
        # what no commit had begun when its caller was sent away is not written behind the caller's back
        assert (await client.get("Patient/waiting")).status_code == 404


async def test_beyond_the_concurrency_a_request_is_sent_away_and_probes_are_let_in(tmp_path, monkeypatch):
    free, full, under_way = asyncio.Event(), asyncio.Event(), []

    async def held(_store, key, _narrowing):
        under_way.append(key)
        if len(under_way) == 2:
            full.set()
        await free.wait()

    async with running(tmp_path, rest=QUIET, limits=HttpLimits(concurrency=2)) as client:
        monkeypatch.setattr(SqliteStore, "read", held)
        tasks = [asyncio.create_task(client.get(f"Patient/{n}")) for n in range(2)]
        await asyncio.wait_for(full.wait(), 10)
        refused = await client.get("Patient/3")
        assert (refused.status_code, issue_of(refused)["code"]) == (503, "throttled")
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("../livez")).status_code == 200
        assert (await client.get("../readyz")).status_code == 200
        text = (await client.get("../metrics")).text
        assert "fhir_requests_in_flight 2.0" in text
        assert "fhir_requests_overloaded_total 1.0" in text
        free.set()
        assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [404, 404]
        assert (await client.get("Patient/3")).status_code == 404


async def test_a_caller_who_is_cancelled_by_others_is_not_answered_by_the_deadline(tmp_path, monkeypatch):
    async def held(_store, _key, _narrowing):
        await asyncio.sleep(10)

    async with running(tmp_path, rest=QUIET) as client:
        monkeypatch.setattr(SqliteStore, "read", held)
        task = asyncio.create_task(client.get("Patient/1"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "fhir_requests_in_flight 0.0" in (await client.get("../metrics")).text
