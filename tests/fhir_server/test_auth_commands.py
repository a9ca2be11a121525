"""The commands about access, to the letter of their contract: what they print, what they refuse and with which exit code."""

import json
import shutil
import time
from contextlib import closing
from functools import partial
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from joserfc.jwk import ECKey
from typer.testing import CliRunner

from fhir_server.cli import app
from fhir_server.first_start import BASE
from fhir_server.interactions.assembly import DATABASE
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.auth import SqliteAuthStore
from fhir_server.storage.sqlite.connection import SqliteOptions, connect
from smart_auth import keys, passwords
from smart_auth.model import LaunchContext, RefreshToken, Session, hashed
from smart_auth.options import SmartOptions
from smart_auth.tokens import TokenFault, Tokens
from tests.fhir_server.conftest import PATIENT, fill

HERE = "https://ehr.example.org"
PUBLIC_KEYS = {"keys": [ECKey.generate_key("P-384").as_dict(private=False) | {"kid": "1"}]}
PRIVATE_KEYS = {"keys": [ECKey.generate_key("P-384").as_dict(private=True) | {"kid": "1"}]}
WRITES = (
    {"resourceType": "Organization", "id": "h", "name": "Hospital"},
    PATIENT,
    {**PATIENT, "id": "gone"},
    {"resourceType": "Practitioner", "id": "d", "name": [{"family": "Doe"}]},
    {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "Practitioner/d"}},
    {"resourceType": "PractitionerRole", "id": "nobody"},
    {"resourceType": "Encounter", "id": "e", "status": "planned", "class": {"code": "AMB"}, "subject": {"reference": "Patient/p"}},
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auth")
    fill(folder, WRITES, Settings(data_dir=folder))
    with closing(SqliteAuthStore.open(folder)) as store:
        keys.ensure(store, 0)
        store.put_setting(BASE, f"{HERE}/fhir")
    return folder


@pytest.fixture
def folder(filled, tmp_path, monkeypatch):
    for name in ("FHIR_PUBLIC_URL", "FHIR_PORT"):
        monkeypatch.delenv(name, raising=False)
    return shutil.copytree(filled, tmp_path / "data")


@pytest.fixture
def store(folder):
    with closing(SqliteAuthStore.open(folder)) as opened:
        yield opened


@pytest.fixture
def run(folder):
    """Runs a command; gives its exit code, stdout and stderr."""

    return partial(command, folder)


@pytest.fixture
def told(run):
    """Runs a command with `--json` that must succeed; gives the object."""

    def command(*words, stdin=""):
        done = run(*words, "--json", stdin=stdin)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return command


@pytest.fixture
def tokens(store):
    return Tokens(store, f"{HERE}/fhir", f"{HERE}/fhir", SmartOptions(), lambda: int(time.time()))


def jwks(folder, document):
    path = folder / "keys.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_user_add_with_everything(told, store):
    found = told(
        "user", "add", "jane", "--role", "doctor", "--role", "admin", "--fhir-user", "Practitioner/d", "--organization", "Organization/h",
        "--generate", "--totp", "--must-change",
    )  # fmt: skip
    assert sorted(found) == ["fhirUser", "organization", "password", "roles", "totpSecret", "username"]
    assert found["username"] == "jane"
    assert found["roles"] == ["doctor", "admin"]
    assert found["fhirUser"] == "Practitioner/d"
    assert found["organization"] == "Organization/h"
    user = store.user("jane")
    assert passwords.matches(user, found["password"])
    assert pyotp.TOTP(found["totpSecret"]).now() == pyotp.TOTP(user.totp).now()
    assert user.must_change


def test_user_add_asks_for_no_second_factor_and_no_change_unless_told(told, store):
    found = told("user", "add", "jane", "--role", "nurse", "--password-stdin", stdin="mellow giraffe 19\nmore\n")
    assert found == {"username": "jane", "roles": ["nurse"], "fhirUser": None, "organization": None}
    user = store.user("jane")
    assert passwords.matches(user, "mellow giraffe 19")
    assert (user.totp, user.must_change) == ("", False)


