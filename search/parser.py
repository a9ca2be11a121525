r"""Query parameters -> Query, or a FhirError 400 that names the parameter.

Rules.
1. A parameter that is repeated is an AND, commas in a value are an OR, `\,` `\|` `\$` `\\` escape.
2. Nothing is ignored in silence: an unknown or unsupported parameter is a 400, or, with lenient handling, an issue and no part of
   `used`. An empty value says nothing and is left out.
3. A parameter that shapes the result is given once (`_include` and `_revinclude` apart).

Not yet: the modifiers and parameters that `search.types` and `search.context` name.
Specification: https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from resources.errors import FhirError, Issue
from search.chains import HAS, STEP
from search.conditions import condition
from search.context import Search, Unknown, find
from search.limits import SearchLimits
from search.parameters import Registry
from search.query import All, And, Node, Query
from search.results import CURSOR, READERS, REPEATED, Shape, Summary
from search.values import ValueContext

Handling = Literal["strict", "lenient"]
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ParsedSearch:
    """A search as asked for.

    `used`: the parameters that count, for `self` and for the cursor's scope (without `_cursor`). `ignored`: what lenient handling left out.
    `summary`, `elements`: how resources are reduced (`count` and `false` are already done). `cursor`: the text of `_cursor`.
    `left_out`: the names of what was ignored, in the order of `ignored`.
    """

    query: Query
    used: Pairs
    ignored: tuple[Issue, ...] = ()
    summary: Summary | None = None
    elements: tuple[str, ...] = ()
    cursor: str | None = None
    explain: bool = False
    left_out: tuple[str, ...] = ()


def parse(
    registry: Registry,
    type_name: str,
    parameters: Sequence[tuple[str, str]],
    *,
    values: ValueContext,
    limits: SearchLimits,
    handling: Handling = "strict",
) -> ParsedSearch:
    """The search of `type_name` (a known resource type) by decoded parameters in the order sent.

    Raises FhirError 400, code `invalid` for what is wrong, `not-supported` for what is unknown or not built, `too-costly` beyond a
    limit.
    """
    return _parse(Search(registry, type_name, values, limits), parameters, handling)


def parse_all(
    registry: Registry,
    types: Sequence[str],
    parameters: Sequence[tuple[str, str]],
    *,
    values: ValueContext,
    limits: SearchLimits,
    handling: Handling = "strict",
) -> ParsedSearch:
    """The search over several types: parameters must mean something on each, or are left out on all by lenient handling."""
    found: list[ParsedSearch] = []
    ignored: dict[str, Issue] = {}
    kept = tuple(parameters)
    while True:
        names = len(ignored)
        found = [_parse(Search(registry, kind, values, limits, tuple(types)), kept, handling) for kind in types]
        for one in found:
            ignored.update(zip(one.left_out, one.ignored, strict=True))
        kept = tuple(pair for pair in parameters if pair[0] not in ignored)
        if len(ignored) == names:
            break
    first, *others = found
    for key, *same in zip(*(one.query.sort for one in found), strict=True):
        if len({one.parameter.type for one in (key, *same) if one.parameter is not None}) > 1:
            said = f"Parameter '_sort': '{key.field}' is of another type on other types, so there is no common order."
            raise FhirError(400, "invalid", said)
    query = replace(first.query, others=tuple(one for other in others for one in _spread(other.query)))
    if first.query.others:
        query = replace(query, others=(*first.query.others, *query.others))
    return replace(first, query=query, ignored=tuple(ignored.values()))


def _spread(query: Query) -> tuple[Query, ...]:
    return (replace(query, others=()), *query.others)


def _parse(search: Search, parameters: Sequence[tuple[str, str]], handling: Handling) -> ParsedSearch:
    limits = search.limits
    shape = Shape(limits.page)
    nodes: list[Node] = []
    used: list[tuple[str, str]] = []
    ignored: dict[str, Issue] = {}
    shaped: set[str] = set()
    for name, value in parameters:
        reader = READERS.get(name)
        if not value:
            if reader is None and handling == "strict":
                _require_known(search, name)
            continue
        if reader is not None:
            if name in shaped and name not in REPEATED:
                raise FhirError(400, "invalid", f"Parameter '{name}' is given more than once.")
            shaped.add(name)
            reader(search, shape, value)
        else:
            try:
                node = condition(search, search.type, name, value)
            except Unknown as unknown:
                ignored[name] = _issue(unknown, handling)
                continue
            if node is None:
                continue
            nodes.append(node)
        if name != CURSOR:
            used.append((name, value))
    if len(nodes) > limits.conditions:
        raise FhirError(400, "too-costly", f"The search has more than {limits.conditions} conditions.")
    return ParsedSearch(
        _query(search, shape, nodes),
        tuple(used),
        tuple(ignored.values()),
        shape.summary,
        shape.elements,
        shape.cursor,
        shape.explain,
        tuple(ignored),
    )


def _query(search: Search, shape: Shape, nodes: list[Node]) -> Query:
    """The query of what was read; with `_contained=both` the contained resources are another one beside it."""
    if shape.summary == "text" and shape.includes:
        raise FhirError(400, "invalid", "Parameter '_summary': 'text' does not go with _include or _revinclude.")
    query = Query(
        search.type,
        nodes[0] if len(nodes) == 1 else And(tuple(nodes)) if nodes else All(),
        shape.sort,
        0 if shape.summary == "count" else shape.count,
        shape.total,
        tuple(dict.fromkeys(shape.includes)),
    )
    if shape.contained == "false":
        return query
    inside = replace(query, contained=shape.contained_type)
    return inside if shape.contained == "true" else replace(query, others=(inside,))


def _issue(unknown: Unknown, handling: Handling) -> Issue:
    """The report of an ignored parameter; strict handling makes it the fault."""
    if handling == "strict":
        raise FhirError(400, "not-supported", str(unknown)) from None
    return Issue("warning", "not-supported", f"{unknown} It was ignored.")


def _require_known(search: Search, name: str) -> None:
    """An empty value excuses no unknown name."""
    code = name.partition(":")[0].partition(STEP)[0]
    if not name.startswith(HAS) and code not in READERS:
        try:
            find(search, search.type, code)
        except Unknown as unknown:
            raise FhirError(400, "not-supported", str(unknown)) from None
