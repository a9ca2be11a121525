"""A clock that is set back: order, history and paging do not notice. https://hl7.org/fhir/R4/resource.html#Meta"""

import json
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from tests.http.conftest import serving
from tests.servers import FHIR

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def patient(name, language):
    return json.dumps({"resourceType": "Patient", "id": name, "language": language})


async def updates(client, count, start):
    moments = []
    for number in range(count):
        answer = await client.put("Patient/a", content=patient("a", f"x-{start + number}"), headers=FHIR)
        assert answer.status_code in (200, 201)
        moments.append(answer.json()["meta"]["lastUpdated"])
    return moments


async def test_last_updated_increases_while_the_clock_goes_back(tmp_path):
    with time_machine.travel(NOON) as traveller:
        async with serving(tmp_path) as client:
            moments = await updates(client, 3, 0)
            traveller.move_to(NOON - timedelta(hours=2))
            moments += await updates(client, 3, 3)
            await client.delete("Patient/a")
            moments += await updates(client, 2, 6)
            since = moments[3]
            told = (await client.get("Patient/a/_history")).json()["entry"]
            assert [entry["response"]["etag"] for entry in told] == [f'W/"{n}"' for n in range(9, 0, -1)]
            newer = (await client.get("_history", params={"_since": since})).json()["entry"]
            assert [entry["response"]["etag"] for entry in newer] == [f'W/"{n}"' for n in range(9, 3, -1)]
        assert moments == sorted(set(moments))
        assert moments[0].startswith("2026-06-01T12:00:0")
        traveller.move_to(NOON - timedelta(days=30))
        async with serving(tmp_path) as client:
            again = await updates(client, 2, 8)
            assert again == sorted(set(again))
            assert again[0] > moments[-1]
            traveller.move_to(NOON + timedelta(days=1))
            (later,) = await updates(client, 1, 10)
            assert later.startswith("2026-06-02T12:00:0")
            found = (await client.get("Patient", params={"_lastUpdated": "ge2026-06-02"})).json()
            assert found["total"] == 1


async def test_ids_stay_unique_while_the_clock_goes_back(tmp_path):
    with time_machine.travel(NOON, tick=False) as traveller:
        async with serving(tmp_path) as client:
            ids = []
            for number in range(60):
                traveller.shift(timedelta(milliseconds=-5 if number % 3 else 1))
                answer = await client.post("Patient", content='{"resourceType":"Patient"}', headers=FHIR)
                assert answer.status_code == 201
                ids.append(answer.json()["id"])
            assert len(set(ids)) == 60
            pages = [entry["resource"]["id"] for entry in (await client.get("Patient?_count=100")).json()["entry"]]
            assert sorted(pages) == sorted(ids)
