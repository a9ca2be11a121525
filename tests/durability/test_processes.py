"""What the server as a whole does when a process dies, when it is told to stop, and when the disk is full."""

import json
import os
import resource
import signal
import socket
import sqlite3
import threading
import time
from contextlib import closing

import httpx2
import pytest

from fhir_server.interactions.assembly import DATABASE
from tests.servers import FHIR, Server

pytestmark = pytest.mark.serial


def patient(name, family="x"):
    return json.dumps({"resourceType": "Patient", "id": name, "name": [{"family": family}]})


def put(client, name, family="x"):
    return client.put(f"Patient/{name}", content=patient(name, family), headers=FHIR)


def outcome(answer):
    """The first issue of the OperationOutcome."""
    body = answer.json()
    assert body["resourceType"] == "OperationOutcome", body
    return body["issue"][0]


def eventually(happens, seconds=15.0):
    """Wait until `happens()` is true, and give that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happens():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def sound(folder):
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# ---- processes


@pytest.mark.parametrize("which", [0, -1], ids=["a worker", "the background process"])
def test_a_killed_process_is_replaced_and_the_server_goes_on(tmp_path, which):
    with Server(tmp_path / "data", workers=1) as server:
        with server.client() as client:
            assert put(client, "before").status_code == 201
        before = server.children()
        assert len(before) == 2
        os.kill(before[which], signal.SIGKILL)
        after = eventually(lambda: [pid for pid in server.children() if pid not in before] and server.children())
        assert len(after) == 2
        with server.client() as client:
            assert client.get("Patient/before").status_code == 200
            assert put(client, "after").status_code == 201
    assert sound(server.folder)


def test_while_one_of_two_workers_is_replaced_the_other_answers(tmp_path):
    with Server(tmp_path / "data", workers=2) as server:
        for turn in range(2):
            os.kill(server.children()[0], signal.SIGKILL)
            statuses = set()
            for number in range(20):
                # a connection that the dying worker had taken is lost; the next one is not
                for _ in range(5):
                    try:
                        with server.client() as client:
                            statuses.add(put(client, f"p{turn}-{number}").status_code)
                        break
                    except httpx2.TransportError:
                        continue
            assert statuses <= {200, 201}
        with server.client() as client:
            found = client.get("Patient?_count=0&_total=accurate").json()
        assert found["total"] == 40


def large_bundle(entries):
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "x" * 200}}
    entry = {"resource": resource, "request": {"method": "POST", "url": "Observation"}}
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry] * entries})


def test_sigterm_lets_a_request_in_flight_finish(tmp_path):
    server = Server(tmp_path / "data").start()
    answers = []

    def send():
        with server.client() as client:
            answers.append(client.post(client.base_url, content=large_bundle(4000), headers=FHIR))

    try:
        sending = threading.Thread(target=send)
        sending.start()
        with server.client() as client:
            time.sleep(0.15)  # the Bundle takes several times as long
            assert not answers
            client.get("metadata")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        sending.join(30)
        assert server.process.wait(30) == 0
        assert [answer.status_code for answer in answers] == [200]
        with pytest.raises(httpx2.ConnectError), server.client() as client:
            client.get("metadata")
        with server.start().client() as client:
            assert client.get("Observation?_count=0&_total=accurate").json()["total"] == 4000
    finally:
        server.stop()


def test_a_client_that_says_nothing_does_not_hold_up_the_end(tmp_path):
    with Server(tmp_path / "data", environment={"FHIR_GRACE": "1"}) as server:
        address = server.url.split("/")[2].split(":")
        with socket.create_connection((address[0], int(address[1]))) as idle:
            idle.sendall(b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            time.sleep(0.1)
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 8


# ---- the disk


class Disk:
    """Makes a server's file writes fail, as on a full or read-only disk, and lets them succeed again."""

    def __init__(self, server):
        self.pids = server.children()

    def allow(self, size):
        """No file may grow beyond `size` bytes; 0: nothing can be written at all."""
        for pid in self.pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_is_503_loses_nothing_and_is_recovered_from(tmp_path):
    with Server(tmp_path / "data", workers=2) as server, server.client() as client:
        disk = Disk(server)
        disk.allow(3_000_000)
        kept, refused = [], None
        for number in range(200):
            answer = put(client, f"p{number}", "x" * 50_000)
            if answer.status_code == 503:
                refused = answer
                break
            assert answer.status_code == 201, answer.text
            kept.append(f"p{number}")
        assert refused is not None
        assert kept
        assert (outcome(refused)["code"], refused.headers["retry-after"]) == ("transient", "5")
        assert str(server.folder) not in refused.text
        for name in kept:
            assert client.get(f"Patient/{name}").status_code == 200
        assert client.get(f"Patient/p{len(kept)}").status_code == 404
        assert client.get("Patient?_count=0&_total=accurate").json()["total"] == len(kept)
        bundle = client.post(client.base_url, content=large_bundle(3000), headers=FHIR)
        assert bundle.status_code == 503
        disk.allow(resource.RLIM_INFINITY)
        assert client.get("Observation?_count=0&_total=accurate").json()["total"] == 0
        for number in range(20):
            assert put(client, f"later{number}", "y" * 50_000).status_code == 201
        assert client.get("Patient?_count=0&_total=accurate").json()["total"] == len(kept) + 20
        assert server.children() == disk.pids
        server.kill()
        assert sound(server.folder)
        assert "unexpected" not in server.log.read_text()
        server.start()
        with server.client() as again:
            assert {again.get(f"Patient/{name}").status_code for name in kept} == {200}


def test_a_disk_that_takes_nothing_is_503_for_writes_alone_and_is_recovered_from(tmp_path):
    with Server(tmp_path / "data") as server, server.client() as client:
        assert put(client, "before").status_code == 201
        disk = Disk(server)
        disk.allow(0)
        for _ in range(3):
            answer = put(client, "refused")
            assert answer.status_code == 503
            assert outcome(answer)["code"] == "transient"
        batch = {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [
                {"resource": json.loads(patient("refused")), "request": {"method": "PUT", "url": "Patient/refused"}},
                {"request": {"method": "GET", "url": "Patient/before"}},
            ],
        }
        answer = client.post(client.base_url, content=json.dumps(batch), headers=FHIR)
        assert [entry["response"]["status"][:3] for entry in answer.json()["entry"]] == ["503", "200"]
        assert client.get("Patient?name=x").json()["entry"][0]["resource"]["id"] == "before"
        disk.allow(resource.RLIM_INFINITY)
        assert put(client, "refused").status_code == 201
        assert client.get("Patient/refused").json()["meta"]["versionId"] == "1"
        assert server.children() == disk.pids
