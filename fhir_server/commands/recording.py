"""The audit of the command line: what a command is about to change is recorded before it is carried out, and how it ended after it.

Rules.
1. A record has a journal of its own, which ends with it (no thread and no file stays open while a command works: `load` forks). The running server
   folds it into the ledger, or the next `audit` command does.
2. Who did it is the account of the operating system: people of the server do not use its command line. Files are not named, for names of people are in names of files.
3. What cannot be recorded is not done (exit code 1). Without audit (setting `audit.enabled`) nothing is recorded.

Specification: https://hl7.org/fhir/R4/auditevent.html
"""

import os
import pwd
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import typer

from fhir_server.commands import refuse
from fhir_server.settings import Settings

CLIENT: Final = "fhir-server"
"""The app by which commands are found among AuditEvents."""


@contextmanager
def recorded(settings: Settings, code: str, about: str = "", keys: Sequence[str] = ()) -> Iterator[None]:
    """Record the command `code` meanwhile. `about`: the user, client or key that it changes; `keys`: resources that it is about (`Patient/1`)."""
    if not settings.recorded:
        yield
        return
    from fhir_server.audit.event import COMMAND  # noqa: PLC0415  (rule 3 of the command line)
    from fhir_server.audit.journal import Journal  # noqa: PLC0415
    from fhir_server.audit.ledger import FOLDER, register_journal  # noqa: PLC0415
    from fhir_server.audit.record import Kind  # noqa: PLC0415
    from resources.errors import FhirError  # noqa: PLC0415

    folder, note = settings.data_dir / FOLDER, f"{about + ' ' if about else ''}by the account {_account()}"

    def append(kind: Kind, status: int, begun: str) -> str:
        journal = Journal(
            folder, lambda: register_journal(folder, "command"), int(settings.audit.journal_mib * (1 << 20))
        )
        who = ("", "", (), "", CLIENT, "", "", "", "")
        now = time.time_ns() // 1000
        try:
            return journal.append(kind, now, "", "", COMMAND, code, "", status, *who, tuple(keys), (), begun, note, ())
        finally:
            journal.close()

    try:
        begun = append("begun", 0, "")
    except (FhirError, OSError, sqlite3.Error) as error:
        refuse(f"the audit trail cannot be written, so nothing is done: {error}", 1)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    try:
        yield
        status = HTTPStatus.OK
    except typer.Exit as end:
        status = HTTPStatus.BAD_REQUEST if end.exit_code else HTTPStatus.OK
        raise
    finally:
        try:
            append("request", status, begun)
        except (FhirError, OSError, sqlite3.Error) as error:
            refuse(f"the audit trail cannot be written: that {code} began is recorded, how it ended is not: {error}", 1)


def _account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
