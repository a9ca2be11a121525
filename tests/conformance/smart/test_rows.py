"""Each row that can be checked has exactly one test, and each test a row."""

import importlib
import inspect
from collections import Counter
from pathlib import Path

from tests.conformance.smart.rows import listed

HERE = Path(__file__).parent


def rows_of_tests() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in HERE.glob("test_*.py"):
        if path.name == Path(__file__).name:
            continue
        module = importlib.import_module(f"tests.conformance.smart.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_"):
                marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
                rows = [one for mark in marks if mark.args[0] == "row" for one in mark.args[1]]
                assert rows, f"{name} is about no row"
                found.update(rows)
    return found


def test_each_row_that_can_be_checked_has_exactly_one_test():
    rows = listed()
    names = [row["id"] for row in rows]
    assert len(names) == len(set(names))
    checkable = {row["id"] for row in rows if row["checkable"] == "yes"}
    assert dict(rows_of_tests()) == dict.fromkeys(sorted(checkable), 1)


def test_each_row_that_cannot_be_checked_says_why():
    for row in listed():
        assert row["checkable"] in ("yes", "no")
        assert bool(row["reason"]) == (row["checkable"] == "no"), row["id"]
