"""The audit trail below HTTP: journals that survive, folding without loss, a chain that shows whatever was done to it."""

import json
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fhir_server.audit import fold as folding
from fhir_server.audit import journal as journals
from fhir_server.audit import keeper, line
from fhir_server.audit import patients as looking
from fhir_server.audit.fold import fold, remove_ended
from fhir_server.audit.journal import Journal, journal_path
from fhir_server.audit.keeper import extractor_for, fold_now, prune
from fhir_server.audit.ledger import DATABASE, FOLDER, MIGRATIONS, opened, register_journal
from fhir_server.audit.patients import Patients
from fhir_server.audit.record import About, Record, chained, decode, encode
from fhir_server.audit.verify import head, verify
from fhir_server.cli import app
from fhir_server.storage.sqlite.connection import FileLock, SqliteOptions, connect
from smart_auth.model import Principal

NAMES = Record.__struct_fields__[3:]
DAY = 86_400_000_000


def fields(**given):
    """The fields of a record from `time` on."""
    blank = Record(0, 0, "request", 1)
    return [given.get(name, getattr(blank, name)) for name in NAMES]


class Nobody:
    def of(self, keys):
        return {
            key: About((key.removeprefix("Patient/"),), ("Organization/h",))
            for key in keys
            if key.startswith("Patient/")
        }


@pytest.fixture
def folder(tmp_path):
    with opened(tmp_path / FOLDER):
        return tmp_path / FOLDER


def open_journal(folder, limit=1 << 20):
    return Journal(folder, lambda: register_journal(folder, "worker-1"), limit)


def folded(folder):
    with opened(folder) as connection:
        count = fold(connection, folder, Nobody())
        remove_ended(connection, folder)
        return count


def faults(folder, expected=None):
    with opened(folder, read_only=True) as connection:
        return [fault.rule for fault in verify(connection, folder, expected)]


# ---- lines


@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text()), st.integers(0, 1 << 60))
def test_a_line_put_together_of_parts_is_the_record_encoded(words, keys, time):
    user, client, address, note = words
    principal = Principal("g", client, "", user=user, roles=("doctor", note), grant="g", patient="p")
    parts = (
        line.exchange("GET", "/{type}/{id}", "read", "Patient"),
        "200",
        line.People().of(principal),
        line.text(address),
        line.text(""),
        line.part(keys),
        line.NONE,
        line.text(""),
        line.text(note),
        line.NONE,
    )
    made = decode(f'[1,2,"request",{time},"r",{",".join(parts)}]'.encode())
    assert made == Record(
        1, 2, "request", time, "r", "GET", "/{type}/{id}", "read", "Patient", 200, user, "", ("doctor", note), "", client, "g", "p",
        address, keys=tuple(keys), note=note,
    )  # fmt: skip


def test_a_user_whose_roles_have_changed_is_told_with_the_new_ones():
    people = line.People()
    nurse = Principal("g", "app", "", user="jane", roles=("nurse",))
    doctor = Principal("g", "app", "", user="jane", roles=("doctor",))
    assert [people.of(one) for one in (nurse, doctor, nurse)] == [
        line.part("jane", "", (role,), "", "app", "", "") for role in ("nurse", "doctor", "nurse")
    ]


def test_more_people_than_are_kept_are_all_told(monkeypatch):
    monkeypatch.setattr(line, "_KEPT", 2)
    people = line.People()
    for number in range(10):
        assert people.of(Principal("g", "app", "", user=f"u{number}")).startswith(f'"u{number}"')


def change(folder, sql, *values):
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        connection.execute(sql, values)


def filled(folder, count=6):
    journal = open_journal(folder)
    for number in range(count):
        journal.append("request", *fields(time=number + 1, user="jane", keys=(f"Patient/p{number}",), status=200))
    journal.close()
    return folded(folder)


texts = st.text(max_size=8)


@given(st.lists(st.tuples(texts, st.lists(texts, max_size=3)), max_size=6))
def test_a_record_of_any_text_is_one_line_and_comes_back(rows):
    before = b"0" * 64
    for user, keys in rows:
        record = Record(1, 1, "request", 5, user=user, keys=tuple(keys))
        body = encode(record)
        assert b"\n" not in body
        assert decode(body) == record
        assert chained(before, body) != (before := chained(before, body + b" "))


