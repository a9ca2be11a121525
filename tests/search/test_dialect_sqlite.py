"""The SQLite dialect without a store: number keys, statement texts that depend on shape alone, what drives."""

import sqlite3
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.model import ResourceKey
from search.dialects import sqlite as dialect
from search.dialects.sqlite.numbers import INFINITY, NEGATIVE_INFINITY, key
from search.parameters import Parameter
from search.query import (
    All,
    And,
    DateTest,
    Match,
    NumberTest,
    Or,
    QuantityTest,
    Query,
    ReferenceTest,
    SortKey,
    StringTest,
    TokenTest,
)

decimals = st.decimals(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000).map(Decimal)


@given(decimals, decimals)
def test_number_keys_are_ordered_as_the_numbers(a, b):
    assert (key(a) < key(b), key(a) == key(b)) == (a < b, a == b)
    assert NEGATIVE_INFINITY < key(a) < INFINITY


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", "1.00"), ("100", "1E2"), ("-0", "0.000"), ("0.10", "1e-1"), ("-12.50", "-12.5")],
)
def test_equal_numbers_have_equal_keys(one, other):
    assert key(Decimal(one)) == key(Decimal(other))


class Numbers:
    """A catalog over an empty store of the layout; `rows` is how many rows each index condition is said to have."""

    def __init__(self, rows=0):
        self.connection = sqlite3.connect(":memory:")
        for statement in dialect.TABLES.values():
            self.connection.execute(statement)
        self.rows = rows

    def type(self, name):
        return len(name)

    def parameter(self, base, code):
        return len(base) * 100 + len(code)

    def term(self, text):
        return len(text)

    def rid(self, key_):
        return len(key_.id)

    def count(self, sql, parameters):
        self.connection.execute(sql, parameters)
        return min(self.rows, parameters[-1])

    estimate = count

    def close(self):
        self.connection.close()


@pytest.fixture(params=[0, 10**6], ids=["few rows", "many rows"])
def numbers(request):
    made = Numbers(request.param)
    yield made
    made.close()


def parameter(code, kind, **more):
    return Parameter("Observation", code, kind, "", None, **more)


CODE, DATE = parameter("code", "token"), parameter("date", "date")
PATIENT = parameter("patient", "reference", rows=("subject",), only_target="Patient")


def of(patient, code, low, number):
    return And(
        (
            Match(PATIENT, ReferenceTest((ResourceKey("Patient", patient),), None)),
            Match(CODE, TokenTest("s", (code,))),
            Match(DATE, DateTest("ge", low, low + 5)),
            Or((Match(parameter("q", "quantity"), QuantityTest(NumberTest("gt", number, number), None, None, None)),)),
        )
    )


@pytest.mark.parametrize("sort", [(), (SortKey("date", DATE, True),)], ids=["by row", "by date"])
def test_the_text_depends_on_the_shape_alone(numbers, sort):
    texts = set()
    for query in (
        Query("Observation", of("1", "a", 3, Decimal(1)), sort),
        Query("Observation", of("22'); DROP TABLE x", "b'", 9, Decimal("2.5")), sort),
    ):
        page = dialect.page(query, numbers)
        texts.add((*(s.sql for s in page.statements), dialect.total(query, numbers).sql))
    assert len(texts) == 1
    assert "DROP" not in str(texts)


SHAPES = {
    "patient, code by date": (of("1", "a", 3, Decimal(1)), (SortKey("date", DATE, True),)),
    "code": (Match(CODE, TokenTest(None, ("a",))), ()),
    "text": (Match(parameter("text", "string"), StringTest("starts", "ab")), ()),
    "date": (Match(DATE, DateTest("ge", 3, 4)), ()),
    "everything by date": (All(), (SortKey("date", DATE, True),)),
    "everything by last update": (All(), (SortKey("_lastUpdated", None, True),)),
    "everything": (All(), ()),
}


@pytest.mark.parametrize("name", SHAPES)
def test_no_statement_scans_a_table(numbers, name):
    where, sort = SHAPES[name]
    page = dialect.page(Query("Observation", where, sort), numbers)
    for statement in page.statements:
        plan = numbers.connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (*statement.values, 20)).fetchall()
        for *_, detail in plan:
            assert (
                not detail.startswith("SCAN ") or detail.split()[1] in {"m", "s", "(subquery"} or "CONSTANT" in detail
            ), detail


@pytest.mark.parametrize("name", ["everything by date", "everything by last update", "everything"])
def test_walking_an_order_sorts_nothing(name):
    numbers = Numbers(10**6)
    where, sort = SHAPES[name]
    for statement in dialect.page(Query("Observation", where, sort), numbers).statements:
        plan = numbers.connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (*statement.values, 20)).fetchall()
        assert not any("TEMP B-TREE" in detail for *_, detail in plan), plan
    numbers.close()


@pytest.mark.parametrize(
    ("number", "stored"),
    [("1.25", "03800000001250"), ("-1.25", "017fffffffecaeff"), ("0", "02"), ("120", "038000000212")],
)
def test_number_keys_are_the_documented_bytes(number, stored):
    assert key(Decimal(number)).hex() == stored
