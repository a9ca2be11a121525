"""Attacks that wait: what is old opens nothing. The clock is the test's, so the server is in this process (19, 24, 25, 30)."""

import pytest

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth.oauth.authorization import PENDING_SECONDS, Refused
from smart_auth.tokens import TokenFault
from tests.smart_auth.apps import World, query_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def world(tmp_path):
    store = SqliteAuthStore.open(tmp_path)
    made = World(store)
    yield made
    await made.http.aclose()
    store.close()


@pytest.mark.parametrize(("seconds", "taken"), [(59, True), (60, False), (3600, False)])
async def test_attack_24_a_code_is_good_for_a_minute(world, seconds, taken):
    code = await world.code()
    world.clock.now += seconds
    assert ((await world.exchange(code)).status_code == 200) is taken


@pytest.mark.parametrize(("seconds", "taken"), [(60, True), (61, False), (86400, False)])
async def test_attack_25_a_refresh_token_that_was_replaced_is_good_for_a_minute(world, seconds, taken):
    first = (await world.tokens())["refresh_token"]
    second = (await world.refresh(first, client_id="app")).json()["refresh_token"]
    world.clock.now += seconds
    assert ((await world.refresh(first, client_id="app")).status_code == 200) is taken
    assert ((await world.refresh(second, client_id="app")).status_code == 200) is taken, "the family ends with it"


async def test_attack_25_a_refresh_token_lasts_for_its_days_after_each_use(world):
    token = (await world.tokens())["refresh_token"]
    for _ in range(3):
        world.clock.now += 89 * 86400
        token = (await world.refresh(token, client_id="app")).json()["refresh_token"]
    world.clock.now += 91 * 86400
    assert (await world.refresh(token, client_id="app")).status_code == 400


async def test_attack_30_an_access_token_is_good_for_its_hour(world):
    token = (await world.tokens())["access_token"]
    assert world.parts.tokens.verify(token).patient == "p1"
    world.clock.now += 3599
    assert world.parts.tokens.verify(token).patient == "p1"
    world.clock.now += 1
    with pytest.raises(TokenFault, match="expired"):
        world.parts.tokens.verify(token)


async def test_attack_19_a_launch_and_a_request_under_way_end(world):
    handle = world.launched(patient="p1", seconds=300)
    world.clock.now += 301
    answer = await world.authorize(launch=handle, scope="launch patient/*.rs")
    assert query_of(answer.headers["location"])["error"] == "invalid_request"
    tx = await world.begun()
    world.clock.now += PENDING_SECONDS
    with pytest.raises(Refused):
        await world.decide(tx)
