"""A server of our own for a measurement: started on a fresh folder and a free port, watched, ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fhir_server.benchmark.client import CannotMeasure

ANNOUNCEMENT = "Listening on "


@dataclass(frozen=True, slots=True)
class Server:
    """`url` without path; `pid` of the supervisor; seconds from start to announcement."""

    url: str
    pid: int
    seconds: float


@contextmanager
def started(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run `python ARGUMENTS`, wait for `Listening on URL`, end it afterwards. Its stderr goes to `log`; `environment` is added to ours."""
    began = time.perf_counter()
    with log.open("ab") as stderr:
        process = subprocess.Popen(  # noqa: S603  (our own command line)
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith(ANNOUNCEMENT):
            raise CannotMeasure(f"the server did not start: {log.read_text(encoding='utf-8')[-2000:]}")
        yield Server(line.removeprefix(ANNOUNCEMENT).strip(), process.pid, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def serve_arguments(folder: Path, workers: int, auth: str = "off") -> tuple[str, ...]:
    """The command line of a server on `folder`."""
    options = ("--port", "0", "--data-dir", str(folder), "--workers", str(workers), "--auth", auth)
    return ("-m", "fhir_server.cli", "serve", *options)


def memory(pid: int) -> int | None:
    """Bytes of memory of a process and its descendants, shared pages counted once per user's share; None where unknown."""
    family = _family(pid)
    return None if family is None else sum(_share(member) for member in family)


def busy(pid: int) -> float | None:
    """Seconds of processor time that a process and its descendants have used; None where unknown."""
    family = _family(pid)
    ticks = os.sysconf("SC_CLK_TCK")
    return None if family is None else sum(sum(map(int, _status(member)[11:13])) for member in family) / ticks


def _family(pid: int) -> set[int] | None:
    try:
        parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    except OSError:
        return None
    family, waiting = set(), [pid]
    while waiting:
        member = waiting.pop()
        family.add(member)
        waiting += [child for child, parent in parents.items() if parent == member]
    return family


def _parent(pid: int) -> int:
    return int(_status(pid)[1])


def _status(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; zeros for a process that has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ["0"] * 13


def _share(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def disk(folder: Path) -> int:
    """Bytes of all files under `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
