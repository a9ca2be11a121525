"""Backups: one private file as of one moment, and a restored store that answers as the first did."""

import asyncio
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from contextlib import closing

import httpx2
import pytest

from fhir_server import archive as archives
from fhir_server.app import create_app
from fhir_server.archive import CannotBackUp
from fhir_server.backup import back_up, in_use, restore
from fhir_server.interactions.assembly import DATABASE
from fhir_server.interactions.options import RestOptions
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.auth import AUTH_DATABASE, SqliteAuthStore
from fhir_server.storage.sqlite.connection import SqliteOptions, connect
from smart_auth import keys
from smart_auth.model import Grant, RefreshToken, Session, User
from tests.fhir_server.test_integrity import findings_of, run

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("FHIR_")}
QUESTIONS = (
    "Patient/p",
    "Patient/p/_history",
    "Patient/p/_history/1",
    "Patient/gone",
    "Observation?subject=Patient/p&_include=Observation:subject",
    "RiskAssessment?probability=0.25",
    "_history?_count=2",
    "Patient?_count=1&_sort=family",
)


@pytest.fixture
def archive(small_store, tmp_path):
    """A backup of the small store."""
    out = tmp_path / "backup.tar"
    back_up(small_store.database, out, SqliteOptions())
    return out


def answers(folder):
    """What the application over the store says."""

    async def asked():
        settings = Settings(
            data_dir=folder, public_url="https://fhir.example.org", auth="off", rest=RestOptions(access_log=False)
        )
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="https://fhir.example.org/fhir/") as client:
                found = [await client.get(question) for question in QUESTIONS]
                return [(answer.status_code, _timeless(answer.json())) for answer in found]

    return asyncio.run(asked())


def _timeless(body):
    """Without what every Bundle has anew."""
    if body["resourceType"] == "Bundle":
        body.pop("id", None)
        body.pop("meta", None)
        body.pop("timestamp", None)
    return body


def rewritten(archive, **changes):
    """The archive with another manifest or another store."""
    with tarfile.open(archive) as source:
        parts = {member.name: source.extractfile(member).read() for member in source.getmembers()}
    for name, change in changes.items():
        part = {"store": DATABASE, "users": AUTH_DATABASE, "manifest": archives.MANIFEST}[name]
        parts[part] = change(parts[part])
    with tarfile.open(archive, "w") as target:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))


def manifest_with(**members):
    return lambda text: json.dumps({**json.loads(text), **members}).encode()


@pytest.mark.parametrize("name", ["backup.tar", "backup.tar.gz"])
def test_a_restored_store_answers_as_the_first(small_store, tmp_path, name):
    before = answers(small_store.folder)
    assert [status for status, _ in before] == [200, 200, 200, 410, 200, 200, 200, 200]
    out, told = tmp_path / name, []
    manifest = back_up(small_store.database, out, SqliteOptions(), lambda done, total: told.append((done, total)))
    assert manifest.resources == {"Observation": 1, "Organization": 1, "Patient": 1, "RiskAssessment": 1, "ValueSet": 1}
    assert manifest.versions == 9
    assert told[-1][0] == told[-1][1] > 0
    assert out.read_bytes()[:2] == b"\x1f\x8b" or name.endswith(".tar")
    assert oct(out.stat().st_mode & 0o777) == "0o600"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "small"]

    assert restore(out, tmp_path / "new") == manifest
    assert oct((tmp_path / "new" / DATABASE).stat().st_mode & 0o777) == "0o600"
    assert answers(tmp_path / "new") == before


@pytest.fixture
def with_users(small_store):
    """The small store, with a user, a grant, a session and keys."""
    with closing(SqliteAuthStore.open(small_store.folder)) as users:
        keys.ensure(users, 5)
        users.put_user(User("jane", ("doctor",), password="hash"))
        users.add_grant(Grant("g", "app", "offline_access", 5, user="jane"))
        users.add_refresh("refresh", RefreshToken("g", "app", 2**40))
        users.put_session("cookie", Session("jane", 5, 5, "x", "c", 5))
    return small_store


