"""A start with access control: keys and a first user are there, told once; revocations reach a running server within a second."""

import json
import re
import subprocess
import time
from contextlib import closing

import httpx2
import pytest

from fhir_server.family import CannotServe
from fhir_server.first_start import BASE, prepare_auth
from fhir_server.settings import Settings, load_settings
from fhir_server.storage.sqlite.auth import SqliteAuthStore
from fhir_server.worker import prepare_data
from smart_auth import passwords
from smart_auth.model import User
from smart_auth.options import SmartOptions
from tests.servers import CLEAN, PRODUCT, Server

LINE = re.compile(r"User (\S+) \(role (\S+)\), one-time password: (\S+)")


def start(folder, **settings):
    """What a start tells; as `{user: (role, password)}`."""
    made = Settings(data_dir=folder, **settings)
    prepare_data(made)
    lines = list(prepare_auth(made, 5)())
    users = [line for line in lines if line.startswith("User ")]
    assert [line.split()[:2] for line in lines if line not in users] == (
        [["FHIR", "base"]] if made.auth != "off" else []
    )
    found = [LINE.fullmatch(line) for line in users]
    assert None not in found, lines
    return {one[1]: (one[2], one[3]) for one in found}


@pytest.fixture
def opened(tmp_path):
    """Opens the store of users."""
    return lambda: closing(SqliteAuthStore.open(tmp_path))


def test_the_first_start_makes_keys_and_a_super_admin_whose_password_is_told_once(tmp_path, opened):
    told = start(tmp_path)
    assert list(told) == ["super-admin"]
    role, password = told["super-admin"]
    assert role == "super-admin"
    assert start(tmp_path) == {}
    with opened() as store:
        user = store.user("super-admin")
        assert passwords.matches(user, password)
        assert user.must_change
        assert sorted(key.use for key in store.keys()) == ["access", "id"]  # noqa: SIM118
        assert store.setting(BASE) == "http://localhost:8000/fhir"


def test_the_base_of_the_last_start_is_kept(tmp_path, opened):
    start(tmp_path)
    start(tmp_path, public_url="https://ehr.example.org/")
    with opened() as store:
        assert store.setting(BASE) == "https://ehr.example.org/fhir"


def test_who_has_the_role_already_is_the_super_admin(tmp_path, opened):
    with opened() as store:
        store.put_user(User("root", ("super-admin",)))
    assert start(tmp_path) == {}


def test_a_user_who_has_the_name_keeps_it(tmp_path, opened):
    with opened() as store:
        store.put_user(User("Super-Admin", ("nurse",)))
    assert list(start(tmp_path)) == ["super-admin-2"]


def test_a_start_that_fails_before_it_serves_makes_no_user(tmp_path, opened):
    made = Settings(data_dir=tmp_path)
    prepare_data(made)
    prepare_auth(made, 5)
    with opened() as store:
        assert store.users() == []
    assert list(start(tmp_path)) == ["super-admin"]


def test_without_access_control_there_are_no_users(tmp_path):
    assert start(tmp_path, auth="off") == {}
    assert not (tmp_path / "auth.sqlite").exists()


def test_a_store_of_users_that_cannot_be_read_ends_the_start(tmp_path):
    prepare_data(Settings(data_dir=tmp_path))
    (tmp_path / "auth.sqlite").write_text("this is no database, and it is long enough to be read as one" * 50)
    with pytest.raises(CannotServe, match="users"):
        prepare_auth(Settings(data_dir=tmp_path), 5)


def test_every_option_of_authorization_has_a_setting(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    wanted = {
        "access_seconds": ("FHIR_AUTH_ACCESS_TOKEN_SECONDS", 61),
        "backend_seconds": ("FHIR_AUTH_BACKEND_TOKEN_SECONDS", 7),
        "refresh_days": ("FHIR_AUTH_REFRESH_DAYS", 8),
        "login_limit": ("FHIR_AUTH_LOGIN_LIMIT", 9),
        "idle_seconds": ("FHIR_AUTH_IDLE_SECONDS", 62),
        "session_seconds": ("FHIR_AUTH_SESSION_SECONDS", 63),
        "password_length": ("FHIR_AUTH_PASSWORD_LENGTH", 20),
        "assigned_days_after": ("FHIR_AUTH_ASSIGNED_DAYS_AFTER", 11),
        "appointment_days_before": ("FHIR_AUTH_APPOINTMENT_DAYS_BEFORE", 12),
        "appointment_days_after": ("FHIR_AUTH_APPOINTMENT_DAYS_AFTER", 13),
        "release_preliminary": ("FHIR_AUTH_RELEASE_PRELIMINARY", True),
    }
    for variable, value in wanted.values():
        monkeypatch.setenv(variable, str(value))
    loaded = load_settings({})
    assert loaded.unknown_variables == ()
    assert loaded.settings.smart == SmartOptions(**{name: value for name, (_, value) in wanted.items()})
    assert set(wanted) | {"code_seconds"} == set(SmartOptions.__dataclass_fields__)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of two workers with the demonstration; what it told beside its address."""
    served = Server(tmp_path_factory.mktemp("demo") / "data", workers=2, arguments=("--demo",))
    with served:
        lines = [served.process.stdout.readline() for _ in range(12)]
        yield served, {found[1]: (found[2], found[3]) for line in lines if (found := LINE.match(line))}


def command(server, *words):
    done = subprocess.run(
        [*PRODUCT, *words, "--json", "--data-dir", str(server.folder)],
        capture_output=True,
        text=True,
        env=CLEAN,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_demonstration_has_a_user_for_each_role_and_two_patients(server):
    served, told = server
    roles = [role for role, _ in told.values()]
    assert sorted(set(roles)) == [
        "admin", "billing", "doctor", "insurer", "integration", "lab-technician", "nurse", "patient", "pharmacist", "receptionist",
        "super-admin",
    ]  # fmt: skip
    assert roles.count("patient") == 2
    linked = {row["username"]: row["fhirUser"] for row in command(served, "user", "list")["users"]}
    assert len({linked["patient-1"], linked["patient-2"]}) == 2
    assert linked["doctor"] == "Practitioner/practitioner-0002"
    assert "demo-app" in [row["clientId"] for row in command(served, "client", "list")["clients"]]


def test_the_one_time_passwords_are_not_in_the_log(server):
    served, told = server
    log = served.log.read_text()
    assert not [name for name, (_, password) in told.items() if password in log]


@pytest.mark.serial
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(("grant", "revoke", "--user", "nurse"), id="its grant is revoked"),
        pytest.param(("user", "disable", "nurse"), id="its user is disabled"),
    ],
)
def test_a_token_is_refused_by_every_worker_within_a_second_when(server, end):
    served, _ = server
    command(served, "user", "enable", "nurse")
    token = command(served, "token", "--scope", "user/*.rs", "--user", "nurse")["access_token"]
    headers = {"Authorization": f"Bearer {token}"}

    def statuses():
        """Of connections enough to reach each worker."""
        return {httpx2.get(f"{served.url}/Practitioner?_count=1", headers=headers).status_code for _ in range(12)}

    assert statuses() == {200}
    command(served, *end)
    time.sleep(1.0)
    assert statuses() == {401}
