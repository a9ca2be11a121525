"""A request as the interactions see it: a frozen value made once from the ASGI scope and the body.

Rules: header names are lower-case; the query is a tuple of decoded pairs in the order sent; `payload` is the body's bytes, or
the resource itself when that is known already: of an entry of a Bundle, of XML, of the raw content of a Binary.

Specification: https://hl7.org/fhir/R4/http.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from fhir_server.http.negotiation import Prefer
from resources.errors import FhirError
from resources.model import Resource
from search.narrowing import Narrowing
from smart_auth.access.decisions import Access

Pairs = tuple[tuple[str, str], ...]
Payload = bytes | Resource

GENERAL_PARAMETERS = frozenset({"_format", "_pretty"})
"""Parameters that shape the answer of every interaction: https://hl7.org/fhir/R4/http.html#parameters."""


@dataclass(frozen=True, slots=True)
class FhirRequest:
    """`segments` are those below the FHIR base: `("Patient", "1", "_history")`; `query` lacks `_format` and `_pretty`.

    `access`: what the bearer of the token may do; None with authorization off.
    """

    method: str
    segments: tuple[str, ...]
    query: Pairs
    headers: Mapping[str, str]
    payload: Payload
    narrowing: Narrowing
    prefer: Prefer
    access: Access | None = None


def query_pairs(text: bytes | str, most: int, what: str = "query string") -> Pairs:
    """Decoded pairs of a query string or form; 400 when it is not percent-encoded UTF-8 or has more than `most`."""
    if not text:
        return ()
    try:
        parts = (text.decode("ascii") if isinstance(text, bytes) else text).split("&")
        if len(parts) > most:
            raise FhirError(400, "too-costly", f"the {what} has more than {most} parameters")
        split = [part.partition("=") for part in parts if part]
        return tuple([(_decoded(name), _decoded(value)) for name, _, value in split])
    except UnicodeError:
        raise FhirError(400, "invalid", f"the {what} is not percent-encoded UTF-8") from None


def _decoded(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return unquote_to_bytes(text).decode() if "%" in text else text


def split_general(pairs: Pairs) -> tuple[Pairs, str | None, str | None]:
    """The pairs without `_format` and `_pretty`, and the values of these two; 400 when one of them is repeated."""
    rest: list[tuple[str, str]] = []
    general: dict[str, str] = {}
    for name, value in pairs:
        if name not in GENERAL_PARAMETERS:
            rest.append((name, value))
        elif name in general:
            raise FhirError(400, "invalid", f"{name} is given twice")
        else:
            general[name] = value
    return tuple(rest), general.get("_format") or None, general.get("_pretty") or None


def refuse_parameters(request: FhirRequest, interaction: str, known: frozenset[str] = frozenset()) -> None:
    """400 naming the first query parameter that `interaction` does not define, unless handling is lenient."""
    if request.query and not request.prefer.lenient:
        for name, _ in request.query:
            if name not in known:
                raise FhirError(400, "not-supported", f"the parameter {name} is not supported on {interaction}")