def test_the_practitioner_is_linked_even_when_the_role_is_named(told, store):
    assert (
        told("user", "add", "jane", "--role", "doctor", "--fhir-user", "PractitionerRole/r", "--generate")["fhirUser"]
        == "Practitioner/d"
    )
    assert (
        told("user", "add", "ann", "--role", "doctor", "--fhir-user", f"{HERE}/fhir/Practitioner/d", "--generate")[
            "fhirUser"
        ]
        == "Practitioner/d"
    )


def test_a_weak_password_is_taken_from_the_operator_with_a_warning(run, store):
    done = run("user", "add", "jane", "--role", "nurse", "--password-stdin", stdin="short\n")
    assert done.exit_code == 0
    assert "at least 12" in done.stderr
    assert passwords.matches(store.user("jane"), "short")


REFUSALS = {
    "a user without a password": (2, "user add x --role nurse", "--generate"),
    "a user with two passwords": (2, "user add x --role nurse --generate --password-stdin", "either"),
    "a user without a role": (2, "user add x --generate", "role"),
    "a user of an unknown role": (1, "user add x --role chief --generate", "chief"),
    "a user name with a space": (2, "user add a\u00a0b --role nurse --generate", "user name"),
    "a name that is taken in other letters": (1, "user add TAKEN --role nurse --generate", "already"),
    "an unknown fhirUser": (1, "user add x --role doctor --fhir-user Practitioner/none --generate", "Practitioner/none"),
    "a deleted fhirUser": (1, "user add x --role patient --fhir-user Patient/gone --generate", "Patient/gone"),
    "a role of nobody as fhirUser": (2, "user add x --role doctor --fhir-user PractitionerRole/nobody --generate", "Practitioner"),
    "a fhirUser of another type": (2, "user add x --role doctor --fhir-user Organization/h --generate", "Practitioner"),
    "a fhirUser of another server": (2, "user add x --role doctor --fhir-user https://other.example/fhir/Practitioner/d --generate", "reference"),
    "an organization that is none": (2, "user add x --role doctor --organization Patient/p --generate", "Organization"),
    "an empty password": (2, "user add x --role nurse --password-stdin", "stdin"),
    "another password for nobody": (1, "user passwd none --generate", "none"),
    "another password without any": (2, "user passwd taken", "--generate"),
    "disabling nobody": (1, "user disable none", "none"),
    "assigning nobody": (1, "user assign none --patient p", "none"),
    "assigning a user without a link": (1, "user assign taken --patient p", "linked"),
    "assigning an unknown patient": (1, "user assign linked --patient none", "Patient/none"),
    "assigning a patient of no id": (2, "user assign linked --patient a/b", "id"),
    "a command of no name": (2, "user", "Usage"),
    "a client of an unknown type": (2, "client add --name N --type open", "type"),
    "a public client without redirect": (2, "client add --name N --type public", "--redirect"),
    "a client of an id that is taken": (1, "client add --name N --type symmetric --id known", "--replace"),
    "a client id with a space": (2, "client add --name N --type symmetric --id a\u00a0b", "client id"),
    "plain http beyond loopback": (1, "client add --name N --type public --redirect http://a.example/cb", "loopback"),
    "a script as a redirect": (1, "client add --name N --type public --redirect javascript:alert(1)", "redirect"),
    "a launch URI with a fragment": (1, "client add --name N --type symmetric --launch https://a.example/#x", "launch URI"),
    "a backend without keys": (2, "client add --name N --type backend", "--jwks"),
    "a public client with keys": (2, "client add --name N --type public --redirect https://a.example/ --jwks-url https://a.example/k", "keys"),
    "a backend with a redirect": (2, "client add --name N --type backend --jwks-url https://a.example/k --redirect https://a.example/", "--redirect"),
    "a public client with a secret": (2, "client add --name N --type public --redirect https://a.example/ --secret-stdin", "secret"),
    "a public client without PKCE": (2, "client add --name N --type public --redirect https://a.example/ --legacy-no-pkce", "confidential"),
    "a JWKS file that is not there": (1, "client add --name N --type backend --jwks /does/not/exist", "/does/not/exist"),
    "a JWKS URL over plain http": (1, "client add --name N --type backend --jwks-url http://127.0.0.1:1/k", "https"),
    "a client of an unknown role": (1, "client add --name N --type backend --jwks-url https://a.example/k --role chief", "chief"),
    "a client's scope that is none": (2, "client add --name N --type symmetric --scope patient/Patient.sr", "patient/Patient.sr"),
    "tokens that live no time": (2, "client add --name N --type symmetric --access-ttl 0", "access-ttl"),
    "another secret for a client without": (1, "client rotate app", "public"),
    "disabling no client": (1, "client disable none", "none"),
    "a client without a name": (2, "client add --name= --type symmetric", "--name"),
    "a client whose name turns text around": (2, "client add --name a\u202eb --type symmetric", "--name"),
    "a launch of half a character": (2, 'launch --client app --patient p --fhir-context {"reference":"\\ud800"}', "JSON"),
    "a launch of no client": (1, "launch --client none --patient p", "none"),
    "a launch of a client without launch URI": (1, "launch --client known --patient p", "--launch"),
    "a launch of a disabled client": (1, "launch --client off --patient p", "disabled"),
    "a launch for an unknown patient": (1, "launch --client app --patient none", "Patient/none"),
    "a launch in an unknown encounter": (1, "launch --client app --patient p --encounter none", "Encounter/none"),
    "a launch for nobody": (1, "launch --client app --patient p --user none", "none"),
    "a launch without patient": (2, "launch --client app", "--patient"),
    "a launch with no JSON": (2, "launch --client app --patient p --fhir-context {", "JSON"),
    "a launch with an empty object": (2, "launch --client app --patient p --fhir-context {}", "reference"),
    "a launch with the patient twice": (2, 'launch --client app --patient p --fhir-context {"reference":"Patient/q"}', "patient"),
    "a launch with a half banner": (2, "launch --client app --patient p --banner maybe", "banner"),
    "a launch for ever": (2, "launch --client app --patient p --ttl 0", "ttl"),
    "a token without scope": (2, "token", "--scope"),
    "a token of an empty scope": (2, "token --scope \u00a0", "scope"),
    "a token of a scope that is none": (2, "token --scope user/Patient.sr", "user/Patient.sr"),
    "a token of a patient nobody named": (2, "token --scope patient/*.rs", "--patient"),
    "a token of a word that means nothing": (2, "token --scope user/*.rs\u00a0everything", "everything"),
    "a token of a type that is none": (2, "token --scope user/Patients.rs", "Patients"),
    "a token of an unknown patient": (1, "token --scope patient/*.rs --patient none", "Patient/none"),
    "a token of a deleted patient": (1, "token --scope patient/*.rs --patient gone", "Patient/gone"),
    "a token of an unknown encounter": (1, "token --scope patient/*.rs --patient p --encounter none", "Encounter/none"),
    "a token of nobody": (1, "token --scope user/*.rs --user none", "none"),
    "a token of a disabled user": (1, "token --scope user/*.rs --user gone", "disabled"),
    "a token in the name of no client": (1, "token --scope user/*.rs --client none", "none"),
    "a token for ever": (2, "token --scope user/*.rs --ttl 99999999", "ttl"),
    "the grants of nobody": (1, "grant list --user none", "none"),
    "grants of whom?": (2, "grant revoke", "--user"),
    "the grants of no client": (1, "grant revoke --client none", "none"),
    "disabling no key": (1, "keys disable none", "none"),
}  # fmt: skip


