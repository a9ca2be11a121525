"""The requirements of SMART App Launch 2.2 under the names of the public conformance tests, each with one test here.

`rows.tsv` lists them; a test says by `@row("id")` which it is about.
"""

import csv
from pathlib import Path

import pytest

ROWS = Path(__file__).with_name("rows.tsv")


def row(*names: str) -> pytest.MarkDecorator:
    """The test is about these rows: it runs once for each, with the fixture `row` and the row's name as its id."""
    return pytest.mark.parametrize("row", names)


def listed() -> list[dict[str, str]]:
    """The rows: id, section, checkable (yes or no), reason (of no)."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
