"""The tables and indexes of the SQLite store: the one source that the dialect's SQL and a migrated store are compared with.

Rules: a migration is frozen text; a test compares a migrated store with `TABLES`. Index tables are clustered by
(parameter, value, row), so that rows of one token or reference come in row order, and have one secondary index (row, parameter)
that covers them, so that a row can be probed. docs/index-layout.md explains every column.

Specification: https://www.sqlite.org/withoutrowid.html
"""

from typing import Final

UNKNOWN: Final = 0
"""State of a resource that is known only because another refers to it."""
LIVE: Final = 1
DELETED: Final = 2
CONTAINED: Final = 3

SMALLEST: Final = 1
"""Bit of `mark`: the entry is its resource's smallest of the parameter (the one that ascending sorts use)."""
LARGEST: Final = 2

NO_TERM: Final = 0
"""Term number of the empty text (no system, no unit)."""
NO_WORDING: Final = 0
"""Wording number of a token or reference without text."""
OF_REFERENCE: Final = -1
"""The `system` of wordings of references; their `code` is the target's row number."""
TEXT_ONLY: Final = "\ufffe"
"""Begins the code of a token row that stands for a text without code; no code begins so."""


def canonical_code(code: str, unit: str) -> str:
    """The code under which the quantities of a parameter are stored again in a canonical UCUM unit."""
    return f"{code}|{unit}"


def spaced(text: str) -> str:
    """The form in which a wording is kept: a space before each line, so that ` word` is found where words begin."""
    return " " + text.replace("\n", "\n ")


WIDE_DATE: Final = 86_400_000_000
"""Date ranges wider than this (microseconds) have their upper end indexed too."""

INDEX_TABLES: Final = ("token", "string", "date", "number", "quantity", "reference", "uri", "position", "word")
"""The tables of index entries: each has `param` and `rid`, and an index `<table>_rid`."""

