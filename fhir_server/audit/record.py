"""One audit record: who did what to which resources when, with which outcome; and the chain that ties records together.

Rules.
1. A record is one line of JSON, an array without names. It holds no content of a resource, no value of a query, no token: of a person
   only ids (resource keys, user name, client, address).
2. A line of a journal is `<hash> <record>`; a hash is SHA-256 over the hash before it (64 hexadecimal digits) and the record's bytes. Whoever changes,
   removes or moves a record has to change every hash behind it.
3. `number` counts the records of a journal from 1: a record belongs to one place of one journal.

Specification: https://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/
"""

import hashlib
from typing import Annotated, Literal, NamedTuple

import msgspec

GENESIS = b"0" * 64
"""The hash before the first record."""

Kind = Literal["request", "begun", "torn", "broken"]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Place = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,18}\.[0-9]{1,18})?$")]
"""What is not so in a journal cannot be read: it was not written by a server."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of one request. A Struct, because it is made and encoded for every request.

    `kind`: `request`: an answer; `begun`: a write about to be carried out, which its `request` record follows; `torn` and `broken`: what folding found
    wrong with a journal. `time` in microseconds; `shape` is the route; `code` its interaction; `keys` are `Type/id` of what was asked for and
    what was shown or written; `parameters` names of the query; `purpose` is a code of PurposeOfUse (`BTG`) or "";
    `begun` is the place (`<journal>.<number>`) of the record that announced this write; `broken`: ids of the patients whose records were open to the
    one who asked by an emergency alone.
    """

    journal: Count
    number: Count
    kind: Kind
    time: Count
    request: str = ""
    method: str = ""
    shape: str = ""
    code: str = ""
    type: str = ""
    status: int = 0
    user: str = ""
    fhir_user: str = ""
    roles: tuple[str, ...] = ()
    organization: str = ""
    client: str = ""
    grant: str = ""
    patient: str = ""
    address: str = ""
    purpose: str = ""
    keys: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    begun: Place = ""
    note: str = ""
    broken: tuple[str, ...] = ()


class About(NamedTuple):
    """What folding found that a record is about: ids of patients, organizations as `Organization/1`; both sorted."""

    patients: tuple[str, ...]
    organizations: tuple[str, ...]


decode_about = msgspec.json.Decoder(About).decode
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Record).decode


def chained(before: bytes, body: bytes) -> bytes:
    """The hash of a record behind the record whose hash is `before`."""
    return hashlib.sha256(before + body).hexdigest().encode()
