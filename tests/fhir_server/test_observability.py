"""Logs without a record in them, counts of several processes, the shape of slow requests, traces, and settings that are documented."""

import asyncio
import json
import logging
import os
import re
import sqlite3
from pathlib import Path

import pytest
import structlog
from opentelemetry.trace import get_current_span

from fhir_server.http.limits import Admission
from fhir_server.interactions.options import RestOptions
from fhir_server.observability import board as boards
from fhir_server.observability import configure_logging, tracing
from fhir_server.observability.board import Board
from fhir_server.observability.histogram import SECONDS, SIZES, Histogram
from fhir_server.observability.metrics import Counts, Recorder, add, decode, encode, without_types
from fhir_server.observability.options import ObservabilityOptions, OtelOptions
from fhir_server.observability.slow import shape_of, vocabulary
from fhir_server.settings import explain, load_settings
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.sqlite.writer import Writer
from tests.http.application import FHIR, running

MARK = "zqchalmers"
OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PATIENT = {
    "resourceType": "Patient",
    "id": MARK,
    "name": [{"family": MARK}],
    "identifier": [{"system": f"urn:{MARK}", "value": MARK}],
}
BODY = json.dumps(PATIENT)


def bundle(kind, *requests):
    entries = [
        {
            "fullUrl": f"http://other/{MARK}/{n}",
            **({"resource": resource} if resource else {}),
            "request": {"method": method, "url": url},
        }
        for n, (method, url, resource) in enumerate(requests)
    ]
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})


REQUESTS = [
    ("PUT", f"Patient/{MARK}", BODY, FHIR),
    ("GET", f"Patient/{MARK}", None, {"If-None-Match": f'W/"{MARK}"', "Cookie": MARK, "User-Agent": MARK}),
    ("HEAD", f"Patient/{MARK}", None, {"Authorization": f"Bearer {MARK}", "Referer": f"http://x/{MARK}"}),
    ("GET", f"Patient/{MARK}/_history", None, {}),
    ("GET", f"Patient/{MARK}/_history/{MARK}", None, {}),
    ("GET", f"Patient/{MARK}/Observation?code={MARK}", None, {}),
    ("GET", f"Patient/{MARK}/{MARK}", None, {}),
    ("GET", f"Patient/{MARK}/$everything", None, {}),
    ("GET", f"{MARK}/{MARK}", None, {}),
    ("GET", f"Patient?name={MARK}&identifier=urn:{MARK}|{MARK}&_sort=-{MARK}", None, {}),
    ("GET", f"Patient?{MARK}={MARK}&name:{MARK}=x&{MARK}", None, {"Prefer": "handling=lenient"}),
    ("GET", f"Patient?birthdate={MARK}&_count={MARK}", None, {}),
    ("GET", f"Patient?_include={MARK}:{MARK}&_has:{MARK}:patient:code={MARK}", None, {}),
    ("GET", f"Patient?name=%{MARK}&_format={MARK}", None, {"Accept": f"{MARK}/{MARK}"}),
    ("GET", f"Patient?_cursor={MARK}", None, {"Origin": f"https://{MARK}.example.org"}),
    ("POST", "Patient/_search", f"name={MARK}&{MARK}={MARK}", FORM),
    ("POST", "Patient/_search", f"name=%{MARK}", FORM),
    ("POST", "Patient", BODY, {**FHIR, "If-None-Exist": f"identifier={MARK}&{MARK}={MARK}"}),
    ("POST", "Patient", BODY, {"Content-Type": f"application/{MARK}"}),
    ("POST", "Patient", BODY.replace("family", MARK), FHIR),
    ("POST", "Patient", BODY[:-5], FHIR),
    ("POST", "Observation", BODY, {**FHIR, "Prefer": f"return={MARK}"}),
    ("PUT", f"Patient/{MARK}", BODY, {**FHIR, "If-Match": f'W/"{MARK}"'}),
    ("PUT", f"Patient/{MARK}-x", BODY, FHIR),
    ("POST", "", bundle("transaction", ("PUT", f"Patient/{MARK}", PATIENT), ("GET", f"Patient?name={MARK}", None)), FHIR),
    ("POST", "", bundle("batch", ("POST", "Patient", PATIENT), ("GET", f"{MARK}/{MARK}", None), ("DELETE", f"Patient/{MARK}", None)), FHIR),
    ("POST", "", bundle(MARK), FHIR),
    ("PATCH", f"Patient/{MARK}", BODY, FHIR),
    (MARK.upper(), f"Patient/{MARK}", None, {}),
    ("DELETE", f"Patient/{MARK}", None, {}),
    ("GET", f"Patient/{MARK}", None, {"X-Request-Id": f"{MARK} {MARK}"}),
    ("GET", f"../{MARK}?{MARK}={MARK}", None, {}),
    ("GET", f"Patient?name={MARK * 5000}", None, {}),
    ("GET", f"Patient/{MARK}", None, {"X-Long": MARK * 10_000}),
]  # fmt: skip


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def logged(capsys):
    """The text of all logs since the last call; logging is as before at the end."""
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield lambda: capsys.readouterr().err
    structlog.reset_defaults()
    logging.getLogger().handlers, level = before
    logging.getLogger().setLevel(level)


