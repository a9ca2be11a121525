"""The last row of section 1.1: the server's own TLS, on the endpoints that the kits look at."""

import ssl
from urllib.parse import urlsplit

import httpx2
import pytest

from tests import certificates
from tests.conformance.smart.rows import row
from tests.servers import Server


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server that speaks TLS with access control, and the folder of its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    certificates.write(folder)
    environment = {"FHIR_TLS_CERT": str(folder / "cert.pem"), "FHIR_TLS_KEY": str(folder / "key.pem")}
    with Server(tmp_path_factory.mktemp("secure") / "data", environment=environment, arguments=()) as server:
        yield server, folder


@row(
    "standalone_auth_tls",
    "standalone_token_tls",
    "ehr_auth_tls",
    "ehr_token_tls",
    "smart_backend_services_token_tls_version",
)
def test_endpoints_speak_tls_of_today_alone(secure, row):
    server, folder = secure
    with httpx2.Client(verify=ssl.create_default_context(cafile=folder / "cert.pem")) as http:
        found = http.get(f"{server.url}/.well-known/smart-configuration").json()
        url = found["authorization_endpoint" if "auth_tls" in row else "token_endpoint"]
        assert url.startswith("https://")
        answer = http.get(url) if "auth_tls" in row else http.post(url, data={"grant_type": "x"})
        assert answer.status_code == 400
        assert "max-age" in answer.headers["strict-transport-security"]
    port = urlsplit(url).port
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert certificates.spoken(port, folder, version)
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            certificates.spoken(port, folder, version)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)