def test_users_and_keys_come_back_and_grants_do_not(with_users, tmp_path):
    out = tmp_path / "backup.tar.gz"
    manifest = back_up(with_users.database, out, SqliteOptions())
    assert restore(out, tmp_path / "new") == manifest
    assert oct((tmp_path / "new" / AUTH_DATABASE).stat().st_mode & 0o777) == "0o600"
    with (
        closing(SqliteAuthStore.open(with_users.folder)) as was,
        closing(SqliteAuthStore.open(tmp_path / "new")) as users,
    ):
        assert users.users() == was.users()
        assert users.keys() == was.keys() != []
        assert users.epoch() > was.epoch()
        assert users.grant("g").revoked
        assert users.refresh("refresh") is None
        assert users.session("cookie") is None


def test_a_backup_without_users_leaves_those_that_are_there(archive, with_users):
    restore(archive, with_users.folder, force=True)
    with closing(SqliteAuthStore.open(with_users.folder)) as users:
        assert not users.grant("g").revoked


def test_a_backup_of_the_first_format_is_restored(archive, tmp_path):
    def older(text):
        told = json.loads(text)
        del told["users"]
        return json.dumps({**told, "format": 1}).encode()

    rewritten(archive, manifest=older)
    assert restore(archive, tmp_path / "new").users is None


def test_a_damaged_store_of_users_is_refused_and_nothing_changes(with_users, tmp_path):
    out = tmp_path / "backup.tar"
    back_up(with_users.database, out, SqliteOptions())
    rewritten(out, users=lambda content: content[:5000] + b"x" + content[5001:])
    with pytest.raises(CannotBackUp, match=f"damaged.*{AUTH_DATABASE}"):
        restore(out, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_store_of_users_that_is_in_use_is_not_replaced(with_users, archive):
    program = (
        "import sys; from pathlib import Path; from fhir_server.storage.sqlite.auth import SqliteAuthStore\n"
        f"store = SqliteAuthStore.open(Path({str(with_users.folder)!r})); store.users(); print('open', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(CannotBackUp, match="in use"):
            restore(archive, with_users.folder, force=True)
        other.stdin.close()


def test_a_backup_never_replaces_a_file(small_store, archive):
    content = archive.read_bytes()
    with pytest.raises(CannotBackUp, match="exists already"):
        back_up(small_store.database, archive, SqliteOptions())
    assert archive.read_bytes() == content


def test_a_backup_into_nowhere_is_refused(small_store, tmp_path):
    with pytest.raises(CannotBackUp, match="No such file"):
        back_up(small_store.database, tmp_path / "none" / "x.tar", SqliteOptions())


def test_only_force_replaces_what_is_there(small_store, archive):
    with pytest.raises(CannotBackUp, match="not empty"):
        restore(archive, small_store.folder)
    with small_store.connect() as connection:
        connection.execute("DELETE FROM token")
    restore(archive, small_store.folder, force=True)
    assert findings_of(small_store) == []


def test_a_settings_file_does_not_fill_a_folder(archive, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "fhir-server.toml").write_text("")
    restore(archive, tmp_path / "new")
    assert (tmp_path / "new" / DATABASE).exists()


def test_what_killed_processes_left_is_cleared(small_store, archive, tmp_path):
    left = [tmp_path / f".second.tar.{10**9}.copy", tmp_path / "new" / f".{DATABASE}.{10**9}.restored"]
    (tmp_path / "new").mkdir()
    for path in left:
        path.write_text("left")
    back_up(small_store.database, tmp_path / "second.tar", SqliteOptions())
    restore(archive, tmp_path / "new")
    assert not [path for path in left if path.exists()]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda path: path.write_bytes(b"no archive"), "no backup of this server", id="no archive"),
        pytest.param(lambda path: path.unlink(), "cannot read", id="no file"),
        pytest.param(
            lambda path: path.write_bytes(gzip.compress(path.read_bytes())[:-2000]), "no backup", id="a torn archive"
        ),
        pytest.param(
            lambda path: rewritten(path, store=lambda content: content[:-1] + b"x"), "SHA-256", id="a changed store"
        ),
        pytest.param(
            lambda path: rewritten(path, manifest=manifest_with(store_version=99)), "other software", id="a newer store"
        ),
        pytest.param(
            lambda path: rewritten(path, manifest=manifest_with(versions=3)), "counts", id="counts that do not agree"
        ),
        pytest.param(lambda path: rewritten(path, manifest=lambda _: b"{}"), "no backup", id="an empty manifest"),
    ],
)
def test_a_spoilt_backup_changes_nothing(small_store, archive, spoil, words):
    spoil(archive)
    before = small_store.database.read_bytes()
    with pytest.raises(CannotBackUp, match=words):
        restore(archive, small_store.folder, force=True)
    assert small_store.database.read_bytes() == before
    assert not [path for path in small_store.folder.iterdir() if path.name.startswith(".")]


