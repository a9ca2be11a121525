"""What is done on the command line is in the audit trail, and the trail outlives a store that is restored."""

import json
import shutil
from contextlib import closing

import pytest
import typer
from typer.testing import CliRunner

from fhir_server.audit.ledger import FOLDER
from fhir_server.cli import app
from fhir_server.commands import recording
from fhir_server.first_start import BASE
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth import keys
from tests.fhir_server.conftest import PATIENT, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    fill(folder, (PATIENT, {**PATIENT, "id": "gone"}), Settings(data_dir=folder))
    with closing(SqliteAuthStore.open(folder)) as store:
        keys.ensure(store, 0)
        store.put_setting(BASE, "https://ehr.example.org/fhir")
    return folder


@pytest.fixture
def folder(filled, tmp_path, monkeypatch):
    monkeypatch.delenv("FHIR_PUBLIC_URL", raising=False)
    return shutil.copytree(filled, tmp_path / "data")


def run(folder, *words):
    done = CliRunner().invoke(app, [*map(str, words), "--data-dir", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def events(folder):
    done = run(folder, "audit", "export")
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def told(event):
    patients = [one["what"]["reference"] for one in event["entity"] if one["type"]["code"] == "1"]
    return event["subtype"][0]["display"], event["type"]["code"], event["outcome"], event["outcomeDesc"], patients


CHANGES = {
    ("user", "add", "jane", "--role", "admin", "--generate"): ("user add", "110113", "200 OK: jane by", []),
    ("user", "disable", "nobody"): ("user disable", "110113", "400 Bad Request: nobody by", []),
    ("client", "add", "--name", "App", "--type", "symmetric", "--id", "app"): ("client add", "110113", "200 OK: app by", []),
    ("client", "disable", "none"): ("client disable", "110113", "400 Bad Request: none by", []),
    ("keys", "rotate"): ("keys rotate", "110113", "200 OK: by", []),
    ("client", "invite"): ("client invite", "110113", "200 OK: by", []),
    ("token", "--scope", "system/*.rs"): ("token", "110113", "200 OK: by", []),
    ("launch", "--client", "none", "--patient", "p"): ("launch", "110113", "400 Bad Request: none by", ["Patient/p"]),
    ("user", "assign", "nobody", "--patient", "p"): ("user assign", "110113", "400 Bad Request: nobody by", ["Patient/p"]),
}  # fmt: skip


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
def test_what_a_command_changes_is_recorded(folder, words):
    code, kind, said, patients = CHANGES[words]
    run(folder, *words)
    (event,) = events(folder)
    assert told(event)[:2] == (code, kind)
    assert told(event)[3].startswith(said)
    assert told(event)[4] == patients
    assert event["agent"][0]["who"]["display"] == recording.CLIENT
    assert event["source"]["observer"]["display"] == "https://ehr.example.org/fhir"
    assert run(folder, "audit", "verify").exit_code == 0


def test_what_only_looks_is_not_recorded(folder):
    for words in (("user", "list"), ("client", "list"), ("keys", "list"), ("info",)):
        assert run(folder, *words).exit_code == 0
    assert not (folder / FOLDER).exists()


def test_a_load_is_recorded_without_the_names_of_files(folder, tmp_path):
    file = tmp_path / "Anna_Example.ndjson"
    file.write_text(json.dumps({"resourceType": "Basic", "id": "b", "code": {"text": "x"}}) + "\n")
    assert run(folder, "load", file).exit_code == 0
    (event,) = events(folder)
    assert told(event)[:3] == ("load", "110107", "0")
    assert "Anna" not in json.dumps(event)


def test_a_command_that_fails_is_told(folder):
    with pytest.raises(ZeroDivisionError), recording.recorded(Settings(data_dir=folder), "keys rotate"):
        raise ZeroDivisionError
    (event,) = events(folder)
    assert told(event)[2] == "8"


def test_what_cannot_be_recorded_is_not_done(folder):
    (folder / FOLDER).write_text("no folder")
    done = run(folder, "user", "add", "jane", "--role", "admin", "--generate")
    assert done.exit_code == 1
    assert "nothing is done" in done.stderr
    with closing(SqliteAuthStore.open(folder)) as store:
        assert store.user("jane") is None


def test_a_trail_that_ends_meanwhile_is_told_in_a_sentence(folder, capsys):
    def command():
        with recording.recorded(Settings(data_dir=folder), "keys rotate"):
            shutil.rmtree(folder / FOLDER)
            (folder / FOLDER).write_text("no folder")

    with pytest.raises(typer.Exit):
        command()
    assert "how it ended is not" in capsys.readouterr().err


def test_nothing_is_recorded_without_audit(folder, monkeypatch):
    monkeypatch.setenv("FHIR_AUDIT__ENABLED", "false")
    assert run(folder, "keys", "rotate").exit_code == 0
    assert not (folder / FOLDER).exists()


def test_a_copy_of_the_trail_is_good_beside_a_restored_store(folder, tmp_path):
    assert run(folder, "keys", "rotate").exit_code == 0
    before = events(folder)
    assert run(folder, "backup", "--out", tmp_path / "b.tar").exit_code == 0
    assert run(tmp_path / "new", "restore", "--from", tmp_path / "b.tar").exit_code == 0
    shutil.copytree(folder / FOLDER, tmp_path / "new" / FOLDER)
    assert run(tmp_path / "new", "audit", "verify").exit_code == 0
    assert events(tmp_path / "new") == before
    with closing(SqliteAuthStore.open(tmp_path / "new")) as store:
        assert store.setting(BASE) == "https://ehr.example.org/fhir"
