"""Passwords, second factors, recovery codes: what is taken, what is refused, what is good once."""

import pyotp
import pytest

from fhir_server.storage.sqlite.auth import SqliteAuthStore
from smart_auth import passwords
from smart_auth.model import User

NOW = 1_800_000_015
SECRET = "JBSWY3DPEHPK3PXP" * 2


@pytest.fixture
def store(tmp_path):
    opened = SqliteAuthStore.open(tmp_path)
    yield opened
    opened.close()


def with_password(password):
    return User("jane", ("doctor",), password=passwords.hash_password(password))


@pytest.mark.parametrize(
    ("kept", "typed", "right"),
    [
        pytest.param("correct horse 7 é", "correct horse 7 é", True, id="the same"),
        pytest.param("correct horse 7 é", "correct horse 7 e\u0301", True, id="the same letters in other code points"),
        pytest.param("correct horse 7 é", "Correct horse 7 é", False, id="another case"),
        pytest.param("correct horse 7 é", "correct horse 7 é ", False, id="a space more"),
        pytest.param("correct horse 7 é", "", False, id="nothing"),
        pytest.param("x" * 1024, "x" * 1025, False, id="longer than any"),
    ],
)
def test_a_password_is_compared(kept, typed, right):
    assert passwords.matches(with_password(kept), typed) is right


def test_nobody_has_a_password():
    assert not passwords.matches(None, "")
    assert not passwords.matches(User("jane", ()), "")
    assert not passwords.matches(User("jane", (), password="plain"), "plain")


def test_a_user_that_does_not_exist_costs_as_much_as_one_that_does(monkeypatch):
    user, seen = with_password("correct horse 7"), []
    hasher = passwords._hasher()
    monkeypatch.setattr(passwords, "_hasher", lambda: Spy(hasher, seen))
    for one in (user, None, User("x", ())):
        passwords.matches(one, "guess")
    parameters = [kept.rpartition("$")[0].rpartition("$")[0] for kept in seen]
    assert len(set(parameters)) == 1
    assert len(parameters) == 3


class Spy:
    """Notes what is verified."""

    def __init__(self, hasher, seen):
        self.hasher, self.seen = hasher, seen

    def verify(self, kept, password):
        self.seen.append(kept)
        return self.hasher.verify(kept, password)

    def hash(self, password):
        return self.hasher.hash(password)


def test_the_hash_is_argon2id_with_the_parameters_of_the_guide():
    kept = passwords.hash_password("correct horse 7")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert not passwords.outdated(kept)
    assert passwords.outdated(kept.replace("m=19456", "m=8192"))
    assert kept != passwords.hash_password("correct horse 7")


@pytest.mark.parametrize(
    ("password", "words"),
    [
        pytest.param("elevenchars", "12 characters", id="too short"),
        pytest.param("\uff41" * 11, "12 characters", id="too short in wide letters"),
        pytest.param("x" * 1025, "1024", id="too long"),
        pytest.param("jane.sterling", "user name", id="the user name"),
        pytest.param("Jane.Sterling", "user name", id="the user name in other case"),
        pytest.param("jane.sterling2026!", "user name", id="the user name and a year"),
        pytest.param("Password1234", "first", id="a common one"),
        pytest.param("\uff50assword1234", "first", id="a common one in wide letters"),
        pytest.param("aaaaaaaaaaaaaaaa", "first", id="one letter"),
        pytest.param("abababababab", "first", id="two letters"),
        pytest.param("mellow giraffe 19", None, id="a good one"),
        pytest.param("jane.sterling likes tea", None, id="the user name in a sentence"),
    ],
)
def test_which_passwords_people_may_choose(password, words):
    fault = passwords.password_fault(password, "jane.sterling", 12)
    assert fault is None if words is None else words in fault


def test_a_generated_password_may_be_chosen():
    made = {passwords.generated_password() for _ in range(50)}
    assert len(made) == 50
    assert {len(password) for password in made} == {24}
    assert {passwords.password_fault(password, "super-admin", 12) for password in made} == {None}


def code(offset=0):
    return pyotp.TOTP(SECRET).at(NOW + offset * 30)


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        pytest.param(code(), True, id="of this step"),
        pytest.param(code(-1), True, id="of the step before"),
        pytest.param(code(1), True, id="of the step after"),
        pytest.param(code(-2), False, id="of two steps before"),
        pytest.param(code(2), False, id="of two steps after"),
        pytest.param("", False, id="empty"),
        pytest.param("١٢٣٤٥٦", False, id="in other digits"),
        pytest.param(f" {code()}", False, id="with a space"),
        pytest.param("0" * 10_000, False, id="very long"),
    ],
)
def test_a_code_is_good_around_its_time(store, typed, right):
    assert passwords.use_totp(store, User("jane", (), totp=SECRET), typed, NOW) is right


def test_a_code_is_good_once(store):
    user = User("jane", (), totp=SECRET)
    assert passwords.use_totp(store, user, code(), NOW)
    assert not passwords.use_totp(store, user, code(), NOW)
    store.sweep(NOW + 59)
    assert not passwords.use_totp(store, User("JANE", (), totp=SECRET), code(), NOW + 30)
    assert passwords.use_totp(store, user, code(1), NOW + 30)
    assert passwords.use_totp(store, User("bob", (), totp=SECRET), code(), NOW)


def test_without_a_second_factor_no_code_is_good(store):
    assert not passwords.use_totp(store, User("jane", ()), code(), NOW)


def test_a_new_secret_is_readable_by_apps():
    secret = passwords.totp_secret()
    assert pyotp.parse_uri(passwords.totp_uri(secret, "jane", "https://ehr.example.org")).secret == secret
    assert secret != passwords.totp_secret()


def test_a_recovery_code_is_good_once_however_it_is_typed(store):
    codes, kept = passwords.recovery_codes()
    user = User("jane", (), recovery=kept)
    assert len(set(codes)) == 10
    assert passwords.use_recovery(store, user, codes[3].upper().replace("-", " "), NOW)
    assert not passwords.use_recovery(store, user, codes[3], NOW)
    assert passwords.use_recovery(store, user, codes[4], NOW)
    assert not passwords.use_recovery(store, user, "aaaa-bbbb-cccc-dddd", NOW)
    assert not passwords.use_recovery(store, user, "", NOW)
    assert not passwords.use_recovery(store, User("bob", ()), codes[5], NOW)
    assert not any(code.replace("-", "") in str(kept) for code in codes)
