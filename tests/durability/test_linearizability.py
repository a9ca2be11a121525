"""One resource under two serving processes, also while they are killed, is a linearizable register; and the checker finds what is none.

Quick: 1 kill. Full: 20. `--rounds N` multiplies both.
"""

import asyncio
import itertools
import json
import time
from math import inf
from random import Random

import httpx2
import pytest

from tests.durability.linearizability import Operation, State, is_linearizable
from tests.servers import FHIR, Server

CLIENTS = 6
OPERATIONS = 25
"""Operations of each client between two kills."""

# ---- the checker


def read(begin, end, version, value):
    return Operation("read", begin, end, "done", version, value)


def put(begin, end, version, value, **more):
    return Operation("put", begin, end, "done", version, value, **more)


def delete(begin, end, version, **more):
    return Operation("delete", begin, end, "done", version, None, **more)


GOOD = [
    pytest.param([], id="nothing happened"),
    pytest.param([put(0, 1, 1, "a"), read(2, 3, 1, "a")], id="a write is read"),
    pytest.param([put(0, 3, 1, "a"), read(1, 2, 0, None)], id="a read beside a write may come before it"),
    pytest.param([put(0, 3, 1, "a"), read(1, 2, 1, "a")], id="a read beside a write may come behind it"),
    pytest.param([put(0, 5, 2, "a"), put(1, 4, 1, "b"), read(6, 7, 2, "a")], id="writes side by side in either order"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, inf, "unknown", None, "b"), read(4, 5, 1, "a")], id="a write without answer did not happen"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, inf, "unknown", None, "b"), read(4, 5, 2, "b")], id="a write without answer happened"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, inf, "unknown", None, "b"), read(4, 5, 1, "a"), read(6, 7, 2, "b")], id="a write without answer happened late"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, 5, "unknown", None, "b"), read(3, 4, 1, "a"), read(6, 7, 2, "b")], id="a write without answer happened before the server died"),
    pytest.param([put(0, 1, 1, "a"), put(2, 5, 2, "b", held=1), Operation("put", 3, 4, "refused", None, "c", held=1)], id="of two with one version one is refused"),
    pytest.param([put(0, 1, 1, "a"), delete(2, 3, 2), delete(4, 5, 2), read(6, 7, None, None), put(8, 9, 3, "b")], id="a deletion, repeated, and a new beginning"),
    pytest.param([delete(0, 1, 0), read(2, 3, 0, None)], id="deleting what never was"),
    pytest.param([put(0, 1, 1, "a"), delete(2, 3, 2), Operation("put", 4, 5, "refused", None, "b", held=2)], id="no version matches what is deleted"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, inf, "unknown", None, "b", held=7), read(4, 5, 1, "a")], id="without answer and without effect"),
]  # fmt: skip
BAD = [
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, 5, "unknown", None, "b"), read(6, 7, 1, "a"), read(8, 9, 2, "b")], id="a write without answer that happened after the server died"),
    pytest.param([put(0, 1, 1, "a"), read(2, 3, 0, None)], id="a stale read"),
    pytest.param([put(0, 1, 1, "a"), put(2, 3, 2, "b"), read(4, 5, 1, "a")], id="a read of a former version"),
    pytest.param([put(0, 1, 1, "a"), put(2, 3, 1, "b")], id="one version twice"),
    pytest.param([put(0, 1, 1, "a"), put(2, 3, 3, "b")], id="a version left out"),
    pytest.param([put(0, 1, 1, "a"), read(2, 3, 1, "b")], id="a value that nobody wrote"),
    pytest.param([put(0, 9, 1, "a"), read(1, 2, 1, "a"), read(3, 4, 0, None)], id="reads that go back"),
    pytest.param([put(0, 1, 1, "a"), put(2, 5, 2, "b", held=1), put(3, 6, 3, "c", held=1)], id="two winners of one version"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, 3, "refused", None, "b", held=1)], id="a refusal without reason"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 2, inf, "unknown", None, "b"), read(4, 5, 2, "b"), read(6, 7, 1, "a")], id="a write without answer that came and went"),
    pytest.param([put(0, 1, 1, "a"), Operation("put", 4, inf, "unknown", None, "b"), read(2, 3, 2, "b")], id="a write that is read before it was sent"),
    pytest.param([put(0, 1, 1, "a"), put(2, 3, 2, "b"), read(4, 5, 1, "a"), read(6, 7, 2, "b")], id="a lost write that comes back"),
    pytest.param([put(0, 1, 1, "a"), delete(2, 3, 2), read(4, 5, 1, "a")], id="a deletion that was lost"),
    pytest.param([put(0, 1, 1, "a"), delete(2, 3, 2), put(4, 5, 3, "b", held=2)], id="a condition that a deletion satisfied"),
    pytest.param([put(0, 1, 1, "a"), delete(2, 3, 2), delete(4, 5, 3)], id="a deletion of what is deleted"),
]  # fmt: skip


@pytest.mark.parametrize("history", GOOD)
@pytest.mark.parametrize("turned", [False, True], ids=["", "told backwards"])
def test_a_history_that_can_be_told_in_order(history, turned):
    assert is_linearizable(history[::-1] if turned else history)


@pytest.mark.parametrize("history", BAD)
@pytest.mark.parametrize("turned", [False, True], ids=["", "told backwards"])
def test_a_history_that_cannot_be_told_in_order(history, turned):
    assert not is_linearizable(history[::-1] if turned else history)


