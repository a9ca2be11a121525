"""`reindex` and `jobs`: work that goes on in the background process, or here when no server takes it."""

import json
import sqlite3
import sys
import time
from contextlib import closing
from typing import Annotated, Any

import typer

from fhir_server.commands import AsJson, DataDir, Progress, refuse, store_of


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for command in (reindex, jobs):
        app.command()(command)


def reindex(
    kind: Annotated[str | None, typer.Option("--type", help="Only this resource type.")] = None,
    parameter: Annotated[str | None, typer.Option(help="Only the rows of this search parameter.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; do the work here when no server takes it.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make index rows again from the resources, in the background of the running server."""
    settings, database = store_of(data_dir)
    from fhir_server.integrity.bases import extractor_of  # noqa: PLC0415
    from fhir_server.jobs.foreground import await_job, enqueue  # noqa: PLC0415  (rule 3 of the command line)
    from fhir_server.jobs.reindex import job_key, new_job, refusal  # noqa: PLC0415
    from fhir_server.observability import configure_logging  # noqa: PLC0415
    from fhir_server.storage.sqlite.connection import connect  # noqa: PLC0415
    from resources.errors import FhirError  # noqa: PLC0415

    try:
        with closing(connect(database, settings.store, read_only=True)) as connection:
            registry, _ = extractor_of(connection, settings)
    except (sqlite3.Error, FhirError) as error:
        refuse(f"cannot read the store: {error}", 1)
    if fault := refusal(kind, parameter, registry):
        refuse(fault, 2)
    configure_logging("warning")
    key, progress = job_key(kind, parameter), Progress()
    try:
        added = enqueue(settings, database, key, new_job(kind, parameter, time.time_ns() // 1000))
        sys.stderr.write(f"{key}: {'enqueued' if added else 'is under way already'}\n")
        if not wait:
            return
        failed = await_job(settings, database, key, lambda payload: progress.show(_how_far(payload)))
    except (sqlite3.Error, FhirError) as error:
        refuse(f"cannot use the store: {error}", 1)
    if failed is not None:
        refuse(f"{key}: {failed}", 1)
    progress.end(f"{key}: done ({progress.seconds:.1f} s)")


def jobs(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the work in the queue, and what finished work reported last."""
    settings, database = store_of(data_dir)
    from fhir_server.storage.sqlite.connection import connect  # noqa: PLC0415
    from resources.errors import FhirError  # noqa: PLC0415
    from resources.model import instant  # noqa: PLC0415

    try:
        with closing(connect(database, settings.store, read_only=True)) as connection:
            sql = "SELECT kind, key, data FROM follow_up WHERE kind IN ('job', 'report') ORDER BY kind, key"
            rows = [(kind, key, json.loads(data)) for kind, key, data in connection.execute(sql)]
    except (sqlite3.Error, FhirError) as error:
        refuse(f"cannot read the store: {error}", 1)
    now = time.time_ns() // 1000
    waiting = [_job(key, data, now) for kind, key, data in rows if kind == "job"]
    reports = [{"key": key, **data} for kind, key, data in rows if kind == "report" and "finished" in data]
    if as_json:
        sys.stdout.write(json.dumps({"jobs": waiting, "reports": reports}) + "\n")
        return
    for job in waiting:
        due = "" if job["due"] is None else f"  due {instant(job['due'])}"
        said = f"  {job['error']}" if job["error"] else ""
        sys.stdout.write(
            f"{job['key']}  {job['state']}  attempt {job['attempt']}{due}  {_how_far(job['payload'])}{said}\n"
        )
    for report in reports:
        sys.stdout.write(f"{report['key']}  finished {instant(report['finished'])}  {_how_far(report)}\n")


def _job(key: str, data: dict[str, Any], now: int) -> dict[str, Any]:
    state = "failed" if data["due"] is None else "running" if data["token"] and data["due"] > now else "waiting"
    return {
        "key": key,
        "work": data["work"],
        "state": state,
        "due": data["due"],
        "attempt": data["attempt"],
        "error": data["error"],
        "payload": data["payload"],
    }


def _how_far(payload: Any) -> str:
    """`seen 5 changed 2`: the counts of a payload."""
    named = ("seen", "changed", "unreadable", "sampled", "wrong", "rows")
    return " ".join(f"{name} {payload[name]:,}" for name in named if name in payload)
