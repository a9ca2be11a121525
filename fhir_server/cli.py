"""The command line: `fhir-server serve | load | generate | settings | bench`, and the commands of `commands/`.

Rules.
1. A mistake of the user ends in one sentence on stderr and an exit code (2: the command line or settings, 1: the work failed);
   never in a traceback.
2. What other programs read goes to stdout, everything else to stderr.
3. Nothing is imported here that only one command needs: each command imports its own.
4. The server does not start without access control unless `--auth off` is given, and then it listens on loopback addresses alone. With it, it does
   not send tokens over a network in the clear: beyond loopback the public URL must be https.
"""

import gc
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer

from fhir_server.commands import DataDir, audit, auth, refuse, settings_of, store, work
from fhir_server.commands.recording import recorded
from fhir_server.settings import Settings, explain, is_loopback

app = typer.Typer(
    name="fhir-server",
    help="A FHIR R4 server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


GC_THRESHOLDS: Final = (20_000, 50, 100)
"""Of all processes. A request leaves no cycles (tests/http/test_garbage.py); at the default 700 the collector would still look for them, and modules being
imported would be walked again and again."""


def main() -> None:
    """The console script. What it makes is its user's alone."""
    gc.set_threshold(*GC_THRESHOLDS)
    os.umask(0o077)
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fhir-server {version('fhir-server')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A FHIR R4 server."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Serving processes.")] = None,
    pid_file: Annotated[Path | None, typer.Option(help="File that holds the process id while the server runs.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="How clients reach the server; the FHIR base is URL/fhir.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM): speak https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
    demo: Annotated[bool | None, typer.Option("--demo", help="Load a made-up hospital, with users to try.")] = None,
    auth: Annotated[str | None, typer.Option(help="`off`: no access control, this machine alone.")] = None,
) -> None:
    """Start the server. The first line on stdout is `Listening on URL`."""
    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "workers": workers,
        "pid_file": pid_file,
        "public_url": public_url,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "demo": demo,
        "auth": auth,
    }
    settings = settings_of(flags).settings
    if fault := may_serve(settings):
        refuse(fault, 2)
    from fhir_server.family import CannotServe  # noqa: PLC0415  (rule 3)
    from fhir_server.supervisor import supervise  # noqa: PLC0415

    try:
        code = supervise(settings)
    except CannotServe as error:
        refuse(str(error), 1)
    raise typer.Exit(code)


@app.command()
def load(
    paths: Annotated[list[Path], typer.Argument(help="Bundles (JSON), NDJSON, plain or .gz, or folders of them.")],
    processes: Annotated[int | None, typer.Option(min=1, help="Processes that read and check.")] = None,
    organization: Annotated[str, typer.Option(help="Organization/ID that owns what is loaded.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Load files into the store. A second run adds nothing; a run that was stopped goes on where it was."""
    settings = settings_of({"data_dir": data_dir}).settings
    from fhir_server.loading import CannotLoad, run_load  # noqa: PLC0415  (rule 3)
    from resources.references import parse  # noqa: PLC0415

    owner = parse(organization, (settings.base,)).key if organization else None
    if organization and (owner is None or owner.type != "Organization"):
        refuse(f"{organization!r} is no reference to an organization of this server, like Organization/ID", 2)
    with recorded(settings, "load", f"{len(paths)} path{'s' * (len(paths) != 1)}"):
        try:
            complete = run_load(settings, paths, processes, owner)
        except CannotLoad as error:
            refuse(str(error), 1)
        raise typer.Exit(0 if complete else 1)


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder to write into; made when missing.")],
    patients: Annotated[int, typer.Option(min=1, help="How many patients.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 1,
    resources_per_patient: Annotated[int, typer.Option(min=1, help="About how many resources a patient has.")] = 110,
) -> None:
    """Write a made-up hospital as transaction Bundles, for `load` and `bench`."""
    from fhir_server.generator import run  # noqa: PLC0415  (rule 3)

    try:
        written = run(patients, seed, out, resources_per_patient=resources_per_patient)
    except OSError as error:
        refuse(f"cannot write into {out}: {error.strerror}", 1)
    typer.echo(f"{written.resources} resources in {written.files} files, {written.bytes / 1e6:.1f} MB")


@app.command(name="settings")
def show_settings(data_dir: DataDir = None) -> None:
    """Show every setting with its value, where the value is from, its variable and its purpose."""
    loaded = settings_of({"data_dir": data_dir})
    rows = [(row.name, row.value, row.source, row.variable, row.purpose) for row in explain(loaded)]
    table = [("setting", "value", "source", "variable", "purpose"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip())


@app.command()
def bench(
    data: Annotated[Path | None, typer.Option(help="Folder of transaction Bundles; made-up ones unless given.")] = None,
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of each measurement.")] = 4.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each phase; the median is shown.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Serving processes.")] = 1,
    phases: Annotated[str | None, typer.Option(help="Only these phases, separated by commas.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare two such files instead of measuring.")
    ] = None,
) -> None:
    """Measure the server on this machine against the limits of the machine."""
    from fhir_server.benchmark import CannotMeasure, compare_files, run_benchmark  # noqa: PLC0415  (rule 3)

    try:
        if compare:
            compare_files(*compare)
        else:
            run_benchmark(data, seconds=seconds, rounds=rounds, workers=workers, phases=phases, out=json)
    except CannotMeasure as error:
        refuse(str(error), 1)


def may_serve(settings: Settings) -> str | None:
    """Why the server must not start with these settings; None when it may."""
    if settings.tls_cert and not settings.public.startswith("https://"):
        return f"with a certificate clients reach the server by https, and the public URL is {settings.public}"
    if is_loopback(settings.host):
        return None
    if settings.auth == "off":
        return f"with `--auth off` the server listens on loopback addresses alone, not on {settings.host}"
    if not settings.public.startswith("https://"):
        return (
            f"tokens and passwords must not cross a network in the clear: to listen on {settings.host} give an https `--public-url` "
            "(that of a proxy which ends TLS), or `--tls-cert` and `--tls-key`"
        )
    return None


store.add_to(app)
work.add_to(app)
auth.add_to(app)
audit.add_to(app)


if __name__ == "__main__":
    main()
