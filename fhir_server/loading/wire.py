"""What a loading process tells, as bytes: units of work in MessagePack, which costs a quarter of pickling them.

Rules: both ends are processes of one program. Deletions and guards are rare and pickled.

Specification: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

import pickle
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from fhir_server.loading.parts import Message, Unit
from fhir_server.storage.port import FollowUp, Put, UnitOfWork

_UNIT: Final = b"u"
_OTHER: Final = b"o"


class _Sent(NamedTuple):
    puts: list[Put]
    guards: bytes
    follow_ups: tuple[FollowUp, ...]
    resources: int
    where: str


def _plain(number: object) -> Decimal:
    """A number that keeps its token, without it: entries compare values."""
    if isinstance(number, Decimal):
        return Decimal(number)
    raise TypeError(f"{type(number).__name__} is no part of a unit of work")


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_DECODER: Final = msgspec.msgpack.Decoder(_Sent)


def encode(message: Message) -> bytes:
    """The message as bytes."""
    if not isinstance(message, Unit):
        return _OTHER + pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    work = message.work
    puts = [write for write in work.writes if isinstance(write, Put)]
    if len(puts) < len(work.writes):
        return _OTHER + pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    guards = pickle.dumps(work.guards, pickle.HIGHEST_PROTOCOL) if work.guards else b""
    return _UNIT + _ENCODER.encode(_Sent(puts, guards, work.follow_ups, message.count, message.where))


def decode(data: bytes) -> Message:
    """The message that `encode` made into `data`."""
    body = memoryview(data)[1:]
    if data[:1] == _OTHER:
        message: Message = pickle.loads(body)  # noqa: S301  (from our own process)
        return message
    sent = _DECODER.decode(body)
    guards = pickle.loads(sent.guards) if sent.guards else ()  # noqa: S301  (from our own process)
    return Unit(UnitOfWork(tuple(sent.puts), guards, sent.follow_ups), sent.resources, sent.where)