def test_what_was_appended_is_in_the_file_before_append_returns(folder):
    journal = open_journal(folder)
    try:
        place = journal.append("request", *fields(status=200))
        line = journal_path(folder, 1).read_bytes()
        assert place == "1.1"
        assert line.endswith(b"\n")
        assert decode(line[65:-1]).status == 200
    finally:
        journal.close()


def test_the_files_are_the_owners_alone(folder):
    journal = open_journal(folder)
    journal.close()
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_folding_a_journal_under_way_takes_each_record_once(folder):
    journal = open_journal(folder)
    journal.append("request", *fields(status=200))
    assert folded(folder) == 1
    assert folded(folder) == 0
    journal.append("request", *fields(status=200))
    assert folded(folder) == 1
    assert journal_path(folder, 1).exists()
    journal.close()
    folded(folder)
    assert not journal_path(folder, 1).exists()
    assert faults(folder) == []


def test_a_full_journal_is_followed_by_another_and_nothing_is_lost(folder, monkeypatch):
    monkeypatch.setattr(journals, "SYNC_EVERY", 0.001)
    journal = open_journal(folder, limit=400)
    count = 0
    while journal._file.number < 3:
        journal.append("request", *fields(status=200))
        count += 1
    journal.close()
    assert folded(folder) == count
    assert faults(folder) == []


def test_a_write_that_the_disk_refuses_leaves_no_part_of_a_line(folder, monkeypatch):
    journal = open_journal(folder)
    journal.append("request", *fields(status=200))
    whole = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, line: whole(descriptor, line[:20]))
        with pytest.raises(OSError, match="No space"):
            journal.append("request", *fields(status=201))
    journal.append("request", *fields(status=202))
    journal.close()
    assert folded(folder) == 2
    assert faults(folder) == []


def test_a_torn_last_line_of_an_ended_journal_is_told_and_is_no_fault(folder):
    journal = open_journal(folder)
    journal.append("request", *fields(status=200))
    journal.close()
    with journal_path(folder, 1).open("ab") as file:
        file.write(b"0" * 64 + b" [1,2,")
    assert folded(folder) == 2
    assert faults(folder) == ["torn"]


def lines_of(folder):
    return journal_path(folder, 1).read_bytes().splitlines(keepends=True)


TAMPERED_JOURNALS = {
    "a line is changed": lambda lines: [lines[0], lines[1].replace(b"jane", b"jack"), lines[2]],
    "a line is removed": lambda lines: [lines[0], lines[2]],
    "two lines change places": lambda lines: [lines[0], lines[2], lines[1]],
    "a line is there twice": lambda lines: [lines[0], lines[0], lines[1], lines[2]],
    "a line cannot be read": lambda lines: [lines[0], b"x\n", lines[2]],
    "a time is beyond all times": lambda lines: [
        lines[0],
        lines[1].replace(b'"request",2', b'"request",%d' % 2**70),
        lines[2],
    ],
    "what was begun is no place": lambda lines: [lines[0], lines[1].replace(b'"","",[]]', b'"x.y","",[]]'), lines[2]],
}


@pytest.mark.parametrize("how", TAMPERED_JOURNALS)
@pytest.mark.parametrize("when", ["before folding", "after it was looked at"])
def test_a_journal_that_was_tampered_with_is_found_out(folder, how, when):
    journal = open_journal(folder)
    for number in range(3):
        journal.append("request", *fields(time=number + 1, user="jane", status=200))
    journal.close()
    before = lines_of(folder)
    assert TAMPERED_JOURNALS[how](before) != before
    journal_path(folder, 1).write_bytes(b"".join(TAMPERED_JOURNALS[how](before)))
    if when == "after it was looked at":
        assert "journal" in faults(folder)
    folded(folder)
    assert "journal" in faults(folder)


def test_a_journal_that_is_gone_is_found_out(folder):
    journal = open_journal(folder)
    journal.append("request", *fields(status=200))
    journal.close()
    journal_path(folder, 1).unlink()
    assert faults(folder) == ["journal"]
    assert folded(folder) == 0
    change(folder, "UPDATE journal SET opened = 0")
    assert folded(folder) == 1
    assert faults(folder) == ["journal"]