def command(folder, *words, stdin=""):
    """Runs a command on a folder."""
    done = CliRunner().invoke(app, [*words, "--data-dir", str(folder)], input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


APP = (
    "--name",
    "App",
    "--type",
    "public",
    "--redirect",
    "https://a.example/cb",
    "--launch",
    "https://a.example/launch?x=1",
)
POPULATION = (
    ("user", "add", "taken", "--role", "nurse", "--generate"),
    ("user", "add", "gone", "--role", "nurse", "--generate"),
    ("user", "disable", "gone"),
    ("user", "add", "linked", "--role", "doctor", "--fhir-user", "Practitioner/d", "--generate"),
    ("client", "add", "--name", "Known", "--type", "symmetric", "--id", "known", "--redirect", "https://a.example/cb"),
    ("client", "add", "--id", "app", *APP),
    ("client", "add", "--id", "off", *APP),
    ("client", "disable", "off"),
)


@pytest.fixture
def populated(folder):
    for words in POPULATION:
        assert command(folder, *words).exit_code == 0


@pytest.fixture(scope="module")
def settled(filled, tmp_path_factory):
    """A folder with some users and clients, for commands that change nothing."""
    folder = shutil.copytree(filled, tmp_path_factory.mktemp("settled") / "data")
    for words in POPULATION:
        assert command(folder, *words).exit_code == 0
    return folder


@pytest.mark.parametrize(("code", "line", "words"), REFUSALS.values(), ids=REFUSALS)
def test_it_refuses_in_a_sentence(settled, code, line, words):
    done = command(settled, *(word.replace("\u00a0", " ") for word in line.split(" ")))
    said = done.stderr + done.stdout
    assert done.exit_code == code, said
    assert words in said


def test_the_json_is_the_last_line_of_stdout_also_with_warnings(run):
    done = run("user", "add", "jane", "--role", "nurse", "--organization", "Organization/none", "--generate", "--json")
    assert "Organization/none" in done.stderr
    assert json.loads(done.stdout)["organization"] == "Organization/none"


def test_user_list_tells_no_secret(told, store):
    added = told("user", "add", "jane", "--role", "nurse", "--generate", "--totp")
    (row,) = told("user", "list")["users"]
    assert row["username"] == "jane"
    assert row["totp"] is True
    assert row["disabled"] is False
    text = json.dumps(row)
    assert not any(secret in text for secret in (added["password"], added["totpSecret"], store.user("jane").password))


def test_disabling_a_user_ends_sessions_and_tokens(told, store, tokens):
    told("user", "add", "jane", "--role", "nurse", "--generate")
    answer = told("token", "--scope", "user/*.rs", "--user", "jane")
    store.put_session("cookie", Session("jane", 0, 0, "x", "c", 0))
    assert tokens.verify(answer["access_token"]).user == "jane"
    assert told("user", "disable", "jane")["revoked"] == 1
    assert store.session("cookie") is None
    assert store.user("jane").disabled
    assert told("user", "enable", "jane")["disabled"] is False
    tokens._looked = -1
    with pytest.raises(TokenFault, match="revoked"):
        tokens.verify(answer["access_token"])


def test_another_password_ends_sessions_and_forgives_failures(told, store):
    told("user", "add", "Jane", "--role", "nurse", "--generate")
    store.put_session("cookie", Session("Jane", 0, 0, "x", "c", 0))
    store.note_attempt("user:jane", 5, failed=True)
    password = told("user", "passwd", "jane", "--generate", "--must-change")["password"]
    assert passwords.matches(store.user("jane"), password)
    assert store.user("jane").must_change
    assert store.session("cookie") is None
    assert store.failures("user:jane") == (0, 0)
    assert told("user", "passwd", "jane", "--password-stdin", stdin="mellow giraffe 19") == {"username": "Jane"}


def test_a_second_factor_is_given_with_recovery_codes_and_taken(told, store):
    told("user", "add", "jane", "--role", "nurse", "--generate")
    store.put_session("cookie", Session("jane", 0, 0, "x", "c", 0))
    found = told("user", "second-factor", "jane")
    assert len(found["recoveryCodes"]) == 10
    assert store.session("cookie") is None
    user = store.user("jane")
    assert user.totp == found["totpSecret"]
    assert passwords.use_recovery(store, user, found["recoveryCodes"][9], 0)
    assert told("user", "second-factor", "jane", "--off") == {"username": "jane"}
    assert (store.user("jane").totp, store.user("jane").recovery) == ("", ())


def test_user_assign_writes_a_care_team_once(told, folder):
    told(
        "user",
        "add",
        "jane",
        "--role",
        "doctor",
        "--fhir-user",
        "Practitioner/d",
        "--organization",
        "Organization/h",
        "--generate",
    )
    found = told("user", "assign", "jane", "--patient", "p")
    assert told("user", "assign", "jane", "--patient", "p") == found
    team = resource(folder, found["careTeam"])
    assert team["status"] == "active"
    assert team["subject"] == {"reference": "Patient/p"}
    assert team["participant"] == [{"member": {"reference": "Practitioner/d"}}]


def resource(folder, name):
    with closing(connect(folder / DATABASE, SqliteOptions(), read_only=True)) as connection:
        sql = "SELECT body FROM resource JOIN type ON type.number = resource.type WHERE name = ? AND id = ?"
        return json.loads(connection.execute(sql, name.split("/")).fetchone()[0])


def test_client_add_of_each_type(told, store, folder):
    public = told("client", "add", "--name", "App", "--type", "public", "--redirect", "http://127.0.0.1/cb", "--redirect", "com.example.app:/cb",
                  "--scope", "openid patient/*.rs")  # fmt: skip
    assert sorted(public) == ["clientId", "name", "redirectUris", "scope", "type"]
    assert public["type"] == "public"
    assert public["redirectUris"] == ["http://127.0.0.1/cb", "com.example.app:/cb"]
    assert public["scope"] == "openid patient/*.rs"
    symmetric = told(
        "client",
        "add",
        "--name",
        "Sym",
        "--type",
        "symmetric",
        "--id",
        "sym",
        "--introspect",
        "--trusted",
        "--access-ttl",
        "120",
    )
    assert store.client("sym").secret == hashed(symmetric["clientSecret"])
    assert len(symmetric["clientSecret"]) == 43
    assert (store.client("sym").introspect, store.client("sym").trusted, store.client("sym").access_seconds) == (
        True,
        True,
        120,
    )
    told(
        "client",
        "add",
        "--name",
        "Asym",
        "--type",
        "asymmetric",
        "--id",
        "asym",
        "--jwks",
        jwks(folder, PUBLIC_KEYS),
        "--legacy-no-pkce",
    )
    assert dict(store.client("asym").jwks) == PUBLIC_KEYS
    assert store.client("asym").legacy_no_pkce
    told("client", "add", "--name", "Back", "--type", "backend", "--id", "back", "--jwks-url", "https://a.example/jwks", "--role", "integration",
         "--organization", "Organization/h", "--scope", "system/*.rs")  # fmt: skip
    found = store.client("back")
    assert (found.kind, found.jwks_url, found.role, found.organization) == (
        "backend",
        "https://a.example/jwks",
        "integration",
        "Organization/h",
    )
    assert {row["clientId"] for row in told("client", "list")["clients"]} == {public["clientId"], "sym", "asym", "back"}


def test_a_private_key_in_a_jwks_is_refused(run, store, folder):
    done = run(
        "client", "add", "--name", "B", "--type", "backend", "--id", "b", "--jwks", jwks(folder, PRIVATE_KEYS), "--json"
    )
    assert done.exit_code == 1
    assert "private" in done.stderr
    assert PRIVATE_KEYS["keys"][0]["d"] not in done.stderr
    assert store.client("b") is None


def test_a_jwks_url_may_be_of_this_machine_for_a_server_on_it(told, store):
    store.put_setting(BASE, "http://localhost:8000/fhir")
    told("client", "add", "--name", "B", "--type", "backend", "--id", "b", "--jwks-url", "http://127.0.0.1:9/k")
    assert store.client("b").jwks_url == "http://127.0.0.1:9/k"


def test_a_secret_is_given_and_changed(told, store):
    added = told(
        "client", "add", "--name", "S", "--type", "symmetric", "--id", "s", "--secret-stdin", stdin="x" * 40 + "\n"
    )
    assert added["clientSecret"] == "x" * 40
    assert store.client("s").secret == hashed("x" * 40)
    rotated = told("client", "rotate", "s")
    assert store.client("s").secret == hashed(rotated["clientSecret"]) != hashed("x" * 40)
    told("client", "add", "--name", "S2", "--type", "symmetric", "--id", "s", "--replace")
    assert store.client("s").name == "S2"


def test_an_invitation_is_kept_by_its_hash(told, store):
    token = told("client", "invite", "--scope", "openid patient/*.rs", "--ttl", "60")["initialAccessToken"]
    ((name, row),) = store.settings("initial-access/").items()
    assert name.endswith(hashed(token))
    assert row["scope"] == "openid patient/*.rs"


def test_edited_roles_are_roles(told, run, store):
    store.put_setting("roles", {"dietician": [{"types": ["NutritionOrder"], "letters": "rs", "reach": "assigned"}]})
    assert told("user", "add", "jane", "--role", "dietician", "--generate")["roles"] == ["dietician"]
    store.put_setting("roles", {"dietician": [5]})
    assert run("user", "add", "ann", "--role", "nurse", "--generate").exit_code == 1


def test_a_launch_is_a_link_to_be_followed_once(populated, run, told, store):
    line = run("launch", "--client", "app", "--patient", "p", "--encounter", "e", "--user", "LINKED", "--intent", "reconcile", "--banner", "false",
               "--fhir-context", '{"reference":"ImagingStudy/1"}').stdout.splitlines()[-1]  # fmt: skip
    assert line.startswith("https://a.example/launch?x=1&iss=https%3A%2F%2Fehr.example.org%2Ffhir&launch=")
    query = parse_qs(urlsplit(line).query)
    assert query["iss"] == [f"{HERE}/fhir"]
    found = store.use_launch(query["launch"][0], "app", 0)
    assert found.user == "linked"
    assert found.context == LaunchContext("p", "e", "reconcile", ({"reference": "ImagingStudy/1"},), banner=False)
    answer = told("launch", "--client", "app", "--patient", "p", "--ttl", "60")
    assert sorted(answer) == ["expiresAt", "iss", "launch", "url"]
    assert answer["url"].endswith(answer["launch"])
    assert answer["iss"] == f"{HERE}/fhir"
    assert store.use_launch(answer["launch"], "app", 0).context.banner is None


def test_an_operators_token_is_the_last_line(run, told, tokens):
    principal = tokens.verify(run("token", "--scope", "system/*.cruds", "--ttl", "60").stdout.splitlines()[-1])
    assert (principal.operator, principal.user, principal.roles, principal.scope) == (True, "", (), "system/*.cruds")
    answer = told("token", "--scope", "patient/*.rs", "--patient", "p", "--encounter", "e")
    assert {name: answer[name] for name in ("token_type", "expires_in", "scope", "patient", "encounter")} == {
        "token_type": "Bearer", "expires_in": 3600, "scope": "patient/*.rs", "patient": "p", "encounter": "e",
    }  # fmt: skip
    assert tokens.verify(answer["access_token"]).patient == "p"


def test_a_users_token_is_what_the_token_endpoint_gives(populated, told, tokens, store):
    answer = told("token", "--scope", "openid fhirUser offline_access user/*.rs", "--user", "linked", "--client", "app")
    principal = tokens.verify(answer["access_token"])
    assert (principal.user, principal.roles, principal.fhir_user, principal.client) == (
        "linked",
        ("doctor",),
        "Practitioner/d",
        "app",
    )
    assert principal.operator is False
    assert store.refresh(answer["refresh_token"]) == RefreshToken(
        principal.grant, "app", store.refresh(answer["refresh_token"]).expires
    )
    assert answer["id_token"].count(".") == 2


def test_a_patients_token_is_about_the_patient(told, tokens):
    told("user", "add", "ana", "--role", "patient", "--fhir-user", "Patient/p", "--generate")
    assert tokens.verify(told("token", "--scope", "patient/*.rs", "--user", "ana")["access_token"]).patient == "p"


def test_grants_are_listed_and_revoked(populated, told, tokens):
    answers = [
        told("token", "--scope", "user/*.rs", "--user", "linked", "--client", client) for client in ("app", "known")
    ]
    rows = told("grant", "list", "--user", "Linked")["grants"]
    assert sorted(row["client"] for row in rows) == ["app", "known"]
    assert told("grant", "revoke", "--user", "linked", "--client", "app") == {"revoked": 1}
    assert told("grant", "revoke", "--user", "linked", "--client", "app") == {"revoked": 0}
    with pytest.raises(TokenFault, match="revoked"):
        tokens.verify(answers[0]["access_token"])
    assert tokens.verify(answers[1]["access_token"])
    assert told("grant", "revoke", "--user", "linked") == {"revoked": 1}


def test_keys_are_listed_rotated_and_disabled(told, run, store, tokens):
    token = run("token", "--scope", "system/*.rs").stdout.splitlines()[-1]
    before = {row["kid"]: row for row in told("keys", "list")["keys"]}
    assert {row["alg"] for row in before.values()} == {"ES256", "RS256"}
    made = told("keys", "rotate")["keys"]
    rows = told("keys", "list")["keys"]
    assert [row["state"] for row in rows] == ["in use", "in use", "retired", "retired"]
    assert not any("d" in row for row in rows)
    assert tokens.verify(token)
    signed = next(kid for kid, row in before.items() if row["use"] == "access")
    told("keys", "disable", signed)
    tokens._looked = -1
    with pytest.raises(TokenFault, match="invalid"):
        tokens.verify(token)
    last = next(row["kid"] for row in made if row["use"] == "access")
    told("keys", "disable", last)
    assert keys.signing(store.keys(), "access").kid not in {signed, last}


def test_a_configured_public_url_is_the_base(run, told, monkeypatch, populated):
    monkeypatch.setenv("FHIR_PUBLIC_URL", "https://other.example.org/ehr/")
    assert told("launch", "--client", "app", "--patient", "p")["iss"] == "https://other.example.org/ehr/fhir"


def test_a_password_that_is_no_utf_8_is_refused(run):
    done = run("user", "add", "jane", "--role", "nurse", "--password-stdin", stdin=b"\xff\n")
    assert done.exit_code == 2
    assert "UTF-8" in done.stderr


COMMANDS = (
    "user list",
    "user disable x",
    "user enable x",
    "user passwd x --generate",
    "user second-factor x",
    "user assign x --patient p",
    "client list",
    "client disable x",
    "client enable x",
    "client rotate x",
    "launch --client x --patient p",
    "grant list --user x",
    "grant revoke --user x",
    "keys list",
    "keys rotate",
    "keys disable x",
    "check",
    "info",
    "jobs",
    "reindex",
    "backup --out x.tar",
    "audit verify",
    "audit export",
)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_mistyped_folder_is_no_store(tmp_path, line):
    for folder in (tmp_path / "new", tmp_path):
        done = command(folder, *line.split(" "))
        assert done.exit_code == 1
        assert done.stderr == f"fhir-server: there is no store in {folder}\n"
        assert list(tmp_path.iterdir()) == []


MAKING = (
    "user add x --role nurse --generate",
    "client add --name N --type symmetric",
    "client invite",
    "token --scope system/*.rs",
)


@pytest.mark.parametrize("line", MAKING)
def test_what_a_server_may_start_with_is_made_before_its_first_start(tmp_path, line):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        done = command(tmp_path / name, *line.split(" "))
        assert done.exit_code == 0, done.stderr
        assert "this is the beginning of one" in done.stderr
        assert (tmp_path / name / "auth.sqlite").exists()
        assert not (tmp_path / name / DATABASE).exists()
        assert "beginning" not in command(tmp_path / name, *line.replace(" x ", " y ").split(" ")).stderr


@pytest.mark.parametrize("line", MAKING)
def test_a_folder_of_something_else_is_no_store(tmp_path, line):
    (tmp_path / "letter.txt").write_text("Dear")
    done = command(tmp_path, *line.split(" "))
    assert (done.exit_code, done.stderr) == (1, f"fhir-server: there is no store in {tmp_path}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_users_and_tokens_may_be_made_behind_a_load(tmp_path):
    fill(tmp_path, WRITES, Settings(data_dir=tmp_path))
    assert command(tmp_path, "user", "add", "jane", "--role", "nurse", "--generate").exit_code == 0
    done = command(tmp_path, "token", "--scope", "system/*.rs")
    assert (done.exit_code, done.stdout.count(".")) == (0, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--role", "doctor"], "assigned"),
        (["--role", "nurse"], "ward"),
        (["--role", "patient"], "self"),
        (["--role", "insurer"], "--organization"),
        (["--role", "admin"], ""),
        (["--role", "pharmacist"], ""),
        (["--role", "doctor", "--fhir-user", "Practitioner/d"], ""),
    ],
)
def test_a_role_that_reaches_nobody_is_told(run, words, said):
    done = run("user", "add", "x", *words, "--generate")
    assert done.exit_code == 0
    assert (said in done.stderr) if said else not done.stderr
