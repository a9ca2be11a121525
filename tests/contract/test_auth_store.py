"""What `smart_auth.ports.AuthStore` promises, of every adapter: values come back, what is used up is used once, changes are noticed."""

import dataclasses
import json
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.storage.sqlite.auth import AUTH_DATABASE, KEPT, SqliteAuthStore
from resources.errors import FhirError
from smart_auth.model import (
    Client,
    Code,
    Grant,
    Key,
    Launch,
    LaunchContext,
    Pending,
    RefreshToken,
    Session,
    User,
    handle,
    hashed,
)

NOW = 1_800_000_000
CONTEXT = LaunchContext("p", "e", "reconcile", ({"reference": "ImagingStudy/1", "role": "x"},), banner=False)
USER = User(
    "Jané",
    ("doctor", "admin"),
    "$argon2id$x",
    "BASE32",
    ("aa", "bb"),
    "Practitioner/1",
    "Organization/h",
    True,
    False,
    NOW,
)
CLIENT = Client(
    "app", "An App", "asymmetric", "aa", ("https://a.example/cb",), "https://a.example/launch", "openid", {"keys": [{"kid": "1"}]},
    "https://a.example/jwks", "Organization/h", "integration", True, True, True, 120, False, NOW,
)  # fmt: skip
GRANT = Grant("g", "app", "openid patient/*.rs?x=y|z", NOW, "Jané", CONTEXT, "nonce", NOW - 5)
CODE = Code("g", "app", "https://a.example/cb", "challenge", NOW + 60)
REFRESH = RefreshToken("g", "app", NOW + 1000)
SESSION = Session("Jané", NOW, NOW, "Firefox on Linux", "csrf", NOW, "otp")
KEY = Key("kid", "access", {"kty": "EC", "d": "secret"}, NOW)


@pytest.fixture(params=["sqlite"])
def open_auth(request, tmp_path):
    """Opens the store of this test; every call gives another process's view of it."""
    opened = []

    def make():
        opened.append(SqliteAuthStore.open(tmp_path))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_auth):
    return open_auth()


def launch(expires=NOW + 300, user=""):
    return Launch("app", CONTEXT, expires, user)


def pending(expires=NOW + 900):
    return Pending({"client_id": "app", "state": "\xe9"}, expires, "session", CONTEXT)


def test_a_user_is_found_whatever_the_case_of_the_name(store):
    store.put_user(USER)
    assert store.user("JANÉ") == USER
    assert store.user("jan") is None


def test_putting_a_user_or_client_again_replaces_it(store):
    for disabled in (False, True):
        store.put_user(dataclasses.replace(USER, disabled=disabled))
        store.put_client(dataclasses.replace(CLIENT, disabled=disabled))
    assert [user.disabled for user in store.users()] == [True]
    assert [client.disabled for client in store.clients()] == [True]


