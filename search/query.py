"""A search as a value: a closed set of frozen nodes that parser, rewrite passes, access rules and dialects share.

Rules: a node never changes; a pass returns a new tree; values are normalised once, where they are parsed (a date is always a
range, a number always Decimal bounds, a string always folded), so no dialect interprets text. `Not` negates the SET of
resources: `Not(Match(p, t))` holds for resources without any value of p too.

Specification: https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from resources.model import ResourceKey
from search.parameters import Parameter

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
"""https://hl7.org/fhir/R4/search.html#prefix"""


# ---- tests: what one index entry must satisfy


@dataclass(frozen=True, slots=True)
class TokenTest:
    """`system` None: any system; "" : an entry without a system. `code` None: any code of the system.

    `codes` holds every spelling of the code that counts as equal (folded, and as given for case-sensitive systems).
    """

    system: str | None
    codes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class StringTest:
    """`text` is folded (`search.values.fold`), as given for exact.

    The modes from `begins` on are those of `_filter`: tests of whole texts, not of their later words. `gt` to `le` compare the first
    character, which `text` is.
    """

    mode: Literal["starts", "contains", "exact", "begins", "ends", "equals", "gt", "lt", "ge", "le"]
    text: str


@dataclass(frozen=True, slots=True)
class DateTest:
    """The searched range [low, high], closed, in microseconds; the prefix compares it with the entry's range.

    `co`, of `_filter` alone: the entry's range includes the searched one.
    """

    prefix: Prefix | Literal["co"]
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class NumberTest:
    """The bounds of the searched number's implicit precision, [low, high) for eq/ne/ap; low == high == value for the others."""

    prefix: Prefix
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class QuantityTest:
    """A number with an optional unit. `system` None: any; `code` matches code or unit as written; None: any unit.

    `canonical` is the UCUM-canonical form of the same search (number bounds and canonical unit), None where it does not convert.
    """

    number: NumberTest
    system: str | None
    code: str | None
    canonical: tuple[NumberTest, str] | None


@dataclass(frozen=True, slots=True)
class ReferenceTest:
    """One of: `keys` (local resources; several for a bare id), `url` (absolute, elsewhere); `version` when the search names one."""

    keys: tuple[ResourceKey, ...]
    url: str | None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class UriTest:
    """`above`: the entry is a prefix path of `text`; `below`: the entry starts with `text` at a path border."""

    mode: Literal["exact", "above", "below"]
    text: str


@dataclass(frozen=True, slots=True)
class CompositeTest:
    """One test per component, satisfied together by one tuple of values."""

    parts: tuple["Test", ...]


@dataclass(frozen=True, slots=True)
class TextTest:
    """A word of the text beside a code or reference begins with `text` (folded); of several words the further ones follow."""

    text: str


@dataclass(frozen=True, slots=True)
class NearTest:
    """A position at most so many metres from a place, which is in millionths of a degree."""

    latitude: int
    longitude: int
    metres: float


@dataclass(frozen=True, slots=True)
class HierarchyTest:
    """A reference to one of `keys`, all of one type, or to what lies under (`below`) or over (`above`) one of them by `parent`.

    `parent` is the code of the type's reference parameter to what a resource is part of. The way leads through resources that are
    `visible`.
    """

    mode: Literal["above", "below"]
    keys: tuple[ResourceKey, ...]
    parent: str
    visible: "Node" = field(default_factory=lambda: All())  # noqa: PLW0108  (All stands below)


@dataclass(frozen=True, slots=True)
class WordsTest:
    """A folded word, or several in consecutive places."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberTest:
    """A code of the value set of this URL (`:in`); `version` None: whichever the server prefers."""

    url: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class SubsumptionTest:
    """A code that is, or lies under (`below`) or over (`above`), one of `codes`; `system` None: in any system.

    `codes` are spelled as in a TokenTest.
    """

    mode: Literal["above", "below"]
    system: str | None
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MimeTest:
    """A mime type that is `text` or more special (`below`: `image` finds `image/png`), or more general (`above`)."""

    mode: Literal["above", "below"]
    text: str


@dataclass(frozen=True, slots=True)
class UnlikeTest:
    """An entry that does not satisfy the test (`ne` of `_filter`: a value that is unequal)."""

    test: "Test"


Test = (
    TokenTest
    | UnlikeTest
    | StringTest
    | DateTest
    | NumberTest
    | QuantityTest
    | ReferenceTest
    | UriTest
    | CompositeTest
    | TextTest
    | NearTest
    | HierarchyTest
    | WordsTest
    | MemberTest
    | SubsumptionTest
    | MimeTest
)


# ---- nodes: what a resource must satisfy


@dataclass(frozen=True, slots=True)
class All:
    """Every resource of the searched types."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No resource."""


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds."""

    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class Match:
    """At least one index entry of the parameter satisfies the test. `identifier`: test the logical identifiers of a reference."""

    parameter: Parameter
    test: Test
    identifier: bool = False


@dataclass(frozen=True, slots=True)
class Present:
    """The parameter has at least one entry (`:missing=false`)."""

    parameter: Parameter


@dataclass(frozen=True, slots=True)
class HasId:
    """The logical id is one of these (`_id`)."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LastUpdated:
    """`_lastUpdated`."""

    test: DateTest


