"""What every test may use: tiers, rounds, the shared sample data, and the strictness of continuous integration.

Tiers. `scripts/test` runs every behaviour once; `--full` adds the tests marked `full`. `--rounds N` multiplies the rounds of the
random tests (fixture `rounds` for loops, hypothesis by its profile). Tests marked `serial` are run by a second pytest without xdist.

With CI_STRICT_SKIPS set, a skipped test fails the run unless it is marked `replica_set` or `shared`: a skip must never hide a
behaviour. With TEST_TALLY naming a file, the last of several runs also prints the sum of all.
"""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
MAY_BE_SKIPPED = {"replica_set", "shared"}
QUICK_EXAMPLES = 50
OUTCOMES = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


def pytest_addoption(parser):
    parser.addoption("--rounds", type=int, default=1, metavar="N", help="multiply the rounds of random tests by N")
    parser.addoption("--full", action="store_true", help="also run the tests marked full")


def pytest_configure(config):
    full, rounds = config.getoption("--full"), config.getoption("--rounds")
    settings.register_profile(
        "project",
        deadline=None,
        derandomize=not full and rounds == 1,
        max_examples=QUICK_EXAMPLES * rounds,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    settings.load_profile("project")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Accounts(config), "accounts")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        full = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in set(full)]
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason="the shared sample data is not beside the checkout"))


@pytest.fixture(scope="session")
def rounds(pytestconfig) -> int:
    """How many times the usual number of rounds a random test runs."""
    return pytestconfig.getoption("--rounds")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the shared sample data; for tests marked `shared` alone."""
    return SHARED


@pytest.fixture(scope="session")
def ehr(tmp_path_factory):
    """A small hospital that serves with access control, shared by the tests of authorization (`tests.ehr`)."""
    from tests.ehr.house import furnished  # noqa: PLC0415  (most tests need none of it)

    served = furnished(tmp_path_factory.mktemp("ehr") / "data", 2)
    yield served
    served.http.close()
    served.server.stop()


class Accounts:
    """Counts outcomes in the controlling process; see the module's docstring."""

    def __init__(self, config):
        self.config = config
        self.forbidden_skips = []
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report):
        if report.skipped and not hasattr(report, "wasxfail") and not MAY_BE_SKIPPED & set(report.keywords):
            self.forbidden_skips.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.skipped:
            self.forbidden_skips.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session):
        if os.environ.get("CI_STRICT_SKIPS") and self.forbidden_skips and session.exitstatus in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if os.environ.get("CI_STRICT_SKIPS") and self.forbidden_skips:
            terminalreporter.section("skips that continuous integration does not allow", red=True)
            for name in self.forbidden_skips:
                terminalreporter.line(name)

    def pytest_unconfigure(self):
        reporter, tally = self.config.pluginmanager.get_plugin("terminalreporter"), os.environ.get("TEST_TALLY")
        if reporter is None or not tally:
            return
        counts = {name: len(reporter.stats.get(name, ())) for name in OUTCOMES}
        counts["seconds"] = time.monotonic() - self.began
        path = Path(tally)
        before = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        with path.open("a") as file:
            file.write(json.dumps(counts) + "\n")
        if before:
            runs = [*before, counts]
            words = [f"{total} {name}" for name in OUTCOMES if (total := sum(run[name] for run in runs))]
            seconds = sum(run["seconds"] for run in runs)
            reporter.write_sep("=", f"{', '.join(words) or 'no tests ran'} in {seconds:.2f}s (all parts)", bold=True)
