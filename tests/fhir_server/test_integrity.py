"""`check`: a sound store has no findings, and damage of each kind is found under its rule, without a value being told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fhir_server.integrity import RULES, Tally, check_store
from fhir_server.integrity import check as check_module
from fhir_server.integrity.bases import extractor_of, own_bases, remember_bases
from fhir_server.settings import Settings
from fhir_server.storage.sqlite.connection import FileLock

DAMAGE = json.loads((Path(__file__).parent.parent / "cases" / "store_damage.json").read_text())
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("FHIR_")}


def findings_of(store, tally=None, **options):
    with store.connect(read_only=True) as connection:
        _, extractor = extractor_of(connection, store.settings)
        return list(check_store(connection, extractor, tally or Tally(), **options))


def run(*arguments):
    command = [sys.executable, "-m", "fhir_server.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=CLEAN, check=False)


def test_a_sound_store_has_no_findings(small_store):
    tally, seen = Tally(), []
    assert findings_of(small_store, tally, thorough=True, progress=lambda: seen.append(tally.resources)) == []
    assert (tally.resources, tally.versions) == (5, 9)
    assert tally.rows > 20
    assert seen == [5]


def test_slices_change_nothing(small_store, monkeypatch):
    monkeypatch.setattr(check_module.slice_end, "__defaults__", (1,))
    tally, seen = Tally(), []
    assert findings_of(small_store, tally, progress=lambda: seen.append(1)) == []
    assert len(seen) > tally.resources == 5


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in DAMAGE])
def test_damage_is_found(small_store, case):
    with small_store.connect() as connection:
        for sql in case["sql"]:
            done = connection.execute(sql, small_store.rids)
            assert done.rowcount != 0
    found = findings_of(small_store)
    assert [finding for finding in found if finding.rule == case["rule"] and case["where"] in finding.where], found
    told = " ".join(f"{finding.where} {finding.detail}" for finding in found)
    for value in ("Chalmers", "chalmers", "1974", "29463", "Careful"):
        assert value not in told


def test_every_rule_is_tried():
    assert {case["rule"] for case in DAMAGE} | {"file"} == set(RULES)


def test_references_are_read_with_the_bases_the_store_was_served_under(small_store):
    served = Settings(public_url="https://hospital.example.org")
    with small_store.connect() as connection:
        lock = FileLock(small_store.database)
        assert own_bases(connection, small_store.settings)[0] == small_store.settings.base
        for _ in range(2):
            remember_bases(connection, lock, served)
            assert own_bases(connection, small_store.settings)[0] == "https://hospital.example.org/fhir"
        lock.close()


def test_the_command_lists_findings_and_fails(small_store):
    sound = run("check", "--data-dir", small_store.folder)
    assert (sound.returncode, sound.stdout) == (0, ""), sound.stderr
    assert "5 resources, 9 versions" in sound.stderr
    with small_store.connect() as connection:
        connection.execute("DELETE FROM compartment WHERE rid = :observation", small_store.rids)
    broken = run("check", "--data-dir", small_store.folder, "--json")
    assert broken.returncode == 1
    report = json.loads(broken.stdout)
    assert [(row["rule"], row["where"]) for row in report["findings"]] == [("compartment", "Observation/o")]
    assert "1 finding" in broken.stderr


def test_a_torn_file_is_a_finding(small_store):
    with small_store.database.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(b"\xff" * 4096 * 24)
    done = run("check", "--data-dir", small_store.folder)
    assert done.returncode == 1
    assert done.stdout.startswith("file\t")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["check"], ["info"], ["jobs"], ["reindex"], ["backup", "--out", "x.tar"]])
def test_a_store_that_is_not_there_is_not_made(tmp_path, command):
    done = run(*command, "--data-dir", tmp_path / "none")
    assert done.returncode == 1
    assert "there is no store" in done.stderr
    assert not (tmp_path / "none").exists()


def test_info_describes_the_store(small_store):
    shown = run("info", "--data-dir", small_store.folder)
    assert shown.returncode == 0, shown.stderr
    assert "5, 9 versions" in " ".join(shown.stdout.split())
    assert "last backup none" in " ".join(shown.stdout.split())
    found = json.loads(run("info", "--data-dir", small_store.folder, "--json", "--exact").stdout)
    assert found["resources"]["Patient"] == 1
    assert found["index_rows"]["token"] > 0
    assert found["first_write"] < found["last_write"]
