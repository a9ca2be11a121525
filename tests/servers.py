"""A server of its own for a test: `fhir-server serve` as processes that can be watched, killed and started again.

The supervisor leads a process group, so that `kill` ends the whole family at one moment, as a power cut does.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx2

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("FHIR_")}
FHIR = {"Content-Type": "application/fhir+json"}
PRODUCT = (sys.executable, "-m", "fhir_server.cli")


class Server:
    """`fhir-server serve` on a folder; `url` is the FHIR base. `arguments` are further ones of the command line."""

    def __init__(
        self,
        folder: Path,
        workers: int = 1,
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = ("--auth", "off"),
    ) -> None:
        self.folder = folder
        self.command = [
            *PRODUCT, "serve", "--port", "0", "--data-dir", str(folder), "--workers", str(workers), *arguments,
        ]  # fmt: skip
        self.environment = CLEAN | (environment or {})
        self.log = folder.with_name(f"{folder.name}.log")
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> "Server":
        """Start it and wait until it serves; what runs of a former start is ended."""
        if self.process is not None:
            self.kill()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("Listening on "):
            self.kill()
            raise AssertionError(f"the server did not start: {self.log.read_text()[-3000:]}")
        self.url = f"{line.removeprefix('Listening on ').strip()}/fhir"
        return self

    def kill(self) -> None:
        """SIGKILL to the whole family at once; returns when all are gone."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._gone()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        finally:
            self.kill()
        return code

    def _gone(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.wait()
        self.process.stdout.close()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)
        raise AssertionError("some process of the server is still there")

    def children(self) -> list[int]:
        """Process ids of workers and background process."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def client(self, **options) -> httpx2.Client:
        """A client whose paths are relative to the FHIR base."""
        return httpx2.Client(base_url=f"{self.url}/", timeout=60, **options)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
