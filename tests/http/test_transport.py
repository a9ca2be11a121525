"""What every answer says to browsers, where a request is from, and how many anybody may send."""

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.http.address import address_of
from fhir_server.http.options import RateOptions
from fhir_server.http.rates import Rate, Rates
from resources.errors import FhirError
from smart_auth.model import Principal
from tests.http.application import FHIR, running

PROXIES = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "::1/128"))
ADDRESSES = {
    "a connection": ("192.0.2.1", [], "192.0.2.1"),
    "a header that a client made up": ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
    "a proxy": ("10.1.2.3", ["192.0.2.1"], "192.0.2.1"),
    "a proxy of IPv6": ("::1", ["2001:db8::5"], "2001:db8::5"),
    "a client that made up a way here": ("10.1.2.3", ["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
    "two proxies": ("10.1.2.3", ["192.0.2.1, 10.9.9.9"], "192.0.2.1"),
    "two headers": ("10.1.2.3", ["198.51.100.7", "192.0.2.1"], "192.0.2.1"),
    "a client that says it is a proxy": ("10.1.2.3", ["10.0.0.5, 192.0.2.1"], "192.0.2.1"),
    "what is no address": ("10.1.2.3", ["192.0.2.1, unknown"], "10.1.2.3"),
    "a proxy that says nothing": ("10.1.2.3", [], "10.1.2.3"),
    "an empty header": ("10.1.2.3", [""], "10.1.2.3"),
}


def scope_of(peer, forwarded=(), path="/fhir/Patient", principal=None):
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    found = {"type": "http", "client": (peer, 1) if peer else None, "headers": headers, "path": path}
    return found if principal is None else {**found, "principal": principal}


@pytest.mark.parametrize("where", ADDRESSES)
def test_the_address_of(where):
    peer, forwarded, address = ADDRESSES[where]
    assert address_of(PROXIES)(scope_of(peer, forwarded)) == address


def test_without_trusted_proxies_the_connection_alone_counts():
    assert address_of(())(scope_of("10.1.2.3", ["192.0.2.1"])) == "10.1.2.3"
    assert address_of(())(scope_of("")) == "local"


@given(st.lists(st.floats(0, 100), max_size=60).map(sorted), st.integers(1, 5), st.integers(1, 5))
def test_no_rate_lets_more_in_than_its_burst_and_its_rate(times, per_second, burst):
    rate = Rate(per_second, burst)
    let_in = [moment for moment in times if not rate.wait("x", moment)]
    for first in range(len(let_in)):
        for last in range(first, len(let_in)):
            allowed = per_second * (burst + let_in[last] - let_in[first])
            assert last - first + 1 <= max(1, allowed + 1e-6) + 1e-6


def test_who_waits_as_told_is_let_in():
    rate = Rate(2, 1)
    assert [rate.wait("x", 0.0), rate.wait("x", 0.0)] == [0, 0]
    late = rate.wait("x", 0.0)
    assert late == pytest.approx(0.5)
    assert rate.wait("x", late) == 0
    assert rate.wait("y", 0.0) == 0


def test_no_rate_is_no_limit():
    rate = Rate(0, 60)
    assert all(rate.wait("x", 0.0) == 0 for _ in range(1000))


def test_a_process_allows_its_share():
    rates = Rates(RateOptions(user=4, burst=1), 2, address_of(()), now=lambda: 0.0)
    jane = scope_of("192.0.2.1", principal=Principal("g", "app", "", user="jane"))
    rates.admit(jane)
    rates.admit(jane)
    with pytest.raises(FhirError) as refused:
        rates.admit(jane)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    rates.admit(scope_of("192.0.2.1", principal=Principal("g", "app", "", user="jack")))


def test_clients_are_limited_apart_from_users_and_operators_not_at_all():
    rates = Rates(RateOptions(client=1, burst=1), 1, address_of(()), now=lambda: 0.0)
    rates.admit(scope_of("192.0.2.1", principal=Principal("g", "app", "", user="jane")))
    with pytest.raises(FhirError, match="client"):
        rates.admit(scope_of("192.0.2.1", principal=Principal("h", "app", "", user="jack")))
    for _ in range(5):
        rates.admit(scope_of("192.0.2.1", principal=Principal("o", "app", "", operator=True)))


# ---- through HTTP

pages = pytest.mark.anyio


@pages
@pytest.mark.parametrize(
    ("path", "status"), [("Patient", 200), ("metadata", 200), ("Nothing", 404), ("https://fhir.example.org/livez", 200)]
)
async def test_every_answer_has_the_headers_of_its_transport(tmp_path, path, status):
    async with running(tmp_path) as client:
        answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert "cache-control" not in answer.headers


@pages
async def test_what_an_answer_says_itself_stays_and_stands_once(tmp_path):
    async with running(tmp_path) as client:
        image = {"Content-Type": "image/png"}
        made = await client.post("Binary", content=b"x", headers=image)
        answer = await client.get(made.headers["location"].partition("/_history")[0], headers={"Accept": "image/png"})
    assert answer.headers.get_list("content-security-policy") == ["default-src 'none'; sandbox"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


@pages
async def test_a_server_in_the_clear_asks_for_no_https(tmp_path):
    async with running(tmp_path, public_url="http://localhost:8000") as client:
        assert "strict-transport-security" not in (await client.get("metadata")).headers


@pages
async def test_an_address_that_comes_without_a_token_too_often_waits(tmp_path):
    async with running(tmp_path, auth="required", rates=RateOptions(failures=1, burst=2)) as client:
        statuses = [(await client.get("Patient")).status_code for _ in range(4)]
        refused = await client.get("Patient")
        assert statuses == [401, 401, 429, 429]
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["issue"][0]["code"] == "throttled"
        assert (await client.get("https://fhir.example.org/livez")).status_code == 200


@pages
async def test_an_address_that_asks_for_tokens_too_often_waits(tmp_path):
    async with running(tmp_path, auth="required", rates=RateOptions(auth=1, burst=1)) as client:
        url = "https://fhir.example.org/auth/token"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answers = [await client.post(url, content="grant_type=x", headers=form) for _ in range(2)]
    assert [answer.status_code for answer in answers][1] == 429
    assert answers[1].headers["retry-after"] == "1"


@pages
async def test_with_authorization_off_nobody_is_limited(tmp_path):
    async with running(tmp_path, rates=RateOptions(user=1, client=1, auth=1, failures=1, burst=1)) as client:
        assert {(await client.get("Patient")).status_code for _ in range(5)} == {200}
        body = json.dumps({"resourceType": "Patient"})
        assert (await client.post("Patient", content=body, headers=FHIR)).status_code == 201
