"""The parameters that shape a result: `_sort`, `_count`, `_total`, `_summary`, `_elements`, `_include`, `_revinclude`, `_cursor`.

Rules: each has a reader that notes in `Shape` what it says, or raises FhirError 400 naming it; lenient handling excuses none.

Specification: https://hl7.org/fhir/R4/search.html#return
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from resources.errors import FhirError
from search.chains import require_reference, require_target
from search.context import Search, Unknown, find
from search.parameters import Parameter
from search.query import Include, SortKey

Summary = Literal["true", "text", "data", "count", "false"]

CURSOR: Final = "_cursor"
"""The parameter of `next` and `previous` links: `search.bundle.Cursors`."""

_SUMMARIES: Final = ("true", "text", "data", "count", "false")
_TOTALS: Final = ("none", "estimate", "accurate")


@dataclass(slots=True)
class Shape:
    """What has been read: the page size, sort keys, whether to count, how to reduce resources, includes, the cursor's text."""

    count: int
    sort: tuple[SortKey, ...] = ()
    total: Literal["none", "accurate"] = "none"
    summary: Summary | None = None
    elements: tuple[str, ...] = ()
    includes: list[Include] = field(default_factory=list)
    cursor: str | None = None


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
    if parameter.type == "composite":
        raise FhirError(400, "invalid", f"Parameter '_sort': '{code}' is a composite, which has no order.")
    return SortKey(code, parameter, descending)


def _read_total(_search: Search, shape: Shape, value: str) -> None:
    if value not in _TOTALS:
        raise FhirError(400, "invalid", f"Parameter '_total': '{value}' is not one of {', '.join(_TOTALS)}.")
    shape.total = "none" if value == "none" else "accurate"


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


def _read_cursor(_search: Search, shape: Shape, value: str) -> None:
    shape.cursor = value


def _read_include(search: Search, shape: Shape, value: str) -> None:
    _add_include(search, shape, "_include", value)


def _read_revinclude(search: Search, shape: Shape, value: str) -> None:
    _add_include(search, shape, "_revinclude", value)


def _add_include(search: Search, shape: Shape, name: str, value: str) -> None:
    """`Source:parameter[:Target]`."""
    if "*" in value:
        raise FhirError(400, "not-supported", f"Parameter '{name}': '*' is not supported yet.")
    source, _, rest = value.partition(":")
    code, colon, target = rest.partition(":")
    if not source or not code or (colon and not target):
        raise FhirError(400, "invalid", f"Parameter '{name}': '{value}' is not of the form Type:parameter[:Target].")
    if not search.registry.is_type(source):
        raise FhirError(400, "invalid", f"Parameter '{name}': '{source}' is not a resource type.")
    parameter = _known(search, source, code, name)
    reverse = name == "_revinclude"
    if reverse:
        require_reference(parameter, search.type, f"{name}={value}")
    elif parameter.type != "reference":
        raise FhirError(400, "invalid", f"Parameter '{name}': '{code}' is of type {parameter.type}, not reference.")
    elif source != search.type:
        said = f"Parameter '{name}': '{value}' starts from {source}, but the search is of {search.type} (:iterate is not supported yet)."
        raise FhirError(400, "invalid", said)
    if target:
        require_target(search, parameter, target, f"{name}={value}")
        if reverse and target != search.type:
            raise FhirError(400, "invalid", f"Parameter '{name}': '{value}' includes what refers to {target} only.")
    if len(shape.includes) >= search.limits.includes:
        raise FhirError(400, "too-costly", f"The search has more than {search.limits.includes} includes.")
    shape.includes.append(Include(source, parameter, target or None, reverse))


def _known(search: Search, type_name: str, code: str, name: str) -> Parameter:
    """The parameter that a value names; lenient handling does not excuse it."""
    try:
        return find(search, type_name, code)
    except Unknown as unknown:
        raise FhirError(400, "not-supported", f"Parameter '{name}': {unknown}") from None


def _refuse_iterate(_search: Search, _shape: Shape, value: str) -> None:
    raise FhirError(400, "not-supported", f"Includes with ':iterate' are not supported yet ('{value}').")


READERS: Final[Mapping[str, Callable[[Search, Shape, str], None]]] = {
    "_count": _read_count,
    "_sort": _read_sort,
    "_total": _read_total,
    "_summary": _read_summary,
    "_elements": _read_elements,
    "_include": _read_include,
    "_revinclude": _read_revinclude,
    "_include:iterate": _refuse_iterate,
    "_include:recurse": _refuse_iterate,
    "_revinclude:iterate": _refuse_iterate,
    "_revinclude:recurse": _refuse_iterate,
    CURSOR: _read_cursor,
}
REPEATED: Final = frozenset({"_include", "_revinclude"})
"""Those that may be given more than once."""

RESULT_PARAMETERS: Final = frozenset(READERS)
"""The parameters that shape a result and select nothing; a criterion (If-None-Exist, `Patient?...` in a reference) has none."""