# ---- logs


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_log_of_any_request_holds_what_the_request_said(tmp_path, logged, form):
    configure_logging("debug", form)
    slow = ObservabilityOptions(slow=1e-9)
    async with running(tmp_path, log_level="debug", log_format=form, observability=slow) as client:
        statuses = [
            (await client.request(method, url, content=body, headers=headers)).status_code
            for method, url, body, headers in REQUESTS
        ]
    text = logged()
    assert MARK not in text.lower()
    assert {200, 201, 400, 404, 405, 406, 414, 415, 431} <= set(statuses)
    assert 500 not in statuses
    shown = text.count('"event":"request"') if form == "json" else text.count("request_id=") - text.count(" slow ")
    assert shown >= len(REQUESTS)
    if form == "json":
        for line in text.splitlines():
            assert {"event", "level", "timestamp"} <= json.loads(line).keys()


def fault(*_args, **_named):
    raise RuntimeError(f"the record of {MARK}")


FAULTS = [
    pytest.param((SqliteStore, "read"), id="a read"),
    pytest.param((SqliteStore, "search"), id="a search"),
    pytest.param((SqliteStore, "commit"), id="a write"),
    pytest.param((SqliteStore, "history"), id="a history"),
    pytest.param((Writer, "_statements"), id="a commit"),
    pytest.param((Admission, "refusal"), id="a layer around the interactions"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("broken", FAULTS)
async def test_no_fault_of_the_server_tells_of_the_record_it_failed_on(tmp_path, logged, monkeypatch, broken):
    configure_logging("debug", "json")
    async with running(tmp_path, log_level="debug", log_format="json") as client:
        await client.put(f"Patient/{MARK}", content=BODY, headers=FHIR)
        monkeypatch.setattr(*broken, fault)
        answers = [
            await client.request(method, url, content=body, headers=headers) for method, url, body, headers in REQUESTS
        ]
        monkeypatch.undo()
    assert any(answer.status_code == 500 for answer in answers)
    for answer in answers:
        if answer.status_code == 500:
            assert MARK not in answer.text
    text = logged()
    assert MARK not in text.lower()
    if broken[0] is not Admission:
        assert '"type": "RuntimeError"' in text


def test_what_libraries_log_is_told_without_values(logged):
    configure_logging("debug", "json")

    def raised(error):
        try:
            raise error
        except type(error) as caught:
            return caught

    secret = raised(ValueError(MARK))
    never = f"Task exception was never retrieved\nfuture: <Task {MARK}>"
    callback = f"Exception in callback <bound {MARK}>()"
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=secret)
    logging.getLogger("uvicorn.error").warning("Refused %s at %s", MARK, f"/fhir/Patient/{MARK}")
    logging.getLogger("asyncio").error(never, exc_info=secret)
    logging.getLogger("asyncio").error(callback)
    structlog.get_logger().exception("job_failed", exc_info=secret)
    structlog.get_logger().exception("store_unavailable", exc_info=raised(sqlite3.OperationalError("disk I/O error")))
    structlog.get_logger().exception("store_unavailable", exc_info=raised(OSError(28, "No space left on device", MARK)))
    text = logged()
    assert MARK not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines[:3]] == [
        "Exception in ASGI application", "Refused %s at %s", "Task exception was never retrieved"
    ]  # fmt: skip
    assert [line["logger"] for line in lines[:4]] == ["uvicorn.error", "uvicorn.error", "asyncio", "asyncio"]
    assert lines[0]["type"] == "ValueError"
    assert any("test_observability" in frame for frame in lines[0]["frames"])
    assert [line["reason"] for line in lines[5:]] == ["disk I/O error", "No space left on device"]
    assert all(line["timestamp"] and line["level"] in ("error", "warning") for line in lines)


