"""Passes: pairs of before and after, access, and that no pass changes what a query finds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.model import ResourceKey
from search.entries import Entries, TokenEntry
from search.matching import matches
from search.narrowing import EVERYTHING, Narrowing
from search.parameters import Parameter
from search.query import (
    All,
    And,
    Chain,
    HasId,
    InCompartment,
    Match,
    Not,
    Nothing,
    Or,
    Present,
    Query,
    Reverse,
    TokenTest,
)
from search.rewrite import REWRITES, cancel_negations, flatten, fold_constants, narrow, rewrite
from tests.search.shown import show, show_node

CASES = Path(__file__).parent.parent / "cases" / "search_rewrite.json"
A, B = (Parameter("Observation", code, "token", "", code) for code in "ab")
X, Y = Match(A, TokenTest(None, ("x",))), Match(B, TokenTest(None, ("y",)))


def query(node):
    return Query("Observation", node)


@pytest.mark.parametrize("row", [pytest.param(row, id=row["says"]) for row in json.loads(CASES.read_text())])
def test_a_search_is_rewritten(parsed, row):
    before = parsed(row["type"], row["query"]).query
    assert show(before) == row["before"]
    assert show(rewrite(before, EVERYTHING)) == row["after"]


PASSES = [
    (cancel_negations, Not(Not(X)), X),
    (cancel_negations, Not(Or((Not(X), Y))), And((X, Not(Y)))),
    (cancel_negations, Not(And((Not(X), Y))), Or((X, Not(Y)))),
    (cancel_negations, Not(Or((X, Y))), Not(Or((X, Y)))),
    (cancel_negations, Not(All()), Nothing()),
    (cancel_negations, Not(Nothing()), All()),
    (flatten, And((X, And((Y, X)))), And((X, Y))),
    (flatten, Or((Or((X, Y)), X)), Or((X, Y))),
    (flatten, And((X, Or((Y,)))), And((X, Y))),
    (flatten, And(()), All()),
    (flatten, Or(()), Nothing()),
    (fold_constants, And((All(), X)), X),
    (fold_constants, And((Nothing(), X)), Nothing()),
    (fold_constants, Or((Nothing(), X)), X),
    (fold_constants, Or((All(), X)), All()),
    (fold_constants, Not(And((Nothing(), X))), All()),
    (fold_constants, HasId(()), Nothing()),
    (fold_constants, And((Or((And((X, Y)), Nothing())), Not(X))), And((X, Y, Not(X)))),
]


@pytest.mark.parametrize(
    ("one", "before", "after"), PASSES, ids=[f"{one.__name__} {show_node(before)}" for one, before, _ in PASSES]
)
def test_a_pass_does_what_it_says(one, before, after):
    assert one(query(before)) == query(after)


def test_a_query_that_needs_no_rewriting_stays_the_same_object(parsed):
    found = parsed("Observation", "patient=1&code=a&_sort=-date").query
    for one in REWRITES:
        assert one(found) is found


# ---- access

MINE = ResourceKey("Patient", "me")
SEEN = Narrowing("me", lambda name: InCompartment(MINE) if name != "Practitioner" else All())
NARROWED = [
    ("Observation", "code=a", "code=a narrowing in(Patient/me)"),
    (
        "Observation",
        "patient.name=a",
        "chain(patient:Patient, name=starts 'a', visible in(Patient/me)) narrowing in(Patient/me)",
    ),
    (
        "Patient",
        "_has:Observation:patient:code:not=a",
        "has(Observation:patient, and(not(code=a), in(Patient/me))) narrowing in(Patient/me)",
    ),
    (
        "Patient",
        "general-practitioner:Practitioner.name=a",
        "chain(general-practitioner:Practitioner, name=starts 'a')",
    ),
]


@pytest.mark.parametrize(("type_name", "text", "tree"), NARROWED, ids=[row[1] for row in NARROWED])
def test_access_restricts_every_type_the_search_looks_at(parsed, type_name, text, tree):
    assert show(rewrite(parsed(type_name, text).query, SEEN)).startswith(tree)


def test_who_may_see_nothing_reaches_nothing_through_references(parsed):
    nobody = Narrowing("nobody", lambda name: Nothing() if name == "Patient" else All())
    found = show(rewrite(parsed("Observation", "patient.name=a").query, nobody))
    assert (
        found == "chain(patient:Patient, name=starts 'a', visible nothing)"
    )  # what a resource contains is as visible as it
    has = parsed("Patient", "_has:Observation:patient:code=a").query
    assert (
        show(rewrite(has, Narrowing("nobody", lambda name: Nothing() if name == "Observation" else All()))) == "nothing"
    )
    assert rewrite(parsed("Patient", "name=a").query, nobody).narrowing == Nothing()
    reached = rewrite(parsed("Observation", "patient.gender:not=a").query, nobody)
    assert reached.where.visible == Nothing()


def test_access_nodes_are_rewritten_and_never_narrowed():
    ref = Parameter("Observation", "subject", "reference", "", "x")
    chained = Chain(ref, "Patient", Not(Not(X)))
    access = Narrowing("p", lambda name: chained if name == "Observation" else Nothing())
    found = rewrite(query(Y), access)
    assert (found.where, found.narrowing) == (Y, Chain(ref, "Patient", X))
    assert narrow(query(Y), EVERYTHING) == query(Y)


# ---- meaning

LEAVES = st.sampled_from(
    [All(), Nothing(), X, Y, Present(A), Present(B), HasId(("1",)), HasId(("1", "2")), HasId(("2", "3")), HasId(())]
)
NODES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(Not), st.lists(inner, max_size=3).map(tuple).map(And), st.lists(inner, max_size=3).map(tuple).map(Or)
    ),
    max_leaves=12,
)


@given(NODES)
def test_no_pass_changes_what_is_found(node):
    rewritten = rewrite(query(node), EVERYTHING).where
    for name in ("1", "2", "3"):
        for codes in ((), ("ax",), ("by",), ("ax", "by"), ("ay", "bx")):
            entries = Entries(tokens=[TokenEntry(code[0], "", code[1]) for code in codes])
            key = ResourceKey("Observation", name)
            assert matches(rewritten, entries, key, 0) is matches(node, entries, key, 0)


@given(NODES)
def test_constants_do_not_survive_inside(node):
    rewritten = rewrite(query(node), EVERYTHING).where
    assert isinstance(rewritten, All | Nothing) or not ({"all", "nothing"} & set(_leaves(rewritten)))


def _leaves(node):
    match node:
        case And(parts) | Or(parts):
            return [leaf for part in parts for leaf in _leaves(part)]
        case Not(part):
            return _leaves(part)
    return [show_node(node)]


@given(NODES)
def test_narrowing_reaches_into_references_however_deep(node):
    ref = Parameter("Observation", "subject", "reference", "", "x")
    chain, has = Chain(ref, "Patient", node), Reverse("Patient", ref, node)
    seen = InCompartment(MINE)
    for outer, inside in ((chain, replace(chain, visible=seen)), (has, replace(has, where=both(node, seen)))):
        found = narrow(query(Not(And((outer, X)))), SEEN).where
        assert found == Not(And((inside, X)))


def both(node, visible):
    return visible if node == All() else And((node, visible))


def test_a_narrowing_that_says_it_is_settled_is_left_as_it_is():
    node = And((All(), InCompartment(MINE)))
    for ready in (True, False):
        found = rewrite(Query("Observation", All()), Narrowing("me", lambda _: node, settled=ready)).narrowing
        assert (found is node) is ready
        assert ready or found == InCompartment(MINE)
