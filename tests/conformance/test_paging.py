"""Every page can be reached by the link that the page before it gave, however the search was sent."""

import json

import pytest

from tests.http.conftest import serving
from tests.servers import FHIR

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_a_search_by_post_for_500_ids_is_paged_by_links(tmp_path):
    ids = [f"0193e8c4-7b1a-7000-8000-{number:012}" for number in range(500)]
    entries = [
        {"resource": {"resourceType": "Patient", "id": name}, "request": {"method": "PUT", "url": f"Patient/{name}"}}
        for name in ids
    ]
    async with serving(tmp_path) as client:
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert (await client.post(client.base_url, content=json.dumps(bundle), headers=FHIR)).status_code == 200
        answer = await client.post("Patient/_search", data={"_id": ",".join(ids), "_count": "200"})
        found = []
        while True:
            assert answer.status_code == 200, answer.text[:300]
            page = answer.json()
            found += [entry["resource"]["id"] for entry in page["entry"]]
            following = [link["url"] for link in page["link"] if link["relation"] == "next"]
            if not following:
                break
            answer = await client.get(following[0])
    assert found == ids
