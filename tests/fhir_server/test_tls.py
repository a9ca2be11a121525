"""TLS ended by the server itself: 1.2 and 1.3, nothing older, and files that cannot be used are told in a sentence."""

import ssl
import subprocess

import pytest

from fhir_server.cli import may_serve
from fhir_server.settings import Settings
from fhir_server.tls import TlsFault, server_context
from tests import certificates
from tests.servers import CLEAN, PRODUCT, Server


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A certificate for localhost and its key, and a key with a passphrase."""
    folder = tmp_path_factory.mktemp("tls")
    certificates.write(folder)
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
    return certificates.spoken(int(server.url.split(":")[2].split("/")[0]), files, version)


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
