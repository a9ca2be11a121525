"""What an OpenAPI document says of each row of the route table: data.

Rules: a row of the table without a row here makes no document (KeyError), so a test tells who adds a route. The faults that every request may
meet are in `ALWAYS`, those of every body in `WITH_BODY`; a row names its own.

Specification: https://hl7.org/fhir/R4/http.html
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.interactions.patch import UNPATCHABLE

TYPE: Final = "{type}"
"""Stands for the resource type of the path in `Answer.body` and `About.sends`."""
FORM: Final = "form"
"""The search parameters as a form, in `About.sends`."""
PATCH: Final = "json-patch"
"""A JSON Patch, in `About.sends`."""
RAW: Final = "raw"
"""The content of a Binary, where the type is that, in `Answer.body` and `About.sends`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: what it says, the resource types its body may be of, or RAW (none: no body), its headers."""

    says: str
    body: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """One method of one path shape.

    `name` begins the operationId; `link`: what specifies it; `faults` are statuses that are its own; `parameters` are
    names of `parameters.COMMON`, `own` are whole parameters; `sends` are the resource types that the body may be of, FORM, PATCH or RAW; `never`: the types that it is not for. `takes`: the search parameters of the URL, all of the type's
    (`search`), those that select (`criteria`), or those of a type that the path names (`member`).
    """

    name: str
    summary: str
    link: str
    answers: Mapping[int, Answer]
    faults: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    takes: Literal["search", "criteria", "member"] | None = None
    own: tuple[Mapping[str, Any], ...] = ()
    never: Collection[str] = ()


ALWAYS: Final = (400, 406, 414, 431, 500, 503)
WITH_BODY: Final = (413, 415)
FAULTS: Final[Mapping[int, str]] = {
    400: "The request cannot be understood, or the body breaks the structure of its type",
    401: "No access token, or one that is not good",
    403: "Not allowed",
    404: "Not known: the resource, the resource type, or the path",
    405: "The method is not allowed here; Allow says which are",
    406: "No format in common",
    409: "In conflict with other writes, or with what refers to it",
    410: "Deleted",
    412: "A condition does not hold: If-Match, If-None-Match, or a criterion that finds too many",
    413: "The body is too large",
    414: "The URL is too long",
    415: "The body is in a format that is not supported",
    422: "The body breaks an invariant, a required binding or a business rule",
    429: "Too many requests of the user, the client or the address; Retry-After says when to come again",
    431: "The header is too long",
    500: "A fault of the server",
    503: "Too many requests under way, or the deadline passed",
}
"""Status -> its description; the body of each is an OperationOutcome."""

_HTTP = "https://hl7.org/fhir/R4/http.html"
_VALIDATORS = ("ETag", "Last-Modified")
_WRITTEN = ("Location", *_VALIDATORS)
_READ = ("_summary-read", "_elements", "If-None-Match", "If-Modified-Since")
_HISTORY = ("_count", "_since", "_at", "_list-history", "_cursor", "Prefer")
_WRITE_FAULTS = (409, 412, 422)
_STORED = (TYPE, "OperationOutcome")
_NOT_MODIFIED = Answer("What the client holds is current", headers=_VALIDATORS)
_FOUND = {200: Answer("A page of a searchset", ("Bundle",))}
_VERSIONS = {200: Answer("A page of versions, newest first", ("Bundle",))}

ROWS: Final[Mapping[tuple[str, str], About]] = {
    ("GET", "/metadata"): About(
        "capabilities",
        "What this server does",
        f"{_HTTP}#capabilities",
        {
            200: Answer("The capability statement", ("CapabilityStatement",), ("ETag",)),
            304: Answer("What the client holds is current", headers=("ETag",)),
        },
        parameters=("mode", "If-None-Match"),
    ),
    ("POST", "/"): About(
        "transaction",
        "Carry out a transaction (all or nothing) or a batch (entry by entry)",
        f"{_HTTP}#transaction",
        {200: Answer("One entry for each of the request, in its order", ("Bundle",))},
        (403, 404, 405, 410, *_WRITE_FAULTS),
        ("Prefer",),
        sends=("Bundle",),
    ),
    ("GET", "/"): About(
        "search-system", "Search over several types", f"{_HTTP}#search", _FOUND, (403,), takes="search"
    ),
    ("POST", "/_search"): About(
        "search-system-post",
        "Search over several types, by form",
        f"{_HTTP}#search",
        _FOUND,
        (403,),
        sends=(FORM,),
        takes="search",
    ),
    ("GET", "/_history"): About(
        "history-system", "The versions of all resources", f"{_HTTP}#history", _VERSIONS, parameters=_HISTORY
    ),
    ("GET", "/{type}"): About("search-type", "Search", f"{_HTTP}#search", _FOUND, (403,), takes="search"),
    ("POST", "/{type}"): About(
        "create",
        "Create a resource under an id that the server gives",
        f"{_HTTP}#create",
        {
            200: Answer("If-None-Exist found this resource; nothing was created", _STORED, _WRITTEN),
            201: Answer("The resource as stored", _STORED, _WRITTEN),
        },
        _WRITE_FAULTS,
        ("If-None-Exist", "Prefer"),
        sends=(TYPE, RAW),
    ),
    ("PUT", "/{type}"): About(
        "conditional-update",
        "Make a new version of the resource that meets the criteria, or create one",
        f"{_HTTP}#cond-update",
        {
            200: Answer("The resource as it is now", _STORED, _WRITTEN),
            201: Answer("The resource as created", _STORED, _WRITTEN),
        },
        (405, *_WRITE_FAULTS),
        ("If-Match", "If-None-Match-any", "Prefer"),
        sends=(TYPE, RAW),
        takes="criteria",
    ),
    ("PATCH", "/{type}"): About(
        "conditional-patch",
        "Change parts of the resource that meets the criteria",
        f"{_HTTP}#patch",
        {200: Answer("The resource as it is now", _STORED, _WRITTEN)},
        (404, 405, *_WRITE_FAULTS),
        ("If-Match", "Prefer"),
        sends=(PATCH, "Parameters"),
        takes="criteria",
        never=UNPATCHABLE,
    ),
    ("DELETE", "/{type}"): About(
        "conditional-delete",
        "Delete what meets the criteria",
        f"{_HTTP}#delete",
        {204: Answer("Nothing current meets the criteria", headers=("ETag",))},
        (409, 412),
        ("If-Match",),
        takes="criteria",
    ),
    ("POST", "/{type}/_search"): About(
        "search-type-post", "Search by form", f"{_HTTP}#search", _FOUND, (403,), sends=(FORM,), takes="search"
    ),
    ("GET", "/{type}/_history"): About(
        "history-type", "The versions of all resources of the type", f"{_HTTP}#history", _VERSIONS, parameters=_HISTORY
    ),
    ("GET", "/{type}/{id}"): About(
        "read",
        "The current version of a resource",
        f"{_HTTP}#read",
        {200: Answer("The resource", (TYPE, RAW), _VALIDATORS), 304: _NOT_MODIFIED},
        (404, 410),
        _READ,
    ),
    ("PUT", "/{type}/{id}"): About(
        "update",
        "Make a new version of a resource, or create it under this id",
        f"{_HTTP}#update",
        {
            200: Answer("The resource as it is now", _STORED, _WRITTEN),
            201: Answer("The resource as created", _STORED, _WRITTEN),
        },
        (405, *_WRITE_FAULTS),
        ("If-Match", "If-None-Match-any", "Prefer"),
        sends=(TYPE, RAW),
    ),
    ("PATCH", "/{type}/{id}"): About(
        "patch",
        "Change parts of a resource, by JSON Patch or FHIRPath Patch",
        f"{_HTTP}#patch",
        {200: Answer("The resource as it is now", _STORED, _WRITTEN)},
        (404, 405, 410, *_WRITE_FAULTS),
        ("If-Match", "Prefer"),
        sends=(PATCH, "Parameters"),
        never=UNPATCHABLE,
    ),
    ("DELETE", "/{type}/{id}"): About(
        "delete",
        "Delete a resource; its history is kept",
        f"{_HTTP}#delete",
        {204: Answer("Nothing is current under this id", headers=("ETag",))},
        (409, 412),
        ("If-Match",),
    ),
    ("GET", "/{type}/{id}/_history"): About(
        "history-instance", "The versions of a resource", f"{_HTTP}#history", _VERSIONS, (404,), _HISTORY
    ),
    ("GET", "/{type}/{id}/_history/{version}"): About(
        "vread",
        "One version of a resource",
        f"{_HTTP}#vread",
        {200: Answer("The resource as it was", (TYPE, RAW), _VALIDATORS), 304: _NOT_MODIFIED},
        (404, 410),
        _READ,
    ),
    ("GET", "/{type}/{id}/{member}"): About(
        "search-compartment", "Search in a compartment", f"{_HTTP}#search", _FOUND, (403, 404), takes="member"
    ),
    ("POST", "/{type}/{id}/{member}/_search"): About(
        "search-compartment-post",
        "Search in a compartment, by form",
        f"{_HTTP}#search",
        _FOUND,
        (403, 404),
        sends=(FORM,),
        takes="member",
    ),
}
"""(method, shape) -> what is said of it; HEAD is as GET, operations have their own descriptions."""