def test_a_journal_that_was_registered_and_is_not_there_yet_is_not_gone(folder):
    number = register_journal(folder, "worker-1")
    assert folded(folder) == 0
    journal_path(folder, number).touch()
    assert folded(folder) == 0
    journal_path(folder, number).unlink()
    journal = Journal(folder, lambda: number, 1 << 20)
    journal.append("request", *fields(status=200))
    journal.close()
    assert folded(folder) == 1
    assert faults(folder) == []


def test_an_empty_journal_that_nobody_holds_is_removed_later(folder):
    open_journal(folder).close()
    folded(folder)
    assert journal_path(folder, 1).exists()
    change(folder, "UPDATE journal SET opened = 0")
    folded(folder)
    assert not journal_path(folder, 1).exists()
    assert faults(folder) == []


def test_a_journal_that_nobody_registered_is_found_out(folder):
    filled(folder)
    journal_path(folder, 99).write_bytes(b"")
    assert faults(folder) == ["journal"]


TAMPERED_LEDGERS = {
    "a record is changed": ("UPDATE record SET body = replace(body, 'jane', 'jack') WHERE seq = 3", {"chain", "index"}),
    "its patients are changed": ("UPDATE record SET about = '[[],[]]' WHERE seq = 3", {"chain", "index"}),
    "a record is no record": ("UPDATE record SET body = 5 WHERE seq = 3", {"chain", "gap"}),
    "its hash is changed": ("UPDATE record SET hash = zeroblob(32) WHERE seq = 3", {"chain"}),
    "a record is removed": ("DELETE FROM record WHERE seq = 3", {"gap", "chain", "index"}),
    "the first record is removed": ("DELETE FROM record WHERE seq = 1", {"gap", "chain", "index"}),
    "the last record is removed": ("DELETE FROM record WHERE seq = 6", {"head", "index"}),
    "all records are removed": ("DELETE FROM record", {"head", "index"}),
    "two records change places": (
        "UPDATE record SET body = (SELECT body FROM record AS other WHERE other.seq = 7 - record.seq)",
        {"chain", "index"},
    ),
    "a record is hidden from a search": ("DELETE FROM patient WHERE first = 3", {"index"}),
    "a record is hidden from a search among others": ("UPDATE party SET seqs = '[1,2,4,5,6]'", {"index"}),
    "a record is hidden from a search by another": ("UPDATE party SET seqs = '[1,2,4,4,5,6]'", {"index"}),
    "records are hidden by what cannot be read": ("UPDATE party SET seqs = '[1,'", {"index"}),
    "records are hidden by a later place": ("UPDATE party SET first = 4", {"index"}),
    "a record is given to another organization": (
        "UPDATE record SET about = replace(about, 'Organization/h', 'Organization/x') WHERE seq = 3",
        {"chain"},
    ),
    "a record is found by what it is not about": ("INSERT INTO patient VALUES ('x', 3, '[3]')", {"index"}),
    "a record is found twice": ("UPDATE party SET seqs = '[1,2,3,4,5,6,6]'", {"index"}),
    "its outcome is changed": ("UPDATE record SET outcome = '4' WHERE seq = 3", {"index"}),
    "the head is moved": (
        "UPDATE head SET seq = 5, hash = (SELECT hash FROM record WHERE seq = 5)",
        {"signature", "head"},
    ),
    "the head is removed": ("DELETE FROM head", {"head"}),
    "a checkpoint is made up": (
        "INSERT INTO checkpoint SELECT seq, hash, 1, 1, zeroblob(64) FROM record WHERE seq = 2",
        {"signature"},
    ),
}


@pytest.mark.parametrize("how", TAMPERED_LEDGERS)
def test_a_ledger_that_was_tampered_with_is_found_out(folder, how):
    assert filled(folder) == 6
    assert faults(folder) == []
    sql, wanted = TAMPERED_LEDGERS[how]
    change(folder, sql)
    assert wanted <= set(faults(folder))


