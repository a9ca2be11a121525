"""A user who sends more than the rate waits, and nobody else does."""

import time

import pytest

from fhir_server.http.options import RateOptions
from smart_auth import keys
from smart_auth.model import Client
from tests.access.hospital import PEOPLE, Hospital
from tests.http.application import running

pytestmark = pytest.mark.anyio


async def test_a_user_who_sends_more_than_the_rate_waits_and_nobody_else_does(tmp_path):
    async with running(tmp_path, auth="required", rates=RateOptions(user=1, burst=2)) as client:
        store = client.app.state.auth.store
        keys.ensure(store, int(time.time()))
        for person in PEOPLE:
            store.put_user(person)
        store.put_client(Client("app", "App", "public"))
        hospital = Hospital(client, client.app)
        sue, adam = hospital.as_("sue", "user/*.rs"), hospital.as_("adam", "user/*.rs")
        answers = [await hospital.get("Patient", sue) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
        assert answers[2].headers["retry-after"] == "1"
        assert answers[2].json()["issue"][0]["code"] == "throttled"
        assert (await hospital.get("Patient", adam)).status_code == 200
        assert {(await hospital.get("Patient", hospital.as_("", "system/*.rs"))).status_code for _ in range(5)} == {200}
        found = await hospital.get("AuditEvent?agent-name=sue&outcome=4&_count=1", adam)
        assert found.json()["entry"][0]["resource"]["outcomeDesc"] == "429 Too Many Requests"
