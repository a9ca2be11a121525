"""What a measurement says: a table for people, JSON for later, and two of those side by side."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fhir_server.benchmark.client import CannotMeasure

FORMAT = 1


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def show(result: Mapping[str, Any]) -> None:
    """Print the result of a measurement."""
    limits: Mapping[str, float] = result["limits"]
    sys.stdout.write(
        table([("limit", "per second"), *((name, f"{value:,.0f}") for name, value in limits.items())]) + "\n"
    )
    rows = [("phase", "per second", "p50 ms", "p99 ms", "errors", "of limit")]
    for name, figures in result["phases"].items():
        share = f"{figures['share']:.0%} {figures['limit']}" if figures.get("share") is not None else ""
        p50, p99 = (f"{figures[key]:.2f}" if key in figures else "" for key in ("p50", "p99"))
        rows.append((name, f"{figures['rate']:,.0f}", p50, p99, str(figures["errors"]), share))
    sys.stdout.write(table(rows) + "\n")
    if result.get("access"):
        sys.stdout.write(table(_access_rows(result["access"])) + "\n")
    other = ("start_seconds", "memory_mb", "disk_mb", "json_mb", "resources", "client", "workers")
    sys.stdout.write(table([("other", "value"), *((name, str(result[name])) for name in other)]))


def _access_rows(access: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("with access control", "per second", "us a request", "more than off", "budget")]
    for shape, askers in access.items():
        for who, figures in askers.items():
            more, budget = (f"{figures[name]:+.0%}" if name in figures else "" for name in ("more", "budget"))
            rows.append((f"{shape}, {who}", f"{figures['rate']:,.0f}", f"{figures['cost']:,.0f}", more, budget))
    return rows


def save(result: Mapping[str, Any], path: Path) -> None:
    """Write the result as JSON."""
    try:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CannotMeasure(f"cannot write {path}: {error.strerror}") from None


def compare_files(before: Path, after: Path) -> None:
    """Print the rates of two saved results side by side, with and without regard to what the machine could do at the time."""
    first, second = _read(before), _read(after)
    rows = [("phase", before.stem, after.stem, "ratio", "ratio of shares")]
    for section in ("limits", "phases"):
        for name, value in first[section].items():
            if name not in second[section]:
                continue
            old, new = (_rate(value), _rate(second[section][name]))
            shares = [item.get("share") if isinstance(item, dict) else None for item in (value, second[section][name])]
            relative = f"{shares[1] / shares[0]:.2f}" if shares[0] and shares[1] else ""
            rows.append((name, f"{old:,.0f}", f"{new:,.0f}", f"{new / old:.2f}" if old else "", relative))
    sys.stdout.write(table(rows))


def _rate(value: Any) -> float:
    return float(value["rate"] if isinstance(value, dict) else value)


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotMeasure(f"cannot read {path}: {error}") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise CannotMeasure(f"{path} is not a result of this benchmark")
    return result
