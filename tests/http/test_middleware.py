"""Request id, access log, CORS, gzip: through the whole application."""

import gzip
import io
import json

import pytest

from fhir_server.http.access_log import AccessLog
from fhir_server.http.middleware import observed, request_id
from fhir_server.http.observer import Observer
from fhir_server.observability.metrics import Recorder
from tests.http.conftest import FHIR, made

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("given", ["abc", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"])
async def test_a_request_id_is_answered_back(client, given):
    for url in ("Patient/never", "metadata", "../health"):
        assert (await client.get(url, headers={"X-Request-Id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 500, "<script>"])
async def test_a_request_without_a_fit_id_gets_one(client, given):
    headers = {} if given is None else {"X-Request-Id": given}
    ids = {(await client.get("Patient/never", headers=headers)).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert given not in ids


async def test_any_origin_may_read_without_credentials(client):
    answer = await client.get("Patient/never", headers={"Origin": "https://app.example.org"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in (await client.get("Patient/never")).headers
    outside = await client.get("../health", headers={"Origin": "https://app.example.org"})
    assert "access-control-allow-origin" not in outside.headers


async def test_a_preflight_lists_authorization_by_name(client):
    answer = await client.options(
        "Patient", headers={"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 204
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_large_answers_are_packed_for_who_takes_gzip(client, patient):
    name = (await made(client, {**patient, "name": [{"family": "x" * 3000}]}))["id"]
    plain = await client.get(f"Patient/{name}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with client.stream("GET", f"Patient/{name}", headers={"Accept-Encoding": "br, gzip;q=0.5"}) as packed:
        raw = b"".join([part async for part in packed.aiter_raw()])
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers.get_list("vary") == ["Accept", "Accept-Encoding"]
    assert int(packed.headers["content-length"]) == len(raw) < 600
    assert gzip.decompress(raw) == plain.content
    refused = await client.get(f"Patient/{name}", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers
    small = await client.get("Patient/never", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers


async def test_the_access_log_names_shapes_and_no_ids():
    stream = io.StringIO()
    log = AccessLog(stream)

    async def app(scope, receive, send):
        scope["route_shape"], scope["segments"] = "/{type}/{id}", ("Patient", "secret")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ignore(_message):
        pass

    scope = {"type": "http", "method": "GET", "path": "/fhir/Patient/secret", "headers": [(b"x-request-id", b"r1")]}
    observer = Observer(Recorder(), log, prefix="/fhir", code_of=lambda _shape, _method: "read")
    await request_id(observed(app, observer))(scope, None, ignore)
    assert stream.getvalue() == ""
    log.flush()
    line = json.loads(stream.getvalue())
    assert line.pop("ms") >= 0
    assert line.pop("timestamp").startswith("20")
    assert line == {
        "event": "request",
        "level": "info",
        "process": "",
        "request_id": "r1",
        "method": "GET",
        "route": "/{type}/{id}",
        "status": 200,
    }


async def test_health_says_that_the_process_serves(client):
    assert (await client.get("../health")).json() == {"status": "ok"}
    assert FHIR
