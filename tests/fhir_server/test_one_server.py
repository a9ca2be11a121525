"""A data folder belongs to one server at a time, and to its user alone."""

import json
import stat
import subprocess

import pytest

from fhir_server.settings import SettingsFault, load_settings
from tests.servers import CLEAN, PRODUCT, Server

pytestmark = pytest.mark.serial


def test_a_second_server_on_a_folder_is_refused_and_the_first_goes_on(tmp_path):
    server = Server(tmp_path / "data").start()
    try:
        command = [*PRODUCT, "serve", "--port", "0", "--auth", "off", "--data-dir", str(tmp_path / "data")]
        second = subprocess.run(command, capture_output=True, text=True, env=CLEAN, timeout=60, check=False)
        assert second.returncode == 1
        assert "is served by another server" in second.stderr
        with server.client() as client:
            assert client.get("metadata").status_code == 200
    finally:
        server.stop()


def test_what_a_server_keeps_is_readable_by_its_user_alone(tmp_path):
    server = Server(tmp_path / "data").start()
    try:
        found = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
        open_to_others = [path.name for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
        assert open_to_others == []
    finally:
        server.stop()


@pytest.mark.parametrize("url", ["foo", "ftp://x", "https://", "https://x?y=1", "https://x#y", "https://me@x"])
def test_a_public_url_is_one_of_http(url):
    with pytest.raises(SettingsFault, match="public_url"):
        load_settings({"public_url": url})


def test_a_list_in_the_environment_is_json_or_a_sentence_says_so(monkeypatch):
    monkeypatch.setenv("FHIR_ALIASES", json.dumps(["https://other.example.org"]))
    assert load_settings({}).settings.aliases == ("https://other.example.org",)
    monkeypatch.setenv("FHIR_ALIASES", "https://other.example.org")
    with pytest.raises(SettingsFault, match="FHIR_ALIASES"):
        load_settings({})
