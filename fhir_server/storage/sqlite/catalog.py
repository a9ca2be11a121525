"""The small dictionaries of the store: numbers of types, parameters and terms (systems, units); row numbers of resources.

Rules: a number never changes once committed, so what a reader has seen may be kept in the process; what a writer allots is
published to the shared dictionaries only after its commit.
"""

import json
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from resources.errors import FhirError
from resources.model import ResourceKey
from search.dialects.sqlite.conditions import UNKNOWN
from search.dialects.sqlite.layout import NO_TERM, spaced
from search.query import Node, Owners

_KEPT_RIDS: Final = 100_000
_KEPT_TERMS: Final = 100_000
_VALUE_SET: Final = "SELECT number, state FROM value_set WHERE url = ? AND version = ?"
EVERY_SYSTEM: Final = ""
"""Asks for every hierarchy there is."""
MISSING: Final = UNKNOWN
"""A number that no row has, nor has its negative (contained resources' entries)."""
_KEPT_OWNERS: Final = 1000
_KEPT_ESTIMATES: Final = 10_000
_ESTIMATE_SECONDS: Final = 5.0


class Unloaded(FhirError):  # noqa: N818  (a turn of events inside this package; to a client it means: once more)
    """A search needs concepts that are not in the tables yet: a value set (URL, version) or a system's hierarchy."""

    def __init__(self, *, value_set: tuple[str, str | None] | None = None, system: str = "") -> None:
        super().__init__(503, "transient", "Concepts are being loaded; try again.", headers={"Retry-After": "1"})
        self.value_set = value_set
        self.system = system


class Numbers:
    """What this process knows of the committed dictionaries; shared by its connections."""

    def __init__(self) -> None:
        self.types: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.parameters: dict[tuple[str, str], int] = {}
        self.terms: dict[str, int] = {"": NO_TERM}
        self.wordings: dict[tuple[str, int, str], int] = {}
        self.removals = 0
        self.rids: OrderedDict[tuple[str, str], int] = OrderedDict()
        self.owners: dict[Owners, str] = {}
        self.reads: dict[tuple[int, str], tuple[Node, str, tuple[object, ...]]] = {}
        self.estimates: dict[tuple[str, Sequence[object]], tuple[int, float]] = {}
        self.compiled: dict[tuple[int, str], Any] = {}

    def keep_type(self, name: str, number: int) -> None:
        """Remember a committed type."""
        self.types[name] = number
        self.names[number] = name

    def keep_term(self, text: str, number: int) -> None:
        """Remember a committed term; the dictionary is bounded because systems come from clients."""
        if len(self.terms) >= _KEPT_TERMS:
            self.terms = {"": NO_TERM}
        self.terms[text] = number

    def follow_wordings(self, removals: int) -> None:
        """Forget the wordings when some were removed since (`removals` counts how often)."""
        if removals != self.removals:
            self.wordings, self.removals = {}, removals

    def keep_wording(self, wording: tuple[str, int, str], number: int) -> None:
        """Remember a committed wording."""
        if len(self.wordings) >= _KEPT_TERMS:
            self.wordings = {}
        self.wordings[wording] = number

    def keep_rid(self, key: tuple[str, str], rid: int) -> None:
        """Remember a committed row number."""
        self.rids[key] = rid
        if len(self.rids) > _KEPT_RIDS:
            self.rids.popitem(last=False)


