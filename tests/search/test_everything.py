"""`$everything`: its statements are run over indexes, members in the order of the compartment; its dates are search parameters.

https://hl7.org/fhir/R4/patient-operation-everything.html
"""

import re
from contextlib import closing

import pytest

from resources.definitions import load
from resources.model import ResourceKey
from search.dialects.sqlite import everything as dialect
from search.everything import CARE_DATES, EverythingQuery, Place, care_dates
from search.narrowing import EVERYTHING, Narrowing
from search.query import All, HasId, InCompartment
from tests.search.test_dialect_sqlite import Numbers

PERIOD = {"types": ("Observation",), "since": 1, "start": 2, "end": 3, "after": Place(0, 4, 5)}
WALKED = re.compile(r"SCAN (s|t|json_each VIRTUAL TABLE INDEX .*|CONSTANT ROW)$")
"""What a statement made itself."""


class Occurring(Numbers):
    """Says which types occur."""

    def types(self):
        return ["Patient", "Observation"]


@pytest.mark.parametrize("owner", [ResourceKey("Patient", "a"), ResourceKey("Encounter", "bb")], ids=str)
@pytest.mark.parametrize("asked", [{}, PERIOD], ids=["all", "a period"])
@pytest.mark.parametrize(
    "narrowing",
    [
        EVERYTHING,
        Narrowing("all", lambda _: All()),
        Narrowing("a", lambda kind: InCompartment(ResourceKey("Patient", "a")) if kind == "Patient" else HasId(("1",))),
    ],
    ids=["staff", "all may be seen", "little may be seen"],
)
@pytest.mark.parametrize("part", [dialect.members, dialect.referred], ids=["members", "referred"])
def test_statements_are_run_over_indexes(registry, owner, asked, narrowing, part):
    with closing(Occurring()) as numbers:
        query = EverythingQuery(owner, 10, dates=care_dates(registry), **asked)
        statement = part(query, 7, narrowing, numbers)
        plan = numbers.connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (*statement.values, 11)).fetchall()
        numbers.connection.execute(statement.sql, (*statement.values, 11)).fetchall()
    steps = [step for *_, step in plan]
    assert any(step.startswith("SEARCH c USING PRIMARY KEY (owner=?") for step in steps)
    for step in steps:
        assert not step.startswith("SCAN") or WALKED.match(step), step
    if part is dialect.members:
        assert not any("TEMP B-TREE" in step for step in steps), steps


def test_the_text_depends_on_the_shape_alone():
    with closing(Numbers()) as numbers:
        texts = {
            dialect.members(EverythingQuery(ResourceKey("Patient", name), 10, types, after=after), 7, EVERYTHING, numbers).sql
            for name, types, after in (("1", ("A",), Place(0, 1, 2)), ("2' --", ("B", "'C"), Place(0, 9, 9)))
        }  # fmt: skip
    assert len(texts) == 1
    assert "--" not in str(texts)


def test_every_date_of_care_is_a_date_parameter_of_a_member_of_the_compartment(registry):
    members = load().compartments["Patient"].members
    assert all(members[kind] for kind in CARE_DATES)
    found = care_dates(registry)
    assert [(one.base, one.code) for one in found] == [
        (kind, code) for kind, codes in CARE_DATES.items() for code in codes
    ]
    assert {one.type for one in found} == {"date"}
