"""One measurement from start to table: limits, a server on a fresh folder, load, phases, end."""

import gzip
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from fhir_server.benchmark.access import PHASE, measure_access
from fhir_server.benchmark.client import CannotMeasure, client_name, measure
from fhir_server.benchmark.limits import probe
from fhir_server.benchmark.phases import Loaded, Phase, chosen, load
from fhir_server.benchmark.report import FORMAT, save, show
from fhir_server.benchmark.server import Server, disk, memory, serve_arguments, started
from fhir_server.generator import generate

PATIENTS = 100
SEED = 1
WARM_SECONDS = 1.0
FIRST = ("hospital", "practitioner")
"""Files of this kind hold what the others refer to by identifier."""


def run_benchmark(
    data: Path | None, *, seconds: float, rounds: int, workers: int, phases: str | None, out: Path | None
) -> None:
    """Measure, print the table, write JSON to `out`. `data`: a folder of transaction Bundles (.json, .json.gz) or None."""
    wanted = chosen(phases)
    accessed = phases is None or PHASE in phases.split(",")
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as name:
        folder = Path(name)
        shared, bodies = _bodies(data)
        _say("probing the limits of this machine")
        limits = probe(folder, bodies, workers=workers, seconds=seconds)
        _say(f"loading {len(shared) + len(bodies)} Bundles by POST")
        with started(serve_arguments(folder / "data", workers), folder / "server.log") as server:
            loaded = _load(server, shared, bodies)
            found = {"load by POST": _loading(loaded)}
            for title, phase in wanted.items():
                _say(title)
                found[title] = _measured(server, title, phase, loaded, limits, seconds=seconds, rounds=rounds)
            used = memory(server.pid)
        stored = disk(folder / "data")
        found_access = {}
        if accessed:
            _say("what access control costs")
            found_access = measure_access(folder, loaded, workers=workers, seconds=seconds, rounds=rounds)
        _say("loading the same files by `fhir-server load`")
        found["load by command, 2 processes"] = _load_by_command(folder, shared + bodies, loaded.count)
    result = {
        "format": FORMAT,
        "version": version("fhir-server"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "workers": workers,
        "client": client_name(),
        "seconds": seconds,
        "rounds": rounds,
        "resources": loaded.count,
        "json_mb": round(sum(map(len, shared + bodies)) / 1e6, 1),
        "start_seconds": round(server.seconds, 2),
        "memory_mb": round(used / 1e6) if used else None,
        "disk_mb": round(stored / 1e6, 1),
        "limits": limits,
        "phases": found,
        "access": found_access,
    }
    show(result)
    if out:
        save(result, out)


def _say(what: str) -> None:
    sys.stderr.write(f"bench: {what}\n")


def _bodies(data: Path | None) -> tuple[list[bytes], list[bytes]]:
    """The Bundles that others refer to, and the others, as JSON texts."""
    if data is None:
        made = list(generate(PATIENTS, SEED))
        return made[:-PATIENTS], made[-PATIENTS:]
    files = (
        sorted(path for path in data.iterdir() if path.name.endswith((".json", ".json.gz"))) if data.is_dir() else []
    )
    if not files:
        raise CannotMeasure(f"{data} is not a folder with .json or .json.gz files")
    first = [path for path in files if path.name.startswith(FIRST)]
    return [_text(path) for path in first], [_text(path) for path in files if path not in first]


def _text(path: Path) -> bytes:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return bytes(msgspec.json.format(raw, indent=-1))


def _load(server: Server, shared: list[bytes], bodies: list[bytes]) -> Loaded:
    total = Loaded()
    for part in ([body] for body in shared):
        _add(total, load(server.url, part))
    _add(total, load(server.url, bodies))
    if not total.by_type.get("Patient") or not total.by_type.get("Observation"):
        raise CannotMeasure(
            f"no patients with observations were loaded: {'; '.join(total.failures[:3]) or 'the data has none'}"
        )
    return total


def _add(total: Loaded, part: Loaded) -> None:
    for kind, rows in part.by_type.items():
        total.by_type.setdefault(kind, []).extend(rows)
    total.failures += part.failures
    total.seconds += part.seconds


def _loading(loaded: Loaded) -> dict[str, Any]:
    for failure in loaded.failures[:5]:
        _say(f"not loaded: {failure}")
    return {"rate": round(loaded.count / loaded.seconds, 1), "errors": len(loaded.failures)}


def _measured(
    server: Server, title: str, phase: Phase, loaded: Loaded, limits: dict[str, float], *, seconds: float, rounds: int
) -> dict[str, Any]:
    requests = phase.requests(loaded)
    if not requests:
        raise CannotMeasure(f"{title}: the data has nothing to ask for")
    measure(server.url, requests, phase.connections, WARM_SECONDS)
    taken = [measure(server.url, requests, phase.connections, seconds) for _ in range(rounds)]
    middle = sorted(taken, key=lambda figures: figures.rate)[len(taken) // 2]
    rate = statistics.median(figures.rate for figures in taken)
    errors = sum(figures.errors for figures in taken)
    share = round(rate / limits[phase.limit], 4) if limits[phase.limit] else None
    return {**asdict(middle), "rate": rate, "errors": errors, "limit": phase.limit, "share": share}


def _load_by_command(folder: Path, bodies: list[bytes], count: int) -> dict[str, Any]:
    source = folder / "bundles"
    source.mkdir()
    for number, body in enumerate(bodies):
        (source / f"{number:06}.json").write_bytes(body)
    command = [sys.executable, "-m", "fhir_server.cli", "load", str(source), "--processes", "2"]
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603  (our own command line)
        [*command, "--data-dir", str(folder / "loaded")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        _say(f"`load` failed: {done.stderr[-500:]}")
    return {"rate": round(count / (time.perf_counter() - began), 1), "errors": int(done.returncode != 0)}
