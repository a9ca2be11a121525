"""TLS ended by the server itself: 1.2 and 1.3, nothing older, and files that cannot be used are told in a sentence."""

import datetime as dt
import ipaddress
import socket
import ssl
import subprocess
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fhir_server.cli import may_serve
from fhir_server.settings import Settings
from fhir_server.tls import TlsFault, server_context
from tests.servers import CLEAN, PRODUCT, Server

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate for localhost and its key, and a key with a passphrase."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / "key.pem").write_bytes(key.private_bytes(*form, serialization.NoEncryption()))
    (folder / "locked.pem").write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))
    other = ec.generate_private_key(ec.SECP256R1())
    (folder / "other.pem").write_bytes(other.private_bytes(*form, serialization.NoEncryption()))
    return folder


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    environment = {"FHIR_TLS_CERT": str(files / "cert.pem"), "FHIR_TLS_KEY": str(files / "key.pem")}
    with Server(tmp_path_factory.mktemp("served") / "data", environment=environment) as server:
        yield server


def test_the_first_line_and_the_fhir_base_say_https(server, files):
    assert server.url.startswith("https://127.0.0.1:")
    with server.client(verify=ssl.create_default_context(cafile=files / "cert.pem")) as client:
        answer = client.get("metadata")
        assert answer.status_code == 200
        assert answer.json()["implementation"]["url"].startswith("https://localhost:")


def connected(server, files, version):
    context = ssl.create_default_context(cafile=files / "cert.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    port = int(server.url.split(":")[2].split("/")[0])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_today_s_versions_are_spoken(server, files, version):
    assert connected(server, files, version) == version.name.replace("_", ".")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(server, files, version):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connected(server, files, version)


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("cert.pem", None, "go together"),
        (None, "key.pem", "go together"),
        ("none.pem", "key.pem", "cannot read"),
        ("cert.pem", "other.pem", "cannot use"),
        ("cert.pem", "locked.pem", "cannot use"),
        ("key.pem", "key.pem", "cannot use"),
    ],
)
def test_files_that_cannot_be_used_are_told(files, cert, key, said):
    with pytest.raises(TlsFault, match=said):
        server_context(files / cert if cert else None, files / key if key else None)


def test_without_files_there_is_no_tls():
    assert server_context(None, None) is None


def test_the_server_says_in_a_sentence_why_it_does_not_start(files, tmp_path):
    command = [*PRODUCT, "serve", "--port", "0", "--auth", "off", "--data-dir", str(tmp_path / "data")]
    command += ["--tls-cert", str(files / "cert.pem"), "--tls-key", str(files / "other.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=CLEAN, timeout=60)
    assert done.returncode == 1
    assert "cannot use the certificate" in done.stderr
    assert "Traceback" not in done.stderr


def test_beyond_loopback_a_certificate_is_enough_and_a_plain_public_url_is_not(files):
    cert, key = files / "cert.pem", files / "key.pem"
    assert may_serve(Settings(host="0.0.0.0", tls_cert=cert, tls_key=key)) is None
    assert may_serve(Settings(host="0.0.0.0")) is not None
    assert "https" in may_serve(Settings(tls_cert=cert, tls_key=key, public_url="http://x.example.org"))
