"""What the machines that watch over the server are told."""

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fhir_server import watch
from fhir_server.http import health
from fhir_server.interactions.options import RestOptions
from fhir_server.observability.options import ObservabilityOptions
from fhir_server.storage.sqlite import state
from tests.http.application import FHIR, running
from tests.http.conftest import made

pytestmark = pytest.mark.anyio

QUIET = RestOptions(access_log=False)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Name and label values -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def client(tmp_path):
    async with running(tmp_path, rest=QUIET) as client:
        yield client


async def test_alive_and_ready(client):
    assert (await client.get("../livez")).json() == {"status": "ok"}
    answer = await client.get("../readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": {"store": "ok", "writer": "ok", "disk": "ok"}}


async def test_before_and_after_serving_it_is_alive_and_not_ready(tmp_path):
    async with running(tmp_path, rest=QUIET) as client:
        pass
    async with type(client)(transport=client._transport, base_url=client.base_url) as late:
        assert (await late.get("../livez")).status_code == 200
        assert (await late.get("../readyz")).status_code == 503
        assert (await late.get("../metrics")).status_code == 404


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        pytest.param("disk", lambda patch, _app: patch.setattr(watch, "disk_fault", lambda *_: "full"), id="the disk"),
        pytest.param("store", lambda patch, _app: patch.setattr(state, "MIGRATIONS", ()), id="another layout"),
        pytest.param(
            "writer", lambda _, app: app.state.service.store.writer.__setattr__("_closed", True), id="the writer"
        ),
    ],
)
async def test_what_fails_makes_it_not_ready_and_is_named(client, monkeypatch, part, broken):
    broken(monkeypatch, client.app)
    answer = await client.get("../readyz")
    assert answer.status_code == 503
    assert [name for name, found in answer.json()["checks"].items() if found != "ok"] == [part]
    assert answer.headers["retry-after"]


async def test_a_disk_that_takes_nothing_is_told_and_recovers(client, monkeypatch, tmp_path):
    monkeypatch.setattr(health, "REMEMBERED", 0)
    monkeypatch.setattr(state, "_PROBE", property())  # what cannot be written stands for a disk that takes nothing

    def refused(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state.Path, "write_bytes", refused)
        answer = await client.get("../readyz")
        assert (answer.status_code, answer.json()["checks"]["disk"]) == (503, "No space left on device")
    monkeypatch.setattr(state, "_PROBE", b"x")
    assert (await client.get("../readyz")).status_code == 200
    assert not [path for path in tmp_path.iterdir() if "probe" in path.name]
    assert state.disk_fault(tmp_path, 1 << 60) == "the disk is nearly full"


async def test_an_answer_about_readiness_holds_for_a_second(client, monkeypatch):
    asked = []
    monkeypatch.setattr(watch, "disk_fault", lambda *_: asked.append(1))
    for _ in range(5):
        await client.get("../readyz")
    assert len(asked) == 1


async def test_metrics_count_by_interaction_type_and_status_and_never_by_id(client, patient):
    name = (await made(client, patient))["id"]
    for url in (f"Patient/{name}", f"Patient/{name}", "Patient/never-there", "Patient?name=Secretive", "Secretive/1"):
        await client.get(url)
    await client.get(f"Patient/{name}/_history/1")
    await client.get(f"Patient/{name}/Observation?code=secret-code")
    await client.post(
        "Patient/_search", content="name=Secretive", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    await client.post("", content='{"resourceType":"Bundle","type":"batch"}', headers=FHIR)
    await client.request("BREWSECRET", f"Patient/{name}")
    answer = await client.get("../metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    requests = {key[1:]: value for key, value in found.items() if key[0] == "fhir_requests_total"}
    assert requests == {
        ("create", "2xx", "Patient"): 1,
        ("read", "2xx", "Patient"): 2,
        ("read", "4xx", "Patient"): 1,
        ("vread", "2xx", "Patient"): 1,
        ("search-type", "2xx", "Patient"): 2,
        ("search-compartment", "2xx", "Observation"): 1,
        ("batch/transaction", "2xx", ""): 1,
        ("unknown", "4xx", ""): 2,
    }
    assert found["fhir_request_seconds_count", "read", "Patient"] == 3
    assert found["fhir_request_seconds_bucket", "read", "+Inf", "Patient"] == 3
    assert 0 < found["fhir_request_seconds_sum", "read", "Patient"] < 10
    assert found[("fhir_commit_units_count",)] == 1
    assert found[("fhir_commit_seconds_count",)] == 1
    assert found["fhir_store_bytes", "database"] > 0
    assert found["fhir_process_up", "worker-1"] == 1
    for secret in (name, "never-there", "ecret"):
        assert secret not in answer.text


async def test_metrics_name_the_jobs_by_work_and_state(client):
    writer = client.app.state.service.store.writer
    rows = [("a", 5, ""), ("b", 5, "token"), ("c", None, ""), ("d", 7, "")]
    for key, due, token in rows:
        data = json.dumps({"work": "reindex", "due": due, "token": token, "error": "x"})
        writer._connection.execute("INSERT INTO follow_up(kind, key, data) VALUES ('job', ?, ?)", (key, data))
    found = samples((await client.get("../metrics")).text)
    jobs = {key[1:]: value for key, value in found.items() if key[0] == "fhir_jobs"}
    assert jobs == {("waiting", "reindex"): 2, ("running", "reindex"): 1, ("failed", "reindex"): 1}


async def test_every_metric_has_a_help_text_and_the_prefix(client):
    text = (await client.get("../metrics")).text
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert names == set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    assert all(name.startswith("fhir_") for name in names)
    assert len(names) > 12


async def test_metrics_can_be_turned_off(tmp_path):
    async with running(tmp_path, rest=QUIET, observability=ObservabilityOptions(metrics=False)) as client:
        assert (await client.get("../metrics")).status_code == 404