TABLES: Final[dict[str, str]] = {
    "type": "CREATE TABLE type(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "parameter": (
        "CREATE TABLE parameter(number INTEGER PRIMARY KEY, type TEXT NOT NULL, code TEXT NOT NULL, UNIQUE(type, code))"
    ),
    "term": "CREATE TABLE term(number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "resource": (
        "CREATE TABLE resource(rid INTEGER PRIMARY KEY, type INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL,"
        " updated INTEGER NOT NULL, state INTEGER NOT NULL, method INTEGER NOT NULL, released INTEGER NOT NULL,"
        " container INTEGER, body BLOB NOT NULL, prints BLOB NOT NULL DEFAULT x'', UNIQUE(type, id))"
    ),
    "history": (
        "CREATE TABLE history(rid INTEGER NOT NULL, version INTEGER NOT NULL, type INTEGER NOT NULL,"
        " updated INTEGER NOT NULL, method INTEGER NOT NULL, deleted INTEGER NOT NULL, body BLOB NOT NULL,"
        " PRIMARY KEY(rid, version))"
    ),
    "token": (
        "CREATE TABLE token(param INTEGER NOT NULL, code TEXT NOT NULL, rid INTEGER NOT NULL, system INTEGER NOT NULL,"
        " group_ INTEGER NOT NULL, wording INTEGER NOT NULL, mark INTEGER NOT NULL,"
        " PRIMARY KEY(param, code, rid, system, group_, wording)) WITHOUT ROWID"
    ),
    "string": (
        "CREATE TABLE string(param INTEGER NOT NULL, folded TEXT NOT NULL, rid INTEGER NOT NULL, exact TEXT NOT NULL,"
        " group_ INTEGER NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, folded, rid, exact, group_)) WITHOUT ROWID"
    ),
    "date": (
        "CREATE TABLE date(param INTEGER NOT NULL, low INTEGER NOT NULL, rid INTEGER NOT NULL, high INTEGER NOT NULL,"
        " group_ INTEGER NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, low, rid, high, group_)) WITHOUT ROWID"
    ),
    "number": (
        "CREATE TABLE number(param INTEGER NOT NULL, low BLOB NOT NULL, rid INTEGER NOT NULL, high BLOB NOT NULL,"
        " group_ INTEGER NOT NULL, mark INTEGER NOT NULL, PRIMARY KEY(param, low, rid, high, group_)) WITHOUT ROWID"
    ),
    "quantity": (
        "CREATE TABLE quantity(param INTEGER NOT NULL, low BLOB NOT NULL, rid INTEGER NOT NULL, high BLOB NOT NULL,"
        " system INTEGER NOT NULL, code INTEGER NOT NULL, unit INTEGER NOT NULL, group_ INTEGER NOT NULL,"
        " mark INTEGER NOT NULL, PRIMARY KEY(param, low, rid, high, system, code, unit, group_)) WITHOUT ROWID"
    ),
    "reference": (
        "CREATE TABLE reference(param INTEGER NOT NULL, target INTEGER NOT NULL, rid INTEGER NOT NULL,"
        " kind INTEGER NOT NULL, version TEXT NOT NULL, group_ INTEGER NOT NULL, wording INTEGER NOT NULL,"
        " mark INTEGER NOT NULL, PRIMARY KEY(param, target, rid, kind, version, group_, wording)) WITHOUT ROWID"
    ),
    "uri": (
        "CREATE TABLE uri(param INTEGER NOT NULL, value TEXT NOT NULL, rid INTEGER NOT NULL, group_ INTEGER NOT NULL,"
        " mark INTEGER NOT NULL, PRIMARY KEY(param, value, rid, group_)) WITHOUT ROWID"
    ),
    "position": (
        "CREATE TABLE position(param INTEGER NOT NULL, latitude INTEGER NOT NULL, rid INTEGER NOT NULL,"
        " longitude INTEGER NOT NULL, PRIMARY KEY(param, latitude, rid, longitude)) WITHOUT ROWID"
    ),
    "word": (
        "CREATE TABLE word(param INTEGER NOT NULL, word TEXT NOT NULL, rid INTEGER NOT NULL, place INTEGER NOT NULL,"
        " PRIMARY KEY(param, word, rid, place)) WITHOUT ROWID"
    ),
    "wording": (
        "CREATE TABLE wording(number INTEGER PRIMARY KEY, code TEXT NOT NULL, system INTEGER NOT NULL, text TEXT NOT NULL,"
        " UNIQUE(code, system, text))"
    ),
    "wording_word": (
        "CREATE TABLE wording_word(word TEXT NOT NULL, wording INTEGER NOT NULL, PRIMARY KEY(word, wording)) WITHOUT ROWID"
    ),
    "concept": (
        "CREATE TABLE concept(system INTEGER NOT NULL, code TEXT NOT NULL, display TEXT NOT NULL,"
        " PRIMARY KEY(system, code)) WITHOUT ROWID"
    ),
    "subsumption": (
        "CREATE TABLE subsumption(system INTEGER NOT NULL, ancestor TEXT NOT NULL, code TEXT NOT NULL,"
        " PRIMARY KEY(system, ancestor, code)) WITHOUT ROWID"
    ),
    "code_system": (
        "CREATE TABLE code_system(system INTEGER PRIMARY KEY, version TEXT NOT NULL, source TEXT NOT NULL, content TEXT NOT NULL)"
    ),
    "value_set": (
        "CREATE TABLE value_set(number INTEGER PRIMARY KEY, url TEXT NOT NULL, version TEXT NOT NULL, source TEXT NOT NULL,"
        " state TEXT NOT NULL, UNIQUE(url, version))"
    ),
    "member": (
        "CREATE TABLE member(value_set INTEGER NOT NULL, code TEXT NOT NULL, system INTEGER NOT NULL,"
        " PRIMARY KEY(value_set, code, system)) WITHOUT ROWID"
    ),
    "compartment": (
        "CREATE TABLE compartment(owner INTEGER NOT NULL, type INTEGER NOT NULL, rid INTEGER NOT NULL,"
        " PRIMARY KEY(owner, type, rid)) WITHOUT ROWID"
    ),
    "owner": (
        "CREATE TABLE owner(organization INTEGER NOT NULL, type INTEGER NOT NULL, rid INTEGER NOT NULL,"
        " PRIMARY KEY(organization, type, rid)) WITHOUT ROWID"
    ),
    "follow_up": (
        "CREATE TABLE follow_up(kind TEXT NOT NULL, key TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY(kind, key))"
        " WITHOUT ROWID"
    ),
    "meta": "CREATE TABLE meta(key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "live": "CREATE INDEX live ON resource(type) WHERE state = 1",
    "resource_updated": "CREATE INDEX resource_updated ON resource(updated) WHERE version > 0",
    "resource_type_updated": "CREATE INDEX resource_type_updated ON resource(type, updated) WHERE version > 0",
    "contained": "CREATE INDEX contained ON resource(container) WHERE container IS NOT NULL",
    "history_updated": "CREATE INDEX history_updated ON history(updated)",
    "history_type_updated": "CREATE INDEX history_type_updated ON history(type, updated)",
    **{f"{table}_rid": f"CREATE INDEX {table}_rid ON {table}(rid, param)" for table in INDEX_TABLES},
    "date_wide": "CREATE INDEX date_wide ON date(param, high) WHERE high - low > 86400000000",
    "number_wide": "CREATE INDEX number_wide ON number(param, high) WHERE high > low",
    "quantity_wide": "CREATE INDEX quantity_wide ON quantity(param, high) WHERE high > low",
    "subsumption_code": "CREATE INDEX subsumption_code ON subsumption(system, code)",
    "compartment_rid": "CREATE INDEX compartment_rid ON compartment(rid)",
    "owner_rid": "CREATE INDEX owner_rid ON owner(rid)",
}
"""Name -> the statement that makes it, tables before indexes."""
