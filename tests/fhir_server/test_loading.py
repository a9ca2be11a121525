"""Loading files: what comes in, once and only once, whatever happens meanwhile."""

import asyncio
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import pytest

from fhir_server.interactions.assembly import DATABASE
from fhir_server.loading.ledger import entry
from fhir_server.loading.sources import CannotLoad, Unreadable, content, digest, files_of, lines
from fhir_server.storage.sqlite.connection import SqliteOptions
from fhir_server.storage.sqlite.store import SqliteStore
from resources.model import ResourceKey
from search.narrowing import EVERYTHING

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("FHIR_")}


def patient(name, **more):
    return {"resourceType": "Patient", "id": name, "name": [{"family": name.title()}], **more}


def command(folder, *paths):
    return [
        sys.executable,
        "-m",
        "fhir_server.cli",
        "load",
        *map(str, paths),
        "--data-dir",
        str(folder),
        "--processes",
        "1",
    ]


def load(folder, *paths):
    return subprocess.run(command(folder, *paths), capture_output=True, text=True, timeout=120, env=CLEAN, check=False)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def count(folder, kind=None):
    """Current resources of the store, without the product's reading."""
    sql = "SELECT count(*) FROM resource JOIN type ON type.number = resource.type WHERE state = 1"
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return connection.execute(f"{sql} AND name = ?" if kind else sql, (kind,) if kind else ()).fetchone()[0]


def read(folder, kind, name):
    store = SqliteStore.open(folder / DATABASE, SqliteOptions())
    try:
        return json.loads(asyncio.run(store.read(ResourceKey(kind, name), EVERYTHING)).body)
    finally:
        store.close_sync()


def transaction(*resources, method="POST"):
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": f"urn:uuid:00000000-0000-4000-8000-{number:012}",
                "resource": resource,
                "request": {"method": method, "url": resource["resourceType"]},
            }
            for number, resource in enumerate(resources)
        ],
    }


def test_folders_give_their_files_and_those_that_others_refer_to_come_first(tmp_path):
    names = ["b.json", "a.ndjson.gz", "hospital-01.json", "practitionerInformation1.json.gz", "note.txt"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    first, others = files_of([tmp_path, tmp_path / "b.json"])
    assert [path.name for path in first] == ["hospital-01.json", "practitionerInformation1.json.gz"]
    assert [path.name for path in others] == ["a.ndjson.gz", "b.json"]


@pytest.mark.parametrize("name", ["none.json", "note.txt", "empty"])
def test_what_cannot_be_loaded_is_named(tmp_path, name):
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CannotLoad, match=name):
        files_of([tmp_path / name])


def test_packing_does_not_change_what_a_file_is(tmp_path):
    (tmp_path / "a.json").write_bytes(b"{}\n")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"{}\n"))
    assert digest(tmp_path / "a.json") == digest(tmp_path / "a.json.gz")
    assert content(tmp_path / "a.json.gz") == b"{}\n"


def test_a_broken_archive_is_unreadable(tmp_path):
    for name, body in (("a.json.gz", b"no archive"), ("b.json.gz", gzip.compress(b"x" * 1000)[:-12])):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(Unreadable):
            content(tmp_path / name)


def test_blank_lines_are_passed_over_and_keep_their_numbers(tmp_path):
    (tmp_path / "a.ndjson").write_bytes(b'{"a":1}\n\n  \r\n{"b":2}\r\n')
    assert list(lines(tmp_path / "a.ndjson")) == [(0, b'{"a":1}'), (3, b'{"b":2}')]


def test_a_ledger_row_holds_ranges():
    row = entry("ab", [3, 4, 5, 9])
    assert (row.kind, row.key, row.data) == ("ledger", "ab/000000003", {"parts": [[3, 5], [9, 9]]})