@pytest.mark.anyio
async def test_a_warning_level_leaves_only_the_requests_that_failed(tmp_path, logged, monkeypatch):
    configure_logging("warning", "json")
    async with running(tmp_path, log_level="warning", log_format="json") as client:
        await client.get("Patient/1")
        monkeypatch.setattr(SqliteStore, "read", fault)
        await client.get("Patient/1")
    lines = [json.loads(line) for line in logged().splitlines()]
    assert [(line["event"], line.get("status")) for line in lines] == [("unexpected", None), ("request", 500)]
    assert lines[0]["request_id"] == lines[1]["request_id"]


@pytest.mark.anyio
async def test_probes_are_logged_only_when_they_fail(tmp_path, logged):
    configure_logging("info", "json")
    async with running(tmp_path, log_format="json") as client:
        for probe in ("livez", "readyz", "metrics"):
            assert (await client.get(f"../{probe}")).status_code == 200
        client.app.state.service.store.writer._closed = True
        await asyncio.sleep(1.1)
        assert (await client.get("../readyz")).status_code == 503
    assert [json.loads(line)["route"] for line in logged().splitlines()] == ["/readyz"]


# ---- slow requests

WORDS = vocabulary(["name", "code", "patient", "subject"], ["Patient", "Observation"])


@pytest.mark.parametrize(
    ("pairs", "shown"),
    [
        ([("name", "x")], ["name"]),
        ([("name:exact", "x"), ("_count", "5")], ["name:exact", "_count"]),
        ([("subject:Patient.name", "x")], ["subject:Patient.name"]),
        ([("_has:Observation:patient:code", "x")], ["_has:Observation:patient:code"]),
        ([("_sort", "-code,name")], ["_sort=-code,name"]),
        ([("_include", "Observation:subject")], ["_include=Observation:subject"]),
        (
            [("Chalmers", "x"), ("name:Chalmers", "x"), ("subject:Patient.Chalmers", "")],
            ["?", "name:?", "subject:Patient.?"],
        ),
        ([("_sort", "-Chalmers"), ("_include", "Chalmers:subject")], ["_sort=?", "_include=?:subject"]),
        ([("", ""), ("name", "")], ["?", "name"]),
        ([("name", "x")] * 80, ["name"] * 50),
    ],
)
def test_a_slow_request_is_told_by_names_of_the_specification_alone(pairs, shown):
    assert shape_of(pairs, WORDS) == shown


@pytest.mark.anyio
async def test_slow_requests_are_logged_by_shape_from_the_threshold_on(tmp_path, logged):
    configure_logging("info", "json")
    rest = RestOptions(access_log=False)
    for slow, expected in ((1e-9, 2), (30.0, 0), (0.0, 0)):
        async with running(tmp_path, rest=rest, observability=ObservabilityOptions(slow=slow)) as client:
            await client.get("Observation?subject:Patient.name=x&_sort=-date")
            await client.post("Patient/_search", content="name:exact=x&birthdate=ge2020", headers=FORM)
        lines = [json.loads(line) for line in logged().splitlines()]
        assert len(lines) == expected
        if lines:
            assert lines[0]["parameters"] == ["subject:Patient.name", "_sort=-date"]
            assert lines[1]["parameters"] == ["name:exact", "birthdate"]
            assert (lines[1]["event"], lines[1]["level"], lines[1]["interaction"]) == ("slow", "warning", "search-type")
            assert lines[1]["type"] == "Patient"


# ---- counts


def recorded(*requests):
    recorder = Recorder()
    for request in requests:
        recorder(*request)
    return recorder.counts()