def test_changes_of_a_user_at_one_time_are_not_lost(store):
    store.put_user(User("jane", ()))
    roles = [f"role-{number}" for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        list(
            pool.map(
                lambda role: store.change_user(
                    "JANE", lambda user: dataclasses.replace(user, roles=(*user.roles, role))
                ),
                roles,
            )
        )
    assert sorted(store.user("jane").roles) == sorted(roles)
    assert store.change_user("nobody", lambda user: user) is None


def test_users_clients_and_keys_come_in_their_order(store):
    for name in ("b", "A", "c"):
        store.put_user(User(name, ("nurse",)))
        store.put_client(Client(name, name, "public"))
        store.put_key(Key(name, "access", {}, NOW))
    store.put_key(Key("b", "access", {}, NOW, retired=True))
    assert [user.name for user in store.users()] == ["A", "b", "c"]
    assert [client.id for client in store.clients()] == ["A", "b", "c"]
    assert [(key.kid, key.retired) for key in store.keys()] == [("c", False), ("A", False), ("b", True)]  # noqa: SIM118


def test_everything_comes_back_as_it_was_also_after_a_restart(open_auth):
    store = open_auth()
    store.put_client(CLIENT)
    store.add_grant(GRANT)
    store.add_code("code", CODE)
    store.add_refresh("refresh", REFRESH)
    store.add_launch("launch", launch(user="Jané"))
    store.put_session("cookie", SESSION)
    store.put_pending("tx", pending())
    store.put_key(KEY)
    store.put_setting("roles/x", {"a": [1, None, "é"]})
    store = open_auth()
    assert store.client("app") == CLIENT
    assert store.grant("g") == GRANT
    assert store.refresh("refresh") == REFRESH
    assert store.session("cookie") == SESSION
    assert store.sessions("JANÉ") == [(hashed("cookie"), SESSION)]
    assert store.pending("tx") == store.use_pending("tx") == pending()
    assert store.keys() == [KEY]
    assert store.setting("roles/x") == {"a": [1, None, "é"]}
    assert store.use_code("code") == CODE
    assert store.use_launch("launch", "app", NOW) == launch(user="Jané")


@given(
    scope=st.text(max_size=200),
    patient=st.text(max_size=20),
    extra=st.dictionaries(
        st.text(max_size=10), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9)
    ),
)
def test_a_grant_comes_back_byte_for_byte(tmp_path_factory, scope, patient, extra):
    store = SqliteAuthStore.open(tmp_path_factory.getbasetemp() / "grants")
    grant = Grant(handle(), "app", scope, NOW, context=LaunchContext(patient, fhir_context=(extra,)))
    store.add_grant(grant)
    assert store.grant(grant.id) == grant
    store.close()


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda store: store.use_code("none"), id="a code"),
        pytest.param(lambda store: store.refresh("none"), id="a refresh token"),
        pytest.param(lambda store: store.use_launch("none", "app", NOW), id="a launch"),
        pytest.param(lambda store: store.session("none"), id="a session"),
        pytest.param(lambda store: store.pending("none"), id="a request under way"),
        pytest.param(lambda store: store.use_pending("none"), id="a request to finish"),
        pytest.param(lambda store: store.grant("none"), id="a grant"),
        pytest.param(lambda store: store.client("none"), id="a client"),
        pytest.param(lambda store: store.setting("none"), id="a setting"),
    ],
)
def test_what_is_not_there_is_none(store, use):
    assert use(store) is None


def test_a_used_code_says_so(store):
    store.add_code("code", CODE)
    assert [store.use_code("code").used for _ in range(3)] == [False, True, True]


def test_a_refresh_token_is_replaced_once_and_names_its_successor(store):
    store.add_refresh("first", REFRESH)
    assert store.rotate("first", "second", dataclasses.replace(REFRESH, expires=NOW + 2000), NOW + 7)
    assert not store.rotate("first", "third", REFRESH, NOW + 8)
    assert store.refresh("first") == dataclasses.replace(REFRESH, rotated=NOW + 7, successor="second")
    assert store.refresh("second") == dataclasses.replace(REFRESH, expires=NOW + 2000)
    assert store.refresh("third") is None
    assert not store.rotate("unknown", "fourth", REFRESH, NOW)


@pytest.mark.parametrize(
    ("opener", "client", "now"),
    [
        pytest.param("launch", "other", NOW, id="by another client"),
        pytest.param("launch", "app", NOW + 300, id="when it has expired"),
        pytest.param("lunch", "app", NOW, id="by a wrong handle"),
    ],
)
def test_a_launch_cannot_be_used(store, opener, client, now):
    store.add_launch("launch", launch())
    assert store.use_launch(opener, client, now) is None
    assert store.use_launch("launch", "app", NOW) == launch()
    assert store.use_launch("launch", "app", NOW) is None


def test_grants_of_a_user_are_those_not_revoked(store):
    for name, user, client in (("1", "Jané", "a"), ("2", "JANÉ", "b"), ("3", "bob", "a"), ("4", "", "a")):
        store.add_grant(Grant(name, client, "openid", NOW, user=user))
    assert [grant.id for grant in store.grants("jané")] == ["1", "2"]
    assert [grant.id for grant in store.grants("jané", "b")] == ["2"]
    assert [grant.id for grant in store.grants("", "a")] == ["4"]
    assert store.revoke(["1", "3", "none"]) == 2
    assert store.revoke(["1"]) == 0
    assert [grant.id for grant in store.grants("jané")] == ["2"]
    assert store.grant("1").revoked


