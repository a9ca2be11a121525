"""Index entries: what a resource says under each search parameter, in the form that queries test.

`parameter` is the code under which the entry is STORED (`search.parameters.Parameter.rows`): several parameters may share rows.
Times are microseconds (closed ranges), numbers exact Decimals (closed range; None = unbounded), strings folded.
`group` ties the entries of one composite tuple together: 0 for ordinary entries, 1.. within a resource and parameter.
"""

from decimal import Decimal

from msgspec import Struct, field

from resources.model import ResourceKey


class _Row(Struct, frozen=True, array_like=True, gc=False):
    """What all kinds of entries are: values that never change, and in MessagePack an array of them (`search.prints` digests it)."""


class TokenEntry(_Row, frozen=True):
    """`code` is spelled by `search.types.token.key`; `system` "" = none. Reference identifiers are TokenEntries too.

    `text` is what people read for the code (Coding.display, CodeableConcept.text), folded, one line for each; "" = nothing.
    """

    parameter: str
    system: str
    code: str
    group: int = 0
    text: str = ""


class TextEntry(_Row, frozen=True):
    """Text of a token or reference (folded) that has no code or local target to stand beside."""

    parameter: str
    text: str


class StringEntry(_Row, frozen=True):
    """`exact` is the text as written; None for an entry that stands for a later word of the text."""

    parameter: str
    folded: str
    exact: str | None
    group: int = 0


class DateEntry(_Row, frozen=True):
    """A closed range of microseconds."""

    parameter: str
    low: int
    high: int
    group: int = 0


class NumberEntry(_Row, frozen=True):
    """A closed range; a number is a point."""

    parameter: str
    low: Decimal | None
    high: Decimal | None
    group: int = 0


class QuantityEntry(_Row, frozen=True):
    """As written, and once more in canonical UCUM units where it converts (`canonical_unit` None where it does not)."""

    parameter: str
    low: Decimal | None
    high: Decimal | None
    system: str
    code: str
    unit: str
    canonical_unit: str | None
    canonical_low: Decimal | None
    canonical_high: Decimal | None
    group: int = 0


class ReferenceEntry(_Row, frozen=True):
    """A literal reference to a resource of this server; `version` "" = the current one. Other references are UriEntries.

    `text` is Reference.display, folded.
    """

    parameter: str
    target: ResourceKey
    version: str
    group: int = 0
    text: str = ""


class UriEntry(_Row, frozen=True):
    """A uri, canonical (with `|version` when written) or a reference to elsewhere, as written."""

    parameter: str
    value: str
    group: int = 0


class PositionEntry(_Row, frozen=True):
    """A place on the earth in millionths of a degree."""

    parameter: str
    latitude: int
    longitude: int


class WordEntry(_Row, frozen=True):
    """A folded word of the parameter `_text` or `_content`; `place` counts words, with gaps between texts."""

    parameter: str
    word: str
    place: int


class Entries(Struct, array_like=True, gc=False):
    """All entries of one resource, by kind, without repeats; `contained` holds those of contained resources by (type, local id)."""

    tokens: list[TokenEntry] = field(default_factory=list)
    strings: list[StringEntry] = field(default_factory=list)
    dates: list[DateEntry] = field(default_factory=list)
    numbers: list[NumberEntry] = field(default_factory=list)
    quantities: list[QuantityEntry] = field(default_factory=list)
    references: list[ReferenceEntry] = field(default_factory=list)
    uris: list[UriEntry] = field(default_factory=list)
    texts: list[TextEntry] = field(default_factory=list)
    positions: list[PositionEntry] = field(default_factory=list)
    words: list[WordEntry] = field(default_factory=list)
    compartments: list[ResourceKey] = field(default_factory=list)
    contained: dict[tuple[str, str], "Entries"] = field(default_factory=dict)

    def targets(self) -> set[tuple[ResourceKey, str]]:
        """The resources of this server that it refers to, what it contains included, each with the version that is named ("" = none)."""
        found = {(entry.target, entry.version) for entry in self.references if "#" not in entry.target.id}
        return found.union(*(inner.targets() for inner in self.contained.values()))
