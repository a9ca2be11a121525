"""What the commands share: settings from flags, refusals in a sentence, the store that must be there, progress on stderr."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from fhir_server.settings import Loaded, Settings, SettingsFault, load_settings

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the database.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_of(flags: dict[str, Any]) -> Loaded:
    """The settings with these flags; ends the command with exit code 2 when one cannot be used."""
    try:
        loaded = load_settings(flags)
    except SettingsFault as error:
        refuse(str(error), 2)
    for name in loaded.unknown_variables:
        sys.stderr.write(f"fhir-server: the environment variable {name} is not a setting; it is ignored\n")
    return loaded


def refuse(message: str, code: int) -> NoReturn:
    """End the command with a message on stderr."""
    sys.stderr.write("".join(f"fhir-server: {line}\n" for line in message.splitlines()))
    raise typer.Exit(code)


def store_of(data_dir: Path | None) -> tuple[Settings, Path]:
    """The settings and the database file, which must be there."""
    from fhir_server.interactions.assembly import DATABASE  # noqa: PLC0415  (rule 3 of the command line)

    settings = settings_of({"data_dir": data_dir}).settings
    database = settings.data_dir / DATABASE
    if not database.is_file():
        refuse(f"there is no store in {settings.data_dir}", 1)
    return settings, database


class Progress:
    """Lines on stderr: one that changes on a terminal, one every few seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 10.0
        self.began = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(time.monotonic() - self.began, 1e-6)

    def show(self, text: str) -> None:
        """Tell `text`, unless something was told just before."""
        if time.monotonic() - self._told > self._every:
            self._told = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
            sys.stderr.flush()

    def end(self, text: str) -> None:
        """The last line."""
        sys.stderr.write(f"\r\x1b[K{text}\n" if self._terminal else f"{text}\n")
