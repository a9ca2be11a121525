"""What is sent comes back token for token: https://hl7.org/fhir/R4/json.html. POST, PUT and transactions, resources of every type."""

import asyncio
import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.json_format import encode
from tests.http.conftest import FHIR, serving
from tests.strategies import SENT, resources, whole

TOKENS = [
    "1.00", "1e3", "-0", "-0.0", "0.00000001", "1.50E+2", "12345678901234567890.123456789012345678", "5", "0.10", "1E-7",
]  # fmt: skip


def without_server_values(body: bytes) -> object:
    """The body with its tokens, less id and what the server puts into meta; order counts."""

    class Token(str):
        __slots__ = ()

    def ordered(pairs):
        return pairs

    decoded = json.loads(body, parse_float=Token, parse_int=Token, object_pairs_hook=ordered)
    kept = [(name, value) for name, value in decoded if name not in ("id", "meta")]
    meta = next((value for name, value in decoded if name == "meta"), [])
    rest = [pair for pair in meta if pair[0] not in ("versionId", "lastUpdated")]
    return kept, rest


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.anyio
async def test_a_number_comes_back_as_it_was_written(client, token):
    body = f'{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"valueQuantity":{{"value":{token},"unit":"g"}}}}'
    answer = await client.post("Observation", content=body, headers=FHIR)
    assert answer.status_code == 201, answer.text
    assert f'"value":{token},' in answer.text
    assert f'"value":{token},' in (await client.get(f"Observation/{answer.json()['id']}")).text
    bundle = (
        f'{{"resourceType":"Bundle","type":"transaction","entry":[{{"resource":{body},'
        '"request":{"method":"POST","url":"Observation"}}]}'
    )
    done = await client.post("", content=bundle, headers={**FHIR, "Prefer": "return=representation"})
    assert f'"value":{token},' in done.text


@pytest.mark.parametrize(
    "time",
    [
        "2024",
        "2024-02",
        "2024-02-29",
        "2024-02-29T10:00:00Z",
        "2024-02-29T10:00:00.000Z",
        "2024-02-29T10:00:00.1234567+14:00",
    ],
)
@pytest.mark.anyio
async def test_a_time_comes_back_as_it_was_written(client, time):
    body = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "effectiveDateTime": time}
    answer = await client.post("Observation", content=json.dumps(body), headers=FHIR)
    assert f'"effectiveDateTime":"{time}"' in (await client.get(f"Observation/{answer.json()['id']}")).text


@pytest.mark.anyio
async def test_the_order_of_elements_and_the_clients_meta_are_kept(client):
    body = (
        '{"meta":{"tag":[{"code":"a"}],"versionId":"7","profile":["http://example.org/p"],"lastUpdated":"2001-01-01T00:00:00Z"},'
        '"name":[{"given":["Z","A"],"family":"\\u00e9"}],"active":true,"resourceType":"Patient"}'
    )
    answer = await client.post("Patient", content=body, headers=FHIR)
    assert answer.status_code == 201, answer.text
    got = answer.json()
    assert list(got) == ["resourceType", "id", "meta", "name", "active"] or next(iter(got)) == "resourceType"
    assert list(got).index("name") < list(got).index("active")
    assert got["name"] == [{"given": ["Z", "A"], "family": "é"}]
    assert (got["meta"]["tag"], got["meta"]["profile"]) == ([{"code": "a"}], ["http://example.org/p"])
    assert got["meta"]["versionId"] == "1"
    assert got["meta"]["lastUpdated"] > "2026"


def test_resources_of_every_type_come_back_as_they_were_sent(tmp_path_factory, rounds):
    folder = tmp_path_factory.mktemp("lossless")
    with asyncio.Runner() as runner:

        @settings(max_examples=60 * rounds, suppress_health_check=list(HealthCheck))
        @given(data=st.data())
        def sent_and_read(data):
            kind = data.draw(st.sampled_from(SENT))
            runner.run(exchanged(data.draw(resources(kind)), kind))

        async def exchanged(resource, kind):
            if kind in ("SearchParameter", "Consent"):
                resource["status"] = "draft"  # an active one has to be indexable, or enforceable
            sent = encode(copy.deepcopy(resource))
            answer = await held.post(kind, content=sent, headers=FHIR)
            assert answer.status_code == 201, (answer.text, sent)
            read = await held.get(f"{kind}/{answer.json()['id']}", headers={"Accept": "application/fhir+json"})
            assert without_server_values(read.content) == without_server_values(sent)

        serving_context = serving(folder, invariants=False)
        held = runner.run(serving_context.__aenter__())
        try:
            sent_and_read()
            for kind in SENT:
                runner.run(exchanged(whole(kind), kind))
        finally:
            runner.run(serving_context.__aexit__(None, None, None))
