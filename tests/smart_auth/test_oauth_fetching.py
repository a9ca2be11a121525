"""Fetching a JWKS without becoming a tool against our own network, over real sockets of this machine."""

import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from smart_auth.oauth import fetching
from smart_auth.oauth.fetching import LONGEST, MOST_BYTES, USUAL, FetchFault, check_url, fetch

BODY = json.dumps({"keys": []}).encode()


@contextmanager
def site(answer, seen=None):
    """A site that answers every connection with the bytes (or with what a function of the socket does); its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(3)
                request = connection.recv(65536)
                if seen is not None:
                    seen.append(request)
                try:
                    connection.sendall(answer) if isinstance(answer, bytes) else answer(connection)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/jwks?x=1"
        server.close()
    thread.join(5)


def http(body=BODY, status="200 OK", **headers) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_a_document_is_fetched_with_nothing_told_of_us():
    seen = []
    with site(http(), seen) as url:
        assert fetch(url, loopback=True).document == {"keys": []}
    request = seen[0].decode()
    assert request.startswith("GET /jwks?x=1 HTTP/1.1\r\n")
    assert "cookie" not in request.lower()
    assert "authorization" not in request.lower()


CONTROL = [
    pytest.param({}, USUAL, id="nothing said"),
    pytest.param({"Cache_Control": "max-age=60"}, 60, id="a minute"),
    pytest.param({"Cache_Control": "public, Max-Age=60"}, 60, id="in any case"),
    pytest.param({"Cache_Control": "max-age=60", "Age": "50"}, 10, id="already old"),
    pytest.param({"Cache_Control": "max-age=60", "Age": "500"}, 0, id="too old"),
    pytest.param({"Cache_Control": "no-store"}, 0, id="no-store"),
    pytest.param({"Cache_Control": "no-cache, max-age=60"}, 0, id="no-cache"),
    pytest.param({"Cache_Control": "max-age=99999999"}, LONGEST, id="for years"),
    pytest.param({"Cache_Control": "max-age=x"}, USUAL, id="nonsense"),
]


@pytest.mark.parametrize(("headers", "seconds"), CONTROL)
def test_it_is_kept_as_long_as_it_says(headers, seconds):
    with site(http(**headers)) as url:
        assert fetch(url, loopback=True).seconds == seconds


def drip(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(200):
        connection.sendall(b" ")
        time.sleep(0.02)


def drip_head(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        connection.sendall(f"X-{number}: 1\r\n".encode())
        time.sleep(0.02)


BAD = [
    pytest.param(http(status="302 Found", Location="http://169.254.169.254/"), id="a redirect"),
    pytest.param(http(status="404 Not Found"), id="not found"),
    pytest.param(http(Content_Encoding="gzip"), id="compressed"),
    pytest.param(http(b" " * (MOST_BYTES + 1)), id="too long"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b" " * 65535 + b"\r\nffff\r\n" + b" " * 65535 + b"\r\n0\r\n\r\n", id="too long in chunks"),
    pytest.param(http(b"<html>"), id="no JSON"),
    pytest.param(http(b"[" * 60_000), id="deep"),
    pytest.param(b"", id="nothing"),
    pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="no HTTP"),
    pytest.param(drip, id="drop by drop"),
    pytest.param(drip_head, id="headers drop by drop"),
]  # fmt: skip


@pytest.mark.parametrize("answer", BAD)
def test_bad_answers_are_refused_in_time(answer, monkeypatch):
    monkeypatch.setattr(fetching, "SECONDS", 0.3)
    begun = time.monotonic()
    with site(answer) as url, pytest.raises(FetchFault):
        fetch(url, loopback=True)
    assert time.monotonic() - begun < 3


def test_who_does_not_listen_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    with pytest.raises(FetchFault):
        fetch(url, loopback=True)


URLS = [
    pytest.param("http://keys.example.org/jwks", id="plain http"),
    pytest.param("ftp://keys.example.org/jwks", id="ftp"),
    pytest.param("file:///etc/passwd", id="a file"),
    pytest.param("https:///jwks", id="no host"),
    pytest.param("https://user@keys.example.org/jwks", id="user name"),
    pytest.param("https://keys.example.org:0/jwks", id="port 0"),
    pytest.param("https://keys.example.org:99999/jwks", id="no port"),
    pytest.param("https://[::1/jwks", id="half an address"),
    pytest.param("https://kéys.example.org/jwks", id="beyond ASCII"),
    pytest.param("javascript:alert(1)", id="javascript"),
    pytest.param("", id="nothing"),
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("loopback", [True, False])
def test_urls_are_refused(url, loopback):
    with pytest.raises(FetchFault):
        check_url(url, loopback=loopback)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_fetched_from_only_where_the_server_is_on_this_machine(host):
    for scheme in ("http", "https"):
        assert check_url(f"{scheme}://{host}:3000/jwks", loopback=True)
        with pytest.raises(FetchFault):
            check_url(f"{scheme}://{host}:3000/jwks", loopback=False)


ADDRESSES = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("loopback", [True, False])
def test_a_name_that_leads_to_a_special_address_is_not_followed(address, loopback, monkeypatch):
    def found(host, port, **_):
        assert host == "keys.example.org"
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", port))
        return [public, (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it connected"))
    with pytest.raises(FetchFault, match="not public"):
        fetch("https://keys.example.org/jwks", loopback=loopback)


def test_the_address_that_was_judged_is_the_one_connected_to(monkeypatch):
    connected = []

    def connect(address, _timeout):
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, port, **_: [(2, 1, 6, "", ("93.184.215.14", port))])
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(FetchFault):
        fetch("https://keys.example.org/jwks", loopback=False)
    assert connected == [("93.184.215.14", 443)]


def test_the_next_address_is_tried_when_one_does_not_listen(monkeypatch):
    usual = socket.getaddrinfo

    def found(host, port, *rest, **options):
        if host != "localhost":
            return usual(host, port, *rest, **options)
        return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with site(http()) as url:
        assert fetch(url.replace("127.0.0.1", "localhost"), loopback=True).document == {"keys": []}


@pytest.mark.parametrize("host", ["169.254.169.254", "2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
def test_addresses_in_disguise_are_not_followed(host):
    with pytest.raises(FetchFault):
        fetch(f"https://{host}/jwks", loopback=False)


def test_a_name_that_does_not_resolve_is_refused(monkeypatch):
    def found(*_, **__):
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(FetchFault):
        fetch("https://keys.example.org/jwks", loopback=False)


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory):
    """A certificate for localhost that no authority has signed, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*plain) + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def encrypted_site(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(65536)
                secure.sendall(http())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://localhost:{server.getsockname()[1]}/jwks"
    thread.join(5)


def test_https_is_fetched_from_who_an_authority_vouches_for(own_certificate, monkeypatch):
    usual = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: usual(cafile=own_certificate))
    with encrypted_site(own_certificate) as url:
        assert fetch(url, loopback=True).document == {"keys": []}


def test_https_of_nobody_knows_whom_is_refused(own_certificate):
    with encrypted_site(own_certificate) as url, pytest.raises(FetchFault, match="SSLCertVerificationError"):
        fetch(url, loopback=True)


def test_a_handshake_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(fetching, "SECONDS", 0.3)
    begun = time.monotonic()
    with site(drip) as url, pytest.raises(FetchFault):
        fetch(url.replace("http:", "https:"), loopback=True)
    assert time.monotonic() - begun < 3
