"""The paging promise: what matches throughout, with sort keys that stay, comes exactly once, whoever else writes.

https://hl7.org/fhir/R4/http.html#paging
"""

import asyncio
import json
import random

import pytest

from tests.http.conftest import FHIR, issue_of, serving

pytestmark = pytest.mark.anyio
RESOURCES = 2000
WRITERS = 8
SORTS = (
    "", "date", "-date", "code", "-code", "value-quantity", "-value-quantity", "value-string", "-value-string", "subject", "-subject",
    "patient", "_id", "-_id", "status,-date", "-code,value-quantity,date", "-status,code,_id",
)  # fmt: skip


def observation(at, random_):
    """An Observation with some of the values that are sorted by."""
    value = random_.choice(
        ({"valueQuantity": {"value": random_.randrange(-5, 50)}}, {"valueString": random_.choice("abcdef")}, {})
    )
    return {
        "resourceType": "Observation",
        "id": f"s{at:05}",
        "status": random_.choice(("final", "amended", "preliminary")),
        "code": {
            "coding": [{"system": "s", "code": f"c{random_.randrange(20)}"} for _ in range(random_.randint(1, 2))]
        },
        "category": [{"text": "stays"}],
        "method": {"coding": [{"code": "paged"}]},
        **({"effectiveDateTime": f"2020-01-{random_.randrange(1, 29):02}"} if random_.random() < 0.8 else {}),
        **({"subject": {"reference": f"Patient/p{random_.randrange(30)}"}} if random_.random() < 0.8 else {}),
        **value,
    }


async def fill(client, seed=1):
    random_ = random.Random(seed)
    rows = [observation(at, random_) for at in range(RESOURCES)]
    entries = [{"resource": row, "request": {"method": "PUT", "url": f"Observation/{row['id']}"}} for row in rows]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await client.post("", content=json.dumps(bundle), headers=FHIR)
    assert answer.status_code == 200, answer.text
    return rows


async def write(client, rows, number, stop):
    """Updates fields of rows that are not sorted by; creates and deletes others that match too."""
    random_ = random.Random(number)
    count = 0
    while not stop.is_set():
        count += 1
        row = dict(random_.choice(rows))
        row["note"] = [{"text": f"{number}.{count}"}]
        assert (await client.put(f"Observation/{row['id']}", content=json.dumps(row), headers=FHIR)).status_code == 200
        extra = {**observation(0, random_), "id": f"x{number}-{count % 50}"}
        await client.put(f"Observation/{extra['id']}", content=json.dumps(extra), headers=FHIR)
        if count % 3 == 0:
            await client.delete(f"Observation/x{number}-{random_.randrange(50)}")
        await asyncio.sleep(0)
    return count


async def walked(client, url, relation="next"):
    """Ids page by page, and the URL of the last page."""
    pages, last = [], url
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        pages.append([entry["resource"]["id"] for entry in bundle.get("entry", ())])
        last, url = url, next((link["url"] for link in bundle["link"] if link["relation"] == relation), None)
    return pages, last


def searched(sort, count):
    return f"Observation?method=paged&_count={count}{f'&_sort={sort}' if sort else ''}"


async def test_every_row_comes_once_while_others_write(tmp_path):
    async with serving(tmp_path) as client:
        rows = await fill(client)
        stop = asyncio.Event()
        writers = [asyncio.create_task(write(client, rows, number, stop)) for number in range(WRITERS)]
        try:
            for sort in SORTS:
                pages, _ = await walked(client, searched(sort, 250))
                found = [one for page in pages for one in page if one.startswith("s")]
                assert len(found) == RESOURCES, (sort, len(found))
                assert len(set(found)) == RESOURCES, sort
        finally:
            stop.set()
            rounds = await asyncio.gather(*writers)
        assert min(rounds) > 0
        assert sum(rounds) > len(SORTS)


async def test_pages_backward_are_the_pages_forward(tmp_path):
    async with serving(tmp_path) as client:
        await fill(client)
        for sort in (*SORTS, "_lastUpdated", "-_lastUpdated"):
            forward, last = await walked(client, searched(sort, 400))
            backward, _ = await walked(client, last, "previous")
            assert sorted(one for page in backward for one in page) == sorted(
                one for page in forward for one in page
            ), sort
            assert backward[-1][-1:] != [], sort
            assert [one for page in reversed(backward) for one in page] == [one for page in forward for one in page], (
                sort
            )


async def test_cursors_survive_a_restart_and_are_good_for_their_search_alone(tmp_path):
    async with serving(tmp_path) as client:
        await fill(client)
        first = (await client.get(searched("-date", 100))).json()
        following = next(link["url"] for link in first["link"] if link["relation"] == "next")
        expected = (await client.get(following)).json()["entry"]
    async with serving(tmp_path) as client:
        answer = await client.get(following)
        assert answer.json()["entry"] == expected
        for at in (0, 20, -1):
            head, _, cursor = following.rpartition("=")
            letters = list(cursor)
            letters[at] = "A" if letters[at] != "A" else "B"
            tampered = await client.get(f"{head}={''.join(letters)}")
            assert (tampered.status_code, issue_of(tampered)["code"]) == (400, "invalid")
        other = await client.get(following.replace("method=paged", "method=other"))
        assert (other.status_code, issue_of(other)["code"]) == (400, "invalid")
