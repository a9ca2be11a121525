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
from dataclasses import dataclass
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
    """

    query: Query
    used: Pairs
    ignored: tuple[Issue, ...] = ()
    summary: Summary | None = None
    elements: tuple[str, ...] = ()
    cursor: str | None = None


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
    search = Search(registry, type_name, values, limits)
    shape = Shape(limits.page)
    nodes: list[Node] = []
    used: list[tuple[str, str]] = []
    ignored: list[Issue] = []
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
                node = condition(search, type_name, name, value)
            except Unknown as unknown:
                issue = _issue(unknown, handling)
                ignored.append(issue)
                continue
            if node is None:
                continue
            nodes.append(node)
        if name != CURSOR:
            used.append((name, value))
    if len(nodes) > limits.conditions:
        raise FhirError(400, "too-costly", f"The search has more than {limits.conditions} conditions.")
    if shape.summary == "text" and shape.includes:
        raise FhirError(400, "invalid", "Parameter '_summary': 'text' does not go with _include or _revinclude.")
    query = Query(
        type_name,
        nodes[0] if len(nodes) == 1 else And(tuple(nodes)) if nodes else All(),
        shape.sort,
        0 if shape.summary == "count" else shape.count,
        shape.total,
        tuple(dict.fromkeys(shape.includes)),
    )
    return ParsedSearch(query, tuple(used), tuple(ignored), shape.summary, shape.elements, shape.cursor)


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
