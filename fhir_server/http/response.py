"""What an interaction answers: status, headers, body bytes. Rendering knows no resource, only bytes already encoded.

Specification: https://hl7.org/fhir/R4/http.html#Status-Codes
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache

import msgspec

from fhir_server.storage.port import Stored, Written
from resources.model import Resource, ResourceKey

FHIR_JSON = "application/fhir+json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class FhirResponse:
    """A finished answer. `headers` are name and value in latin-1 text; Content-Type and Content-Length are added on sending.

    `about` is the version that the answer is about, where there is one: an entry of a response Bundle tells it. `shown`: the other resources
    that it shows or wrote, for the audit trail.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = FHIR_JSON
    about: Stored | Written | None = None
    shown: tuple[ResourceKey, ...] = ()


def etag(version: int) -> str:
    """The weak validator of a version: `W/"3"`."""
    return f'W/"{version}"'


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """Seconds since the epoch as an HTTP date (RFC 9110 section 5.6.7)."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def parse_http_date(text: str) -> int | None:
    """An HTTP date in seconds since the epoch; None when it is none (such a condition is ignored, RFC 9110 section 13.1.3)."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def validators(stored: Stored | Written) -> tuple[tuple[str, str], ...]:
    """ETag and Last-Modified of a version."""
    return (("ETag", etag(stored.version)), ("Last-Modified", http_date(stored.updated // 1_000_000)))


def encoded(resource: Resource) -> bytes:
    """A resource of the server's own making (no client numbers in it) as JSON."""
    return msgspec.json.encode(resource)