def test_sessions_end_by_the_hash_that_names_them(store):
    store.put_session("one", SESSION)
    store.put_session("two", dataclasses.replace(SESSION, seen=NOW + 9))
    names = [name for name, _ in store.sessions("jané")]
    assert names == [hashed("two"), hashed("one")]
    store.end_sessions([names[0]])
    assert store.session("two") is None
    assert store.session("one") == SESSION


def test_failures_count_in_a_row_and_a_success_forgives_them(store):
    assert store.failures("user:jane") == (0, 0)
    for second in range(3):
        store.note_attempt("user:jane", NOW + second, failed=True)
    store.note_attempt("user:bob", NOW, failed=True)
    assert store.failures("user:jane") == (3, NOW + 2)
    store.note_attempt("user:jane", NOW + 5, failed=False)
    assert store.failures("user:jane") == (0, 0)
    assert store.failures("user:bob") == (1, NOW)


def test_settings_are_found_by_the_beginning_of_their_names(store):
    for name in ("break-glass/1", "break-glass/2", "break_glass/3", "roles"):
        store.put_setting(name, name)
    assert list(store.settings("break-glass/")) == ["break-glass/1", "break-glass/2"]
    assert len(store.settings("")) == 4
    store.put_setting("roles", None)
    assert store.setting("roles") is None


def test_what_may_be_used_once_is(store):
    assert store.use_once("jti", "a", NOW)
    assert not store.use_once("jti", "a", NOW)
    assert store.use_once("jti", "b", NOW)
    assert store.use_once("totp", "a", NOW)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda store: store.put_user(USER), id="a user changes"),
        pytest.param(lambda store: store.put_client(CLIENT), id="a client changes"),
        pytest.param(lambda store: store.revoke(["g"]), id="a grant is revoked"),
        pytest.param(lambda store: store.put_key(KEY), id="a key comes"),
        pytest.param(lambda store: store.put_setting("roles", 1), id="a setting changes"),
    ],
)
def test_the_epoch_grows_for_others_when(open_auth, change):
    mine, others = open_auth(), open_auth()
    mine.add_grant(GRANT)
    before = others.epoch()
    change(mine)
    assert others.epoch() > before


def test_the_epoch_stays_when_people_come_and_go(store):
    before = store.epoch()
    store.add_grant(GRANT)
    store.put_session("cookie", SESSION)
    store.note_attempt("user:jane", NOW, failed=True)
    store.use_once("jti", "a", NOW)
    assert store.epoch() == before


def test_the_sweep_drops_what_has_expired_and_nothing_else(store):
    for name, expires in (("old", NOW - 90_000), ("new", NOW + 1)):
        store.add_grant(Grant(name, "app", "openid", NOW - KEPT - 1 if name == "old" else NOW))
        store.add_code(name, dataclasses.replace(CODE, expires=expires))
        store.add_refresh(name, dataclasses.replace(REFRESH, expires=expires))
        store.add_launch(name, launch(expires))
        store.put_pending(name, pending(expires))
        store.put_session(name, dataclasses.replace(SESSION, seen=NOW - KEPT - 1 if name == "old" else NOW))
        store.use_once("jti", name, expires)
        store.note_attempt(name, NOW - KEPT - 1 if name == "old" else NOW, failed=True)
    store.add_grant(Grant("held", "app", "offline_access", NOW - 2 * KEPT))
    store.add_refresh("held", dataclasses.replace(REFRESH, grant="held"))
    store.sweep(NOW)
    assert store.grant("old") is None
    assert store.use_code("old") is None
    assert store.refresh("old") is None
    assert store.use_launch("old", "app", 0) is None
    assert store.pending("old") is None
    assert store.session("old") is None
    assert store.use_once("jti", "old", NOW)
    assert store.failures("old") == (0, 0)
    assert store.grant("held") is not None
    assert store.grant("new") is not None
    assert store.use_code("new") is not None
    assert store.refresh("new") is not None
    assert store.use_launch("new", "app", NOW) is not None
    assert store.pending("new") is not None
    assert store.session("new") is not None
    assert not store.use_once("jti", "new", NOW)
    assert store.failures("new") == (1, NOW)


def test_the_successor_of_a_refresh_token_is_forgotten_after_a_minute(store):
    store.add_refresh("first", REFRESH)
    store.rotate("first", "second", REFRESH, NOW)
    store.sweep(NOW + 60)
    assert store.refresh("first").successor == "second"
    store.sweep(NOW + 61)
    assert store.refresh("first") == dataclasses.replace(REFRESH, rotated=NOW)


