"""What was loaded before: see rule 3 of the package."""

import sqlite3
from collections.abc import Iterable

import msgspec

from fhir_server.storage.port import FollowUp

KIND = "ledger"


class Ledger:
    """Reads the ledger over one connection, which its caller closes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def done(self, name: str) -> frozenset[int]:
        """The parts of the content with this SHA-256 that are in the store."""
        rows = self._connection.execute(
            "SELECT data FROM follow_up WHERE kind = ? AND key >= ? AND key < ?", (KIND, f"{name}/", f"{name}0")
        ).fetchall()
        ranges = [pair for (data,) in rows for pair in msgspec.json.decode(data)["parts"]]
        return frozenset(number for first, last in ranges for number in range(first, last + 1))


def entry(name: str, numbers: list[int]) -> FollowUp:
    """The ledger row of these parts (rising, not empty), as ranges from first to last."""
    return FollowUp(KIND, f"{name}/{numbers[0]:09}", {"parts": list(_ranges(numbers))})


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