def test_a_ledger_that_was_chained_anew_is_found_out_by_the_signature(folder):
    filled(folder)
    change(folder, "DELETE FROM record WHERE seq = 6")
    for table in ("entity", "patient"):
        change(folder, f"DELETE FROM {table} WHERE first = 6")
    change(folder, "UPDATE party SET seqs = '[1,2,3,4,5]'")
    change(folder, "UPDATE head SET seq = 5, hash = (SELECT hash FROM record WHERE seq = 5)")
    assert faults(folder) == ["signature"]


def test_an_earlier_head_that_was_kept_shows_that_the_whole_trail_was_put_back(folder):
    filled(folder)
    with opened(folder, read_only=True) as connection:
        number, link = head(connection)
    assert faults(folder, (number, link)) == []
    assert faults(folder, (number + 1, link)) == ["head"]
    assert faults(folder, (number, "0" * 64)) == ["head"]


def test_pruning_leaves_a_signed_checkpoint_from_which_the_chain_goes_on(folder):
    filled(folder)
    with opened(folder) as connection:
        assert prune(connection, folder, 4 + 10 * DAY, 10) == 3
        assert prune(connection, folder, 4 + 10 * DAY, 10) == 0
        assert connection.execute("SELECT min(seq), count(*) FROM record").fetchone() == (4, 3)
        assert connection.execute("SELECT count(*) FROM patient").fetchone() == (3,)
    assert faults(folder) == []
    filled(folder)
    assert faults(folder) == []
    change(folder, "DELETE FROM record WHERE seq = 4")
    assert "gap" in faults(folder)


def test_pruning_everything_goes_on_from_the_checkpoint(folder):
    filled(folder)
    with opened(folder) as connection:
        assert prune(connection, folder, 100 * DAY, 10) == 6
    assert faults(folder) == []
    filled(folder)
    assert faults(folder) == []
    change(folder, "UPDATE checkpoint SET until = 5")
    assert faults(folder) == ["signature"]


def test_zero_days_keep_everything(folder):
    filled(folder)
    with opened(folder) as connection:
        assert prune(connection, folder, 10_000 * DAY, 0) == 0


def shown(folder):
    with opened(folder, read_only=True) as connection:
        rows = connection.execute("SELECT body FROM record WHERE shown = 1 ORDER BY seq")
        return [(record.kind, record.status) for record in (decode(body) for (body,) in rows)]


def test_a_write_that_was_begun_is_shown_once_its_process_ended_without_an_answer(folder):
    journal = open_journal(folder)
    place = journal.append("begun", *fields(method="PUT"))
    journal.append("request", *fields(method="PUT", status=201, begun=place))
    journal.append("begun", *fields(method="PUT"))
    folded(folder)
    assert shown(folder) == [("request", 201)]
    journal.close()
    folded(folder)
    assert shown(folder) == [("request", 201), ("begun", 0)]
    assert faults(folder) == []


def test_an_answer_that_is_folded_before_what_it_answers_hides_it(folder):
    former, latter = open_journal(folder), open_journal(folder)
    latter.append("request", *fields(method="PUT", status=200, begun="1.1"))
    folded(folder)
    former.append("begun", *fields(method="PUT"))
    folded(folder)
    former.close()
    latter.close()
    folded(folder)
    assert shown(folder) == [("request", 200)]
    assert faults(folder) == []


def test_what_was_begun_is_shown_until_its_answer_is_in_the_following_journal(folder):
    """As a command does, whose journals hold one record each."""
    journal = open_journal(folder)
    place = journal.append("begun", *fields(method="PUT"))
    journal.close()
    folded(folder)
    assert shown(folder) == [("begun", 0)]
    journal = open_journal(folder)
    journal.append("request", *fields(method="PUT", status=200, begun=place))
    journal.close()
    folded(folder)
    assert shown(folder) == [("request", 200)]


def told(folder):
    """All that a search can find: the records, and by table and name their numbers."""
    with opened(folder, read_only=True) as connection:
        records = connection.execute("SELECT seq, time, about, shown, outcome, action, code FROM record").fetchall()
        names = {}
        for table in ("party", "entity", "patient"):
            rows = connection.execute(f"SELECT name, value FROM {table}, json_each(seqs) ORDER BY value")
            for name, seq in rows:
                names.setdefault((table, name), []).append(seq)
        return records, names


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["read", "begin", "answer"]),
        st.sampled_from(["jane", "joe"]),
        st.lists(st.sampled_from(["Patient/p", "Patient/q", "Observation/o"]), unique=True),
    ),
    max_size=12,
)


