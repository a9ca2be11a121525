"""Prints: what stays the same is found, and nothing else; prints of entries that are not known name nothing."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from resources.model import ResourceKey
from search.entries import (
    DateEntry,
    Entries,
    NumberEntry,
    PositionEntry,
    QuantityEntry,
    ReferenceEntry,
    StringEntry,
    TextEntry,
    TokenEntry,
    UriEntry,
    WordEntry,
)
from search.prints import KINDS, kinds_of, prints_of, unchanged, without

P = ResourceKey("Patient", "p")
VALUES = {
    "tokens": [TokenEntry("code", "urn:s", "a"), TokenEntry("code", "urn:s", "b", text="B")],
    "texts": [TextEntry("code", "weight")],
    "strings": [StringEntry("name", "anna", "Anna"), StringEntry("name", "anna", None)],
    "dates": [DateEntry("date", 1, 2), DateEntry("date", 1, 3)],
    "numbers": [NumberEntry("x", Decimal("1.0"), None), NumberEntry("x", None, Decimal("1.00"))],
    "quantities": [QuantityEntry("q", Decimal(1), Decimal(2), "", "", "kg", None, None, None)],
    "references": [ReferenceEntry("subject", P, ""), ReferenceEntry("subject", P, "2")],
    "uris": [UriEntry("url", "urn:a")],
    "positions": [PositionEntry("near", 1, 2)],
    "words": [WordEntry("_text", "anna", 1)],
    "compartments": [P],
}
ENTRIES = st.builds(Entries, **{name: st.lists(st.sampled_from(rows), unique=True) for name, rows in VALUES.items()})


def held(entries):
    """What is kept of each kind that has entries."""
    found = {kind: tuple(tuple(getattr(entries, name)) for name in names) for kind, names in KINDS.items()}
    return {kind: rows for kind, rows in found.items() if any(rows)}


@given(ENTRIES, ENTRIES)
def test_the_kinds_that_stay_are_those_with_the_same_entries(before, after):
    one, other = held(before), held(after)
    assert unchanged(prints_of(before, 3), prints_of(after, 3)) == {k for k in one if one[k] == other.get(k)}
    assert kinds_of(prints_of(before, 3)) == set(one)


@given(ENTRIES, st.sets(st.sampled_from(sorted(KINDS))))
def test_without_leaves_the_other_kinds(entries, kinds):
    left = {kind: rows for kind, rows in held(entries).items() if kind not in kinds}
    assert held(without(entries, frozenset(kinds))) == left


@given(ENTRIES)
def test_a_change_of_custom_parameters_makes_prints_worthless(entries):
    assert unchanged(prints_of(entries, 1), prints_of(entries, 2)) == frozenset()


@given(ENTRIES)
def test_what_contains_resources_has_no_prints(entries):
    entries.contained["Practitioner", "doctor"] = Entries()
    assert prints_of(entries, 1) == b""


def test_a_text_moved_from_a_token_to_stand_alone_is_a_change():
    code = Entries(tokens=[TokenEntry("code", "", "a")])
    text = Entries(texts=[TextEntry("code", "a")])
    assert kinds_of(prints_of(code, 0)) == kinds_of(prints_of(text, 0)) == {"token"}
    assert unchanged(prints_of(code, 0), prints_of(text, 0)) == frozenset()
