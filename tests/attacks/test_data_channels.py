"""Attacks by what would be sent elsewhere, by messages from elsewhere, by origins and by logs (39, 40)."""

import json
from urllib.parse import quote

import pytest

from tests.attacks.hospital import Hospital
from tests.attacks.verdicts import is_refused, tells_nothing
from tests.leaks.hospital import seeds
from tests.leaks.worlds import Clock, house

pytestmark = pytest.mark.anyio

ALL = "ann-with-all"


def subscription(endpoint: str, **channel: object) -> str:
    """A Subscription to Bob's results."""
    return json.dumps({
        "resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Observation?patient=quagga",
        "channel": {"type": "rest-hook", "endpoint": endpoint, "payload": "application/fhir+json", **channel},
    })  # fmt: skip


@pytest.mark.parametrize("who", [ALL, "ann-writing", "doctor-writing", "receptionist"])
async def test_attack_39_nobody_of_them_subscribes(hospital, who):
    assert (await hospital.ask(who, "POST", "Subscription", subscription("http://127.0.0.1:9/hook"))).status_code == 403


@pytest.mark.parametrize(
    "endpoint",
    ["http://127.0.0.1:9/hook", "http://169.254.169.254/latest", "file:///etc/passwd", "http://x\r\nX-Injected: 1"],
)
async def test_attack_39_a_subscription_that_is_kept_fetches_and_sends_nothing(hospital, endpoint, monkeypatch):
    """There are no subscriptions yet: no connection is opened for one."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    answer = await hospital.ask(
        "integration", "POST", "Subscription", subscription(endpoint, header=["Authorization: secret"])
    )
    assert answer.status_code in (201, 400, 403, 422, 501)
    for path in ("Subscription/x/$events", "Subscription/x/$status", "Subscription/x/$get-ws-binding-token"):
        assert (await hospital.ask("integration", "GET", path)).status_code in (404, 501)


@pytest.mark.parametrize("kind", ["StructureDefinition", "ValueSet", "CodeSystem", "Library"])
async def test_attack_39_canonical_urls_are_not_fetched(hospital, kind, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    note = {
        "resourceType": "Observation",
        "meta": {"profile": [f"http://169.254.169.254/{kind}"]},
        "status": "final",
        "code": {"text": "x"},
    }
    posted = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "resource", "resource": note},
            {"name": "profile", "valueUri": f"http://169.254.169.254/{kind}"},
        ],
    }
    answer = await hospital.ask("integration", "POST", "Observation/$validate", json.dumps(posted))
    assert answer.status_code < 500
    assert is_refused(await hospital.ask("integration", "GET", "Observation?code:in=http://169.254.169.254/x"))


@pytest.mark.parametrize(
    "path",
    ["$process-message", "$hl7v2", "$convert", "$convert-data", "$ccda", "hl7", "Bundle/$document", "Bundle/$message"],
)
async def test_attack_40_there_is_no_way_in_for_messages_yet(hospital, path):
    answer = await hospital.ask("integration", "POST", path, json.dumps({"resourceType": "Bundle", "type": "message"}))
    assert answer.status_code in (404, 501)


@pytest.mark.parametrize("origin", ["null", "https://evil.example.org", "http://localhost:8000.evil.example.org"])
async def test_attack_40_no_origin_is_given_credentials(hospital, origin):
    for method, path in (
        ("GET", "Patient/ann"),
        ("GET", "Patient/quagga"),
        ("OPTIONS", "Patient/ann"),
        ("GET", "metadata"),
    ):
        more = (
            {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
            if method == "OPTIONS"
            else {}
        )
        answer = await hospital.ask(ALL, method, path, Origin=origin, **more)
        assert answer.headers.get("access-control-allow-origin") in (None, "*")
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["login", "consent", "apps", "sessions", "patient", "otp"])
async def test_attack_40_pages_are_for_no_other_origin(hospital, method, path):
    answer = await hospital.house.http.request(method, f"http://localhost:8000/auth/{path}", headers={"Origin": "null"})
    assert "access-control-allow-origin" not in answer.headers


async def test_attack_40_logs_tell_of_nobody(tmp_path, capfd):
    async with house(tmp_path, seeds(), Clock(), access_log=True) as made:
        hospital = Hospital(made, tmp_path, {})
        for path in (
            "Patient/quagga",
            "Patient?name=quaggafamily&identifier=secret-mrn",
            "Observation?subject:Patient.name=secret-name",
            "Patient?name=%0d%0a%7B%22event%22:1%7D",
            "Patient/secret-id/$everything",
        ):
            await hospital.ask(ALL, "GET", path)
        bad = '{"resourceType":"Observation","subject":{"display":"secret-name"}}'
        await hospital.ask("ann-writing", "POST", "Observation", bad)
        await made.http.get("http://localhost:8000/fhir/Patient/ann?access_token=secret-token")
        await made.http.get("http://localhost:8000/auth/authorize?client_id=app&state=secret-state&code=secret-code")
        given = hospital.token(ALL)
    captured = capfd.readouterr()
    said = captured.out + captured.err
    assert said.count('"status":') >= 7
    assert [word for word in ("quagga", "secret", given, '{"event":1}') if word in said] == []


async def test_attack_40_a_token_in_the_url_is_no_token(hospital):
    for name in ("access_token", "token", "authorization", "Authorization"):
        answer = await hospital.house.http.get(f"http://localhost:8000/fhir/Patient/ann?{name}={hospital.token(ALL)}")
        assert answer.status_code == 401
        assert hospital.token(ALL) not in answer.text


@pytest.mark.parametrize("text", ["a\r\nX-Injected: 1", "a\nb", "\x1b[31m"])
async def test_attack_40_nothing_is_injected_into_headers(hospital, text):
    status, body = await hospital.raw(ALL, "GET", f"Patient/{quote(text)}?x={quote(text)}")
    assert 400 <= status < 500
    assert "\x1b" not in body
    answer = await hospital.ask(ALL, "GET", "Patient/ann", X_Request_Id="x" * 5000)
    assert answer.status_code in (200, 400, 431)
    assert tells_nothing(answer)
