"""The OpenAPI document of the FHIR API: of the system level, and of each resource type.

Rules. Paths and methods are the route table's, operations the operation table's, search parameters the registry's, schemas the definitions': what
is not routed is not told of. The document of the system tells the paths of every type in general (`/{type}`) and names the document of each (a
tag's externalDocs); that of a type has its paths, search parameters and schemas in full. HEAD is left out: it is answered wherever GET is.

Specification: https://spec.openapis.org/oas/v3.1.0, https://hl7.org/fhir/R4/http.html
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.http.binary import KIND as BINARY
from fhir_server.http.binary import SECURITY_CONTEXT
from fhir_server.http.routes import Projected, Route
from fhir_server.interactions.patch import JSON_PATCH
from fhir_server.openapi.interactions import ALWAYS, FAULTS, FORM, PATCH, RAW, ROWS, TYPE, WITH_BODY, About, Answer
from fhir_server.openapi.operations import Operations
from fhir_server.openapi.parameters import (
    COMMON,
    FREE,
    GENERAL,
    Searched,
    path_parameters,
    search_parameters,
    value_schemas,
)
from fhir_server.openapi.security import OPEN, REFUSALS, REQUIRED, schemes
from resources.definitions import Definitions
from resources.json_schema import schemas
from search.parameters import Parameter

Object = dict[str, Any]

_JSON: Final = "application/fhir+json"
_XML: Final = "application/fhir+xml"
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_OPERATION: Final[Object] = {
    "type": "object",
    "properties": {
        "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
        "path": {"type": "string"},
        "from": {"type": "string"},
        "value": {},
    },
    "required": ["op", "path"],
}
_OUTCOME: Final = "OperationOutcome"
_SCHEMAS: Final = "#/components/schemas/"
_HEADERS: Final[Mapping[str, str]] = {
    "ETag": 'The version: `W/"3"`.',
    "Last-Modified": "When the version was made.",
    "Location": "The URL of the version.",
    "Content-Location": "Where to ask how far the work is.",
    SECURITY_CONTEXT: "The resource whose access rules are the Binary's.",
}


@dataclass(frozen=True, slots=True)
class Api:
    """What the documents are made from.

    `base`: the FHIR base URL; `documents`: the URL of a type's document, `{type}` standing for the type; `searchable`: the search parameters of a
    type; `projected`: the types whose resources the server makes itself; `endpoints`: where those of OAuth are, "" without access control.
    """

    base: str
    documents: str
    version: str
    routes: Sequence[Route]
    operations: Operations
    definitions: Definitions
    searchable: Callable[[str], Sequence[Parameter]]
    projected: Mapping[str, Projected] = field(default_factory=dict)
    endpoints: str = ""


def document(api: Api, kind: str | None = None) -> Object:
    """The document of a resource type; None: of the system level."""
    rows = list(_rows(api, kind))
    searched = search_parameters(_common(api) if kind is None else api.searchable(kind), api.definitions, kind)
    paths: dict[str, Object] = {}
    for path, method, about in rows:
        found = path_parameters(api.definitions, path, kind)
        item = paths.setdefault(path, {"parameters": found} if found else {})
        refusals = REFUSALS if api.endpoints and path not in OPEN else ()
        item[method.lower()] = _operation(about, kind, searched, refusals) | (
            {"security": []} if api.endpoints and path in OPEN else {}
        )
    bodies = {_named(body, kind) for _, _, about in rows for body in _bodies(about)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"FHIR R4: {kind or 'system'}",
            "version": api.version,
            "description": "FHIR 4.0.1. HEAD is answered wherever GET is; every fault is an OperationOutcome.",
        },
        "servers": [{"url": api.base}],
        **({} if kind else {"tags": _tags(api)}),
        **({"security": REQUIRED} if api.endpoints else {}),
        "paths": paths,
        "components": _components(searched, schemas(api.definitions, {_OUTCOME, *bodies}))
        | ({"securitySchemes": schemes(api.endpoints, kind)} if api.endpoints else {}),
    }


def _common(api: Api) -> Sequence[Parameter]:
    """The parameters that every type has."""
    first, *others = (api.searchable(kind) for kind in api.definitions.resource_types if kind not in api.projected)
    codes = {row.code for row in first}.intersection(*({row.code for row in found} for found in others))
    return [row for row in first if row.code in codes]


def _rows(api: Api, kind: str | None) -> Iterator[tuple[str, str, About]]:
    """(path, method, what is said) of all that the document is about."""
    own = api.projected.get(kind) if kind else None
    for route in own.routes if own else api.routes:
        for method in route.methods:
            if method == "HEAD":
                continue
            if route.shape.endswith("$operation"):
                for path, about in api.operations.calls(method, route.shape, kind):
                    yield path, method, about
            elif kind is None or _is_of(api.definitions, route.shape, kind):
                about = ROWS[method, route.shape]
                if kind not in about.never:
                    yield route.shape.replace(TYPE, kind or TYPE), method, about


def _is_of(definitions: Definitions, shape: str, kind: str) -> bool:
    return TYPE in shape and ("{member}" not in shape or kind in definitions.compartments)


def _bodies(about: About) -> Collection[str]:
    answered = {body for answer in about.answers.values() for body in answer.body}
    return (answered | set(about.sends)) - {FORM, PATCH, RAW}


def _named(body: str, kind: str | None) -> str:
    """The resource type that a body is of."""
    return (kind or "Resource") if body == TYPE else body


def _tags(api: Api) -> list[Object]:
    return [
        {"name": kind, "externalDocs": {"url": api.documents.replace(TYPE, kind)}}
        for kind in api.definitions.resource_types
    ]


def _operation(about: About, kind: str | None, searched: Searched, refusals: Sequence[int]) -> Object:
    names = [*GENERAL, *about.parameters]
    if about.takes in ("search", "criteria"):
        names += [*searched.selecting, *(searched.shaping if about.takes == "search" else ()), *(() if kind else FREE)]
    elif about.takes == "member":
        names += FREE
    if _is_raw(about.sends, kind):
        names.append(SECURITY_CONTEXT)
    parameters = [{"$ref": f"#/components/parameters/{_key(name)}"} for name in names]
    faults = {*ALWAYS, *refusals, *about.faults, *(WITH_BODY if about.sends else ()), *(() if kind else (404,))}
    answers = {str(status): _answer(answer, kind) for status, answer in about.answers.items()}
    return {
        "operationId": f"{about.name}-{kind}" if kind else about.name,
        "summary": about.summary,
        "externalDocs": {"url": about.link},
        "parameters": [*parameters, *about.own],
        **({"requestBody": _sent(about, kind)} if about.sends else {}),
        "responses": answers | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(faults)},
    }


def _key(name: str) -> str:
    """The name of a component: those of parameters may have a colon."""
    return name.replace(":", ".")


def _is_raw(bodies: Sequence[str], kind: str | None) -> bool:
    """Whether a body may be the content of a Binary."""
    return RAW in bodies and kind in (None, BINARY)


def _content(bodies: Sequence[str], kind: str | None) -> Object:
    found = [{"$ref": f"{_SCHEMAS}{_named(body, kind)}"} for body in bodies if body not in (PATCH, RAW)]
    content: Object = {_JSON: {"schema": found[0] if len(found) == 1 else {"anyOf": found}}, _XML: {}}
    if PATCH in bodies:
        content[JSON_PATCH] = {"schema": {"$ref": f"{_SCHEMAS}{PATCH}"}}
    if _is_raw(bodies, kind):
        content["*/*"] = {}
    return content


def _answer(answer: Answer, kind: str | None) -> Object:
    names = (*answer.headers, *((SECURITY_CONTEXT,) if _is_raw(answer.body, kind) else ()))
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {
        "description": answer.says,
        **({"headers": headers} if headers else {}),
        **({"content": _content(answer.body, kind)} if answer.body else {}),
    }


def _sent(about: About, kind: str | None) -> Object:
    if about.sends == (FORM,):
        named = kind is not None and about.takes == "search"
        schema = {"$ref": f"{_SCHEMAS}search-form"} if named else FREE["parameters"]["schema"]
        return {"content": {_FORM_TYPE: {"schema": schema}}}
    return {"content": _content(about.sends, kind), "required": True}


def _components(searched: Searched, known: Mapping[str, Object]) -> Object:
    parameters = {**GENERAL, **COMMON, **FREE, **searched.selecting, **searched.shaping}
    form = {name: one["schema"] for name, one in (searched.selecting | searched.shaping).items()}
    made = {"search-form": {"type": "object", "properties": form}, PATCH: {"type": "array", "items": _OPERATION}}
    outcome = _content((_OUTCOME,), None)
    return {
        "schemas": {**value_schemas(), **made, **known},
        "parameters": {_key(name): one for name, one in parameters.items()},
        "headers": {name: {"description": says, "schema": {"type": "string"}} for name, says in _HEADERS.items()},
        "responses": {str(status): {"description": says, "content": outcome} for status, says in FAULTS.items()},
    }
