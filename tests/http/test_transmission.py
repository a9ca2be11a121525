"""Answers over a socket: one write for a small one, nothing lost of a large one, in order, and a slow reader is waited for."""

import asyncio
from typing import ClassVar

import pytest
import uvicorn

from fhir_server.http.transmission import Protocol

pytestmark = pytest.mark.anyio
CHUNK = b"x" * 10_000


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    parts = int(scope["path"].strip("/"))
    application.sent = 0
    length = str(parts * len(CHUNK)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for number in range(parts):
        application.sent = number + 1
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Watched(Protocol):
    """Notes what is given to the real transport."""

    writes: ClassVar[list[int]] = []

    def connection_made(self, transport):
        real = transport.writelines

        def writelines(parts):
            Watched.writes.append(sum(map(len, parts)))
            real(parts)

        super().connection_made(_Noting(transport, writelines))


class _Noting:
    def __init__(self, inner, writelines):
        self._inner = inner
        self.writelines = writelines

    def __getattr__(self, name):
        return getattr(self._inner, name)


@pytest.fixture
async def port():
    config = uvicorn.Config(application, http=Watched, ws="none", lifespan="off", log_config=None, port=0)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  (uvicorn tells it by this alone)
        await asyncio.sleep(0.01)
    Watched.writes.clear()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


async def asked(port, path, *, close=True):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    ending = "Connection: close\r\n" if close else ""
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n{ending}\r\n".encode())
    return reader, writer


async def test_head_and_body_of_a_small_answer_are_one_write(port):
    reader, writer = await asked(port, "1")
    answer = await reader.read()
    assert answer.endswith(b"\r\n\r\n" + CHUNK)
    assert Watched.writes == [len(answer)]
    writer.close()


async def test_a_large_answer_comes_whole_and_a_slow_reader_is_waited_for(port):
    reader, writer = await asked(port, "5000")
    await asyncio.sleep(0.3)
    assert 0 < application.sent < 5000
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == CHUNK * 5000
    writer.close()


async def test_requests_that_come_together_are_answered_in_order(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number for number in (3, 1, 2)))
    for number in (3, 1, 2):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: %d" % (number * len(CHUNK)) in head.lower()
        assert await reader.readexactly(number * len(CHUNK)) == CHUNK * number
    writer.close()


async def test_a_client_that_leaves_in_the_middle_is_forgotten(port):
    for _ in range(5):
        reader, writer = await asked(port, "5000", close=False)
        await reader.readexactly(100)
        writer.transport.abort()
    reader, writer = await asked(port, "1")
    assert (await reader.read()).endswith(CHUNK)
    writer.close()


async def test_a_bad_request_is_told_before_the_end(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
