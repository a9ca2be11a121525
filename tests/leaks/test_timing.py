"""How long an answer takes tells no more than the answer: what is hidden and what is not there, asked in turns."""

import statistics
import time

import pytest

from tests.leaks.asks import twin
from tests.leaks.people import PEOPLE
from tests.leaks.worlds import Ask, Pair, pair

pytestmark = [pytest.mark.anyio, pytest.mark.serial, pytest.mark.full]

PAIRS = 1000
_DIFFERENCE = 0.05
_TURNS = 3
ASKS = (
    Ask("GET", "Observation/quagga-laboratory"),
    Ask("GET", "Observation/quagga-laboratory/_history/1"),
    Ask("GET", "Observation/quagga-laboratory/_history"),
    Ask("GET", "Patient/quagga/$everything"),
    Ask("GET", "Observation?_id=quagga-laboratory"),
    Ask("GET", "Observation?subject=Patient/quagga"),
    Ask("GET", "Observation?code=quagga-laboratory-code&_total=accurate"),
    Ask("GET", "Observation?focus:Patient.name=quaggadonor"),
    Ask("PATCH", "Observation/quagga-laboratory", '[{"op":"test","path":"/status","value":"x"}]',
        (("Content-Type", "application/json-patch+json"),)),
    Ask("DELETE", "Observation/quagga-laboratory"),
)  # fmt: skip


@pytest.mark.parametrize("ask", ASKS, ids=str)
@pytest.mark.parametrize("name", ["ann-writing", "integration"])
async def test_what_is_hidden_takes_as_long_as_what_is_not_there(name, ask, tmp_path):
    person = next(one for one in PEOPLE if one.name == name)
    async with pair(tmp_path, person) as both:
        both.whole.app.state.service.store.reader._inline.connection.set_trace_callback(None)
        told = [await _seconds(both, ask, twin(ask, person.words))]
        while (
            _differs(*told[-1]) and len(told) < _TURNS
        ):  # noise does not come back on the same side and to the same degree
            told.append(await _seconds(both, ask, twin(ask, person.words)))
    assert not _differs(*told[-1]), [f"{hidden * 1e6:.0f} us / {missing * 1e6:.0f} us" for hidden, missing in told]


def _differs(hidden: float, missing: float) -> bool:
    return abs(hidden - missing) > _DIFFERENCE * missing


async def _seconds(both: Pair, hidden: Ask, missing: Ask) -> tuple[float, float]:
    """The medians of both, asked in turns, each first as often as second."""
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(PAIRS + 20):
        for at in (turn % 2, 1 - turn % 2):
            begun = time.perf_counter()
            await both.whole.ask((hidden, missing)[at], both.token)
            if turn >= 20:
                spent[at].append(time.perf_counter() - begun)
    return statistics.median(spent[0]), statistics.median(spent[1])
