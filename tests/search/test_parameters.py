"""What codes mean on types, which parameters share rows, which are stored."""

import pytest

from resources import fhirpath
from resources.definitions import load
from resources.fhirpath import Computed
from search.parameters import COLUMNS, union

SHARED = [
    ("Observation", "patient", ("subject",), "Patient"),
    ("Appointment", "practitioner", ("actor",), "Practitioner"),
    ("AuditEvent", "patient", ("agent", "entity"), "Patient"),
    ("Encounter", "practitioner", ("participant",), "Practitioner"),
    ("Observation", "combo-code", ("code", "component-code"), None),
    ("Observation", "combo-value-quantity", ("component-value-quantity", "value-quantity"), None),
    ("Patient", "phonetic", ("name",), None),
    ("Bundle", "message", ("composition",), "MessageHeader"),
    ("Bundle", "composition", ("composition",), "Composition"),
    ("AllergyIntolerance", "patient", ("patient",), None),
    ("Patient", "email", ("email",), None),
    ("Observation", "value-quantity", ("value-quantity",), None),
    ("Observation", "component-code", ("component-code",), None),
]


@pytest.mark.parametrize(("type_name", "code", "rows", "target"), SHARED, ids=[f"{row[0]}.{row[1]}" for row in SHARED])
def test_parameters_that_say_the_same_share_rows(registry, type_name, code, rows, target):
    parameter = registry.find(type_name, code)
    assert (parameter.rows, parameter.only_target) == (rows, target)


def test_every_type_has_the_common_parameters(registry):
    for name in load().resource_types:
        assert {"_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_content"} <= set(registry.of(name))
    assert registry.find("Patient", "_text") is not None
    assert registry.find("Binary", "_text") is None  # Binary is no DomainResource


def test_an_expression_speaks_of_its_type_alone(registry):
    assert registry.find("MedicationRequest", "code").expression == "(MedicationRequest.medication as CodeableConcept)"
    assert registry.find("Patient", "_tag").expression == "Resource.meta.tag"
    assert registry.find("InsurancePlan", "name").expression == "name | alias"


def test_what_has_no_expression_is_known_and_cannot_be_searched(registry):
    for type_name, code in (("Patient", "age"), ("Patient", "part-agree"), ("Patient", "_text"), ("Patient", "_query")):
        assert not registry.find(type_name, code).searchable
        assert code not in {parameter.code for parameter in registry.searchable(type_name)}
        assert code not in {parameter.code for parameter in registry.stored(type_name)}


def test_an_unknown_code_is_none(registry):
    assert registry.find("Patient", "nonsense") is None


def test_rows_are_stored_by_exactly_one_parameter(registry):
    for name in load().resource_types:
        stored = [parameter.code for parameter in registry.stored(name)]
        assert len(stored) == len(set(stored))
        assert not COLUMNS & set(stored)
        for parameter in registry.searchable(name):
            read = set(parameter.rows)
            if parameter.conjunction:
                read = {row for one in parameter.components for row in one.rows}
            assert read <= {*stored, *COLUMNS}, (name, parameter.code)


def test_every_stored_expression_of_the_common_types_has_places(registry):
    for name in ("Patient", "Observation", "Encounter", "Condition", "MedicationRequest", "Claim", "Appointment"):
        for parameter in registry.stored(name):
            found = fhirpath.places(parameter.expression, name, load())
            assert found or isinstance(found, Computed), (name, parameter.code)


def test_a_composite_over_the_resource_reads_ordinary_rows(registry):
    found = registry.find("Observation", "code-value-quantity")
    assert found.conjunction
    assert found.components == (registry.find("Observation", "code"), registry.find("Observation", "value-quantity"))
    assert found not in registry.stored("Observation")


def test_a_component_that_no_parameter_indexes_has_rows_of_its_own(registry):
    found = registry.find("Observation", "code-value-string")
    assert found.components[1].rows == ("code-value-string/2",)
    own = {parameter.code: parameter for parameter in registry.stored("Observation")}["code-value-string/2"]
    assert (own.type, own.expression) == ("string", "Observation.value.as(string)")


def test_a_composite_within_the_resource_is_stored_as_tuples(registry):
    found = registry.find("Observation", "component-code-value-quantity")
    assert (found.conjunction, found.rows) == (False, ("component-code-value-quantity",))
    assert found in registry.stored("Observation")
    assert [(one.code, one.type, one.expression) for one in found.components] == [
        ("component-code-value-quantity/1", "token", "code"),
        ("component-code-value-quantity/2", "quantity", "value.as(Quantity)"),
    ]


def test_a_composite_of_several_contexts_is_the_alternative_of_others(registry):
    found = registry.find("Observation", "combo-code-value-quantity")
    assert [one.code for one in found.alternatives] == ["code-value-quantity", "component-code-value-quantity"]
    assert found not in registry.stored("Observation")


def test_targets_are_told(registry):
    patient, subject = (registry.find("Observation", code) for code in ("patient", "subject"))
    assert patient.may_target("Patient")
    assert not patient.may_target("Group")
    assert subject.may_target("Group")
    assert not subject.may_target("Organization")


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("A.b", ["A.b"]),
        ("A.b | C.d", ["A.b", "C.d"]),
        ("(A.b as C) | (A.d | A.e).f", ["(A.b as C)", "(A.d | A.e).f"]),
        ("A.extension('http://a|b') | A.c", ["A.extension('http://a|b')", "A.c"]),
    ],
)
def test_unions_are_split_at_the_top(expression, parts):
    assert list(union(expression)) == parts