@dataclass(frozen=True, slots=True)
class Chain:
    """A reference parameter whose target, of type `target`, satisfies `where`: `subject:Patient.name=x`.

    The target is a live resource that is `visible` too, or is contained (then it is as visible as what contains it). `canonical`:
    values may name the target by its canonical URL. `versioned`: of the references, only those that name a version.
    """

    parameter: Parameter
    target: str
    where: "Node"
    visible: "Node" = field(default_factory=All)
    canonical: bool = False
    versioned: bool = False


@dataclass(frozen=True, slots=True)
class Reverse:
    """Resources of type `source` that satisfy `where` refer here by `parameter`: `_has:Observation:patient:code=x`.

    `canonical`: they may do so by a canonical URL.
    """

    source: str
    parameter: Parameter
    where: "Node"
    canonical: bool = False


@dataclass(frozen=True, slots=True)
class InCompartment:
    """The resource is in the compartment of `owner`."""

    owner: ResourceKey


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """One of these organizations owns the resource, or, where `unowned`, none at all does (access rules only)."""

    organizations: tuple[ResourceKey, ...]
    unowned: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """Patients may see the resource, as far as its status tells (access rules only)."""


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """Many resources of one type, by id. Two are the same only when they are one object, so that stores can keep what they make of it."""

    type: str
    ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class InCompartments:
    """The resource is one of the owners, or, of another type, in the compartment of one of them (access rules only)."""

    owners: Owners


@dataclass(frozen=True, slots=True)
class EveryTarget:
    """The resource refers by the parameter, by literal references alone, and all that it refers to so is live and as its type must be (access rules only).

    `visible`: type -> what its resources must satisfy; a type that is not there is never satisfied.
    """

    parameter: Parameter
    visible: tuple[tuple[str, "Node"], ...]


Node = (
    All
    | Nothing
    | And
    | Or
    | Not
    | Match
    | Present
    | HasId
    | LastUpdated
    | Chain
    | Reverse
    | InCompartment
    | OwnedBy
    | Released
    | InCompartments
    | EveryTarget
)


def leaves(node: Node) -> Iterator[Node]:
    """The nodes below And, Or and Not, whichever way round they stand."""
    match node:
        case And(parts) | Or(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part):
            yield from leaves(part)
        case _:
            yield node


# ---- the whole search


@dataclass(frozen=True, slots=True)
class SortKey:
    """`_sort=-date`. `parameter` None with `field` "_id" or "_lastUpdated" for the two that are no index entries."""

    field: str
    parameter: Parameter | None
    descending: bool


@dataclass(frozen=True, slots=True)
class Include:
    """`_include=source:parameter:target`, or `_revinclude` (reverse).

    `source` "": any type; `parameter` None: every reference; `target` None: any type. `iterate`: of what is included too.
    `canonical`: values may be canonical URLs.
    """

    source: str
    parameter: Parameter | None
    target: str | None
    reverse: bool
    iterate: bool = False
    canonical: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search of `type`, rewritten and narrowed before storage sees it.

    `count` is the page size (0: count only). `total` says whether the number of all matches is wanted. `after` holds the sort
    key values and the row position of the last row of the page before (from a verified cursor), `backward` pages the other way.

    `others` are the same search on further types, each rewritten for its own; what shapes the result is the same in all.
    `contained`: the matches are contained resources, shown as what contains them or as themselves. `continued`: the page holds no
    matches, but the includes of the match at `after` behind this one (row number, version).
    """

    type: str
    where: Node
    sort: tuple[SortKey, ...] = ()
    count: int = 20
    total: Literal["none", "estimate", "accurate"] = "none"
    includes: tuple[Include, ...] = ()
    after: tuple[object, ...] | None = None
    backward: bool = False
    narrowing: Node = field(default_factory=All)
    others: tuple["Query", ...] = ()
    contained: Literal["no", "container", "contained"] = "no"
    continued: tuple[int, str] | None = None
