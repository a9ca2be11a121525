"""The verb of `$everything` on every store: what may be seen, what is followed, in what order.

https://hl7.org/fhir/R4/patient-operation-everything.html
"""

import pytest

from resources.model import ResourceKey
from search.entries import Entries, ReferenceEntry
from search.everything import EverythingQuery
from search.narrowing import EVERYTHING, Narrowing
from search.query import All, HasId, InCompartment, Not, Nothing
from tests.contract.conftest import put, unit

pytestmark = pytest.mark.anyio
ANNE = ResourceKey("Patient", "anne")
BERT = ResourceKey("Patient", "bert")


def about(*owners, **references):
    """Entries that put a resource into compartments and refer to others by parameter."""
    found = [ReferenceEntry(code, ResourceKey(*name.split("/")), "") for code, name in references.items()]
    return Entries(references=found, compartments=list(owners))


@pytest.fixture
async def filled(store):
    await store.commit(
        unit(
            put("Patient/anne", entries=about(ANNE, organization="Organization/1")),
            put("Patient/bert", entries=about(BERT)),
            put("Organization/1"),
            put("Practitioner/1"),
            put("Practitioner/2"),
            put("Observation/1", entries=about(ANNE, subject="Patient/anne", performer="Practitioner/1")),
            put("Observation/2", entries=about(ANNE, subject="Patient/anne", performer="Practitioner/2")),
            put("Observation/3", entries=about(BERT, subject="Patient/bert")),
            put("List/1", entries=about(ANNE, BERT, item="Observation/3", subject="Patient/bert")),
            put("Task/1", entries=about(patient="Patient/bert")),
            put("Condition/1", entries=about(ANNE, evidence="Task/1")),
        )
    )
    return store


async def found(store, narrowing=EVERYTHING, owner=ANNE, count=100, **more):
    page = await store.everything(EverythingQuery(owner, count, **more), narrowing)
    return None if page.owner is None else [str(row.stored.key) for row in page.rows]


OF_ANNE = [
    "Patient/anne", "Observation/1", "Observation/2", "List/1", "Condition/1", "Organization/1", "Practitioner/1", "Practitioner/2",
]  # fmt: skip


async def test_everything_of_one_patient_and_nothing_of_another(filled):
    names = await found(filled)
    assert names[0] == "Patient/anne"
    assert sorted(names) == sorted(OF_ANNE)


@pytest.mark.parametrize(
    ("of", "missing"),
    [
        pytest.param(lambda _: All(), set(), id="all may be seen"),
        pytest.param(lambda kind: Nothing() if kind == "Practitioner" else All(), {"Practitioner/1", "Practitioner/2"}, id="no practitioner"),
        pytest.param(lambda kind: Nothing() if kind == "Observation" else All(),
                     {"Observation/1", "Observation/2", "Practitioner/1", "Practitioner/2"}, id="what is not seen is not followed"),
        pytest.param(lambda kind: Not(HasId(("2",))) if kind == "Observation" else All(), {"Observation/2", "Practitioner/2"}, id="by id"),
        pytest.param(lambda kind: InCompartment(BERT) if kind == "List" else All(), set(), id="what is shared is in both compartments"),
        pytest.param(lambda kind: InCompartment(ANNE) if kind not in ("Organization", "Practitioner") else Nothing(),
                     {"Organization/1", "Practitioner/1", "Practitioner/2"}, id="the own compartment alone"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 3, 100])
async def test_what_may_not_be_seen_does_not_come(filled, of, missing, count):
    narrowing = Narrowing("u", of)
    names, after = [], None
    while True:
        page = await filled.everything(EverythingQuery(ANNE, count, after=after), narrowing)
        names += [str(row.stored.key) for row in page.rows]
        if not page.more:
            break
        after = page.rows[-1].position
    assert sorted(names) == sorted(set(OF_ANNE) - missing)


async def test_an_owner_that_may_not_be_seen_is_not_known(filled):
    assert await found(filled, Narrowing("u", lambda kind: Nothing() if kind == "Patient" else All())) is None
    assert await found(filled, owner=ResourceKey("Patient", "carl")) is None


async def test_since_leaves_out_what_is_older(filled):
    page = await filled.everything(EverythingQuery(ANNE, 100, since=1), EVERYTHING)
    assert len(page.rows) == len(OF_ANNE)
    last = max(row.stored.updated for row in page.rows)
    assert await found(filled, since=last + 1) == []


async def test_the_types_say_what_comes_not_what_is_followed(filled):
    assert await found(filled, types=("Practitioner",)) == ["Practitioner/1", "Practitioner/2"]
    assert await found(filled, types=("Nothing",)) == []
