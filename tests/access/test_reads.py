"""Who sees what through every way of reading."""

import pytest

pytestmark = pytest.mark.anyio


async def test_smoke(hospital):
    anne = hospital.as_("anne", "patient/*.rs", "anne")
    answer = await hospital.get("Patient/anne", anne)
    assert answer.status_code == 200, answer.text
    answer = await hospital.get("Patient/bert", anne)
    assert answer.status_code == 404, answer.text
    print(await hospital.ids("Observation?_count=1", anne))