@settings(max_examples=20)
@given(requests=REQUESTS, torn=st.booleans(), size=st.sampled_from([200, 500, 1000]))
def test_the_size_of_slices_changes_nothing(tmp_path_factory, requests, torn, size):
    """The second half of the requests is in a second journal."""
    one = tmp_path_factory.mktemp("one") / FOLDER
    with opened(one):
        pass
    journal, begun, expected = open_journal(one), [], []
    for number, (what, user, keys) in enumerate(requests):
        if number == len(requests) // 2:
            journal.close()
            journal = open_journal(one)
        given = {"time": number, "user": user, "client": "app", "keys": tuple(keys)}
        expected.append(1)
        if what == "begin":
            begun.append((number, journal.append("begun", *fields(method="PUT", **given))))
        elif what == "answer" and begun:
            hidden, place = begun.pop()
            expected[hidden] = 0
            journal.append("request", *fields(method="PUT", status=201, begun=place, **given))
        else:
            journal.append("request", *fields(code="read", status=200, **given))
    journal.close()
    if torn:
        with journal_path(one, journal._file.number).open("ab") as file:
            file.write(b"0" * 64 + b" [1,2,")
    other = one.with_name("other")
    shutil.copytree(one, other)
    assert folded(one) == len(requests) + torn
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(folding, "SLICE", size)
        assert folded(other) == len(requests) + torn
    (records, names), (other_records, other_names) = told(one), told(other)
    assert [shown for _, _, _, shown, *_ in records[: len(requests)]] == expected
    assert records[: len(requests)] == other_records[: len(requests)]  # when it was torn is told by the clock
    assert names == other_names
    for seq, (what, user, keys) in enumerate(requests, 1):
        for name in [("party", f"@{user}"), ("party", "@app"), *(("entity", key) for key in keys)]:
            assert seq in names[name], what
    assert faults(one) == faults(other) == (["torn"] if torn else [])


def test_a_record_longer_than_a_slice_is_folded(folder, monkeypatch):
    monkeypatch.setattr(folding, "SLICE", 1000)
    journal = open_journal(folder)
    for count in (1, 200, 1):
        journal.append("request", *fields(status=200, keys=tuple(f"Patient/p{number}" for number in range(count))))
    journal.close()
    assert folded(folder) == 3
    assert faults(folder) == []


def test_a_line_without_an_end_is_told_and_passed_over(folder, monkeypatch):
    monkeypatch.setattr(folding, "SLICE", 100)
    monkeypatch.setattr(folding, "LONGEST", 1000)
    journal = open_journal(folder)
    journal.append("request", *fields(status=200))
    journal.close()
    with journal_path(folder, 1).open("ab") as file:
        file.write(b"x" * 1500)
    assert folded(folder) == 3
    assert faults(folder) == ["journal", "torn"]


def test_folding_leaves_when_it_is_time_and_others_hold_the_ledger(folder):
    journal = open_journal(folder)
    journal.append("request", *fields(status=200))
    journal.close()
    asked = []
    with opened(folder) as connection, closing(FileLock(folder / DATABASE)) as lock:
        with lock.held():
            assert fold(connection, folder, Nobody(), lambda: asked.append(1) or len(asked) > 3) == 0
        assert fold(connection, folder, Nobody()) == 1


def test_a_ledger_of_the_first_layout_is_taken_over(folder):
    filled(folder, 5)
    journal = open_journal(folder)
    journal.append("begun", *fields(user="joe", client="app", keys=("Observation/o", "Patient/p1"), method="PUT"))
    folded(folder)
    records, names = told(folder)
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        for table in ("party", "entity", "patient"):
            rows = connection.execute(f"SELECT name, value FROM {table}, json_each(seqs)").fetchall()
            connection.execute(f"DROP TABLE {table}")
            connection.execute(next(sql for sql in MIGRATIONS[0] if sql.startswith(f"CREATE TABLE {table}(")))
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        for sql in MIGRATIONS[0]:
            if " organization" in sql:
                connection.execute(sql)
        connection.execute("PRAGMA user_version = 1")
    journal.append("request", *fields(user="joe", client="app", method="PUT", status=200, begun="2.1"))
    journal.close()
    assert folded(folder) == 1
    assert faults(folder) == []
    after, after_names = told(folder)
    assert after[:-1] == records
    assert after_names == {**names, ("party", "@joe"): [6, 7], ("party", "@app"): [6, 7]}
    assert shown(folder)[-1] == ("request", 200)


