"""`audit verify` and `audit export`: the audit trail, beside a running server or without one."""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.commands import AsJson, DataDir, refuse, settings_of, store_of
from fhir_server.settings import Settings

_DIGITS = 64


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    group = typer.Typer(name="audit", help="The audit trail.", no_args_is_help=True)
    group.command()(verify)
    group.command()(export)
    app.add_typer(group)


def verify(
    data_dir: DataDir = None,
    as_json: AsJson = False,
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH of a record as an earlier verification told its head.")
    ] = None,
) -> None:
    """Check that no record was changed, removed, added or moved; exit code 1 and a list when one was."""
    expected = _expected(head)
    from fhir_server.audit.verify import Fault  # noqa: PLC0415  (rule 3 of the command line)
    from fhir_server.audit.verify import head as head_of  # noqa: PLC0415
    from fhir_server.audit.verify import verify as faults_of  # noqa: PLC0415

    found: list[Fault] = []
    with _ledger(data_dir) as (connection, folder, _):
        for fault in faults_of(connection, folder, expected):
            found.append(fault)
            if not as_json:
                sys.stdout.write("\t".join(fault) + "\n")
        number, link = head_of(connection)
        records = connection.execute("SELECT count(*) FROM record").fetchone()[0]
    wrong = [fault for fault in found if fault.rule != "torn"]
    if as_json:
        told = {"records": records, "head": f"{number}:{link}", "findings": [fault._asdict() for fault in found]}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stderr.write(f"{records:,} records, head {number}:{link}; {len(wrong) or 'no'} faults\n")
    raise typer.Exit(1 if wrong else 0)


def export(
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="File to write; stdout unless given.")] = None,
    since: Annotated[int, typer.Option(min=0, help="Only records behind this number.")] = 0,
) -> None:
    """Write the AuditEvent resources as NDJSON, the oldest first."""
    from fhir_server.audit.event import event  # noqa: PLC0415
    from fhir_server.audit.query import everything  # noqa: PLC0415

    number = 0
    with _ledger(data_dir) as (connection, _, settings):
        try:
            with _writing(out) as write:
                for found in everything(connection, since):
                    write(json.dumps(event(found.seq, found.record, found.patients, settings.base, None)) + "\n")
                    number += 1
        except OSError as error:
            refuse(f"cannot write {out or 'to stdout'}: {error.strerror}", 1)
    sys.stderr.write(f"{number:,} events\n")


def _expected(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    number, _, link = head.partition(":")
    if not number.isdecimal() or len(link) != _DIGITS:
        refuse(f"--head {head} is not NUMBER:HASH", 2)
    return int(number), link


@contextmanager
def _ledger(data_dir: Path | None) -> Iterator[tuple[sqlite3.Connection, Path, Settings]]:
    """The ledger, after what the journals hold was folded into it."""
    settings, _ = store_of(data_dir)
    from fhir_server.audit.keeper import extractor_for, fold_now  # noqa: PLC0415
    from fhir_server.audit.ledger import FOLDER, opened  # noqa: PLC0415
    from resources.errors import FhirError  # noqa: PLC0415

    settings = _based(data_dir, settings)
    folder = settings.data_dir / FOLDER
    if not folder.is_dir():
        refuse(f"there is no audit trail in {settings.data_dir}", 1)
    try:
        fold_now(settings.data_dir, settings.store, lambda: extractor_for(settings))
        with opened(folder, read_only=True) as connection:
            yield connection, folder, settings
    except (FhirError, sqlite3.Error, OSError) as error:
        refuse(f"cannot read the audit trail: {error}", 1)


def _based(data_dir: Path | None, settings: Settings) -> Settings:
    """The settings with the FHIR base that the store was last served under."""
    from fhir_server.commands.desk import based  # noqa: PLC0415  (rule 3 of the command line)
    from fhir_server.storage.sqlite.auth import AUTH_DATABASE, SqliteAuthStore  # noqa: PLC0415

    if not (settings.data_dir / AUTH_DATABASE).is_file():
        return settings
    with closing(SqliteAuthStore.open(settings.data_dir)) as store:
        return based(settings_of({"data_dir": data_dir}), store)


@contextmanager
def _writing(out: Path | None) -> Iterator[Callable[[str], int]]:
    if out is None:
        yield sys.stdout.write
        return
    with out.open("w", encoding="utf-8") as file:
        yield file.write
