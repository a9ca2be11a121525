"""What loading processes tell arrives as it was sent."""

import pytest

from fhir_server.loading.parts import End, Fault, Message, Unit
from fhir_server.loading.wire import decode, encode
from fhir_server.storage.port import Delete, FollowUp, Guard, Put, UnitOfWork
from resources.json_format import Number, Template
from resources.model import ResourceKey
from search.entries import Entries, NumberEntry, QuantityEntry, ReferenceEntry, TokenEntry
from search.query import And, Query

KEY = ResourceKey("Observation", "a")
PATIENT = ResourceKey("Patient", "é")
NUMBER = Number("1.50")
ENTRIES = Entries(
    tokens=[TokenEntry("code", "http://loinc.org", "29463-7")],
    numbers=[NumberEntry("probability", NUMBER, None)],
    quantities=[QuantityEntry("value-quantity", NUMBER, NUMBER, "", "kg", "", "g", NUMBER, NUMBER, 2)],
    references=[ReferenceEntry("subject", PATIENT, "")],
    compartments=[PATIENT],
    contained={("Patient", "p"): Entries(tokens=[TokenEntry("gender", "", "male")])},
)
PUT = Put(KEY, Template(b'{"a":"', b'"}'), ENTRIES, "POST", 0, (ResourceKey("Organization", "o"),), released=False)
LEDGER = FollowUp("ledger", "x/1", {"parts": [[1, 2]]})
GUARD = Guard(Query("Patient", And(())), frozenset({PATIENT}), "identifier=x")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Unit(UnitOfWork((PUT, PUT), (), (LEDGER,)), 2, "lines 1 to 2"), id="writes"),
        pytest.param(Unit(UnitOfWork((PUT,), (GUARD,)), 1, ""), id="a write that is guarded"),
        pytest.param(Unit(UnitOfWork((Delete(KEY, 3), PUT)), 2, ""), id="a deletion among writes"),
        pytest.param(Unit(UnitOfWork((), (), (LEDGER,)), 0, ""), id="nothing but a ledger row"),
        pytest.param(Fault("line 1", "Patient.name: must be an array"), id="a fault"),
        pytest.param(End(7), id="the end"),
    ],
)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert decode(encode(message)) == message