class Catalog:
    """Lookups of one connection: the dialect's view of the dictionaries. Unknown names get a number that no row has.

    `even`: resources that are known are looked up like those that are not, so that who may not know of them cannot tell by the time. `seen`: what was
    looked up so while one search is compiled, whether it is there or not.
    """

    def __init__(self, connection: sqlite3.Connection, numbers: Numbers) -> None:
        self.connection = connection
        self.numbers = numbers
        self.compiled = numbers.compiled
        self.even = False
        self.seen: dict[ResourceKey, int] | None = None

    def type(self, name: str) -> int:
        """The number of a resource type."""
        number = self.numbers.types.get(name)
        if number is None:
            row = self.connection.execute("SELECT number FROM type WHERE name = ?", (name,)).fetchone()
            if row is None:
                return MISSING
            number = row[0]
            self.numbers.keep_type(name, row[0])
        return number

    def type_name(self, number: int) -> str:
        """The resource type of a committed number."""
        name = self.numbers.names.get(number)
        if name is None:
            name = self.connection.execute("SELECT name FROM type WHERE number = ?", (number,)).fetchone()[0]
            self.numbers.keep_type(name, number)
        return name

    def types(self) -> list[str]:
        """The resource types that occur, in the order of their numbers."""
        return [name for (name,) in self.connection.execute("SELECT name FROM type ORDER BY number")]

    def parameter(self, base: str, code: str) -> int:
        """The number under which entries of a parameter are stored."""
        number = self.numbers.parameters.get((base, code))
        if number is None:
            row = self.connection.execute(
                "SELECT number FROM parameter WHERE type = ? AND code = ?", (base, code)
            ).fetchone()
            if row is None:
                return MISSING
            number = self.numbers.parameters[base, code] = row[0]
        return number

    def term(self, text: str) -> int:
        """The number of a system or unit."""
        number = self.numbers.terms.get(text)
        if number is None:
            row = self.connection.execute("SELECT number FROM term WHERE text = ?", (text,)).fetchone()
            if row is None:
                return MISSING
            number = row[0]
            self.numbers.keep_term(text, row[0])
        return number

    def wording(self, code: str, system: int, text: str) -> int:
        """The number of a text that stands beside a code."""
        number = self.numbers.wordings.get((code, system, text))
        if number is None:
            sql = "SELECT number FROM wording WHERE code = ? AND system = ? AND text = ?"
            row = self.connection.execute(sql, (code, system, spaced(text))).fetchone()
            if row is None:
                return MISSING
            number = row[0]
            self.numbers.keep_wording((code, system, text), row[0])
        return number

    def code_system(self, url: str | None) -> int | None:
        """The number of a system whose concepts the store has, None for all systems; FhirError 400 for one that it has not."""
        number = NO_TERM if url is None else self.term(url)
        found = self.connection.execute("SELECT content FROM code_system WHERE system = ?", (number,)).fetchone()
        if found is None:
            raise Unloaded(system=EVERY_SYSTEM if url is None else url)
        return None if url is None else number

    def value_set(self, url: str, version: str | None) -> tuple[int, bool]:
        """The number of a value set, and whether it holds whole systems; FhirError 400 naming one whose codes are not known."""
        found = self.connection.execute(_VALUE_SET, (url, version or "")).fetchone()
        if found is None:
            raise Unloaded(value_set=(url, version))
        number, state = found
        if state:
            said = url if version is None else f"{url}|{version}"
            raise FhirError(400, "not-supported", f"Value set '{said}' cannot be searched by: {state}.")
        whole = "SELECT 1 FROM member WHERE value_set = ? AND code = ''"
        return int(number), self.connection.execute(whole, (number,)).fetchone() is not None

    def rid(self, key: ResourceKey) -> int:
        """The row number of a resource that exists or is referred to."""
        known = self.seen if self.even else self.numbers.rids
        rid = None if known is None else known.get(key)
        if rid is None:
            row = self.connection.execute(
                "SELECT rid FROM resource WHERE type = ? AND id = ?", (self.type(key.type), key.id)
            ).fetchone()
            rid = MISSING if row is None else row[0]
            if row is not None:
                self.numbers.keep_rid(key, row[0])
            if self.seen is not None:
                self.seen[key] = rid
        return rid

    def rids(self, owners: Owners) -> str:
        """The row numbers of those that exist, as a JSON array; kept while the same owners are asked for again."""
        text = self.numbers.owners.get(owners)
        if text is None:
            found = (self.rid(ResourceKey(owners.type, name)) for name in owners.ids)
            text = json.dumps(sorted(rid for rid in found if rid != MISSING))
            if len(self.numbers.owners) >= _KEPT_OWNERS:
                self.numbers.owners.clear()
            self.numbers.owners[owners] = text
        return text

    def count(self, sql: str, parameters: Sequence[object]) -> int:
        """The number a counting statement gives."""
        number: int = self.connection.execute(sql, tuple(parameters)).fetchone()[0]
        return number

    def estimate(self, sql: str, parameters: tuple[object, ...]) -> int:
        """The number a counting statement gave some seconds ago at most."""
        estimates, now = self.numbers.estimates, time.monotonic()
        known = estimates.get((sql, parameters))
        if known is not None and known[1] > now:
            return known[0]
        if len(estimates) >= _KEPT_ESTIMATES:
            estimates.clear()
        number = self.count(sql, parameters)
        estimates[sql, parameters] = (number, now + _ESTIMATE_SECONDS)
        return number
