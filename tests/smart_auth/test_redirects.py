"""What may be registered as a redirect URI."""

import pytest

from smart_auth.redirects import check

GOOD = [
    ("https://app.example.org/back", "symmetric"),
    ("https://app.example.org/back?x=1&y=2", "symmetric"),
    ("https://app.example.org:8443/", "asymmetric"),
    ("https://app.example.org", "public"),
    ("http://localhost:3000/back", "symmetric"),
    ("http://127.0.0.1/back", "public"),
    ("http://[::1]/back", "public"),
    ("com.example.app:/back", "public"),
    ("com.example.app://back", "public"),
]

BAD = [
    pytest.param("", "public", id="nothing"),
    pytest.param("/back", "public", id="relative"),
    pytest.param("//app.example.org/back", "public", id="without a scheme"),
    pytest.param("https:///back", "public", id="no host"),
    pytest.param("http://app.example.org/back", "public", id="plain http"),
    pytest.param("http://127.0.0.1.evil.example/", "public", id="a name like loopback"),
    pytest.param("https://app.example.org/back#x", "public", id="fragment"),
    pytest.param("https://app.example.org/back#", "public", id="empty fragment"),
    pytest.param("https://user@app.example.org/", "public", id="user name"),
    pytest.param("https://*.example.org/", "public", id="wildcard host"),
    pytest.param("https://app.example.org/*", "public", id="wildcard path"),
    pytest.param("https://app.example.org/a/../b", "public", id="dots"),
    pytest.param("https://app.example.org/a/%2e%2e/b", "public", id="encoded dots"),
    pytest.param("https://app.example.org/a b", "public", id="blank"),
    pytest.param("https://app.example.org/\n", "public", id="line feed"),
    pytest.param("https://app.example.org/\"'", "public", id="quotes"),
    pytest.param("https://app.example.org\\@evil.example/", "public", id="backslash"),
    pytest.param("https://äpp.example.org/", "public", id="beyond ASCII"),
    pytest.param("HTTPS://app.example.org/", "public", id="scheme in capitals"),
    pytest.param("javascript:alert(1)", "public", id="javascript"),
    pytest.param("data:text/html,x", "public", id="data"),
    pytest.param("myapp:/back", "public", id="own scheme without a dot"),
    pytest.param("com.example.app:/back", "symmetric", id="own scheme of a confidential client"),
    pytest.param("https://app.example.org:99999/", "public", id="no port"),
    pytest.param("https://[::1/", "public", id="half an address"),
    pytest.param("https://app.example.org/" + "x" * 2000, "public", id="long"),
]


@pytest.mark.parametrize(("uri", "kind"), GOOD)
def test_may_be_registered(uri, kind):
    check(uri, kind)


@pytest.mark.parametrize(("uri", "kind"), BAD)
def test_must_not_be_registered(uri, kind):
    with pytest.raises(ValueError, match="redirect URI"):
        check(uri, kind)
