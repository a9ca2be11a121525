"""`check`, `backup`, `restore` and `info`: commands about the store's file, beside a running server or without one."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fhir_server.commands import AsJson, DataDir, Progress, refuse, settings_of, store_of
from fhir_server.settings import Settings

if TYPE_CHECKING:
    from fhir_server.archive import Manifest


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for command in (check, backup, restore, info):
        app.command()(command)


def check(
    data_dir: DataDir = None,
    as_json: AsJson = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also compare SQLite's own indexes with their tables (slow).")
    ] = False,
) -> None:
    """Compare every index row, version and body with each other; exit code 1 and a list when anything is wrong."""
    raise typer.Exit(_check(*store_of(data_dir), as_json=as_json, thorough=thorough))


def _check(settings: Settings, database: Path, *, as_json: bool, thorough: bool) -> int:
    from fhir_server.integrity import Finding, Tally, check_store  # noqa: PLC0415  (rule 3 of the command line)
    from fhir_server.integrity.bases import extractor_of  # noqa: PLC0415
    from fhir_server.storage.sqlite.connection import connect  # noqa: PLC0415

    tally, progress, listed = Tally(), Progress(), []

    def told() -> str:
        rate = tally.resources / progress.seconds
        return (
            f"{tally.resources:,} resources, {tally.versions:,} versions, {tally.rows:,} rows checked ({rate:,.0f}/s)"
        )

    def findings() -> Iterator[Finding]:
        try:
            with closing(connect(database, settings.store, read_only=True)) as connection:
                _, extractor = extractor_of(connection, settings)
                yield from check_store(
                    connection, extractor, tally, thorough=thorough, progress=lambda: progress.show(told())
                )
        except sqlite3.DatabaseError as error:
            tally.findings["file"] += 1
            yield Finding("file", "store", str(error))

    for finding in findings():
        if as_json:
            listed.append(asdict(finding))
        else:
            sys.stdout.write(f"{finding.rule}\t{finding.where}\t{finding.detail}\n")
    if as_json:
        counted = {"resources": tally.resources, "versions": tally.versions, "rows": tally.rows}
        sys.stdout.write(json.dumps({**counted, "seconds": round(progress.seconds, 3), "findings": listed}) + "\n")
    number = sum(tally.findings.values())
    progress.end(f"{told()}; {number or 'no'} finding{'s' * (number != 1)}")
    return 1 if number else 0


def backup(
    out: Annotated[Path, typer.Option("--out", help="File to write; gzipped when its name ends in .gz.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy resources, users and clients into one file as of one moment, while the server goes on; the audit trail is not in it."""
    settings, database = store_of(data_dir)
    from fhir_server.archive import CannotBackUp  # noqa: PLC0415
    from fhir_server.backup import back_up, remember  # noqa: PLC0415
    from resources.errors import FhirError  # noqa: PLC0415

    progress = Progress()
    try:
        manifest = back_up(
            database, out, settings.store, lambda done, total: progress.show(f"{done:,} of {total:,} pages")
        )
    except (CannotBackUp, FhirError) as error:
        refuse(str(error), 1)
    try:
        remember(database, settings.store, manifest, out)
    except (sqlite3.Error, FhirError, OSError) as error:
        sys.stderr.write(f"fhir-server: the backup is complete, but the store cannot note that it was made: {error}\n")
    lines = [json.dumps(asdict(manifest))] if as_json else _told(manifest, out)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    progress.end(f"{sum(manifest.resources.values()):,} resources in {out} ({progress.seconds:.1f} s)")


def _told(manifest: "Manifest", out: Path) -> Iterator[str]:
    """What a backup holds, for people."""
    from resources.model import instant  # noqa: PLC0415  (rule 3 of the command line)

    yield f"backup        {out}, {out.stat().st_size / 1e6:,.1f} MB"
    yield f"taken         {instant(manifest.taken)}"
    yield f"resources     {sum(manifest.resources.values()):,}, {manifest.versions:,} versions"
    yield from (f"  {name:<32}{number:>12,}" for name, number in manifest.resources.items())
    yield f"users         {'with clients and signing keys' if manifest.users else 'none: there was no store of users'}"
    yield "audit trail   not in it (`fhir-server audit export`, or a copy of the folder `audit`)"
    yield f"sha256        {manifest.sha256} (of the store of resources)"


def restore(
    source: Annotated[Path, typer.Option("--from", help="File that `backup` wrote.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the store that is there.")] = False,
) -> None:
    """Put a backup in place of a store, verify it, and check it as `check` does."""
    settings = settings_of({"data_dir": data_dir}).settings
    from fhir_server.archive import CannotBackUp  # noqa: PLC0415
    from fhir_server.backup import restore as put_in_place  # noqa: PLC0415
    from fhir_server.family import CannotServe  # noqa: PLC0415
    from fhir_server.worker import database_path, prepare_data  # noqa: PLC0415

    try:
        manifest = put_in_place(source, settings.data_dir, force=force)
        prepare_data(settings)
    except (CannotBackUp, CannotServe) as error:
        refuse(str(error), 1)
    sys.stderr.write(f"{sum(manifest.resources.values()):,} resources restored into {settings.data_dir}\n")
    raise typer.Exit(_check(settings, database_path(settings), as_json=False, thorough=False))


def info(
    data_dir: DataDir = None,
    as_json: AsJson = False,
    exact: Annotated[bool, typer.Option("--exact", help="Count index rows instead of estimating them (slow).")] = False,
) -> None:
    """Show size, age and contents of the store."""
    settings, database = store_of(data_dir)
    from fhir_server.commands.facts import facts, shown  # noqa: PLC0415
    from fhir_server.storage.sqlite.connection import connect  # noqa: PLC0415
    from resources.errors import FhirError  # noqa: PLC0415

    try:
        with closing(connect(database, settings.store, read_only=True)) as connection:
            found = facts(connection, database, exact=exact)
    except (sqlite3.Error, FhirError) as error:
        refuse(f"cannot read the store: {error}", 1)
    sys.stdout.write(json.dumps(found) + "\n" if as_json else "".join(f"{line}\n" for line in shown(found)))