def test_a_request_is_counted_by_shape_type_and_status():
    counts = recorded(
        ("/{type}/{id}", ("Patient", "x"), "GET", 200, 0.0005),
        ("/{type}/{id}", ("Patient", "y"), "GET", 204, 0.0006),
        ("/{type}/{id}/{member}", ("Patient", "x", "Observation"), "GET", 200, 99),
        ("", (), "CHALMERS", 404, 0.1),
        ("", (), "SMITH", 405, 0.1),
    )
    assert set(counts.requests) == {
        ("/{type}/{id}", "GET", "Patient", 2),
        ("/{type}/{id}/{member}", "GET", "Observation", 2),
        ("", "", "", 4),
    }
    cell = counts.requests["/{type}/{id}", "GET", "Patient", 2]
    assert cell[:3] == [1, 1, 0]
    assert cell[-1] == pytest.approx(0.0011)
    assert counts.requests["/{type}/{id}/{member}", "GET", "Observation", 2][len(SECONDS)] == 1


@pytest.mark.parametrize(("value", "bucket"), [(0, 0), (1, 0), (1.1, 1), (256, 8), (257, 9)])
def test_a_bound_belongs_to_the_bucket_it_ends(value, bucket):
    histogram = Histogram(SIZES)
    histogram.observe(value)
    assert histogram.counts.index(1) == bucket


def test_counts_are_the_same_after_sending_and_add_up():
    one = Counts(
        recorded(("/{type}", ("Patient",), "GET", 200, 0.2)).requests, {"a": 1}, {"h": ([1.0], [1, 2], 3.5)}, {"l": 4.0}
    )
    assert decode(encode(one)) == one
    total = Counts()
    for _ in range(3):
        add(total, decode(encode(one)))
    assert total.counters == {"a": 3}
    assert total.histograms == {"h": ([1.0], [3, 6], 10.5)}
    assert total.levels == {"l": 12.0}
    assert sum(total.requests["/{type}", "GET", "Patient", 2][:-1]) == 3
    gone = Counts()
    add(gone, one, levels=False)
    assert gone.levels == {}
    assert one.counters == {"a": 1}