def made_up(rng, count):
    """What clients of a true register see, each operation perhaps still under way when the next begins, some answers lost."""
    state, history = State(), []
    for number in range(count):
        kind = rng.choice(["read", "put", "put", "delete"])
        if kind == "put":
            state = State(state.version + 1, f"v{number}")
        elif kind == "delete" and state.value is not None:
            state = State(state.version + 1, None)
        answer = "unknown" if rng.random() < 0.05 else "done"
        end = 3 * number + 2 + 2 * rng.random()
        history.append(
            Operation(kind, 3 * number, end if answer == "done" else inf, answer, state.version, state.value)
        )
    return history


def test_what_a_true_register_tells_is_accepted_and_a_changed_read_is_not(rounds):
    for seed in range(20 * rounds):
        rng = Random(seed)
        history = made_up(rng, 40)
        assert is_linearizable(history)
        reads = [at for at, one in enumerate(history) if (one.kind, one.answer) == ("read", "done")]
        at = rng.choice(reads)
        history[at] = history[at]._replace(version=history[at].version + rng.choice([-1, 1]))
        assert not is_linearizable(history)


# ---- the server


def request_of(kind, name, mark, held):
    """Method, URL, headers and content of an operation; a put goes by id, by criteria or in a transaction."""
    tag = {} if held is None else {"If-Match": f'W/"{held}"'}
    resource = {"resourceType": "Patient", "id": name, "language": mark}
    match kind:
        case "read":
            return "GET", f"Patient/{name}", {}, None
        case "delete":
            return "DELETE", f"Patient/{name}", tag, None
        case "put by criteria":
            return "PUT", f"Patient?_id={name}", FHIR | tag, json.dumps(resource)
        case "put in a transaction":
            request = {"method": "PUT", "url": f"Patient/{name}", **({"ifMatch": tag["If-Match"]} if tag else {})}
            bundle = {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [{"resource": resource, "request": request}],
            }
            return "POST", "", FHIR | tag, json.dumps(bundle)
        case _:
            return "PUT", f"Patient/{name}", FHIR | tag, json.dumps(resource)


KINDS = ["read", "read", "read", "put", "put", "put by criteria", "put by criteria", "put in a transaction", "delete"]


async def operate(client, mark, name, rng, seen):
    """One operation on the resource, and what was seen of it; None when it was refused because others wrote all the time."""
    kind = rng.choice(KINDS)
    held = seen[-1] if kind != "read" and seen and rng.random() < 0.4 else None
    method, url, headers, content = request_of(kind, name, mark, held)
    kind = kind.partition(" ")[0]
    value = mark if kind == "put" else None
    begin = time.monotonic()
    try:
        answer = await client.request(method, url or client.base_url, headers=headers, content=content)
    except httpx2.TransportError:
        return Operation(kind, begin, inf, "unknown", None, value, held)
    end = time.monotonic()
    if answer.status_code == 409:
        assert "retry-after" in answer.headers, answer.text
        return None
    if answer.status_code == 412:
        return Operation(kind, begin, end, "refused", None, value, held)
    assert answer.status_code in {"read": {200, 404, 410}, "put": {200, 201}, "delete": {204}}[kind], answer.text
    tag = answer.json()["entry"][0]["response"]["etag"] if method == "POST" else answer.headers.get("etag", 'W/"0"')
    version = int(tag[3:-1])
    if answer.status_code in (200, 201):
        seen.append(version)
    if kind == "read" and answer.status_code == 200:
        value = answer.json()["language"]
    return Operation(kind, begin, end, "done", version, value, held)


async def attack(server, name, label, seed, kill):
    """Operations of all clients at once; with `kill`, the server is killed in the midst."""
    history = []
    half = asyncio.Event()

    async def work(number):
        rng, seen = Random(f"{seed}-{number}"), []
        async with httpx2.AsyncClient(base_url=f"{server.url}/", timeout=30) as client:
            for turn in range(OPERATIONS):
                one = await operate(client, f"x-{label}-{number}-{turn}", name, rng, seen)
                if one is not None:
                    history.append(one)
                    if one.answer == "unknown":
                        return
                if len(history) * 2 >= CLIENTS * OPERATIONS:
                    half.set()

    running = asyncio.gather(*(work(number) for number in range(CLIENTS)))
    if kill:
        await half.wait()
        await asyncio.to_thread(server.kill)
    await running
    gone = time.monotonic()
    return [one._replace(end=gone) if one.answer == "unknown" else one for one in history]


def histories(folder, kills, seed):
    server = Server(folder, workers=2).start()
    try:
        history = []
        for number in range(kills + 1):
            history += asyncio.run(attack(server, "register", f"{number}", f"{seed}-{number}", kill=number < kills))
            if number < kills:
                server.start()
        assert server.stop() == 0
    finally:
        server.kill()
    kinds = {(one.kind, one.answer) for one in history}
    assert kinds >= {("read", "done"), ("put", "done"), ("put", "refused"), ("delete", "done")}
    assert is_linearizable(history), history
    overlapping = sum(a.begin < b.end and b.begin < a.end for a, b in itertools.pairwise(history))
    assert overlapping > len(history) / 4


@pytest.mark.serial
def test_one_resource_is_a_linearizable_register_through_kills(tmp_path, rounds):
    histories(tmp_path / "data", rounds, 1)


@pytest.mark.serial
@pytest.mark.full
def test_one_resource_is_a_linearizable_register_through_20_kills(tmp_path, rounds):
    histories(tmp_path / "data", 20 * rounds, 2)
