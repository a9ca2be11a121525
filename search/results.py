"""The parameters that shape a result: `_sort`, `_count`, `_summary`, `_include`, `_contained` and more.

Rules: each has a reader that notes in `Shape` what it says, or raises FhirError 400 naming it; lenient handling excuses none.

Specification: https://hl7.org/fhir/R4/search.html#return
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from resources.errors import FhirError
from search import included
from search.context import Search, Unknown, find
from search.parameters import Parameter
from search.query import Include, SortKey

Summary = Literal["true", "text", "data", "count", "false"]

CURSOR: Final = "_cursor"
"""The parameter of `next` and `previous` links: `search.bundle.Cursors`."""

TYPES: Final = "_type"
"""The types of a search over several, told by the caller to the parser."""

_SUMMARIES: Final = ("true", "text", "data", "count", "false")
_TOTALS: Final = ("none", "estimate", "accurate")


@dataclass(slots=True)
class Shape:
    """What has been read: the page size, sort keys, whether to count, how to reduce resources, includes, the cursor's text."""

    count: int
    sort: tuple[SortKey, ...] = ()
    total: Literal["none", "estimate", "accurate"] = "none"
    summary: Summary | None = None
    elements: tuple[str, ...] = ()
    includes: list[Include] = field(default_factory=list)
    included: int = 0
    cursor: str | None = None
    contained: Literal["true", "false", "both"] = "false"
    contained_type: Literal["container", "contained"] = "container"
    explain: bool = False


def _read_count(search: Search, shape: Shape, value: str) -> None:
    if not (value.isascii() and value.isdigit()) or len(value) > 18:  # noqa: PLR2004  (more is no number of rows)
        raise FhirError(400, "invalid", f"Parameter '_count': '{value}' is not a number of entries.")
    shape.count = min(int(value), search.limits.page_limit)


def _read_sort(search: Search, shape: Shape, value: str) -> None:
    texts = [text for text in value.split(",") if text]
    if len(texts) > search.limits.sort_keys:
        raise FhirError(400, "too-costly", f"Parameter '_sort' has more than {search.limits.sort_keys} keys.")
    keys = [_sort_key(search, text.removeprefix("-"), descending=text.startswith("-")) for text in texts]
    if len({key.field for key in keys}) < len(keys):
        raise FhirError(400, "invalid", f"Parameter '_sort': '{value}' names a key twice.")
    shape.sort = tuple(keys)


def _sort_key(search: Search, code: str, *, descending: bool) -> SortKey:
    if code in ("_id", "_lastUpdated"):
        return SortKey(code, None, descending)
    parameter = _known(search, search.type, code, "_sort")
    if parameter.type in ("composite", "special"):
        raise FhirError(400, "invalid", f"Parameter '_sort': '{code}' is of type {parameter.type}, which has no order.")
    return SortKey(code, parameter, descending)


def _read_total(_search: Search, shape: Shape, value: str) -> None:
    if value not in _TOTALS:
        raise FhirError(400, "invalid", f"Parameter '_total': '{value}' is not one of {', '.join(_TOTALS)}.")
    shape.total = cast("Literal['none', 'estimate', 'accurate']", value)


def _read_summary(_search: Search, shape: Shape, value: str) -> None:
    if value not in _SUMMARIES:
        raise FhirError(400, "invalid", f"Parameter '_summary': '{value}' is not one of {', '.join(_SUMMARIES)}.")
    shape.summary = cast("Summary", value)


def _read_elements(_search: Search, shape: Shape, value: str) -> None:
    names = [name for name in value.split(",") if name]
    for name in names:
        if not (name.isascii() and name.isalnum()):
            raise FhirError(400, "invalid", f"Parameter '_elements': '{name}' is not the name of an element.")
    shape.elements = tuple(dict.fromkeys(names))


def _read_contained(_search: Search, shape: Shape, value: str) -> None:
    if value not in ("true", "false", "both"):
        raise FhirError(400, "invalid", f"Parameter '_contained': '{value}' is not one of false, true, both.")
    shape.contained = cast("Literal['true', 'false', 'both']", value)


def _read_contained_type(_search: Search, shape: Shape, value: str) -> None:
    if value not in ("container", "contained"):
        raise FhirError(400, "invalid", f"Parameter '_containedType': '{value}' is not one of container, contained.")
    shape.contained_type = cast("Literal['container', 'contained']", value)


def _read_explain(_search: Search, shape: Shape, value: str) -> None:
    if value not in ("true", "false"):
        raise FhirError(400, "invalid", f"Parameter '_explain': '{value}' is neither true nor false.")
    shape.explain = value == "true"


def _read_type(search: Search, _shape: Shape, value: str) -> None:
    """The types are known already; they are named by the search of all types alone."""
    if tuple(value.split(",")) != search.types:
        raise FhirError(400, "invalid", f"Parameter '_type': a search of {search.type} cannot be of '{value}'.")


def _read_cursor(_search: Search, shape: Shape, value: str) -> None:
    shape.cursor = value


def _include(name: str) -> Callable[[Search, Shape, str], None]:
    """The reader of one of the parameters that include."""

    def read(search: Search, shape: Shape, value: str) -> None:
        shape.included += 1
        if shape.included > search.limits.includes:
            raise FhirError(400, "too-costly", f"The search has more than {search.limits.includes} includes.")
        shape.includes.extend(included.read(search, name, value))

    return read


def _known(search: Search, type_name: str, code: str, name: str) -> Parameter:
    """The parameter that a value names; lenient handling does not excuse it."""
    try:
        return find(search, type_name, code)
    except Unknown as unknown:
        raise FhirError(400, "not-supported", f"Parameter '{name}': {unknown}") from None


REPEATED: Final = frozenset(
    f"{name}{modifier}" for name in ("_include", "_revinclude") for modifier in ("", ":iterate", ":recurse")
)
"""Those that may be given more than once."""

READERS: Final[Mapping[str, Callable[[Search, Shape, str], None]]] = {
    "_count": _read_count,
    "_sort": _read_sort,
    "_total": _read_total,
    "_summary": _read_summary,
    "_elements": _read_elements,
    "_contained": _read_contained,
    "_containedType": _read_contained_type,
    "_explain": _read_explain,
    TYPES: _read_type,
    **{name: _include(name) for name in REPEATED},
    CURSOR: _read_cursor,
}
RESULT_PARAMETERS: Final = frozenset(READERS)
"""The parameters that shape a result and select nothing; a criterion (If-None-Exist, `Patient?...` in a reference) has none."""
