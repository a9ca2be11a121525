"""SIGKILL of all processes at any moment: whatever was answered, and whatever was written, is in the audit trail, and the trail verifies."""

import json
import subprocess
import threading
import time
from collections import Counter
from random import Random

import httpx2
import pytest

from tests.servers import CLEAN, FHIR, PRODUCT, Server

RECORDED = {"FHIR_AUDIT__ENABLED": "true"}

pytestmark = pytest.mark.serial
CLIENTS = 4


def work(url, number, seconds, answered):
    """Create, read and refuse until the server is gone; note the ids of requests whose answer came."""
    end = time.monotonic() + seconds
    with httpx2.Client(base_url=f"{url}/", timeout=10) as client:
        for turn in range(100_000):
            if time.monotonic() > end:
                return
            name = f"c{number}-{turn}"
            headers = {"X-Request-Id": name}
            try:
                match turn % 3:
                    case 0:
                        body = json.dumps({"resourceType": "Patient", "id": name})
                        answer = client.put(f"Patient/{name}", content=body, headers=FHIR | headers)
                    case 1:
                        answer = client.get(f"Patient/c{number}-{turn - 1}", headers=headers)
                    case _:
                        answer = client.get(f"Patient/none-{name}", headers=headers)
            except httpx2.HTTPError:
                return
            answered[name] = answer.status_code


def trail_of(folder):
    """The events that the trail tells: (request id, status) -> how often, and the ids of what was begun and never answered."""
    done = subprocess.run(
        [*PRODUCT, "audit", "export", "--data-dir", str(folder)], capture_output=True, text=True, check=True, env=CLEAN
    )
    found, lost = Counter(), set()
    for line in done.stdout.splitlines():
        event = json.loads(line)
        name = event["entity"][-1]["what"]["identifier"]["value"]
        status = event["outcomeDesc"].split()[0]
        if status.isdigit():
            found[name, int(status)] += 1
        else:
            lost.add(name)
    return found, lost


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.full), pytest.param(3, marks=pytest.mark.full)])
def test_nothing_that_was_answered_or_written_is_missing_after_a_kill(tmp_path, seed):
    random = Random(seed)
    folder = tmp_path / "data"
    server = Server(folder, workers=2, environment={**RECORDED, "FHIR_AUDIT__JOURNAL_MIB": "0.02"})
    answered = {}
    for turn in range(2):
        server.start()
        threads = [
            threading.Thread(target=work, args=(server.url, f"{turn}.{number}", 5.0, answered))
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1.0 + random.random())
        server.kill()
        for thread in threads:
            thread.join()
    found, lost = trail_of(folder)
    missing = [name for name, status in answered.items() if not found[name, status]]
    assert len(answered) > 50
    assert missing == []
    assert max(found.values()) == 1, "a record was folded twice"
    assert not lost & answered.keys()
    verified = subprocess.run(
        [*PRODUCT, "audit", "verify", "--data-dir", str(folder), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=CLEAN,
    )
    assert verified.returncode == 0, verified.stdout
    with server.start(), server.client() as client:
        told = {name for name, _ in found} | lost
        query = {"_count": 1000, "_elements": "id"}
        written = [entry["resource"]["id"] for entry in client.get("Patient", params=query).json()["entry"]]
        assert [name for name in written if name not in told] == [], "written and in no record"


def test_a_running_server_folds_its_journals_and_removes_those_of_former_processes(tmp_path):
    folder = tmp_path / "data"
    server = Server(folder, environment=RECORDED)
    with server, server.client() as client:
        client.get("Patient/1")
    with server, server.client() as client:
        end = time.monotonic() + 10
        while len(list((folder / "audit").glob("*.journal"))) > 1 and time.monotonic() < end:
            time.sleep(0.1)
        assert len(list((folder / "audit").glob("*.journal"))) == 1
        found = client.get("AuditEvent?entity=Patient/1").json()["entry"]
        assert len(found) == 1
        done = subprocess.run([*PRODUCT, "audit", "verify", "--data-dir", str(folder)], check=False, env=CLEAN)
        assert done.returncode == 0
