"""In-memory evaluation of query nodes over one resource's entries."""

from datetime import UTC

import pytest

from resources.errors import FhirError
from resources.model import ResourceKey
from search import types
from search.entries import Entries, ReferenceEntry, StringEntry, TokenEntry, UriEntry
from search.matching import matches
from search.parameters import Parameter
from search.query import (
    All,
    And,
    Chain,
    DateTest,
    EveryTarget,
    HasId,
    InCompartment,
    InCompartments,
    LastUpdated,
    Not,
    Nothing,
    Or,
    OwnedBy,
    Owners,
    Present,
    Released,
    Reverse,
)
from search.values import ValueContext

KEY = ResourceKey("Observation", "o")
PATIENT = ResourceKey("Patient", "p")
NAME = Parameter("Observation", "name", "string", "http://a.org/name", "name")
CODE = Parameter("Observation", "code", "token", "http://a.org/code", "code")
OTHER = Parameter("Observation", "other", "token", "http://a.org/other", "other")
COMBO = Parameter("Observation", "combo", "token", "http://a.org/combo", None, rows=("other", "code"))
SUBJECT = Parameter("Observation", "subject", "reference", "http://a.org/s", "subject", ("Patient", "Group"))
OF_PATIENT = Parameter(
    "Observation", "patient", "reference", "http://a.org/p", None, ("Patient",), (), ("subject",), "Patient"
)
PAIR = Parameter(
    "Observation",
    "pair",
    "composite",
    "http://a.org/pair",
    "x",
    (),
    (Parameter("Observation", "pair/1", "token", "", "a"),),
)
ENTRIES = Entries(
    tokens=[TokenEntry("code", "http://loinc.org", "a"), TokenEntry("pair/1", "", "z", 1)],
    strings=[StringEntry("name", "eve", "Eve")],
    references=[ReferenceEntry("subject", PATIENT, "")],
    compartments=[PATIENT],
)


def find(parameter, value, modifier=None):
    return types.node(parameter, modifier, value, ValueContext(0, UTC, ()))


def holds(node, entries=ENTRIES):
    return matches(node, entries, KEY, 1_000)


@pytest.mark.parametrize(
    ("says", "node", "wanted"),
    [
        ("everything", All(), True),
        ("nothing", Nothing(), False),
        ("a match", find(CODE, "a"), True),
        ("no match", find(CODE, "b"), False),
        ("another parameter's value", find(OTHER, "a"), False),
        ("rows of several parameters", find(COMBO, "a"), True),
        ("and", And((find(CODE, "a"), find(NAME, "ev"))), True),
        ("and with a miss", And((find(CODE, "a"), find(NAME, "x"))), False),
        ("or", Or((find(CODE, "b"), find(NAME, "ev"))), True),
        ("or of misses", Or((find(CODE, "b"), find(NAME, "x"))), False),
        ("not", Not(find(CODE, "b")), True),
        ("not, of the set: no value at all", Not(find(OTHER, "b")), True),
        ("not of a match", Not(find(CODE, "a")), False),
        ("present", Present(CODE), True),
        ("absent", Present(OTHER), False),
        ("a composite is present", Present(PAIR), True),
        ("an id", HasId(("x", "o")), True),
        ("another id", HasId(("O",)), False),
        ("last updated", LastUpdated(DateTest("eq", 0, 2_000)), True),
        ("last updated before", LastUpdated(DateTest("lt", 1_000, 1_000)), False),
        ("a compartment", InCompartment(PATIENT), True),
        ("another compartment", InCompartment(ResourceKey("Patient", "q")), False),
        ("one of some compartments", InCompartments(Owners("Patient", frozenset({"p", "z"}))), True),
        ("none of some compartments", InCompartments(Owners("Patient", frozenset({"z"}))), False),
        ("one of some itself", InCompartments(Owners("Observation", frozenset({"o"}))), True),
        ("a reference", find(SUBJECT, "Patient/p"), True),
        ("a bare id", find(SUBJECT, "p"), True),
        ("a narrower parameter", find(OF_PATIENT, "p"), True),
        ("a narrower parameter is present", Present(OF_PATIENT), True),
        ("nothing for an identifier", find(SUBJECT, "p", "identifier"), False),
    ],
)
def test_nodes(says, node, wanted):
    assert holds(node) is wanted, says


def test_a_narrower_parameter_skips_other_targets():
    group = Entries(references=[ReferenceEntry("subject", ResourceKey("Group", "p"), "")])
    away = Entries(uris=[UriEntry("subject", "http://a.org/Patient/1")])
    assert not holds(Present(OF_PATIENT), group)
    assert holds(Present(SUBJECT), group)
    assert not holds(find(OF_PATIENT, "Group/p"), group)
    assert holds(Present(OF_PATIENT), away)
    assert holds(find(OF_PATIENT, "http://a.org/Patient/1"), away)
    assert not holds(
        find(OF_PATIENT, "http://a.org/Group/1"), Entries(uris=[UriEntry("subject", "http://a.org/Group/1")])
    )


@pytest.mark.parametrize(
    "node",
    [
        Chain(SUBJECT, "Patient", All()),
        Reverse("Observation", SUBJECT, All()),
        OwnedBy((PATIENT,)),
        Released(),
        EveryTarget(SUBJECT, ()),
    ],
)
def test_what_needs_other_resources_is_refused(node):
    with pytest.raises(FhirError) as caught:
        holds(node)
    assert (caught.value.status, caught.value.issues[0].code) == (400, "not-supported")


UNTOLD = Reverse("Observation", SUBJECT, All())


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param(And((UNTOLD, Nothing())), False, id="and what does not hold"),
        pytest.param(And((Nothing(), UNTOLD)), False, id="what does not hold, and"),
        pytest.param(Or((UNTOLD, All())), True, id="or what holds"),
        pytest.param(Or((All(), UNTOLD)), True, id="what holds, or"),
        pytest.param(Not(And((UNTOLD, Nothing()))), True, id="negated"),
        pytest.param(And((Or((UNTOLD, All())), All())), True, id="nested"),
    ],
)
def test_what_stands_beside_a_criterion_that_cannot_be_told_may_decide(node, expected):
    assert holds(node) is expected


@pytest.mark.parametrize(
    "node",
    [And((UNTOLD, All())), Or((UNTOLD, Nothing())), And((All(), Not(UNTOLD))), Or((Nothing(), And((UNTOLD, All()))))],
)
def test_what_nothing_else_decides_is_refused(node):
    with pytest.raises(FhirError, match="looks at other resources"):
        holds(node)


def test_composites_of_the_root_are_conjunctions_and_unions_alternatives():
    plain = Parameter("Observation", "both", "composite", "", "x", (), (CODE, NAME), (), None, conjunction=True)
    either = Parameter("Observation", "either", "composite", "", "x", (), (CODE, NAME), alternatives=(PAIR, plain))
    assert holds(find(plain, "a$ev"))
    assert not holds(find(plain, "a$x"))
    assert holds(Present(plain))
    assert not holds(Present(plain), Entries(tokens=ENTRIES.tokens))
    assert holds(Present(either), Entries(tokens=ENTRIES.tokens))
    other = Parameter("Observation", "either", "composite", "", "x", (), (CODE, NAME), alternatives=(plain,))
    assert holds(find(other, "a$ev"))
    assert not holds(find(other, "b$ev"))
