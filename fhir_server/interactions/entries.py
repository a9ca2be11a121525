"""The entries of a batch or transaction Bundle, read into values before anything is done.

Rules: every fault of the Bundle's own structure is reported at once, each with its place (`Bundle.entry[3].request.url`). An
entry's URL is relative to the FHIR base, or absolute under the base or one of its aliases.

Specification: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/bundle.html#rest
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from fhir_server.http.errors import error_response
from fhir_server.http.negotiation import Prefer, response_format
from fhir_server.http.request import FhirRequest, Pairs, query_pairs, split_general
from fhir_server.http.response import FhirResponse
from fhir_server.http.routes import shape_of
from fhir_server.interactions.criteria import parsed
from fhir_server.interactions.search import chosen_types
from fhir_server.interactions.service import Service
from resources.errors import FhirError, Issue
from resources.model import Resource, is_id

Target = tuple[tuple[str, ...], Pairs]
"""An entry's URL: path segments below the base, query."""

METHODS = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")
"""In the order in which a transaction carries them out."""

_CONDITIONAL: Mapping[str, tuple[str, ...]] = {
    "if-match": ("PUT", "PATCH", "DELETE"),
    "if-none-match": ("GET", "HEAD", "PUT"),
    "if-modified-since": ("GET", "HEAD"),
    "if-none-exist": ("POST",),
}
OPERATION_SHAPES = (
    "/$operation",
    "/{type}/$operation",
    "/{type}/{id}/$operation",
    "/{type}/{id}/_history/{version}/$operation",
)
_READABLE = frozenset(
    {
        "/",
        "/metadata",
        "/{type}",
        "/{type}/{id}",
        "/_history",
        "/{type}/_history",
        "/{type}/{id}/_history",
        "/{type}/{id}/_history/{version}",
        "/{type}/{id}/{member}",
        *OPERATION_SHAPES,
    }
)
_CONDITIONS = (
    ("ifMatch", "if-match"),
    ("ifNoneMatch", "if-none-match"),
    ("ifModifiedSince", "if-modified-since"),
    ("ifNoneExist", "if-none-exist"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a Bundle. `headers` are its conditions under their HTTP names; `place` is the entry's FHIRPath."""

    index: int
    method: str
    segments: tuple[str, ...]
    query: Pairs
    full_url: str | None
    resource: Resource | None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """`Bundle.entry[3]`."""
        return f"Bundle.entry[{self.index}]"


def at(entry: Entry, status: int, code: str, diagnostics: str, below: str = "") -> FhirError:
    """A fault of one entry, with the place in its expression."""
    return FhirError(status, code, diagnostics, expression=entry.place + below)


def placed(error: FhirError, entry: Entry) -> FhirError:
    """A fault found inside an entry's resource or request, its expressions led back to the entry."""
    return FhirError.many(
        error.status, [Issue(i.severity, i.code, i.diagnostics, _led(i.expression, entry)) for i in error.issues]
    )


def _led(expressions: tuple[str, ...], entry: Entry) -> tuple[str, ...]:
    if not expressions:
        return (entry.place,)
    kind = entry.resource.get("resourceType") if entry.resource is not None else None
    return tuple(_moved(expression, kind, f"{entry.place}.resource") for expression in expressions)


def _moved(expression: str, kind: object, place: str) -> str:
    """`Patient.name[0]` -> `Bundle.entry[3].resource.name[0]`."""
    if isinstance(kind, str) and (expression == kind or expression.startswith((f"{kind}.", f"{kind}["))):
        return place + expression[len(kind) :]
    return f"{place}.{expression}"


def entries_of(service: Service, bundle: Resource) -> tuple[Entry, ...]:
    """The entries of a batch or transaction Bundle; raises FhirError 400 with all faults of its structure."""
    raw = bundle.get("entry", [])
    if len(raw) > service.options.entry_limit:
        limit = service.options.entry_limit
        raise FhirError(413, "too-costly", f"the Bundle has {len(raw)} entries; this server accepts {limit}")
    entries: list[Entry] = []
    faults: list[Issue] = []
    targets: dict[str, Target] = {}  # most entries of a Bundle name the same few URLs
    for index, item in enumerate(raw):
        try:
            entries.append(_entry(service, index, item, targets))
        except FhirError as error:
            faults.extend(error.issues)
    if faults:
        raise FhirError.many(400, faults)
    return tuple(entries)


def _entry(service: Service, index: int, item: Mapping[str, Any], targets: dict[str, Target]) -> Entry:
    place = f"Bundle.entry[{index}]"
    request = item.get("request")
    if request is None:
        raise FhirError(400, "required", "the entry has no request", expression=f"{place}.request")
    method, url = request["method"], request["url"]
    if url not in targets:
        targets[url] = _target(service, url, place)
    segments, query = targets[url]
    resource = item.get("resource")
    if resource is not None and not isinstance(resource, dict):
        raise FhirError(400, "structure", "a resource is a JSON object", expression=f"{place}.resource")
    if method in ("POST", "PUT", "PATCH") and resource is None and segments[-1:] != ("_search",):
        raise FhirError(400, "required", f"a {method} entry needs a resource", expression=f"{place}.resource")
    if method in ("GET", "HEAD", "DELETE") and resource is not None:
        raise FhirError(400, "invalid", f"a {method} entry has no resource", expression=f"{place}.resource")
    headers = {header: request[name] for name, header in _CONDITIONS if name in request}
    return Entry(index, method, segments, query, item.get("fullUrl"), resource, headers)


def _target(service: Service, url: str, place: str) -> Target:
    """`Patient?name=x` -> (("Patient",), (("name", "x"),))."""
    relative = url
    for base in (service.base, *service.aliases):
        if url == base or url.startswith((f"{base}/", f"{base}?")):
            relative = url[len(base) :]
            break
    else:
        if "://" in url.partition("?")[0]:
            raise FhirError(
                400, "invalid", "the URL is not below this server's base", expression=f"{place}.request.url"
            )
    path, _, query = relative.partition("?")
    segments = tuple(unquote(part) for part in path.strip("/").split("/") if part)
    try:
        return segments, query_pairs(query, service.options.parameter_limit)
    except FhirError as error:
        raise FhirError(400, "invalid", error.issues[0].diagnostics, expression=f"{place}.request.url") from None


def require_form(service: Service, entry: Entry, posted: Collection[str] = ("/{type}",)) -> None:
    """400 unless the entry is a request this server can carry out in a Bundle; `posted`: the shapes of URL that POST may have."""
    shape = entry_shape(service, entry)
    require_writable(service, entry)
    match entry.method:
        case "POST":
            right = shape in posted and not entry.query
        case "PUT" | "DELETE" | "PATCH":
            right = shape == "/{type}" or (shape == "/{type}/{id}" and not entry.query)
            if shape == "/{type}/{id}" and not is_id(entry.segments[1]):
                raise at(entry, 400, "value", "the URL holds no valid id", ".request.url")
        case _:
            right = shape in _READABLE
    if not right:
        raise at(entry, 400, "not-supported", f"{entry.method} {shape} in a Bundle is not supported", ".request.url")
    for name, header in _CONDITIONS:
        if header in entry.headers and entry.method not in _CONDITIONAL[header]:
            raise at(entry, 400, "not-supported", f"{name} is not supported on {entry.method}", f".request.{name}")
    if entry.method in ("POST", "PUT") and shape not in OPERATION_SHAPES:
        assert entry.resource is not None
        if entry.resource.get("resourceType") != entry.segments[0]:
            said = f"the URL names {entry.segments[0]}, the resource is of another type"
            raise at(entry, 400, "invalid", said, ".resource.resourceType")


def require_writable(service: Service, entry: Entry) -> None:
    """405 for a write of a type whose resources this server makes itself."""
    if entry.method not in ("GET", "HEAD") and entry.segments and entry.segments[0] in service.projected:
        raise at(entry, 405, "not-supported", f"{entry.segments[0]} is made by this server alone", ".request.method")


def require_understood(service: Service, entry: Entry) -> None:
    """400 for a search that cannot be understood: it fails a transaction before anything is written."""
    if entry.method not in ("GET", "HEAD") or entry.segments[1:] or not service.types.issuperset(entry.segments):
        return
    try:
        query, _, _ = split_general(entry.query)
        kinds = entry.segments[0] if entry.segments else chosen_types(service, tuple(sorted(service.types)), query)
        parsed(service, kinds, query, "strict", service.now())
    except FhirError as error:
        raise at(entry, error.status, error.issues[0].code, error.issues[0].diagnostics, ".request.url") from None


def entry_shape(service: Service, entry: Entry) -> str:
    """The shape of the entry's URL (`/{type}/{id}`); 400 for one that this server does not have."""
    try:
        return shape_of(entry.segments, service.types)
    except FhirError as error:
        raise at(entry, 400, error.issues[0].code, error.issues[0].diagnostics, ".request.url") from None


def request_of(entry: Entry, outer: FhirRequest) -> FhirRequest:
    """The entry as a request of its own, with the Bundle's caller and preferences."""
    query, named, _ = split_general(entry.query)
    response_format(None, named)
    prefer = Prefer(outer.prefer.answer or "minimal", outer.prefer.lenient)  # a Bundle's answers are short unless asked
    payload = entry.resource if entry.resource is not None else b""
    return FhirRequest(
        entry.method, entry.segments, query, entry.headers, payload, outer.narrowing, prefer, outer.access
    )


async def answer_entry(service: Service, entry: Entry, outer: FhirRequest) -> FhirResponse:
    """The entry's own answer; a fault stays inside it."""
    try:
        found = await service.run(service, request_of(entry, outer))
    except FhirError as error:
        return error_response(placed(error, entry))
    return replace(found, body=b"") if entry.method == "HEAD" else found
