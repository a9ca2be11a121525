"""Content negotiation: which format a client sends and wants, which FHIR version, what it prefers.

JSON in UTF-8 of FHIR 4.0 is served. `_format` beats Accept. XML and Turtle are refused by name (406, sent: 415).

Specification: https://hl7.org/fhir/R4/http.html#mime-type, #version-parameter, #ops (Prefer)
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from resources.errors import FhirError

Format = Literal["json"]
Answer = Literal["representation", "minimal", "OperationOutcome"]

_JSON_TYPES = frozenset({"application/fhir+json", "application/json", "text/json", "application/*", "*/*", "text/*"})
_JSON_SENT = frozenset({"application/fhir+json", "application/json", "text/json"})
_JSON_FORMATS = frozenset({"json", "application/fhir+json", "application/json", "text/json", "application/json+fhir"})
_XML = frozenset({"xml", "application/fhir+xml", "application/xml", "text/xml", "application/xml+fhir"})
_TURTLE = frozenset({"ttl", "turtle", "application/fhir+turtle", "text/turtle"})
_VERSIONS = frozenset({"4.0", "4.0.1"})


@dataclass(frozen=True, slots=True)
class Prefer:
    """The preferences of RFC 7240 that FHIR defines; unknown ones are ignored, as that RFC demands. `answer` None: not said."""

    answer: Answer | None = None
    lenient: bool = False


_NONE = Prefer()


def _media_type(text: str) -> tuple[str, dict[str, str]]:
    """`a/b; c=d` as (`a/b`, {c: d}), lower-case names, quotes removed."""
    head, *rest = text.split(";")
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return head.strip().lower(), parameters


def _refusal(name: str, status: int) -> FhirError:
    if name in _XML:
        return FhirError(status, "not-supported", f"the XML format ({name}) is not supported yet; JSON is")
    if name in _TURTLE:
        return FhirError(status, "not-supported", f"the Turtle format ({name}) is not supported; JSON is")
    return FhirError(status, "not-supported", f"the format {name} is not supported; application/fhir+json is")


def _weight(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0


@lru_cache(maxsize=256)
def _accepted(header: str) -> str | FhirError:
    """`json`, or the refusal of an Accept header that leaves no format this server has."""
    wanted = [_media_type(part) for part in header.split(",") if part.strip()]
    refused: FhirError | None = None
    for name, parameters in sorted(wanted, key=lambda item: -_weight(item[1])):
        if _weight(parameters) <= 0:
            continue
        version = parameters.get("fhirversion")
        if version is not None and version not in _VERSIONS:
            refused = refused or FhirError(406, "not-supported", f"fhirVersion {version} is not supported; 4.0 is")
        elif name in _JSON_TYPES:
            return "json"
        else:
            refused = refused or _refusal(name, 406)
    return refused or "json"


def response_format(accept: str | None, named: str | None) -> Format:
    """The format of the answer, from Accept and `_format`; 406 when there is none in common."""
    if named is not None:
        name, parameters = _media_type(named.replace(" ", "+"))  # an unencoded + arrives as a space
        version = parameters.get("fhirversion", "4.0")
        if name not in _JSON_FORMATS:
            raise _refusal(name, 406)
        if version not in _VERSIONS:
            raise FhirError(406, "not-supported", f"fhirVersion {version} is not supported; 4.0 is")
        return "json"
    if accept is not None:
        answer = _accepted(accept)
        if isinstance(answer, FhirError):
            raise FhirError.many(answer.status, answer.issues)
    return "json"


@lru_cache(maxsize=256)
def _sent(header: str) -> FhirError | None:
    name, parameters = _media_type(header)
    if name not in _JSON_SENT:
        return _refusal(name or "(none)", 415)
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8"):
        return FhirError(415, "not-supported", f"charset {charset} is not supported; utf-8 is")
    version = parameters.get("fhirversion", "4.0")
    if version not in _VERSIONS:
        return FhirError(415, "not-supported", f"fhirVersion {version} is not supported; 4.0 is")
    return None


def require_fhir_body(content_type: str | None) -> None:
    """415 unless the body was sent as FHIR JSON."""
    refusal = _sent(content_type or "")
    if refusal is not None:
        raise FhirError.many(refusal.status, refusal.issues)


def require_plain(coding: str) -> None:
    """415 for a body that was sent compressed."""
    if coding.strip().lower() not in ("", "identity"):
        raise FhirError(
            415,
            "not-supported",
            "a body with Content-Encoding is not supported; send it as it is",
            headers={"Accept-Encoding": "identity"},
        )


def is_form(content_type: str | None) -> bool:
    """Whether the body is a form (POST _search)."""
    return _media_type(content_type or "")[0] == "application/x-www-form-urlencoded"


@lru_cache(maxsize=256)
def preferences(header: str | None) -> Prefer:
    """The Prefer header: 400 for a value that FHIR does not define for `return` and `handling`."""
    if not header:
        return _NONE
    answer: Answer | None = None
    lenient = False
    for part in header.replace(";", ",").split(","):
        name, _, value = part.strip().partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "return":
            match value:
                case "representation" | "minimal" | "OperationOutcome":
                    answer = value
                case _:
                    raise FhirError(
                        400,
                        "invalid",
                        f"Prefer: return={value} is not one of minimal, representation, OperationOutcome",
                    )
        elif name.strip().lower() == "handling":
            if value not in ("strict", "lenient"):
                raise FhirError(400, "invalid", f"Prefer: handling={value} is not one of strict, lenient")
            lenient = value == "lenient"
    return Prefer(answer, lenient)


def truth(name: str, value: str) -> bool:
    """A boolean parameter of the specification."""
    if value not in ("true", "false"):
        raise FhirError(400, "invalid", f"{name}={value} is neither true nor false")
    return value == "true"
