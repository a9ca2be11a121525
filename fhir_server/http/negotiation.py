"""Content negotiation: which format a client sends and wants, which FHIR version, what it prefers.

JSON and XML in UTF-8 of FHIR 4.0 are served; `_format` beats Accept. Of what the client weighs alike the more specific wins, and JSON where it
leaves the choice. Turtle is refused by name (406, sent: 415). A Binary is read raw unless a FHIR type is asked for.

Specification: https://hl7.org/fhir/R4/http.html#mime-type, #version-parameter, #ops (Prefer), https://hl7.org/fhir/R4/binary.html#rest,
https://www.rfc-editor.org/rfc/rfc9110#field.accept
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from resources.errors import FhirError

Format = Literal["json", "xml"]
Answer = Literal["representation", "minimal", "OperationOutcome"]

_FHIR_TYPES: Final[Mapping[str, Format]] = {"application/fhir+json": "json", "application/fhir+xml": "xml"}
_TYPES: Final[Mapping[str, Format]] = {
    **_FHIR_TYPES,
    "application/json": "json",
    "text/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
}
_NAMES: Final[Mapping[str, Format]] = {
    **_TYPES,
    "json": "json",
    "xml": "xml",
    "application/json+fhir": "json",
    "application/xml+fhir": "xml",
}
"""What `_format` may say: https://hl7.org/fhir/R4/http.html#parameters."""
_ANY: Final = frozenset({"*/*", "application/*", "text/*"})
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
    shown = f"the Turtle format ({name})" if name in _TURTLE else f"the format {name}"
    served = "application/fhir+json and application/fhir+xml are"
    return FhirError(status, "not-supported", f"{shown} is not supported; {served}")


def _version_refusal(parameters: Mapping[str, str], status: int) -> FhirError | None:
    version = parameters.get("fhirversion", "4.0")
    if version in _VERSIONS:
        return None
    return FhirError(status, "not-supported", f"fhirVersion {version} is not supported; 4.0 is")


def _weight(parameters: Mapping[str, str]) -> float:
    try:
        weight = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


@lru_cache(maxsize=256)
def _ranges(header: str) -> tuple[tuple[str, Mapping[str, str]], ...]:
    """The media ranges of an Accept header, best first; what has no weight comes last, under the weight 0."""
    wanted = [_media_type(part) for part in header.split(",") if part.strip()]
    return tuple(sorted(wanted, key=lambda item: (-_weight(item[1]), item[0].endswith("*"), item[0] == "*/*")))


@lru_cache(maxsize=256)
def _accepted(header: str) -> Format | FhirError:
    """The format that an Accept header prefers, or the refusal when it leaves none that this server has."""
    ranges = _ranges(header)
    excluded = {_TYPES.get(name) for name, parameters in ranges if not _weight(parameters)}
    refused: FhirError | None = None
    for name, parameters in ranges:
        if not _weight(parameters):
            break
        refusal = _version_refusal(parameters, 406)
        if refusal is not None:
            refused = refused or refusal
        elif name in _TYPES:
            return _TYPES[name]
        elif name in _ANY:
            return "xml" if "json" in excluded and "xml" not in excluded else "json"
        else:
            refused = refused or _refusal(name, 406)
    return refused or "json"


def response_format(accept: str | None, named: str | None) -> Format:
    """The format of the answer, from Accept and `_format`; 406 when there is none in common."""
    if named is not None:
        name, parameters = _media_type(named.replace(" ", "+"))  # an unencoded + arrives as a space
        refusal = _refusal(name, 406) if name not in _NAMES else _version_refusal(parameters, 406)
        if refusal is not None:
            raise refusal
        return _NAMES[name]
    if accept is not None:
        answer = _accepted(accept)
        if isinstance(answer, FhirError):
            raise FhirError.many(answer.status, answer.issues)
        return answer
    return "json"


def binary_format(accept: str | None, named: str | None, content_type: str) -> Format | None:
    """The format in which a Binary of `content_type` is read: None is raw, the default; 406 when nothing is acceptable.

    The general types of JSON and XML mean the content when it is of that type, else the resource.
    """
    if named is not None:
        return response_format(None, named)
    stored = _media_type(content_type)[0]
    ranges = _ranges(accept or "*/*")
    for name, parameters in ranges:
        if not _weight(parameters):
            break
        if name in _FHIR_TYPES:
            return response_format(f"{name};fhirVersion={parameters.get('fhirversion', '4.0')}", None)
        if name in (stored, "*/*", f"{stored.partition('/')[0]}/*"):
            return None
        if name in _TYPES:
            return _TYPES[name]
    if not any(_weight(parameters) for _, parameters in ranges):
        return None
    raise FhirError(
        406, "not-supported", f"this Binary is read as {stored}, application/fhir+json or application/fhir+xml"
    )


def fault_format(accept: str | None, named: str | None) -> Format:
    """The format of an OperationOutcome, which has to be told somehow: JSON when the client takes neither."""
    try:
        return response_format(accept, named)
    except FhirError:
        return "json"


@lru_cache(maxsize=256)
def sent_format(content_type: str) -> Format | None:
    """The format that a body was sent in; None for what is no FHIR."""
    return _TYPES.get(_media_type(content_type)[0])


@lru_cache(maxsize=256)
def is_fhir(content_type: str) -> bool:
    """Whether a body was sent under one of FHIR's own types, not a general one that may be anything."""
    return _media_type(content_type)[0] in _FHIR_TYPES


@lru_cache(maxsize=256)
def _sent(header: str) -> FhirError | None:
    name, parameters = _media_type(header)
    if name not in _TYPES:
        return _refusal(name or "(none)", 415)
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8"):
        return FhirError(415, "not-supported", f"charset {charset} is not supported; utf-8 is")
    return _version_refusal(parameters, 415)


def require_fhir_body(content_type: str | None) -> None:
    """415 unless the body was sent as FHIR JSON or XML."""
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
