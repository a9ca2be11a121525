"""Whether a resource in hand satisfies a query node, by its entries alone.

Conditional references inside a transaction use it now, subscriptions later. It decides as the dialects do; what needs other
resources (chains, ownership) or terminologies raises FhirError, unless what stands beside it decides.

Specification: https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Iterable, Iterator

from resources.errors import FhirError
from resources.model import ResourceKey
from search import types
from search.entries import Entries, PositionEntry, ReferenceEntry, TextEntry, TokenEntry, UriEntry
from search.parameters import FULL_TEXT, Parameter
from search.query import (
    All,
    And,
    Chain,
    CompositeTest,
    DateTest,
    EveryTarget,
    HasId,
    HierarchyTest,
    InCompartment,
    InCompartments,
    LastUpdated,
    Match,
    MemberTest,
    MimeTest,
    NearTest,
    Node,
    Not,
    Nothing,
    NumberTest,
    Or,
    OwnedBy,
    Present,
    QuantityTest,
    ReferenceTest,
    Released,
    Reverse,
    StringTest,
    SubsumptionTest,
    Test,
    TextTest,
    TokenTest,
    UnlikeTest,
    UriTest,
    WordsTest,
)
from search.types import date, words
from search.values import elsewhere_type


def matches(node: Node, entries: Entries, key: ResourceKey, updated: int) -> bool:
    """Whether the resource `key` with these entries, last updated at `updated` (microseconds), satisfies the node."""
    match node:
        case All():
            return True
        case Nothing():
            return False
        case And(parts):
            return not _some(parts, entries, key, updated, wanted=False)
        case Or(parts):
            return _some(parts, entries, key, updated, wanted=True)
        case Not(part):
            return not matches(part, entries, key, updated)
        case HasId(ids):
            return key.id in ids
        case LastUpdated(test):
            return date.within(updated, updated, test)
        case InCompartment(owner):
            return owner in entries.compartments
        case InCompartments(owners) if key.type == owners.type:
            return key.id in owners.ids
        case InCompartments(owners):
            return any(one.type == owners.type and one.id in owners.ids for one in entries.compartments)
        case Present(parameter):
            return _present(parameter, entries)
        case Match(parameter, CompositeTest(parts)):
            return _tuples(parameter, parts, entries)
        case Match(parameter, WordsTest() as test):
            return words.match(entries.words, _rows(parameter), test)
        case Match(test=MemberTest() | SubsumptionTest() | HierarchyTest()):
            raise _untold("terminologies or hierarchies")
        case Match(parameter, test, identifier):
            return any(
                types.match(entry, test) and _of_target(entry, parameter, identifier=identifier)
                for entry in _candidates(test, entries)
                if entry.parameter in _rows(parameter)
            )
        case Chain() | Reverse() | OwnedBy() | Released() | EveryTarget():
            raise _untold("other resources")


def _untold(what: str) -> FhirError:
    return FhirError(
        400,
        "not-supported",
        f"a criterion that looks at {what} cannot be compared with what is written together with it",
    )


def _some(parts: Iterable[Node], entries: Entries, key: ResourceKey, updated: int, *, wanted: bool) -> bool:
    """Whether a part gives `wanted`. One that cannot be told is a fault only when no other does."""
    fault: FhirError | None = None
    for part in parts:
        try:
            if matches(part, entries, key, updated) is wanted:
                return True
        except FhirError as error:
            fault = error
    if fault is not None:
        raise fault
    return False


def _rows(parameter: Parameter) -> tuple[str, ...]:
    return parameter.rows or (parameter.code,)


def _candidates(test: Test, entries: Entries) -> Iterator[types.Entry]:
    """The entries of the kinds that a test can be satisfied by."""
    match test:
        case UnlikeTest(inner):
            yield from _candidates(inner, entries)
        case TokenTest():
            yield from entries.tokens
        case StringTest():
            yield from entries.strings
        case DateTest():
            yield from entries.dates
        case NumberTest():
            yield from entries.numbers
        case QuantityTest():
            yield from entries.quantities
        case ReferenceTest():
            yield from entries.references
            yield from entries.uris
        case UriTest():
            yield from entries.uris
        case MimeTest():
            yield from entries.tokens
        case TextTest():
            yield from entries.tokens
            yield from entries.references
            yield from entries.texts
        case NearTest():
            yield from entries.positions


def _of_target(entry: types.Entry, parameter: Parameter, *, identifier: bool) -> bool:
    """Rows shared with a wider parameter hold other targets too; an identifier does not say its type."""
    if parameter.only_target is None or identifier:
        return True
    match entry:
        case ReferenceEntry():
            return entry.target.type == parameter.only_target
        case UriEntry():
            return elsewhere_type(entry.value) == parameter.only_target
    return True


def _every(entries: Entries) -> Iterator[types.Entry]:
    yield from entries.tokens
    yield from entries.strings
    yield from entries.dates
    yield from entries.numbers
    yield from entries.quantities
    yield from entries.references
    yield from entries.uris
    yield from entries.texts
    yield from entries.positions


def _present(parameter: Parameter, entries: Entries) -> bool:
    if parameter.alternatives:
        return any(_present(one, entries) for one in parameter.alternatives)
    if parameter.conjunction:
        return all(_present(one, entries) for one in parameter.components)
    rows = {row for component in parameter.components for row in _rows(component)} | set(_rows(parameter))
    if parameter.code in FULL_TEXT:
        return any(entry.parameter in rows for entry in entries.words)
    return any(
        entry.parameter in rows
        and (
            parameter.only_target is None
            or (not isinstance(entry, TokenEntry | TextEntry) and _of_target(entry, parameter, identifier=False))
        )
        for entry in _every(entries)
    )


def _tuples(parameter: Parameter, parts: tuple[Test, ...], entries: Entries) -> bool:
    """Whether one tuple (group) satisfies every part; a conjunction has no groups, of alternatives one suffices."""
    if parameter.alternatives:
        return any(_tuples(one, parts, entries) for one in parameter.alternatives)
    groups: set[int] | None = None
    for component, test in zip(parameter.components, parts, strict=True):
        rows = _rows(component)
        found = {
            0 if parameter.conjunction or isinstance(entry, TextEntry | PositionEntry) else entry.group
            for entry in _candidates(test, entries)
            if entry.parameter in rows and types.match(entry, test)
        }
        groups = found if groups is None else groups & found
    return bool(groups)
