"""A load from start to report: the one writer, the retry of what failed, progress and faults on stderr, the sum on stdout."""

import asyncio
import fcntl
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fhir_server.family import CannotServe
from fhir_server.generator import run as generate
from fhir_server.interactions.assembly import assemble, compose
from fhir_server.jobs.background import STATISTICS_EVERY
from fhir_server.jobs.port import waiting
from fhir_server.loading.crew import Life, heard
from fhir_server.loading.ledger import Ledger
from fhir_server.loading.parts import End, Fault, Message, Unit, parts
from fhir_server.loading.sources import CannotLoad, files_of
from fhir_server.settings import Settings
from fhir_server.storage.port import Conflict, FollowUp, UnitOfWork
from fhir_server.storage.sqlite.connection import connect
from fhir_server.storage.sqlite.writer import Outcome, Writer
from fhir_server.worker import database_path, prepare_data
from resources.errors import FhirError
from resources.model import ResourceKey

TOGETHER = 1000
"""Resources after which a commit is made at the latest."""
CACHE_MB = 256
CHECKPOINT_PAGES = 40_000
GC_THRESHOLDS = (1_000_000, 10, 10)
"""A Bundle is 10,000s of containers that no cycle holds: looking for cycles in it took an eighth of a load's processor time."""
MOST_PROCESSES = 4
SHOWN_FAULTS = 20
DEMO_PATIENTS, DEMO_SEED = 20, 1
"""The made-up hospital of `serve --demo`."""


@dataclass(slots=True)
class Report:
    """What a load did; `faults` by file."""

    files: int
    resources: int = 0
    known: int = 0
    faults: dict[Path, list[Fault]] = field(default_factory=dict)
    seconds: float = 0.0


def run_load(
    settings: Settings, paths: Sequence[Path], processes: int | None, organization: ResourceKey | None = None
) -> bool:
    """Load the files and report; whether everything is in the store. Raises CannotLoad. `organization` owns what is loaded."""
    report = load_files(settings, paths, processes or min(MOST_PROCESSES, os.cpu_count() or 1), organization)
    _tell(report)
    return not report.faults


def load_demo(settings: Settings) -> None:
    """Load a small made-up hospital unless it was loaded before. Raises CannotLoad."""
    with TemporaryDirectory() as folder:
        generate(DEMO_PATIENTS, DEMO_SEED, Path(folder))
        report = load_files(settings, [Path(folder)], 1)
    for faults in report.faults.values():
        raise CannotLoad(f"the demonstration patients cannot be loaded: {faults[0].reason}")


def load_files(
    settings: Settings, paths: Sequence[Path], processes: int, organization: ResourceKey | None = None
) -> Report:
    """Load the files; what was done. Raises CannotLoad."""
    first, others = files_of(paths)
    began = time.monotonic()
    report = Report(len(first) + len(others))
    with _alone(settings):
        life = _life(settings, organization)
        gc.collect()
        gc.freeze()
        with _writer(settings) as write, _progress(report) as progress:
            for files in (first, others):
                _pass(files, processes, life, write, report, progress)
            if report.faults and report.resources:
                again = list(report.faults)
                report.faults.clear()
                _pass(again, processes, life, write, report, progress)
    report.seconds = time.monotonic() - began
    return report


def _pass(
    files: Sequence[Path],
    processes: int,
    life: Life,
    write: Callable[[Sequence[Unit]], list[str | None]],
    report: Report,
    progress: Callable[[], None],
) -> None:
    """Every file once, the largest first so that all processes end together.

    What is ready is gathered while more is ready, up to the size of a commit.
    """
    gathered: list[tuple[Path, Unit]] = []

    def commit() -> None:
        for (path, unit), fault in zip(gathered, write([unit for _, unit in gathered]), strict=True):
            if fault is None:
                report.resources += unit.count
            else:
                report.faults.setdefault(path, []).append(Fault(unit.where, fault))
        gathered.clear()
        progress()

    largest_first = sorted(files, key=lambda path: -path.stat().st_size)
    for told in heard(largest_first, processes, life):
        for path, message in told:
            match message:
                case Unit():
                    gathered.append((path, message))
                case Fault():
                    report.faults.setdefault(path, []).append(message)
                case End():
                    report.known += message.known
        if gathered and (not told or sum(unit.count for _, unit in gathered) >= TOGETHER):
            commit()
    if gathered:
        commit()
    progress()