def test_every_kind_of_file_is_loaded_once(tmp_path):
    files, data = tmp_path / "files", tmp_path / "data"
    link = "urn:uuid:00000000-0000-4000-8000-000000000000"
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": link},
    }
    write(files / "transaction.json", transaction(patient("x"), observation))
    collected = [
        {"fullUrl": link, "resource": patient("collected")},
        {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000009", "resource": {**observation, "id": "seen"}},
    ]
    write(files / "collection.json", {"resourceType": "Bundle", "type": "collection", "entry": collected})
    write(files / "alone.json", patient("alone", birthDate="1990"))
    text = "\n".join(json.dumps(patient(f"line-{number}")) for number in range(150))
    (files / "lines.ndjson.gz").write_bytes(gzip.compress(text.encode()))

    done = load(data, files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("155 resources loaded from 4 files")
    assert read(data, "Observation", "seen")["subject"]["reference"] == "Patient/collected"
    assert read(data, "Patient", "alone")["birthDate"] == "1990"

    again = load(data, files)
    assert again.returncode == 0
    assert again.stdout.startswith("0 resources loaded from 4 files")
    assert "153 parts were there already" in again.stdout
    assert (count(data), count(data, "Patient")) == (155, 153)


def test_what_is_loaded_belongs_to_the_organization_that_is_named(tmp_path):
    file = write(tmp_path / "in" / "a.json", patient("a"))
    for wrong in ("h", "Patient/h", "https://other.example/fhir/Organization/h"):
        done = load(tmp_path, file, "--organization", wrong)
        assert done.returncode == 2
        assert "Organization/ID" in done.stderr
    assert load(tmp_path, file, "--organization", "Organization/h").returncode == 0
    sql = """SELECT owned.id, owner_.id FROM owner JOIN resource owned ON owned.rid = owner.rid
        JOIN resource owner_ ON owner_.rid = owner.organization"""
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert connection.execute(sql).fetchall() == [("a", "h")]


def test_what_fails_is_told_and_the_rest_is_loaded(tmp_path):
    files, data = tmp_path / "files", tmp_path / "data"
    write(files / "wrong.json", transaction(patient("x", gender="none"), patient("y", birthdate="1990")))
    write(files / "right.json", transaction(patient("z")))
    write(files / "batch.json", {"resourceType": "Bundle", "type": "batch"})
    (files / "torn.json").write_text('{"resourceType": ')
    (files / "lines.ndjson").write_text(
        "\n".join(
            json.dumps(row)
            for row in (patient("a"), {"resourceType": "Patient"}, patient("b", gender="none"), patient("c"))
        )
    )
    for _ in range(2):
        done = load(data, files)
        assert done.returncode == 1
        assert "4 files failed" in done.stdout
        for words in (
            "wrong.json: Bundle.entry[0].resource.gender",
            "Bundle.entry[1].resource.birthdate",
            "type 'batch'",
        ):
            assert words in done.stderr
        for words in ("torn.json: ", "lines.ndjson: line 2: ", "lines.ndjson: line 3: "):
            assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert count(data) == 3


def test_a_file_that_needs_a_later_one_is_tried_again_at_the_end(tmp_path):
    files, data = tmp_path / "files", tmp_path / "data"
    doctor = {"resourceType": "Practitioner", "identifier": [{"system": "urn:x", "value": "7"}]}
    reference = {"reference": "Practitioner?identifier=urn:x|7"}
    write(files / "a.json", transaction(patient("p", generalPractitioner=[reference])))
    write(files / "b.json", transaction(doctor))
    done = load(data, files)
    assert done.returncode == 0, done.stderr
    assert (count(data, "Patient"), count(data, "Practitioner")) == (1, 1)


@pytest.mark.serial
def test_a_load_that_was_killed_goes_on_where_it_was(tmp_path):
    files, data = tmp_path / "files", tmp_path / "data"
    for number in range(30):
        write(files / f"{number:02}.json", transaction(*(patient(f"p{number}-{each}") for each in range(20))))
    (files / "zz.ndjson").write_text("\n".join(json.dumps(patient(f"line-{number}")) for number in range(600)))
    for patience in (0.0, 0.03, 0.08):
        process = subprocess.Popen(
            command(data, files), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=CLEAN
        )
        begun = count(data) if (data / DATABASE).exists() else 0
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None:
            if (data / DATABASE).exists() and _grown(data, begun):
                break
            time.sleep(0.002)
        time.sleep(patience)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = load(data, files)
    assert done.returncode == 0, done.stderr
    assert count(data, "Patient") == 30 * 20 + 600


def _grown(data, begun):
    try:
        return count(data) > begun
    except sqlite3.OperationalError:  # the tables are not there yet
        return False


def test_a_second_load_into_one_store_is_refused(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    write(tmp_path / "a.json", patient("a"))
    data = tmp_path / "data"
    data.mkdir()
    with (data / f"{DATABASE}.load").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = load(data, tmp_path / "a.json")
    assert done.returncode == 1
    assert "another load" in done.stderr


@pytest.mark.shared
def test_all_of_the_shared_synthea_data_is_loaded(tmp_path, shared_data):
    expected = Counter()
    for path in sorted((shared_data / "synthea").iterdir()):
        expected.update(
            row["resource"]["resourceType"] for row in json.loads(gzip.decompress(path.read_bytes()))["entry"]
        )
    done = load(tmp_path, shared_data / "synthea")
    assert done.returncode == 0, done.stderr
    assert {kind: count(tmp_path, kind) for kind in expected} == expected
