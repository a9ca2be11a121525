"""The parameters of an OpenAPI document: those of the path, headers, those that shape an answer, and search parameters.

Rules. What can be said as a pattern is: prefixes and numbers, dates, sort keys, includes. A modifier is part of a parameter's name
(`name:exact`), as are chains and `_has`: names without end, which the schemas of the values describe. A repeated parameter is an AND, so each is
an array.

Specification: https://hl7.org/fhir/R4/search.html, https://spec.openapis.org/oas/v3.1.0#parameter-object
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fhir_server.http.binary import SECURITY_CONTEXT
from resources.definitions import Definitions
from resources.definitions.model import OperationParameter
from search.filters import FILTER
from search.lists import LIST
from search.parameters import Parameter

Object = dict[str, Any]

_SEARCH = "https://hl7.org/fhir/R4/search.html"
_PREFIX = "(eq|ne|gt|lt|ge|le|sa|eb|ap)?"
_NUMBER = rf"{_PREFIX}[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{{1,4}})?"
_DATE = r"[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
_UNIT = r"(\|([^,|\\]|\\[,|$\\])*){2}"


def _any_of(pattern: str) -> str:
    """One or several of it, joined by commas."""
    return f"^{pattern}(,{pattern})*$"


VALUES: Final[Mapping[str, Object]] = {
    "number": {
        "pattern": _any_of(_NUMBER),
        "description": "A number with prefix. Modifier: `missing`.",
    },
    "date": {
        "pattern": _any_of(_PREFIX + _DATE),
        "description": "A date or time with prefix; a + in an offset is sent as %2B. Modifier: `missing`.",
    },
    "quantity": {
        "pattern": _any_of(f"{_NUMBER}({_UNIT})?"),
        "description": "`[prefix]number` or `[prefix]number|system|code`. Modifier: `missing`.",
    },
    "string": {
        "description": "What it starts with, case, accents and punctuation aside. Modifiers: `exact`, `contains`, `missing`.",
    },
    "token": {
        "description": "`code`, `system|code`, `|code` or `system|`. Modifiers: `not`, `text`, `in`, `not-in`, `above`, `below`, "
        "`of-type`, `missing`.",
    },
    "reference": {
        "description": "`Type/id`, an absolute URL or an id; chains: `subject:Patient.name`. Modifiers: a resource type, `identifier`, "
        "`text`, `above`, `below`, `missing`.",
    },
    "uri": {"description": "The whole URI. Modifiers: `above`, `below`, `missing`."},
    "composite": {"description": "The components joined by `$`. Modifier: `missing`."},
    "special": {"description": "As the parameter's definition says."},
}
"""What the values of a type of search parameter look like; commas are an OR, `\\` escapes `, | $ \\`."""

_ID = {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"}
FORMATS: Final = (
    *("json", "application/fhir+json", "application/json", "text/json", "application/json+fhir"),
    *("xml", "application/fhir+xml", "application/xml", "text/xml", "application/xml+fhir"),
)
"""What `_format` may be."""


def _query(name: str, schema: Object, says: str) -> Object:
    return {"name": name, "in": "query", "description": says, "schema": schema}


def _header(name: str, says: str, **schema: Any) -> Object:
    return {"name": name, "in": "header", "description": says, "schema": {"type": "string"} | schema}


_TAG = r'(W/)?"[0-9]{1,15}"'

GENERAL: Final[Mapping[str, Object]] = {
    "_format": _query("_format", {"enum": list(FORMATS)}, "The format of the answer; it beats Accept."),
    "_pretty": _query("_pretty", {"type": "boolean"}, "Whether the answer is indented."),
}
"""The parameters of every request."""

SHAPING: Final[Mapping[str, Object]] = {
    "_count": _query("_count", {"type": "integer", "minimum": 0, "maximum": 10**9 - 1}, "Entries of a page."),
    "_elements": _query(
        "_elements",
        {"type": "string", "pattern": "^[A-Za-z0-9]+(,[A-Za-z0-9]+)*$"},
        "Which elements of each resource, beside those that must be there.",
    ),
    "_cursor": _query("_cursor", {"type": "string"}, "A place among the results: only as a link gives it."),
}
"""Parameters that shape an answer, of searches and of other interactions."""

FREE: Final[Mapping[str, Object]] = {
    "parameters": {
        "name": "parameters",
        "in": "query",
        "description": "Search parameters of the types that are searched, by their names.",
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    }
}
"""Search parameters of types that the document does not describe."""

COMMON: Final[Mapping[str, Object]] = {
    **SHAPING,
    "_summary-read": _query("_summary", {"enum": ["true", "text", "data", "false"]}, "Which part of the resource."),
    "mode": _query("mode", {"const": "full"}, "Which statement."),
    "_since": _query("_since", {"type": "string", "pattern": f"^{_DATE}$"}, "Only versions of that time or later."),
    "_at": _query("_at", {"type": "string", "pattern": f"^{_DATE}$"}, "Only versions current at some time of it."),
    "_list-history": _query("_list", {"type": "string"}, "Only what this List refers to."),
    SECURITY_CONTEXT: _header(SECURITY_CONTEXT, "Of raw content: the resource whose access rules are the Binary's."),
    "If-Match": _header("If-Match", "The version that must be current.", pattern=rf"^(\*|{_TAG})$"),
    "If-None-Match": _header("If-None-Match", "Versions that the client holds."),
    "If-None-Match-any": _header("If-None-Match", "`*`: nothing may be current.", const="*"),
    "If-Modified-Since": _header("If-Modified-Since", "The time of the version that the client holds."),
    "If-None-Exist": _header("If-None-Exist", "A criterion; when a resource meets it, nothing is created."),
    "Prefer": _header(
        "Prefer",
        "`return`: what a write answers with; `handling`: whether unknown search parameters are a fault.",
        examples=["return=minimal", "return=representation", "return=OperationOutcome", "handling=lenient"],
    ),
}
"""Parameters by the names that `interactions.About` uses."""


def path_parameters(definitions: Definitions, path: str, kind: str | None) -> list[Object]:
    """The parameters of a path; `kind`: the resource type whose path it is, None where `{type}` stands in it."""
    owners = list(definitions.compartments) if kind is None else [kind] if kind in definitions.compartments else []
    within = {name for owner in owners for name in (owner, *_members(definitions, owner))}
    known: dict[str, Object] = {
        "type": {"enum": sorted(owners) if "{member}" in path else list(definitions.resource_types)},
        "id": _ID,
        "version": {"type": "string", "pattern": "^[0-9]{1,15}$"},
        "member": {"enum": [*sorted(within), "*"]},
    }
    return [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in known.items()
        if f"{{{name}}}" in path
    ]


def _members(definitions: Definitions, owner: str) -> list[str]:
    return [name for name, codes in definitions.compartments[owner].members.items() if codes]


def argument(one: OperationParameter) -> Object:
    """A primitive parameter of an operation in the URL; a date may have any precision."""
    kind = one.type or "string"
    dated = kind in ("date", "dateTime", "instant")
    schema: Object = {"type": "string", "pattern": f"^{_DATE}$"} if dated else {"$ref": f"#/components/schemas/{kind}"}
    if one.max != 1:
        schema = {"type": "array", "items": schema}
    return _query(one.name, schema, f"A parameter of type {kind}.")


class Searched(NamedTuple):
    """The parameters of a search, by name: those that select resources, and those that shape the answer."""

    selecting: dict[str, Object]
    shaping: dict[str, Object]


def search_parameters(rows: Sequence[Parameter], definitions: Definitions, kind: str | None) -> Searched:
    """What a search of `kind` takes, of several types for None: `rows`, and what no definition of a type has."""
    selecting = {row.code: _searched(row) for row in rows}
    for name in (FILTER, LIST):
        selecting[name] = _array(name, {"type": "string", "minLength": 1}, f"{_SEARCH}#{name.removeprefix('_')}")
    results = {one["name"]: one for one in _results(rows, definitions, kind)}
    return Searched(selecting, {**SHAPING, **results})


def _searched(row: Parameter) -> Object:
    says = f"{row.type}: {row.url}" + (f"; to {', '.join(row.targets)}" if row.targets else "")
    return _array(row.code, {"$ref": f"#/components/schemas/search-{row.type}"}, says)


def _array(name: str, items: Object, says: str) -> Object:
    return _query(name, {"type": "array", "items": items}, says)


def value_schemas() -> dict[str, Object]:
    """The schemas that search parameters refer to."""
    return {f"search-{kind}": {"type": "string", "minLength": 1, **schema} for kind, schema in VALUES.items()}


def _results(rows: Collection[Parameter], definitions: Definitions, kind: str | None) -> Iterator[Object]:
    """The parameters that shape a searchset."""
    yield _query("_summary", {"enum": ["true", "text", "data", "count", "false"]}, "Which part of each resource.")
    yield _query("_sort", _sort(rows), "Keys in order; - before a key: descending.")
    yield _query("_total", {"enum": ["none", "estimate", "accurate"]}, "Whether to count.")
    yield _query("_contained", {"enum": ["true", "false", "both"]}, "Whether contained resources are found.")
    yield _query("_containedType", {"enum": ["container", "contained"]}, "What is answered for a contained one.")
    yield _query("_explain", {"type": "boolean"}, "Whether to tell how the search is run; for staff.")
    if kind is None:
        names = "|".join(definitions.resource_types)
        yield _query("_type", {"type": "string", "pattern": f"^({names})(,({names}))*$"}, "Which types.")
    else:
        yield _query("_type", {"const": kind}, "The type of the path.")
    forward, backward = _include(kind, rows), r"^(\*|[A-Za-z]+:(\*|[A-Za-z0-9\-]+)(:[A-Za-z]+)?)$"
    for name, pattern in (("_include", forward), ("_revinclude", backward)):
        says = "`Source:parameter[:Target]` or `*`: what is answered too."
        yield _array(name, {"type": "string", "pattern": pattern}, says)
        for again in (f"{name}:iterate", f"{name}:recurse"):
            yield _array(again, {"type": "string", "pattern": backward}, f"{says} Also from what was included.")


def _sort(rows: Collection[Parameter]) -> Object:
    codes = sorted({row.code for row in rows if row.type not in ("composite", "special")} | {"_id", "_lastUpdated"})
    key = f"-?({'|'.join(codes)})"
    return {"type": "string", "pattern": f"^{key}(,{key})*$"}


def _include(kind: str | None, rows: Collection[Parameter]) -> str:
    if kind is None:
        return r"^(\*|[A-Za-z]+:(\*|[A-Za-z0-9\-]+)(:[A-Za-z]+)?)$"
    codes = "|".join(["\\*", *(row.code for row in rows if row.type == "reference")])
    return rf"^(\*|{kind}:({codes})(:[A-Za-z]+)?)$"