def _life(settings: Settings, organization: ResourceKey | None) -> Life:
    """Compose now, so that the processes share the tables; open the store in each of them."""
    composed = compose(settings.base, settings.base_aliases, settings.rest, settings.search)
    if organization is not None:
        composed = replace(composed, preparer=replace(composed.preparer, organizations=(organization,)))
    database = database_path(settings)

    async def live(next_file: Callable[[], Path | None], tell: Callable[[Message], None]) -> None:
        service = await assemble(composed, settings.data_dir, settings.store)
        try:
            with closing(connect(database, settings.store, read_only=True)) as connection:
                ledger = Ledger(connection)
                while (path := next_file()) is not None:
                    async for message in parts(service, ledger, path):
                        tell(message)
        finally:
            await service.store.close()

    def life(next_file: Callable[[], Path | None], tell: Callable[[Message], None]) -> None:
        gc.set_threshold(*GC_THRESHOLDS)
        asyncio.run(live(next_file, tell))

    return life


@contextmanager
def _writer(settings: Settings) -> Iterator[Callable[[Sequence[Unit]], list[str | None]]]:
    """Gives a function that commits units together and says what was wrong with each."""
    options = replace(settings.store, cache=CACHE_MB, checkpoint_pages=CHECKPOINT_PAGES)
    writer = Writer(database_path(settings), options)

    def write(units: Sequence[Unit]) -> list[str | None]:
        return [_fault(outcome) for outcome in writer.commit_all([unit.work for unit in units])]

    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield write
        writer.commit_all(
            [UnitOfWork((), (), (FollowUp("job", "statistics", waiting("statistics", {}, 0, every=STATISTICS_EVERY)),))]
        )
    finally:
        writer.stop()


def _fault(outcome: Outcome) -> str | None:
    match outcome:
        case Conflict():
            return "another client changed what it refers to at the same time"
        case FhirError():
            return str(outcome)
        case BaseException():
            raise outcome
    return None


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Prepare the store and keep other loads away from it."""
    try:
        prepare_data(settings)
    except CannotServe as error:
        raise CannotLoad(str(error)) from None
    with Path(f"{database_path(settings)}.load").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotLoad("another load into this store is running") from None
        yield


@contextmanager
def _progress(report: Report) -> Iterator[Callable[[], None]]:
    """A line that grows on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415  (for people alone)
    from rich.status import Status  # noqa: PLC0415

    with Status("loading", console=Console(stderr=True)) as status:
        began = time.monotonic()

        def show() -> None:
            rate = report.resources / max(time.monotonic() - began, 0.001)
            status.update(f"{report.resources:,} resources, {rate:,.0f}/s, {len(report.faults)} files with faults")

        yield show


def _tell(report: Report) -> None:
    for path, faults in report.faults.items():
        for fault in faults[:SHOWN_FAULTS]:
            sys.stderr.write(f"{path}: {f'{fault.where}: ' if fault.where else ''}{fault.reason}\n")
        if len(faults) > SHOWN_FAULTS:
            sys.stderr.write(f"{path}: {len(faults) - SHOWN_FAULTS} more faults\n")
    rate = report.resources / max(report.seconds, 0.001)
    sys.stdout.write(
        f"{report.resources} resources loaded from {report.files} files in {report.seconds:.1f} s ({rate:,.0f}/s); "
        f"{report.known} parts were there already; {len(report.faults)} files failed\n"
    )