def test_a_copy_of_the_store_opens_nothing(open_auth, tmp_path):
    store = open_auth()
    handles = [handle() for _ in range(5)]
    store.add_code(handles[0], CODE)
    store.add_refresh(handles[1], REFRESH)
    store.add_launch(handles[2], launch())
    store.put_session(handles[3], SESSION)
    store.put_pending(handles[4], pending())
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [one for one in handles if one.encode() in held] == []


def test_the_files_are_private(open_auth, tmp_path):
    open_auth().put_key(KEY)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert AUTH_DATABASE in modes
    assert set(modes.values()) == {0o600}, modes


def test_a_store_of_a_newer_version_is_refused(open_auth, tmp_path):
    open_auth()._writing.execute("PRAGMA user_version = 999")
    with pytest.raises(FhirError, match="newer"):
        SqliteAuthStore.open(tmp_path)


def test_a_folder_that_cannot_be_is_an_error_that_names_it():
    with pytest.raises(FhirError, match="/dev/null/x"):
        SqliteAuthStore.open(Path("/dev/null/x"))


def test_a_change_that_fails_changes_nothing(store):
    store.add_grant(GRANT)
    with pytest.raises(FhirError):
        store.add_grant(GRANT)
    store.put_user(USER)
    assert store.user("jané") == USER


RACES = {
    "a code": ("store.add_code('x', CODE)", "not store.use_code('x').used"),
    "a refresh token": ("store.add_refresh('x', REFRESH)", "store.rotate('x', handle(), REFRESH, NOW)"),
    "a launch": ("store.add_launch('x', launch())", "store.use_launch('x', 'app', NOW) is not None"),
    "a request under way": ("store.put_pending('x', pending())", "store.use_pending('x') is not None"),
    "a jti": ("None", "store.use_once('jti', 'x', NOW + 1)"),
}


def wins(store, attempt, threads=50):
    """How many of so many threads that try at once succeed."""
    start = threading.Barrier(threads)

    def one(_):
        start.wait()
        return bool(eval(attempt, globals(), {"store": store}))

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, range(threads)))


@pytest.mark.serial
@pytest.mark.parametrize(("prepare", "attempt"), RACES.values(), ids=RACES)
def test_of_fifty_threads_that_use_it_one_succeeds(store, prepare, attempt):
    eval(prepare, globals(), {"store": store})
    assert wins(store, attempt) == 1


@pytest.mark.serial
@pytest.mark.parametrize(("prepare", "attempt"), RACES.values(), ids=RACES)
def test_of_two_processes_with_25_threads_each_one_succeeds(store, tmp_path, prepare, attempt):
    eval(prepare, globals(), {"store": store})
    program = (
        "import sys; from pathlib import Path; from tests.contract.test_auth_store import SqliteAuthStore, wins\n"
        f"store = SqliteAuthStore.open(Path({str(tmp_path)!r})); print('ready', flush=True); sys.stdin.readline()\n"
        f"print(wins(store, {attempt!r}, 25))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(results) == 1


KILLED = """
import sys
from pathlib import Path
from tests.contract.test_auth_store import NOW, REFRESH, SqliteAuthStore, handle
store = SqliteAuthStore.open(Path(sys.argv[1]))
held = "first"
while True:
    following = handle()
    assert store.rotate(held, following, REFRESH, NOW)
    print(following, flush=True)
    held = following
"""


@pytest.mark.serial
def test_what_was_acknowledged_before_a_kill_is_there(store, tmp_path, rounds):
    store.add_refresh("first", REFRESH)
    held, told = "first", 0
    for round_ in range(3 * rounds):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED.replace('"first"', repr(held)), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            lines = [process.stdout.readline() for _ in range(5 + round_)]
            process.kill()
            lines += process.stdout.readlines()
        chain = [line.strip() for line in lines if line.endswith("\n")]
        told += len(chain)
        for before, after in pairwise((held, *chain)):
            assert store.refresh(before).successor == after
        held = chain[-1]
        while (row := store.refresh(held)).rotated:  # committed, and killed before it could be told
            held = row.successor
    assert told >= 15
