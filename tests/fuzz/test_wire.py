"""What is no HTTP, or hardly, over a real connection: refused with 4xx, and the next request is answered."""

import socket

import pytest

from tests.servers import Server

pytestmark = pytest.mark.serial
HOST = b"Host: x\r\n"
JSON = b"Content-Type: application/fhir+json\r\n"
REQUESTS = [
    pytest.param(b"GARBAGE\r\n\r\n", {400}, id="no request line"),
    pytest.param(b"GET /fhir/metadata HTTP/9.9\r\n" + HOST + b"\r\n", {400}, id="an unknown version"),
    pytest.param(b"GET /fhir/Patient?\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n", {400}, id="raw bytes in the query"),
    pytest.param(b"GET /fhir/Pat\xffient HTTP/1.1\r\n" + HOST + b"\r\n", {400}, id="raw bytes in the path"),
    pytest.param(b"GET /fhir/Patient/%00 HTTP/1.1\r\n" + HOST + b"\r\n", {404}, id="an encoded NUL"),
    pytest.param(b"GET /fhir/Patient/%ff HTTP/1.1\r\n" + HOST + b"\r\n", {404}, id="encoded bytes that are no UTF-8"),
    pytest.param(b"GET /fhir/Patient/%2e%2e%2f%2e%2e HTTP/1.1\r\n" + HOST + b"\r\n", {404}, id="encoded dots"),
    pytest.param(b"GET /fhir/Patient?x=%zz HTTP/1.1\r\n" + HOST + b"\r\n", {400}, id="a broken escape"),
    pytest.param(b"GET http://evil.example/fhir/Patient/1 HTTP/1.1\r\n" + HOST + b"\r\n", {404}, id="an absolute target"),
    pytest.param(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", {404}, id="OPTIONS *"),
    pytest.param(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", {400, 414}, id="a long path"),
    pytest.param(b"GET /fhir/Patient HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 300_000 + b"\r\n\r\n", {400, 431}, id="a long header"),
    pytest.param(b"GET /fhir/Patient HTTP/1.1\r\n" + HOST + b"Accept: \xff\r\n\r\n", {406}, id="raw bytes in a header"),
    pytest.param(b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", {400}, id="a broken chunk"),
    pytest.param(b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: -5\r\n\r\n", {400}, id="a negative length"),
    pytest.param(b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", {400}, id="two lengths"),
    pytest.param(b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 99999999999\r\n\r\n", {413}, id="a length beyond the limit"),
    pytest.param(b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 100\r\n\r\n{", set(), id="a body that never comes"),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("wire") / "data", environment={"FHIR_GRACE": "1"}) as server:
        yield server


def status_of(server, request):
    """The status of the answer; None when there is none soon."""
    host, _, port = server.url.split("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=0.5 if b"100\r\n\r\n{" in request else 10) as connection:
        connection.sendall(request)
        try:
            line = connection.recv(65536).split(b"\r\n")[0]
        except TimeoutError:
            return None
    return int(line.split()[1])


@pytest.mark.parametrize(("request_bytes", "statuses"), REQUESTS)
def test_what_is_no_http_is_refused(server, request_bytes, statuses):
    assert status_of(server, request_bytes) in (statuses or {None})
    assert status_of(server, b"GET /fhir/metadata HTTP/1.1\r\n" + HOST + b"\r\n") == 200