def test_the_commands_say_what_they_did(small_store, tmp_path):
    out = tmp_path / "b.tar.gz"
    done = run("backup", "--data-dir", small_store.folder, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["versions"] == 9
    told = run("backup", "--data-dir", small_store.folder, "--out", tmp_path / "people.tar").stdout
    for line in ("backup ", "resources ", "users         none", "audit trail   not in it", "9 versions"):
        assert line in told
    out.unlink()
    done = run("backup", "--data-dir", small_store.folder, "--out", out, "--json")
    info = json.loads(run("info", "--data-dir", small_store.folder, "--json").stdout)
    assert (info["last_backup"]["file"], info["last_backup"]["sha256"]) == (
        "b.tar.gz",
        json.loads(done.stdout)["sha256"],
    )
    done = run("restore", "--from", out, "--data-dir", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "no findings" in done.stderr
    done = run("restore", "--from", out, "--data-dir", tmp_path / "new")
    assert done.returncode == 1
    assert "--force" in done.stderr


def write(url, number):
    body = json.dumps({"resourceType": "Patient", "id": f"n{number}", "name": [{"family": f"f{number}"}]})
    request = urllib.request.Request(f"{url}/fhir/Patient/n{number}", body.encode(), method="PUT")
    request.add_header("Content-Type", "application/fhir+json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201


@pytest.mark.serial
def test_everything_works_beside_a_server_that_is_written_to(small_store, tmp_path):
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--auth", "off", "--port", "0", "--data-dir"]
    server = subprocess.Popen(
        [*command, str(small_store.folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=CLEAN
    )
    written, over = [], threading.Event()
    try:
        url = server.stdout.readline().removeprefix("Listening on ").strip()
        assert in_use(small_store.database)

        def writing():
            while not over.is_set():
                write(url, len(written))
                written.append(time.monotonic())

        thread = threading.Thread(target=writing)
        thread.start()
        with closing(connect(small_store.database, SqliteOptions())) as connection:
            connection.execute("DELETE FROM date WHERE rid = :patient", small_store.rids)
        folder = ("--data-dir", small_store.folder)
        assert run("reindex", *folder).returncode == 0
        end = time.monotonic() + 20
        while not (shown := json.loads(run("jobs", *folder, "--json").stdout))["reports"]:
            assert time.monotonic() < end, shown
        assert shown["reports"][0]["changed"] == 1
        assert run("check", *folder).returncode == 0
        before = len(written)
        done = run("backup", *folder, "--out", tmp_path / "b.tar", "--json")
        assert done.returncode == 0, done.stderr
        after = len(written)
        assert before <= json.loads(done.stdout)["resources"]["Patient"] - 1 <= after + 1
        refused = run("restore", "--force", "--from", tmp_path / "b.tar", *folder)
        assert (refused.returncode, "in use" in refused.stderr) == (1, True)
        assert run("check", *folder).returncode == 0
    finally:
        over.set()
        thread.join()
        server.send_signal(signal.SIGTERM)
        server.communicate()
    assert len(written) > after
    restored = run("restore", "--from", tmp_path / "b.tar", "--data-dir", tmp_path / "new")
    assert restored.returncode == 0, restored.stderr