def in_child(work):
    """Run `work` in a forked process; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_processes_show_their_counts_to_each_other_and_a_restarted_one_goes_on_from_them():
    board = Board(("worker-1", "worker-2", "background"))

    def worker():
        board.take("worker-2")
        board.contribute(lambda: Counts(counters={"a": 5}, levels={"l": 1.0}))
        board.publish()

    for round_ in (1, 2, 3):
        assert in_child(worker) == 0
        (shown,) = board.shown()
        assert (shown.role, shown.counts.counters) == ("worker-2", {"a": 5 * round_})
        assert shown.counts.levels == {"l": 1.0}
    board.take("worker-1")
    board.contribute(lambda: Counts(counters={"a": 1}))
    board.publish()
    assert [(one.role, one.counts.counters["a"]) for one in board.shown()] == [("worker-1", 1), ("worker-2", 15)]
    assert board.shown()[0].pid == os.getpid()


def test_a_source_that_is_withdrawn_stays_counted():
    board = Board(("one",))

    def source():
        return Counts(counters={"a": 2}, levels={"l": 1.0})

    board.contribute(source)
    board.publish()
    board.withdraw(source)
    board.publish()
    assert board.shown()[0].counts == Counts(counters={"a": 2})


def test_counts_that_do_not_fit_are_shown_without_types(monkeypatch):
    monkeypatch.setattr(boards, "PAGE", 4096)
    board = Board(("one",))
    monkeypatch.setattr(boards, "_SLOT", boards._SLOT)
    requests = [("/{type}", (f"Type{n}",), "GET", 200, 0.1) for n in range(500)]
    counts = recorded(*requests)
    board.contribute(lambda: counts)
    board.publish()
    assert set(board.shown()[0].counts.requests) == {("/{type}", "GET", "", 2)}
    assert sum(without_types(counts).requests["/{type}", "GET", "", 2][:-1]) == 500


def test_a_reader_never_sees_half_a_page():
    board = Board(("writer", "reader"))
    stop, start = os.pipe()

    def write():
        board.take("writer")
        os.write(start, b"x")
        for n in range(3000):
            board._sources = [lambda n=n: Counts(counters={f"n{k}": n for k in range(n % 50)})]
            board.publish()

    pid = os.fork()
    if pid == 0:
        try:
            write()
        finally:
            os._exit(0)
    os.read(stop, 1)
    looks = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        for shown in board.shown():
            assert len(set(shown.counts.counters.values())) <= 1
        looks += 1
    assert looks
    os.close(stop)
    os.close(start)


# ---- traces


def test_traces_that_are_asked_for_and_not_installed_are_refused(monkeypatch):
    monkeypatch.setattr(tracing, "_there", lambda _name: False)
    tracing.require_installed(OtelOptions())
    with pytest.raises(tracing.NotInstalled, match=r"otel\.endpoint.*fhir-server\[otel\]"):
        tracing.require_installed(OtelOptions(endpoint="http://127.0.0.1:4318/v1/traces"))


def test_a_package_below_one_that_is_missing_is_not_there():
    assert not tracing._there("no_such_package.below.it")
    assert tracing._there("opentelemetry.trace")


class Tracer:
    def __init__(self):
        self.spans = []

    def start_span(self, name, context, **named):
        span = Span(name, context, named)
        self.spans.append(span)
        return span


class Span:
    def __init__(self, name, context, named):
        self.name, self.context, self.named, self.status, self.ended = name, context, named, None, None

    def set_status(self, status):
        self.status = status

    def end(self, end_time):
        self.ended = end_time


@pytest.mark.anyio
async def test_a_span_says_what_the_log_says_and_follows_its_caller(tmp_path, monkeypatch):
    tracer, ended = Tracer(), []
    made = tracing.tracer_hook(tracer)
    monkeypatch.setattr("fhir_server.watch.start_tracing", lambda _options, _process: (made, lambda: ended.append(1)))
    otel = OtelOptions(endpoint="http://127.0.0.1:9/v1/traces")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with running(tmp_path, rest=RestOptions(access_log=False), otel=otel) as client:
        await client.get(f"Patient/{MARK}?", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        await client.get("../livez")
        monkeypatch.setattr(SqliteStore, "read", fault)
        await client.get(f"Patient/{MARK}")
    first, second = tracer.spans
    assert first.name == "read Patient"
    assert f"{get_current_span(first.context).get_span_context().trace_id:032x}" == trace
    assert first.named["attributes"]["http.route"] == "/fhir/{type}/{id}"
    assert first.named["attributes"]["http.response.status_code"] == 404
    assert first.named["start_time"] < first.ended
    assert first.status is None
    assert second.status is not None
    assert MARK not in repr([span.named for span in tracer.spans])
    assert ended == [1]


# ---- documentation


def test_every_setting_is_documented_with_its_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FHIR_")]:
        monkeypatch.delenv(name)
    text = OPERATIONS.read_text(encoding="utf-8")
    rows = {cells[1].strip(): cells[2].strip() for line in text.splitlines() if len(cells := line.split("|")) > 3}
    loaded = load_settings({})
    missing = [row.name for row in explain(loaded) if f"`{row.name}`" not in rows]
    assert missing == [], "settings that docs/operations.md does not explain"
    wrong = {
        row.name: rows[f"`{row.name}`"] for row in explain(loaded) if rows[f"`{row.name}`"].strip("`") != row.value
    }
    assert wrong == {}, "settings whose default docs/operations.md tells wrongly"


@pytest.mark.anyio
async def test_every_metric_is_documented(tmp_path):
    async with running(tmp_path, rest=RestOptions(access_log=False)) as client:
        text = (await client.get("../metrics")).text
    documented = set(re.findall(r"`(fhir_[a-z_]+)`", OPERATIONS.read_text(encoding="utf-8")))
    assert set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) == documented


@pytest.mark.parametrize(
    "value", ["FHIR_LIMITS__DEADLINE=0", "FHIR_LIMITS__CONCURRENCY=0", "FHIR_OTEL__SAMPLE=2", "FHIR_LOG_FORMAT=xml"]
)
def test_a_limit_that_makes_no_sense_is_refused(monkeypatch, value):
    name, _, number = value.partition("=")
    monkeypatch.setenv(name, number)
    with pytest.raises(Exception, match=name.removeprefix("FHIR_").lower().replace("__", ".")):
        load_settings({})
