# ruff: noqa: S608  (what is put into the text are names of our own columns; values are bound)
"""Tests that look beyond an entry's own columns -> SQL: texts, places, words, terminologies.

Rules. As in conditions.py: the row is `{a}`, and the text depends on the test's shape only. A `probe` holds for a row that is already found; a
`drive` bounds the first column of the row's table, so that the index finds rows, and is always joined with the probe. Codes of
value sets and hierarchies are joined from their tables, never listed.

Specification: https://hl7.org/fhir/R4/search.html#token, #content, https://hl7.org/fhir/R4/location.html#search
"""

import json
from typing import Final

from search.dialects.sqlite.layout import OF_REFERENCE
from search.query import MimeTest, NearTest, SubsumptionTest, TextTest, WordsTest
from search.types import concepts, near

Sql = tuple[str, tuple[object, ...]]
_LAST: Final = "\U0010ffff"


# ---- texts beside codes and references


def text_probe(test: TextTest) -> Sql:
    """The row's wording has a word that begins so."""
    sql = "EXISTS (SELECT 1 FROM wording g WHERE g.number = {a}.wording AND instr(g.text, ?) > 0)"
    return sql, (f" {test.text}",)


def text_drive(test: TextTest, table: str) -> Sql:
    """The row's code or target is one that such a wording stands beside."""
    first = test.text.partition(" ")[0]
    column, kind = ("target", "=") if table == "reference" else ("code", "<>")
    sql = (
        f"{{a}}.{column} IN (SELECT {'CAST(g.code AS INTEGER)' if column == 'target' else 'g.code'} FROM wording_word w"
        f" CROSS JOIN wording g ON g.number = w.wording WHERE w.word >= ? AND w.word < ? AND g.system {kind} {OF_REFERENCE}"
        " AND instr(g.text, ?) > 0)"
    )
    return sql, (first, first + _LAST, f" {test.text}")


# ---- places and words


def place(test: NearTest) -> Sql:
    """The position is inside the box, then inside the circle."""
    (low, high), sides = near.box(test)
    wide = " OR ".join("{a}.longitude BETWEEN ? AND ?" for _ in sides)
    sql = f"{{a}}.latitude BETWEEN ? AND ? AND ({wide}) AND haversine({{a}}.latitude, {{a}}.longitude, ?, ?) <= ?"
    bounds = tuple(bound for side in sides for bound in side)
    return sql, (low, high, *bounds, test.latitude, test.longitude, test.metres)


def word(test: WordsTest) -> Sql:
    """The word, and the further words of a phrase in the places after it."""
    further = "".join(
        " AND EXISTS (SELECT 1 FROM word n WHERE n.param = {a}.param AND n.word = ? AND n.rid = {a}.rid"
        f" AND n.place = {{a}}.place + {at})"
        for at in range(1, len(test.words))
    )
    return f"{{a}}.word = ?{further}", test.words


# ---- terminologies


def member_probe(value_set: int, whole: bool) -> Sql:
    """The code is in the value set; `whole`: which also holds whole systems."""
    code = "m.code IN ({a}.code, '')" if whole else "m.code = {a}.code"
    sql = f"EXISTS (SELECT 1 FROM member m WHERE m.value_set = ? AND {code} AND m.system = {{a}}.system)"
    return sql, (value_set,)


def member_drive(value_set: int) -> Sql:
    """The code is spelled as one of the value set."""
    return "{a}.code IN (SELECT m.code FROM member m WHERE m.value_set = ?)", (value_set,)


def subsumption_probe(test: SubsumptionTest, system: int | None) -> Sql:
    """The code is under (or over) one of the test's, in the row's own system."""
    fixed, found = ("s.ancestor", "s.code") if test.mode == "below" else ("s.code", "s.ancestor")
    among = ", ".join("?" * len(test.codes))
    sql = f"EXISTS (SELECT 1 FROM subsumption s WHERE s.system = {{a}}.system AND {fixed} IN ({among}) AND {found} = {{a}}.code)"
    return (sql, test.codes) if system is None else (f"{{a}}.system = ? AND {sql}", (system, *test.codes))


def subsumption_drive(test: SubsumptionTest, system: int | None) -> Sql:
    """The code is spelled as one under (or over) the test's."""
    fixed, found = ("s.ancestor", "s.code") if test.mode == "below" else ("s.code", "s.ancestor")
    among = ", ".join("?" * len(test.codes))
    where = "s.system = ?" if system is not None else "s.system IN (SELECT c.system FROM code_system c)"
    sql = f"{{a}}.code IN (SELECT {found} FROM subsumption s WHERE {where} AND {fixed} IN ({among}))"
    return sql, ((*test.codes,) if system is None else (system, *test.codes))


def mime(test: MimeTest, system: int) -> Sql:
    """The mime type is the test's, or on the asked side of it."""
    if test.mode == "above":
        return "{a}.code IN (SELECT value FROM json_each(?)) AND {a}.system = ?", (
            json.dumps(concepts.roots(test.text)),
            system,
        )
    starts = concepts.starts(test.text)
    sql = f"{{a}}.code >= ? AND {{a}}.code < ? AND ({{a}}.code = ? OR substr({{a}}.code, 1, ?) IN ({', '.join('?' * len(starts))})) AND {{a}}.system = ?"
    return sql, (test.text, test.text + _LAST, test.text, len(test.text) + 1, *starts, system)