def test_the_patients_of_a_resource_are_those_of_its_compartments_also_when_it_is_deleted(small_store):
    with small_store.connect(read_only=True) as connection:
        patients = Patients(connection, lambda: extractor_for(small_store.settings))
        found = patients.of(
            ("Patient/p", "Observation/o", "ValueSet/v", "Observation/x", "Patient/gone", "Patient/unknown", "x")
        )
    assert {key: about.patients for key, about in found.items()} == {
        "Patient/p": ("p",),
        "Observation/o": ("p",),
        "ValueSet/v": (),
        "Observation/x": (),
        "Patient/gone": ("gone",),
        "Patient/unknown": ("unknown",),
        "x": (),
    }
    assert found["Observation/o"].organizations == ("Organization/h",)
    assert found["Patient/unknown"].organizations == ()


def test_more_resources_than_are_kept_are_all_told(small_store, monkeypatch):
    monkeypatch.setattr(looking, "_KEPT", 2)
    with small_store.connect(read_only=True) as connection:
        patients = Patients(connection, lambda: extractor_for(small_store.settings))
        for keys in (
            ["Patient/p", "Observation/o"],
            ["Observation/o", "ValueSet/v"],
            ["Patient/a", "Patient/b", "Observation/o"],
        ):
            found = patients.of(keys)
            assert found["Observation/o"] == About(("p",), ("Organization/h",))
            assert set(keys) <= found.keys()


def run(*arguments):
    return CliRunner().invoke(app, ["audit", *arguments])


def test_the_command_verifies_and_exports(small_store):
    place = small_store.folder / FOLDER
    with opened(place):
        journal = open_journal(place)
        journal.append("request", *fields(time=1_000_000, keys=("Observation/o",), code="read", status=200))
        journal.close()
    done = run("verify", "--data-dir", str(small_store.folder), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["records"], told["findings"]) == (1, [])
    assert run("verify", "--data-dir", str(small_store.folder), "--head", told["head"]).exit_code == 0
    events = run("export", "--data-dir", str(small_store.folder)).stdout.splitlines()
    assert [json.loads(line)["entity"][0]["what"]["reference"] for line in events] == ["Patient/p"]
    change(place, "UPDATE record SET time = 5")
    done = run("verify", "--data-dir", str(small_store.folder))
    assert done.exit_code == 1
    assert done.stdout.startswith("index\trecord 1\t")


@pytest.mark.parametrize(("arguments", "code"), [(("--head", "x"), 2), ((), 1)])
def test_the_command_refuses_what_it_cannot_use(small_store, arguments, code):
    done = run("verify", "--data-dir", str(small_store.folder), *arguments)
    assert done.exit_code == code


def test_what_was_folded_is_moved_into_the_file_while_the_connection_stays_open(small_store, monkeypatch):
    monkeypatch.setattr(keeper, "CHECKPOINT_EVERY", -1.0)
    place = small_store.folder / FOLDER
    with keeper.folding(small_store.folder, SqliteOptions(), lambda: None) as one:
        journal = open_journal(place)
        journal.append("request", *fields(status=200, keys=("Patient/p",)))
        assert one.fold() == 1
        journal.append("request", *fields(status=200, keys=("Patient/p",)))
        assert one.fold() == 1
        with closing(sqlite3.connect(f"file:{place / DATABASE}?immutable=1", uri=True)) as without_wal:
            assert without_wal.execute("SELECT count(*) FROM record").fetchone() == (1,)
        journal.close()
    assert faults(place) == []


def test_folding_from_outside_needs_the_store_alone(small_store):
    with opened(small_store.folder / FOLDER):
        pass
    assert fold_now(small_store.folder, SqliteOptions(), lambda: None) == 0
    with closing(connect(small_store.folder / FOLDER / DATABASE, SqliteOptions(), read_only=True)) as connection:
        assert head(connection) == (0, "0" * 64)
